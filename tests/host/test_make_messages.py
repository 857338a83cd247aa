"""What a person sees who lacks or mistyped something: one line, with the remedy, and an exit code."""

import os
import re
import socket
from pathlib import Path

import pytest

from tests.checkout import checkout_copy
from tests.host.shims import in_front, path_without, shim
from tests.host.support import Stack, clean_environment, run, stack_of

# Without cached images the shared stack takes its time.
pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout_copy(tmp_path_factory.mktemp("messages") / "nexus")


def _complaint(directory: Path, *command: str, **variables: str) -> str:
    """The one line of ours. Besides it, only make itself may say that something failed."""
    env = clean_environment() | {"NEXUS_INSTALL": "no", "COMPOSE_PROJECT_NAME": "nexus-host-none"} | variables
    result = run(*command, cwd=directory, env=env, check=False)
    assert result.returncode != 0, result.stdout
    lines = [
        line
        for line in (result.stdout + result.stderr).splitlines()
        if not re.match(r"make(\[\d\])?: ", line)
    ]
    assert len(lines) == 1, lines
    assert lines[0].startswith("nexus: ")
    return lines[0]


def test_prerequisites_are_silent_when_all_is_there(directory: Path) -> None:
    result = run("dev/prerequisites", "docker", cwd=directory, env=clean_environment())
    assert (result.stdout, result.stderr) == ("", "")


def test_docker_absent(directory: Path, tmp_path: Path) -> None:
    path = path_without(tmp_path / "bin", "docker", "dockerd", "docker-compose")
    line = _complaint(directory, "make", "ps", PATH=path)
    assert line.startswith("nexus: Docker is not installed: ")
    assert "install" in line.split(": ", 2)[2]


@pytest.mark.parametrize(
    ("dotenv", "said"),
    [
        ("API_PORT=8001\nPOSTGRES_PASS", "line 2 of .env is half written: there is no = after it"),
        (
            "POSTGRES_PASSWORD='hunter2\n",
            "line 1 of .env: the quote before the value of POSTGRES_PASSWORD is not closed",
        ),
    ],
)
def test_a_dotenv_that_compose_cannot_read(copy: Path, dotenv: str, said: str) -> None:
    (copy / ".env").write_text(dotenv)
    line = _complaint(copy, "make", "up")
    assert line.startswith(f"nexus: {said}: ")
    assert "hunter2" not in line
    assert (copy / ".env").read_text() == dotenv


def test_engine_not_reachable(directory: Path, tmp_path: Path) -> None:
    socket_of_nobody = f"unix://{tmp_path}/docker.sock"
    line = _complaint(directory, "make", "ps", DOCKER_HOST=socket_of_nobody)
    assert line == f"nexus: Docker Engine is not running: check DOCKER_HOST ({socket_of_nobody})"


def test_no_permission_for_the_socket(directory: Path, tmp_path: Path) -> None:
    said = (
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
    )
    shim(tmp_path / "bin", "docker", f'[ "$1" = version ] || exec "$REAL" "$@"\necho "{said}" >&2; exit 1')
    line = _complaint(directory, "make", "ps", PATH=in_front(tmp_path / "bin"))
    assert line.startswith("nexus: you may not use Docker's socket: ")
    assert "docker group" in line


def test_engine_too_old(directory: Path, tmp_path: Path) -> None:
    shim(tmp_path / "bin", "docker", '[ "$1" = version ] || exec "$REAL" "$@"\necho 19.03.15')
    line = _complaint(directory, "make", "ps", PATH=in_front(tmp_path / "bin"))
    assert line.startswith("nexus: Docker Engine 19.03.15 is too old, 20.10 or newer is needed: ")


def test_compose_missing(directory: Path, tmp_path: Path) -> None:
    said = "docker: 'compose' is not a docker command."
    shim(tmp_path / "bin", "docker", f'[ "$1" = compose ] || exec "$REAL" "$@"\necho "{said}" >&2; exit 1')
    line = _complaint(directory, "make", "ps", PATH=in_front(tmp_path / "bin"))
    what = r"(Docker's Compose plugin is missing|only Compose v1 .* is there.*)"
    assert re.match(rf"nexus: {what}: .*\b(run|install)\b", line)


def test_compose_too_old(directory: Path, tmp_path: Path) -> None:
    shim(tmp_path / "bin", "docker", '[ "$1" = compose ] || exec "$REAL" "$@"\necho 2.20.0')
    line = _complaint(directory, "make", "ps", PATH=in_front(tmp_path / "bin"))
    assert re.match(
        r"nexus: Compose 2\.20\.0 is too old, 2\.24\.4 or newer is needed: .*\b(run|install)\b", line
    )


def test_python_too_old_for_the_host_way(directory: Path, tmp_path: Path) -> None:
    old = shim(tmp_path, "python3.9", 'echo 3.9; echo ""')
    line = _complaint(directory, "make", "dev-api", PYTHON=str(old))
    assert line.startswith("nexus: Python 3.9 is too old, no Python 3.11 or newer is there: install Python")


