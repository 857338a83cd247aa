"""dev/doctor and the machine: Docker, Compose, ports, disk, memory, clock; no stack, no image of ours."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.checkout import checkout_copy, free_ports
from tests.host.doctor import PROJECT, doctor
from tests.host.shims import in_front, path_without, shim
from tests.host.support import clean_environment, run
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout_copy(tmp_path_factory.mktemp("doctor") / "nexus")


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    names = ("API_PORT", "POSTGRES_PORT", "REDIS_PORT")
    return dict(zip(names, map(str, free_ports(3)), strict=True))


def test_a_stack_that_is_down_is_no_fault_and_nothing_is_made(directory: Path, ports: dict[str, str]) -> None:
    def everything() -> list[str]:
        label = f"label=com.docker.compose.project={PROJECT}"
        lists = (("ps", "--all"), ("network", "ls"), ("volume", "ls"))
        commands: list[tuple[str, ...]] = [("docker", *each, "--quiet", "--filter", label) for each in lists]
        commands.append(("docker", "image", "ls", "--quiet", f"{PROJECT}-*"))
        files = sorted(str(path) for path in directory.rglob("*"))
        return files + [run(*command, cwd=None, env=os.environ).stdout for command in commands]

    before = everything()
    said = doctor(directory, **ports)
    assert everything() == before
    assert [line for line in said.lines if line.state == "fault"] == []
    (down,) = said.of("stack", "ok")
    assert down == f"it is down: nothing of the project {PROJECT} runs; make up starts it"
    assert said.of("images") == [
        f"not checked: there is no image {PROJECT}-{service} yet, make up builds it"
        for service in ("api", "worker")
    ]
    unknown = {line.name for line in said.lines if line.state == "unknown"}
    assert unknown >= {"containers", "settings", "postgres", "schema", "redis", "provider"}


def test_what_a_person_reads(directory: Path, ports: dict[str, str]) -> None:
    """By `make`: each finding in one line, the count at the end."""
    environment = clean_environment() | {"COMPOSE_PROJECT_NAME": PROJECT} | ports
    result = run("make", "doctor", cwd=directory, env=environment)
    *lines, last = result.stdout.splitlines()
    assert [line for line in lines if not re.match(r"(ok|warning|fault|unknown) +[a-z]+ +\S", line)] == []
    assert re.fullmatch(r"nexus: 0 faults, \d warnings?, \d+ not checked", last)
    assert {line.split()[1] for line in lines} == set(
        run("dev/doctor", "--list", cwd=directory, env=environment).stdout.split()
    )


def test_make_can_be_asked_for_json(directory: Path, ports: dict[str, str]) -> None:
    environment = clean_environment() | {"COMPOSE_PROJECT_NAME": PROJECT} | ports | {"API_PORT": "0"}
    result = run("make", "doctor", "JSON=1", cwd=directory, env=environment, check=False)
    assert result.returncode == 2, "make's own, for any recipe that fails"
    assert result.stdout.startswith('{"state": "fault", "checks": [{"')
    assert result.stdout.count("\n") == 1


SAYS_DENIED = "permission denied while trying to connect to the Docker daemon socket"
#: A docker that answers so, and what is said of it: the check, the message, the remedy.
ANSWERS = {
    f'[ "$1" = version ] || exec "$REAL" "$@"\necho "{SAYS_DENIED}" >&2; exit 1': (
        "docker", "you may not use Docker's socket", r".*docker group.*"
    ),
    '[ "$1" = version ] || exec "$REAL" "$@"\necho 19.03.15': (
        "docker", "Docker Engine 19.03.15 is too old, 20.10 or newer is needed", "upgrade it.*"
    ),
    '[ "$1" = compose ] || exec "$REAL" "$@"\nexit 1': (
        "compose", r"(Docker's Compose plugin is missing|only Compose v1 .*)", "(make up|.*install).*"
    ),
    '[ "$1" = compose ] || exec "$REAL" "$@"\necho 2.20.0': (
        "compose", r"Compose 2\.20\.0 is too old, 2\.24\.4 or newer is needed", "(make up|.*install).*"
    ),
}  # fmt: skip


@pytest.mark.parametrize("script", ANSWERS)
def test_docker_that_cannot_be_used(directory: Path, tmp_path: Path, script: str) -> None:
    check, message, remedy = ANSWERS[script]
    shim(tmp_path / "bin", "docker", script)
    said = doctor(directory, PATH=in_front(tmp_path / "bin"))
    (found,) = [line for line in said.lines if line.state == "fault" and line.name in {"docker", "compose"}]
    assert (found.name, bool(re.fullmatch(message, found.message))) == (check, True), found
    assert re.fullmatch(remedy, found.remedy)
    # Nothing that stands on it is called well.
    well = {line.name for line in said.lines if line.state == "ok"}
    assert well & {"images", "stack", "containers", "settings", "postgres", "schema", "redis"} == set()


def test_an_engine_that_does_not_run(directory: Path, tmp_path: Path) -> None:
    socket_of_nobody = f"unix://{tmp_path}/docker.sock"
    said = doctor(directory, DOCKER_HOST=socket_of_nobody)
    assert said.faults("docker") == ["Docker Engine is not running"]
    assert said.remedy("Docker Engine is not running") == f"check DOCKER_HOST ({socket_of_nobody})"


@pytest.mark.long
@pytest.mark.parametrize("hangs", ["version", "ps"])
@pytest.mark.parametrize("without", ["nothing", "timeout"])
def test_a_docker_that_hangs_does_not_hang_the_doctor(
    directory: Path, tmp_path: Path, hangs: str, without: str
) -> None:
    """macOS has no `timeout`; there it does without."""
    path = path_without(tmp_path / "path", without)
    shim(tmp_path / "bin", "docker", f'[ "$1" = {hangs} ] || exec "$REAL" "$@"\nexec sleep 600')
    said = doctor(directory, PATH=f"{tmp_path / 'bin'}:{path}")
    (message,) = said.faults("docker")
    assert re.search(r"\b10 s\b", message)
    # Nothing else is asked of it: each question would take as long.
    reasons = {name: said.of(name) for name in ("disk", "memory", "images", "stack", "redis")}
    assert reasons == {key: ["not checked: Docker cannot be used"] for key in reasons}


@pytest.mark.long
def test_a_docker_that_hangs_for_everything_is_one_fault(directory: Path, tmp_path: Path) -> None:
    shim(tmp_path / "bin", "docker", "exec sleep 600")
    said = doctor(directory, PATH=in_front(tmp_path / "bin"))
    faults = [line.message for line in said.lines if line.state == "fault"]
    assert faults == ["Docker does not answer (nothing within 10 s)"]
    assert said.of("compose") == ["not checked: Docker does not answer"]


#: One container, and 124, which is what `timeout` says, for questions that this machine answers in time.
RUNNING = """\
case "$*" in
  {silent}) exit 124 ;;
  "ps "*) echo 0123 ;;
  "inspect "*) echo 'api|running|healthy|0|false|0|sha256:old|none|an-image|0123' ;;
  "image ls "*) echo sha256:new ;;
  "run "* | "exec "*) exit 1 ;;
  "compose --project-directory "*) printf 'fault\\037redis\\037is away\\037mend it\\n' ;;
  *) exec "$REAL" "$@" ;;
