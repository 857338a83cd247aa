"""For stacks of their own, in tests and benchmarks: a copy of the tree, the base images, free ports."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
IMAGE_VARIABLES = ("PYTHON_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE")
PORT_VARIABLES = {"api": "API_PORT", "postgres": "POSTGRES_PORT", "redis": "REDIS_PORT"}


def chosen_images() -> dict[str, str]:
    """The base images of this machine: from the shell, else from .env, where dev/base-images writes them."""
    dotenv = REPO / ".env"
    text = dotenv.read_text() if dotenv.exists() else ""
    lines = dict(re.findall(r"^([A-Z_]+)=(.+)$", text, re.MULTILINE))
    found = {name: os.environ.get(name) or lines.get(name) for name in IMAGE_VARIABLES}
    return {name: value for name, value in found.items() if value}


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on. All are held until the last is known, so that no two are the same."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def checkout_copy(target: Path, umask: int = 0o022) -> Path:
    """Copy what a clone would hold, and what is about to be added, with the modes a clone would have."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=REPO,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout
    target.mkdir(mode=0o777 & ~umask, parents=True)
    for name in filter(None, listed.split("\0")):
        source, copy = REPO / name, target / name
        if not source.is_file():  # tracked, and removed in the working tree
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        copy.chmod((0o777 if os.access(source, os.X_OK) else 0o666) & ~umask)
    for folder in (path for path in target.rglob("*") if path.is_dir()):
        folder.chmod(0o777 & ~umask)
    return target
