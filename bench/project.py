"""A compose project of a benchmark's own: a copy of this tree, free ports, removed at the end."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import ROOT

IMAGES = ("PYTHON_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE")
PORTS = ("API_PORT", "POSTGRES_PORT", "REDIS_PORT")


def run(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Output of a command; its errors go where the person sees them, and end the benchmark."""
    result = subprocess.run(command, check=False, env=env, cwd=cwd, text=True, capture_output=True)
    if result.returncode:
        raise SystemExit(f"nexus: {' '.join(command)[:200]} failed:\n{result.stderr[-2000:]}")
    return result.stdout


def _copy_tree(target: Path) -> None:
    """Tracked files and new ones: what would be committed, and nobody's .env."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():  # deleted and not yet committed: listed, but not there
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)


def _base_images() -> dict[str, str]:
    """The stand-ins that dev/base-images chose; nothing where the official images are used."""
    dotenv = ROOT / ".env"
    lines = dotenv.read_text() if dotenv.exists() else ""
    return {name: value for name, value in re.findall(r"(?m)^(\w+)=(\S+)$", lines) if name in IMAGES}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Project:
    """One stack of compose.yml under another name: every variable at its default, but ports and images."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        named = set(re.findall(r"\$\{(\w+)", (folder / "compose.yml").read_text()))
        self.ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key not in named - set(IMAGES) and not key.startswith("COMPOSE_")
        }
        self._env = _base_images() | inherited | {key: str(port) for key, port in self.ports.items()}

    def compose(self, *arguments: str, **variables: str) -> str:
        command = ("docker", "compose", "--project-name", self.name, *arguments)
        return run(*command, env=self._env | variables, cwd=self.folder)

    def timed(self, *arguments: str) -> float:
        """Seconds of wall time of `docker compose <arguments>`."""
        start = time.perf_counter()
        self.compose(*arguments)
        return time.perf_counter() - start

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def remove(self) -> None:
        """Containers, networks, volumes, images: also those that a rebuild left without a name."""
        self.compose("--profile", "test", "down", "--volumes", "--remove-orphans", "--rmi", "local")
        label = f"label=com.docker.compose.project={self.name}"
        run("docker", "image", "prune", "--force", "--filter", label)


@contextmanager
def temporary_project(name: str) -> Iterator[Project]:
    """A project on a copy of this tree. Nothing of it is left, nor of an earlier run that was killed."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        _copy_tree(Path(folder))
        project = Project(name, Path(folder))
        project.remove()
        try:
            yield project
        finally:
            project.remove()