esac
"""
#: What says nothing in time, and the check that then has only this to say.
SILENT = {
    '"compose version"*': ("compose", "Compose says nothing within 10 s"),
    '"compose config"': ("config", "Compose says nothing within 10 s"),
    '"stats "*': ("memory", "Docker does not tell what the containers use"),
    '"image ls "*api*': ("images", f"Docker does not tell whether there is an image {PROJECT}-api"),
    '"run "*': ("images", f"the image {PROJECT}-api was not looked into within 20 s"),
    '"image inspect "*': ("containers", "Docker does not tell what an-image is now"),
    '"image ls "*': ("redis", "Docker does not tell whether there is an image of api"),
    '"network inspect "*': ("redis", "the api image gave no answer"),
}


@pytest.mark.parametrize("silent", SILENT)
def test_what_does_not_answer_in_time_is_neither_well_nor_a_fault(
    directory: Path, tmp_path: Path, ports: dict[str, str], silent: str
) -> None:
    check, message = SILENT[silent]
    shim(tmp_path / "bin", "docker", RUNNING.replace("{silent}", silent))
    said = doctor(directory, PATH=in_front(tmp_path / "bin"), **ports)
    assert f"not checked: {message}" in said.of(check)
    assert said.of(check, "ok") == []
    assert [each for each in said.faults(check) if f"{PROJECT}-worker" not in each] == []


@pytest.mark.parametrize("without", ["nothing", "timeout"])
def test_ctrl_c_ends_it_and_what_it_asks(directory: Path, tmp_path: Path, without: str) -> None:
    path, place = path_without(tmp_path / "path", without), tmp_path / "asked"
    shim(tmp_path / "bin", "docker", f"echo $$ >'{place}.new'; mv '{place}.new' '{place}'; exec sleep 60")
    environment = clean_environment() | {"PATH": f"{tmp_path / 'bin'}:{path}"}
    # As a terminal does, to all of its foreground; pytest may have been told to ignore it.
    command = ("env", "--default-signal=INT", "dev/doctor")
    with subprocess.Popen(command, cwd=directory, env=environment, start_new_session=True) as process:
        try:
            wait_until("Docker is asked", place.exists, seconds=8)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=5) in {130, -signal.SIGINT}
        finally:
            process.kill()
    asked = ("ps", "-o", "stat=", "-p", place.read_text().strip())

    def lives() -> bool:
        return run(*asked, cwd=None, env=os.environ, check=False).stdout.strip("Z+\n ") != ""

    wait_until("the question has ended", lambda: not lives(), seconds=5)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("nexus-api", "nexus-api:latest"),
        ("localhost:5000/nexus", "localhost:5000/nexus:latest"),
        ("localhost:5000/nexus:1", "localhost:5000/nexus:1"),
        ("nexus@sha256:12", "nexus@sha256:12"),
    ],
)
def test_a_name_without_a_tag_is_that_of_the_latest(directory: Path, name: str, taken: str) -> None:
    script = '. dev/doctor.d/stack.sh; tagged "$0"'
    assert run("bash", "-c", script, name, cwd=directory, env=clean_environment()).stdout == taken


def test_compose_refuses_a_variable_whose_value_is_not_shown(directory: Path) -> None:
    said = doctor(directory, HEALTH_INTERVAL="soon-enough")
    (message,) = said.faults("config")
    assert message.startswith("Compose refuses compose.yml with these variables (")
    assert "soon-enough" not in said.printed


def test_compose_that_cannot_read_dotenv_is_not_another_fault(copy: Path) -> None:
    (copy / ".env").write_text("NEXUS_INTERNAL_SECRET='not closed, not shown\n")
    said = doctor(copy)
    assert said.of("config") == ["not checked: Compose cannot read .env as it is"]
    assert len(said.faults("env")) == 1
    assert "not shown" not in said.printed


@pytest.mark.parametrize("variable", ["API_PORT", "POSTGRES_PORT", "REDIS_PORT"])
def test_a_port_that_another_program_holds(directory: Path, ports: dict[str, str], variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = doctor(directory, **ports | {variable: str(port)})
    (message,) = said.faults("ports")
    assert re.fullmatch(rf"port {port} of 127\.0\.0\.1 is taken by .+ \(pid {os.getpid()}\)", message)
    assert said.remedy("port ") == f"stop it, or choose another with {variable}=... in .env"


def test_a_port_that_another_container_holds(directory: Path, ports: dict[str, str]) -> None:
    image = clean_environment().get("REDIS_IMAGE", "redis:7.2-alpine")
    name = f"nexus-host-holder-{ports['REDIS_PORT']}"
    start = ("docker", "run", "--rm", "--detach", "--pull", "never", "--name", name, "--user", "redis")
    run(
        *start,
        "--publish",
        f"127.0.0.1:{ports['REDIS_PORT']}:6379",
        image,
        "redis-server",
        cwd=None,
        env=os.environ,
    )
    try:
        said = doctor(directory, **ports)
    finally:
        run("docker", "rm", "--force", "--volumes", name, cwd=None, env=os.environ)
    assert said.faults("ports") == [
        f"port {ports['REDIS_PORT']} of 127.0.0.1 is taken by the container {name}"
    ]


def test_two_ports_that_are_the_same(directory: Path, ports: dict[str, str]) -> None:
    said = doctor(directory, **ports | {"API_PORT": ports["REDIS_PORT"]})
    assert said.faults("ports") == [f"API_PORT and REDIS_PORT are both {ports['REDIS_PORT']}"]


@pytest.mark.parametrize("port", ["eighty", "0", "65536"])
def test_a_port_that_is_none(directory: Path, ports: dict[str, str], port: str) -> None:
    """Compose refuses most of them: then .env and the shell are asked."""
    said = doctor(directory, **ports | {"API_PORT": port})
    assert said.faults("ports") == ["API_PORT is no port"]


@pytest.mark.parametrize(
    ("kilobytes", "state"), [(1023 * 1024, "fault"), (4095 * 1024, "warning"), (4096 * 1024, "ok")]
)
def test_little_disk(
    directory: Path, tmp_path: Path, ports: dict[str, str], kilobytes: int, state: str
) -> None:
    """`df` says what it says on a full disk; what comes of it is the doctor's own."""
    shim(
        tmp_path / "bin",
        "df",
        f"printf 'Filesystem 1024-blocks Used Available\\n/dev/full 9 9 {kilobytes}\\n'",
    )
    said = doctor(directory, PATH=in_front(tmp_path / "bin"), **ports)
    (message,) = [each for each in said.of("disk", state) if "where Docker keeps its images" in each]
    assert f"{kilobytes // 1024} MB free" in message


