"""A compose project of a benchmark's own: a copy of this tree, free ports, removed at the end."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.checkout import PORT_VARIABLES, checkout_copy, chosen_images, free_ports


def run(*command: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Output of a command; its errors go where the person sees them, and end the benchmark."""
    result = subprocess.run(command, check=False, env=env, cwd=cwd, text=True, capture_output=True)
    if result.returncode:
        raise SystemExit(f"nexus: {' '.join(command)[:200]} failed:\n{result.stderr[-2000:]}")
    return result.stdout


class Project:
    """One stack of compose.yml under another name: every variable at its default, but ports and images."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        named = set(re.findall(r"\$\{(\w+)", (folder / "compose.yml").read_text()))
        self.ports = dict(zip(PORT_VARIABLES.values(), free_ports(len(PORT_VARIABLES)), strict=True))
        inherited = {
            key: value
            for key, value in os.environ.items()
            if key not in named and not key.startswith("COMPOSE_")
        }
        self._env = inherited | chosen_images() | {key: str(port) for key, port in self.ports.items()}

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
        project = Project(name, checkout_copy(Path(folder) / "nexus"))
        project.remove()
        try:
            yield project
        finally:
            project.remove()
