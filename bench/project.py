"""A compose project of a benchmark's own: a copy of this tree, free ports, removed at the end."""

import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tests.checkout import PORT_VARIABLES, checkout_copy, chosen_images, free_ports
from tests.host.support import run as run_in_group

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text: str) -> None:
    print(f"nexus: {text}", flush=True)


def end_on_signals() -> None:
    """Let a signal end the benchmark in such a way that it removes its stack first."""
    for number in _SIGNALS:
        signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    # make hands on the signal that its group got already: the second one must not end the removal.
    for each in _SIGNALS:
        signal.signal(each, lambda *_: None)
    sys.exit(128 + number)


def run(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None, stdin: str = "") -> str:
    """Output of a command; its errors go where the person sees them, and end the benchmark.

    In a process group of its own, which ends with the benchmark: Compose outlives the docker client that
    started it, and would go on making what is being removed.
    """
    result = run_in_group(*command, env=env or os.environ, cwd=cwd, check=False, timeout=None, stdin=stdin)
    if result.returncode:
        raise SystemExit(f"nexus: {' '.join(command)[:200]} failed:\n{result.stderr[-2000:]}")
    return result.stdout


class Project:
    """One stack of these files under another name: every variable at its default, but ports and images."""

    def __init__(self, name: str, folder: Path, files: tuple[str, ...]) -> None:
        self.name = name
        self.folder = folder
        self._files = [word for file in files for word in ("--file", file)]
        named = {name for file in files for name in re.findall(r"\$\{(\w+)", (folder / file).read_text())}
        self.ports = dict(zip(PORT_VARIABLES.values(), free_ports(len(PORT_VARIABLES)), strict=True))
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key not in named and not key.startswith("COMPOSE_")
        }
        self._env = inherited | chosen_images() | {key: str(port) for key, port in self.ports.items()}

    def compose(self, *arguments: str, stdin: str = "", **variables: str) -> str:
        command = ("docker", "compose", "--project-name", self.name, *self._files, *arguments)
        return run(*command, env=self._env | variables, cwd=self.folder, stdin=stdin)

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
def temporary_project(name: str, *more_files: str) -> Iterator[Project]:
    """A project on a copy of this tree. Nothing of it is left, nor of an earlier run that was killed.

    Args:
        name: of the compose project.
        more_files: compose files on top of compose.yml.
    """
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        project = Project(name, checkout_copy(Path(folder) / "nexus"), ("compose.yml", *more_files))
        project.remove()
        try:
            yield project
        finally:
            project.remove()
