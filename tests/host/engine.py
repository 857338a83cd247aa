"""A second Docker Engine, beside the one of this machine, in namespaces of its own.

For what a test must not do to an engine that others use: a swarm that is left takes the names of running
containers with it, those of other compose projects too (engine 20.10). It needs root, and dockerd.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import wait_until

#: Brings up the namespace's loopback (SIOCSIFFLAGS, IFF_UP | IFF_RUNNING), then becomes the engine.
START = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x41))
os.execvp(sys.argv[1], sys.argv[1:])
"""
#: The engine's own address on its bridge; nobody else has this namespace.
ADDRESS = "172.17.0.1"


@dataclass(frozen=True)
class Engine:
    host: str

    def docker(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """What a docker command prints, run against this engine."""
        done = subprocess.run(
            ["docker", "--host", self.host, *arguments],
            check=False,
            text=True,
            input=stdin,
            capture_output=True,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def load(self, *images: str) -> None:
        """Take over images of the machine's own engine."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
            subprocess.run(
                ["docker", "--host", self.host, "load", "--quiet"],
                check=True,
                stdin=saved.stdout,
                stdout=subprocess.DEVNULL,
            )
        assert saved.returncode == 0


@contextlib.contextmanager
def second_engine() -> Iterator[Engine]:
    """Running; afterwards it is gone with all that was in it."""
    assert os.getuid() == 0, "a second engine needs root: run this test as root"
    assert shutil.which("dockerd"), (
        "a second engine needs dockerd on PATH: the docker.io or docker-ce package"
    )
    folder = Path(tempfile.mkdtemp(prefix="nexus-engine-"))
    engine = Engine(f"unix://{folder}/sock")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            _command(folder, engine.host), stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until("the second engine answers", lambda: _answers(engine, process, folder), seconds=60)
        yield engine
    finally:
        process.kill()
        process.wait(60)
        wait_until("its folder is gone", lambda: _removed(folder), seconds=30)


def _removed(folder: Path) -> bool:
    """What it had started ends after it, and may write until then."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _command(folder: Path, host: str) -> list[str]:
    (folder / "daemon.json").write_text("{}")
    driver = subprocess.run(
        ["docker", "info", "--format", "{{.Driver}}"], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()
    options = {
        "config-file": folder / "daemon.json",
        "data-root": folder / "data",
        "exec-root": folder / "exec",
        "pidfile": folder / "pid",
        "host": host,
        "storage-driver": driver,
        "bip": f"{ADDRESS}/16",
    }
    dockerd = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
    # With its first process everything in it ends, containers and mounts too, also if we are killed.
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    return [*apart, sys.executable, "-c", START, *dockerd]


def _answers(engine: Engine, process: subprocess.Popen[bytes], folder: Path) -> bool:
    assert process.poll() is None, (folder / "log").read_text()[-2000:]
    return bool(engine.docker("info", "--format", "{{.ID}}", check=False).strip())