@pytest.mark.parametrize("verb", ["backup", "restore", "migrate", "seed", "infra-up"])
def test_a_secret_file_that_is_absent(directory: Path, tmp_path: Path, verb: str) -> None:
    """Not only `make up` reads it."""
    absent = {"POSTGRES_PASSWORD": "", "POSTGRES_PASSWORD_FILE": str(tmp_path / "absent")}
    line = _complaint(directory, "make", verb, "FILE=x", **absent)
    assert line.startswith(f"nexus: the file of POSTGRES_PASSWORD_FILE ({tmp_path}/absent) is not there: ")


def test_a_path_is_taken_as_it_was_typed(directory: Path) -> None:
    name = "none/pay$100 $(shell id) `id`.tar"
    assert _complaint(directory, "make", "restore", f"FILE={name}").startswith(
        f"nexus: there is no file {name}"
    )
    assert f"there is no file {name}" in _complaint(directory, "make", "restore", FILE=name)


@pytest.mark.parametrize(
    ("verb", "service"), [("up", "api"), ("up", "postgres"), ("up", "redis"), ("infra-up", "redis")]
)
def test_port_taken_by_another_program(directory: Path, verb: str, service: str) -> None:
    # Should the check fail us, the stack would start: it is removed in any case.
    with socket.create_server(("127.0.0.1", 0)) as listener, stack_of(directory) as stack:
        stack.ports[service] = port = listener.getsockname()[1]
        line = _complaint(directory, "make", verb, **stack.environment)
    # By us, in this process; who may not know would read "another program".
    taken = rf"nexus: port {port} of 127\.0\.0\.1 is taken by .+ \(pid {os.getpid()}\): stop it, or "
    assert re.match(rf"{taken}choose another with {service.upper()}_PORT=", line)


def test_second_up_does_not_take_its_own_ports_for_foreign(stack: Stack, tmp_path: Path) -> None:
    # Only what comes before the start is asked about, so the start itself is left out.
    shim(tmp_path / "bin", "docker", '[ "$1 $2" = "compose up" ] || exec "$REAL" "$@"')
    result = stack.run("dev/up", PATH=in_front(tmp_path / "bin"))
    assert "is taken" not in result.stderr
    assert f"http://127.0.0.1:{stack.ports['api']} " in result.stdout


def test_settings_that_are_refused_replace_nothing(stack: Stack) -> None:
    """Compose alone would take api and worker away, and start others that end at once, again and again."""
    before = stack.compose("ps", "--all", "--quiet").stdout
    wrong = {"LOG_LEVEL": "LOUD", "WORKER_CONCURRENCY": "0"}
    result = stack.run("make", "up", check=False, **wrong)
    assert result.returncode != 0
    *named, last = [line for line in result.stderr.splitlines() if line.startswith("nexus: ")]
    settings = {
        line.split()[2].rstrip(":")
        for line in named
        if line.endswith(": correct it in .env; .env.example says what it means")
    }
    assert settings == set(wrong)
    assert last == "nexus: what runs was not replaced, and goes on with the settings it has"
    assert stack.compose("ps", "--all", "--quiet").stdout == before
    stack.await_ready()


@pytest.mark.parametrize("verb", [["up"], ["stack-file", "IMAGES=a/b"]])
def test_a_variable_that_compose_refuses(directory: Path, verb: list[str]) -> None:
    result = run("make", *verb, cwd=directory, env=clean_environment() | {"API_PORT": "eighty"}, check=False)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("nexus: ")]
    assert line.startswith("nexus: Compose refuses compose.yml with these variables")
    assert "eighty" in result.stderr


def test_wrong_migrator_argument_shows_the_usage(stack: Stack) -> None:
    result = stack.compose("run", "--rm", "-T", "--no-deps", "migrator", "bogus", check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: migrator ")
    assert "invalid choice: 'bogus'" in result.stderr


def test_no_disk(directory: Path, tmp_path: Path) -> None:
    """`df` says what it says on a full disk; what comes of it is the script's own."""
    shim(tmp_path / "bin", "df", "printf 'Filesystem 1024-blocks Used Available\\n/dev/full 9 9 500000\\n'")
    line = _complaint(directory, "dev/up", PATH=in_front(tmp_path / "bin"))
    assert line.startswith("nexus: only 488 MB free")
    assert "docker system prune" in line


def test_wrong_settings_are_named_one_line_each(stack: Stack) -> None:
    wrong = {"NEXUS_ENV": "production", "MIGRATOR_WAIT_SECONDS": "soon", "LOG_LEVEL": "LOUD"}
    result = stack.compose("run", "--rm", "-T", "--no-deps", "migrator", "current", check=False, **wrong)
    assert result.returncode == 78
    lines = (result.stdout + result.stderr).strip().splitlines()
    named = [re.match(r"nexus: setting (\w+): .*\(see \.env\.example\)$", line) for line in lines]
    assert {match[1] for match in named if match} == set(wrong)
    assert len(lines) == len(wrong)
