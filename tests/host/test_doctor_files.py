"""dev/doctor without Docker: .env, the files that hold secrets, the checkout. It needs nothing but bash."""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import checkout_copy
from tests.host.doctor import Report, doctor
from tests.host.shims import path_without
from tests.host.support import clean_environment, run

pytestmark = pytest.mark.host

SECRET = "hunter2-is-no-secret"  # noqa: S105  a test's own


@pytest.fixture(scope="module")
def no_docker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH without Docker: what concerns files is told all the same, and at once."""
    return path_without(tmp_path_factory.mktemp("path") / "bin", "docker", "dockerd", "docker-compose")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout_copy(tmp_path_factory.mktemp("doctor") / "nexus")


@pytest.fixture
def dotenv(directory: Path) -> Iterator[Path]:
    path = directory / ".env"
    yield path
    path.unlink(missing_ok=True)


def test_without_docker_it_says_so_and_checks_what_it_can(directory: Path, no_docker: str) -> None:
    said = doctor(directory, PATH=no_docker)
    assert said.faults("docker") == ["Docker is not installed"]
    assert "install" in said.remedy("Docker is not installed")
    told = {"docker", "compose", "checkout", "env", "secrets", "ports"}
    assert {line.name for line in said.lines if line.state != "unknown"} == told
    assert {line.name for line in said.lines if line.state == "unknown"} == {
        *("config", "disk", "memory", "clock", "images", "stack", "containers"),
        *("settings", "postgres", "schema", "redis", "provider"),
    }


NOBODY_READS, MEANT = "nothing of Nexus reads: remove", "nothing reads: did you mean"
DOLLAR = "holds a $ outside of single quotes, and Compose replaces what follows it: put the value into single"
#: A line of .env, and what is said of it: the state, and a part of the message with its remedy.
LINES = {
    "POSTGRES_PASSWORD": ("fault", "is half written: there is no = after POSTGRES_PASSWORD: complete"),
    SECRET: ("fault", "is half written: there is no = after it: complete"),
    f"{SECRET} and={SECRET}": ("fault", "does not begin with a name and =: correct"),
    f"POSTGRES_PASSWROD={SECRET}": ("fault", f"{MEANT} POSTGRES_PASSWORD?: correct"),
    "api-port=1": ("fault", f"{MEANT} API_PORT?: correct"),
    "INTERNAL_SECRET=x": ("fault", f"{MEANT} NEXUS_INTERNAL_SECRET?: correct"),
    "MY_OWN_THING=1": ("warning", f"sets MY_OWN_THING, which {NOBODY_READS}"),
    f"{SECRET}a=": ("warning", f"sets a name that {NOBODY_READS}"),
    f"NEXUS_ENV='{SECRET}": ("fault", "the quote before the value of NEXUS_ENV is not closed: put another '"),
    f'LOG_LEVEL="{SECRET}': ("fault", 'the quote before the value of LOG_LEVEL is not closed: put another "'),
    f"LOG_FORMAT={SECRET}'": ("fault", "the value of LOG_FORMAT ends with a quote that nothing opens: rem"),
    f"POSTGRES_USER='a'{SECRET}": ("fault", "something follows the closing quote of POSTGRES_USER: remove"),
    f"POSTGRES_DB=a$b{SECRET}": ("fault", f"POSTGRES_DB {DOLLAR}"),
    f'API_POOL_SIZE="$b{SECRET}"': ("fault", f"API_POOL_SIZE {DOLLAR}"),
    "API_WORKERS=${NOBODY_SETS_THIS}": ("fault", f"API_WORKERS {DOLLAR}"),
    "TRUSTED_PROXIES=${NOBODY_SETS_THIS:?x}": ("fault", f"TRUSTED_PROXIES {DOLLAR}"),
    # The doctor has a variable of that name, and Compose does not.
    "AUTH_ISSUER=a${value}": ("fault", f"AUTH_ISSUER {DOLLAR}"),
    f"AUTH_AUDIENCES=a$${SECRET}": ("fault", f"AUTH_AUDIENCES {DOLLAR}"),
    # What no process reads from a file.
    "POSTGRES_USER_FILE=x": ("warning", f"sets POSTGRES_USER_FILE, which {NOBODY_READS}"),
    "LOG_LEVEL_FILE=x": ("warning", f"sets LOG_LEVEL_FILE, which {NOBODY_READS}"),
}


def test_each_bad_line_of_dotenv_is_named(directory: Path, dotenv: Path, no_docker: str) -> None:
    dotenv.write_text("".join(f"{line}\n" for line in LINES))
    said = doctor(directory, PATH=no_docker)
    found = [line for line in said.lines if line.name == "env"]
    assert len(found) == len(LINES)
    for number, (line, (state, part)) in enumerate(zip(found, LINES.values(), strict=True), start=1):
        assert line.state == state
        assert re.search(rf"\bline {number} of \.env\b", line.message)
        assert part in f"{line.message}: {line.remedy}"
    assert SECRET not in said.printed


def test_the_second_of_two_lines_counts(directory: Path, dotenv: Path, no_docker: str) -> None:
    dotenv.write_text(f"POSTGRES_PASSWORD={SECRET}\nAPI_PORT=8001\nexport POSTGRES_PASSWORD = {SECRET}\n")
    said = doctor(directory, PATH=no_docker)
    assert said.of("env") == ["POSTGRES_PASSWORD stands in .env twice (lines 1 and 3), the second counts"]
    assert said.of("env", "warning") == said.of("env")
    assert SECRET not in said.printed


def test_good_lines_are_passed(directory: Path, dotenv: Path, no_docker: str) -> None:
    """Everything that Compose understands as it is meant; and .env.example itself."""
    lines = [
        *("\ufeff# comment", "", "  # indented", "COMPOSE_PROJECT_NAME=x", "export DOCKER_SOCKET=/x.sock"),
        *("POSTGRES_PASSWORD='$b # \"c' # comment", 'POSTGRES_USER="it\'s \\" here"', "LOG_LEVEL = INFO\r"),
        *("POSTGRES_DB=${HOME}", "LOG_FORMAT=${POSTGRES_DB}", "AUTH_ISSUER=", "API_PORT=8123 # mine"),
        *("NEXUS_INTERNAL_SECRET_FILE=", "REDIS_PORT=6390", 'AUTH_AUDIENCES="a\\$b"'),
        *("POSTGRES_PORT=${NOBODY_SETS_THIS:-8123}", "API_WORKERS=${NOBODY_SETS_THIS-2}"),
        *("API_POOL_SIZE=${API_PORT:+5}", "AUTH_JWKS_URL=${NOBODY_SETS_THIS+x}"),
        *("WORKER_CONCURRENCY=$API_POOL_SIZE", "HEALTH_INTERVAL=${HEALTH_INTERVAL:-${API_WORKERS}s}"),
    ]
    for content in ("\n".join(lines), (directory / ".env.example").read_text()):
        dotenv.write_text(content)
        said = doctor(directory, PATH=no_docker)
        assert said.of("env") == [".env is well formed, and names nothing unknown"]


def test_dotenv_that_cannot_be_read(directory: Path, dotenv: Path, no_docker: str) -> None:
    dotenv.mkdir()
    try:
        said = doctor(directory, PATH=no_docker)
        assert said.faults("env") == [".env is no file that you can read"]
        assert said.of("secrets") == ["not checked: those that .env names: it cannot be read"]
    finally:
        dotenv.rmdir()
    dotenv.symlink_to("/nowhere/at/all")
    assert doctor(directory, PATH=no_docker).faults("env") == [".env is a link to nothing"]


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_dotenv_is_closed_to_others(directory: Path, dotenv: Path, no_docker: str, environment: str) -> None:
    dotenv.write_text(f"NEXUS_ENV={environment}\n")
    dotenv.chmod(0o644)
    said = doctor(directory, PATH=no_docker)
    (message,) = said.faults("env")
    assert message == f".env can be read by every user of this machine (NEXUS_ENV is {environment})"
    assert said.remedy(message) == "chmod 600 .env"
    dotenv.chmod(0o640)
    assert doctor(directory, PATH=no_docker).faults("env") == []


def test_dotenv_may_be_open_on_a_laptop(directory: Path, dotenv: Path, no_docker: str) -> None:
    dotenv.write_text("NEXUS_ENV=local\n")
    dotenv.chmod(0o644)
    assert doctor(directory, PATH=no_docker).faults("env") == []


def secrets(directory: Path, no_docker: str, file: Path) -> Report:
    return doctor(directory, PATH=no_docker, POSTGRES_PASSWORD_FILE=str(file))


def give_to_containers(file: Path) -> None:
    """root:10001. The engine does it: who runs this may not."""
    image = clean_environment().get("POSTGRES_IMAGE", "postgres:15.8")
    command = ("docker", "run", "--rm", "--pull", "never", "--user", "0", "--entrypoint", "chown")
    run(*command, "--volume", f"{file}:/file", image, "0:10001", "/file", cwd=None, env=os.environ)


def test_a_secret_file_that_is_no_good(directory: Path, no_docker: str, tmp_path: Path) -> None:
    file, name = tmp_path / "password", "the file of POSTGRES_PASSWORD_FILE"
    assert secrets(directory, no_docker, file).faults("secrets") == [f"{name} ({file}) is not there"]
    assert secrets(directory, no_docker, tmp_path).faults("secrets") == [f"{name} ({tmp_path}) is no file"]
    file.touch(mode=0o600)
    assert secrets(directory, no_docker, file).faults("secrets") == [f"{name} ({file}) is empty"]
    file.write_text(SECRET)
    file.chmod(0o644)
    said = secrets(directory, no_docker, file)
    assert said.faults("secrets") == [f"{name} ({file}) is open to every user of this machine"]
    assert f"chmod 440 {file}" in said.remedy(name)
    file.chmod(0o440)
    said = secrets(directory, no_docker, file)
    (message,) = said.faults("secrets")
    assert message == f"{name} ({file}) cannot be read by the containers (user and group 10001)"
    assert SECRET not in said.printed


def test_a_secret_file_as_it_should_be(directory: Path, dotenv: Path, no_docker: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(SECRET)
    file.chmod(0o440)
    give_to_containers(file)
    dotenv.write_text(f"POSTGRES_PASSWORD_FILE={file}\n")
    said = doctor(directory, PATH=no_docker)
    assert said.of("secrets", "ok") == ["1 file, closed to others, open to the containers"]
    file.chmod(0o640)
    file.write_text(f"{SECRET}\r\n")
    said = doctor(directory, PATH=no_docker)
    name = f"the file of POSTGRES_PASSWORD_FILE ({file})"
    assert said.faults("secrets") == [f"{name} ends its line as Windows does"]
    assert said.remedy(name).endswith(f"sed -i 's/\\r$//' {file}")


def test_the_certificates_of_authorities_may_be_open(directory: Path, no_docker: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    name = f"the file of EXTERNAL_CA ({file})"
    for mode, expected in ((None, "is not there, or no file"), (0o600, "is closed to the containers")):
        if mode is not None:
            file.touch(mode=mode)
        said = doctor(directory, PATH=no_docker, EXTERNAL_CA=str(file))
        assert said.faults("secrets") == [f"{name} {expected}"]
    file.chmod(0o644)
    assert doctor(directory, PATH=no_docker, EXTERNAL_CA=str(file)).faults("secrets") == []


def test_a_file_of_the_processes_on_this_machine_is_no_containers(
    directory: Path, no_docker: str, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.touch(mode=0o600)
    assert doctor(directory, PATH=no_docker, DATABASE_URL_FILE=str(file)).faults("secrets") == []


@pytest.mark.parametrize(
    "lines",
    [
        "POSTGRES_PASSWORD_FILE=${FOLDER}/password",
        'POSTGRES_PASSWORD_FILE="$FOLDER/password" # mine',
        "POSTGRES_PASSWORD_FILE=${NOBODY_SETS_THIS:-${FOLDER_HERE}}/password",
        "MINE=${FOLDER}\nPOSTGRES_PASSWORD_FILE=${MINE:?}/password\nMINE=/nowhere",
        "POSTGRES_PASSWORD_FILE=${POSTGRES_PASSWORD_FILE:-${FOLDER_HERE}/password}",
        "POSTGRES_PASSWORD_FILE=${FOLDER:+${FOLDER_HERE}}${NOBODY_SETS_THIS}/password",
        "POSTGRES_PASSWORD_FILE=~/password",
    ],
)
def test_the_name_of_a_secret_file_is_what_compose_makes_of_it(
    directory: Path, dotenv: Path, no_docker: str, tmp_path: Path, lines: str
) -> None:
    file = tmp_path / "password"
    file.touch()
    dotenv.write_text(lines.replace("${FOLDER_HERE}", str(tmp_path)) + "\n")
    said = doctor(directory, PATH=no_docker, FOLDER=str(tmp_path), HOME=str(tmp_path), NOBODY_SETS_THIS="")
    assert said.of("secrets") == [f"the file of POSTGRES_PASSWORD_FILE ({file}) is empty"]


def test_a_name_that_only_compose_can_tell_is_no_fault(directory: Path, dotenv: Path, no_docker: str) -> None:
    dotenv.write_text("POSTGRES_PASSWORD_FILE=${NOBODY_SETS_THIS:-${NOR_THIS:-/nowhere}}/password\n")
    said = doctor(directory, PATH=no_docker)
    assert said.of("env", "ok")
    assert said.of("secrets") == [
        "not checked: only Compose can tell which file POSTGRES_PASSWORD_FILE names in .env"
    ]
    result = run("dev/prerequisites", "secrets", cwd=directory, env=clean_environment(), check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_default_that_is_no_port_is_shown_nowhere(directory: Path, dotenv: Path, no_docker: str) -> None:
    dotenv.write_text(f"API_PORT=${{NOBODY_SETS_THIS:-{SECRET}}}\n")
    said = doctor(directory, PATH=no_docker)
    assert said.faults("ports") == ["API_PORT is no port"]
    assert SECRET not in said.printed


def test_a_file_that_nothing_reads_is_not_looked_for(directory: Path, no_docker: str) -> None:
    said = doctor(directory, PATH=no_docker, POSTGRES_USER_FILE="/nowhere", LOG_LEVEL_FILE="/nowhere")
    assert said.of("secrets") == ["none is given as a file"]


def test_a_checkout_that_cannot_be_read() -> None:
    # Root may read everything, so it becomes nobody; pytest's own folders are closed for that one.
    switch = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    nobody = switch if os.geteuid() == 0 else ()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        copy = checkout_copy(Path(folder) / "nexus")
        assert doctor(copy, *nobody, DOCKER_HOST="unix:///nowhere").of("checkout", "ok")
        (copy / "shared/nexus/config.py").chmod(0)
        (message,) = doctor(copy, *nobody, DOCKER_HOST="unix:///nowhere").faults("checkout")
    wanted = r"1 file of this checkout cannot be read by \w+, the first is shared/nexus/config\.py"
    assert re.fullmatch(wanted, message)


def test_a_checkout_that_is_not_whole(copy: Path, no_docker: str) -> None:
    (copy / "db").rename(copy / "elsewhere")
    said = doctor(copy, PATH=no_docker)
    wanted = "services, shared, db or requirements is missing, so nothing can be built"
    assert said.faults("checkout") == [wanted]


def test_usage(directory: Path) -> None:
    result = run("dev/doctor", "--jsn", cwd=directory, env=clean_environment(), check=False)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "usage: dev/doctor [--json]\n")
