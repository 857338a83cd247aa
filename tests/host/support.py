"""What the tests on the host share: copies of the checkout, stacks made of them, rendered configurations."""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from tests.checkout import PORT_VARIABLES, REPO, chosen_images, free_ports
from tests.waiting import wait_until

CI_FILES = ("-f", "compose.yml", "-f", "compose.ci.yml")

Result = subprocess.CompletedProcess[str]
Rendered = dict[str, Any]


def documented_variables() -> dict[str, str]:
    """Every variable of .env.example with its value there, also where the line is commented out."""
    text = (REPO / ".env.example").read_text()
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", text, re.MULTILINE))


def clean_environment() -> dict[str, str]:
    """This shell's environment without what a developer, or the make around us, may have set for Nexus."""
    ours = documented_variables()
    foreign = re.compile(r"COMPOSE_|NEXUS_|MAKE|MFLAGS|PYTHON$")
    kept = {name: value for name, value in os.environ.items() if name not in ours and not foreign.match(name)}
    return kept | chosen_images()


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def end_group(process: subprocess.Popen[str], seconds: float = 10) -> None:
    """End a process and all it started: politely, then not. Returns only when nothing of it is left."""

    def ended() -> bool:
        # The leader stays in its group until somebody asks for its exit code.
        return process.poll() is not None and group_is_gone(process.pid)

    for sign in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(AssertionError):
            wait_until(f"process group {process.pid} ends", ended, seconds=seconds)
            return
    raise AssertionError(f"process group {process.pid} survives SIGKILL")


def run(
    *command: str,
    cwd: Path | None,
    env: Mapping[str, str],
    check: bool = True,
    timeout: float | None = 240,
    stdin: str = "",
) -> Result:
    """Run a command in a process group of its own: the compose plugin outlives a killed docker client."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=dict(env),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except BaseException:
        end_group(process)
        raise
    result = Result(command, process.returncode, out, err)
    assert not check or result.returncode == 0, f"{' '.join(command)}: {result.returncode}\n{out}{err}"
    return result


@contextlib.contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """As an editor does it; taken back afterwards."""
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} holds {text.count(old)} times: {old}"
    path.write_text(text.replace(old, new))
    try:
        yield
    finally:
        path.write_text(text)


def secret_file(path: Path, text: str) -> None:
    """As `make secrets` leaves one: for its owner and the group of the containers only."""
    path.write_text(text)
    path.chmod(0o440)
    os.chown(path, -1, 10001)


def rendered(directory: Path, *arguments: str, **variables: str) -> Rendered:
    """What compose makes of the files in `directory`, with these variables in an otherwise clean shell."""
    result = run(
        "docker", "compose", *arguments, "config", "--format", "json",
        cwd=directory, env=clean_environment() | variables,
    )  # fmt: skip
    # Extension fields are anchors for people; what counts is where they are used.
    return {key: value for key, value in json.loads(result.stdout).items() if not key.startswith("x-")}


@dataclass
class Stack:
    """A compose project of its own, from a copy of the checkout, on free ports."""

    directory: Path
    variables: dict[str, str] = field(default_factory=dict)
    project: str = field(default_factory=lambda: f"nexus-host-{uuid4().hex[:8]}")
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = dict(zip(PORT_VARIABLES, free_ports(len(PORT_VARIABLES)), strict=True))

    @property
    def environment(self) -> dict[str, str]:
        # The project's name travels as a variable, so that make and the scripts of dev/ obey it too: nothing
        # that is run with this can touch the developer's own project.
        return {
            **clean_environment(),
            **{PORT_VARIABLES[name]: str(port) for name, port in self.ports.items()},
            # Shorter than 3 s, so that a start is noticed soon; at 1 s the probes alone take half a core.
            "HEALTH_INTERVAL": "2s",
            "NEXUS_INSTALL": "no",
            **self.variables,
            "COMPOSE_PROJECT_NAME": self.project,
        }

    def run(self, *command: str, check: bool = True, **variables: str) -> Result:
        """pytest's own time limit bounds it."""
        environment = self.environment | variables
        return run(*command, cwd=self.directory, env=environment, check=check, timeout=None)

    def compose(self, *arguments: str, check: bool = True, **variables: str) -> Result:
        return self.run("docker", "compose", "--progress", "quiet", *arguments, check=check, **variables)

    def migrator(self, *arguments: str, check: bool = True, **variables: str) -> Result:
        return self.compose("run", "--rm", "-T", "migrator", *arguments, check=check, **variables)

    def up(self) -> None:
        result = self.compose("up", "--detach", "--wait", check=False)
        # Compose names only who failed; why is in the logs, which go with the stack.
        assert result.returncode == 0, result.stderr + self.compose("logs", "--tail", "5").stdout

    def mend(self) -> None:
        """Start what does not run, and wait until all is well; Compose's --wait gives up too soon."""
        self.compose("up", "--detach", "--no-build")
        wait_until("all is well", self._is_well, seconds=60)

    def _is_well(self) -> bool:
        listed = self.compose("ps", "--format", "{{.Service}} {{.Health}}").stdout.splitlines()
        return set(listed) == {f"{name} healthy" for name in ("postgres", "redis", "api", "worker")}

    def await_ready(self, status: int = 200, *, seconds: float = 15) -> httpx2.Response:
        """The answer of /ready with this status. Each process keeps what it found for a second."""

        def answered() -> httpx2.Response | None:
            with contextlib.suppress(httpx2.TransportError):  # nobody listens, or somebody goes
                answer = self.get("/ready")
                return answer if answer.status_code == status else None
            return None

        answer = wait_until(f"/ready says {status}", answered, seconds=seconds)
        assert answer is not None
        return answer

    def down(self) -> None:
        self.compose("down")

    def shell(self, service: str, script: str, *options: str) -> str:
        """The output of a shell script in a running container."""
        return self.compose("exec", "-T", *options, service, "sh", "-c", script).stdout

    def sql(self, statement: str) -> str:
        command = f'psql -qAt -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "{statement}"'
        return self.shell("postgres", command).strip()

    def get(self, path: str, **headers: str) -> httpx2.Response:
        address = f"http://127.0.0.1:{self.ports['api']}{path}"
        return httpx2.get(address, headers=headers, timeout=15, trust_env=False)

    def image(self, service: str) -> str:
        return f"{self.project}-{service}"

    def volumes(self) -> list[str]:
        label = f"label=com.docker.compose.project={self.project}"
        return self.run("docker", "volume", "ls", "--quiet", "--filter", label).stdout.split()

    def remove(self) -> None:
        """With its volume and images. Nothing in it is worth a graceful stop."""
        down = ("down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "0")
        # Twice: a container that vanishes meanwhile ends compose before it comes to the volume.
        if self.compose("--profile", "test", *down, check=False).returncode:
            self.compose("--profile", "test", *down)


@contextlib.contextmanager
def stack_of(directory: Path, **variables: str) -> Iterator[Stack]:
    stack = Stack(directory, variables)
    try:
        yield stack
    finally:
        stack.remove()