def test_limits_above_what_the_machine_has(copy: Path, ports: dict[str, str]) -> None:
    (copy / "compose.override.yml").write_text("services: {api: {mem_limit: 9000g}}\n")
    said = doctor(copy, **ports)
    (message,) = said.of("memory", "warning")
    assert re.fullmatch(r"the services may use 9218048 MB together, and this machine has \d+ MB", message)


@pytest.mark.parametrize(("seconds", "state"), [(-3600, "fault"), (90, "fault"), (30, "warning"), (0, "ok")])
def test_a_clock_of_docker_that_drifts(directory: Path, tmp_path: Path, seconds: int, state: str) -> None:
    now = f"$(date -u -d '{seconds} seconds' +%Y-%m-%dT%H:%M:%S.5Z)"
    script = f'[ "$1" = info ] || exec "$REAL" "$@"\n"$REAL" "$@" | sed "s/|[^|]*$/|{now}/"'
    shim(tmp_path / "bin", "docker", script)
    said = doctor(directory, PATH=in_front(tmp_path / "bin"))
    (message,) = said.of("clock", state)
    assert message.startswith("Docker's clock ")


def test_a_clock_that_was_never_set(directory: Path, tmp_path: Path) -> None:
    shim(tmp_path / "bin", "date", 'exec "$REAL" -d @1000 "$@"')
    said = doctor(directory, PATH=in_front(tmp_path / "bin"))
    assert "this machine's clock says 1970-01-01" in said.faults("clock")
