"""dev/doctor and a stack that runs: as it should, with parts away, with code and settings that went on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.checkout import checkout_copy
from tests.host.conftest import AWKWARD_PASSWORD
from tests.host.doctor import Report, report
from tests.host.shims import in_front, shim
from tests.host.support import Stack, edited, stack_of
from tests.waiting import wait_until

# Without cached images the shared stack takes its time.
pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def containers_of_the_images_of_now(stack: Stack) -> None:
    """Tests of other files leave images of code that they had edited (test_fresh_code)."""
    stack.up()


def doctor(stack: Stack, **variables: str) -> Report:
    return report(stack.run("dev/doctor", "--json", check=False, **variables))


def what_is_there(stack: Stack) -> list[str]:
    """Containers, networks, volumes and images, each by its id."""
    label = f"label=com.docker.compose.project={stack.project}"
    lists = (("ps", "--all", "--filter", label), ("network", "ls", "--filter", label))
    commands = [*lists, ("volume", "ls", "--filter", label), ("image", "ls", f"{stack.project}-*")]
    return [
        line for each in commands for line in sorted(stack.run("docker", *each, "--quiet").stdout.split())
    ]


def test_a_stack_that_is_well(stack: Stack) -> None:
    before = what_is_there(stack)
    said = doctor(stack)
    assert what_is_there(stack) == before
    # The shared stack has .env.example as its .env, and the password again.
    (twice,) = [line.message for line in said.lines if line.state != "ok"]
    assert twice.startswith("POSTGRES_PASSWORD stands in .env twice")
    assert {line.name for line in said.lines} == set(stack.run("dev/doctor", "--list").stdout.split())
    assert AWKWARD_PASSWORD not in said.printed
    assert said.of("stack") == ["api, postgres, redis, worker: running and well"]


def test_it_asks_without_a_stack_and_leaves_nothing(stack: Stack) -> None:
    """As after `make down`: the settings are tried, the stack's own peers are not looked for."""
    down = replace(stack, project=f"{stack.project}-down")
    for service in ("api", "worker"):
        stack.run("docker", "tag", stack.image(service), down.image(service))
    try:
        before = what_is_there(down)
        said = report(down.run("dev/doctor", "--json", check=False))
        assert what_is_there(down) == before
    finally:
        down.run("docker", "image", "rm", down.image("api"), down.image("worker"))
    assert said.state == "warning", "the password that .env has twice"
    assert said.of("settings", "ok")
    assert said.of("provider", "ok")
    assert said.of("postgres") == said.of("schema") == ["not checked: postgres does not run"]
    assert said.of("redis") == ["not checked: redis does not run"]


def test_nexus_doctor_is_of_use_alone(stack: Stack) -> None:
    """As it is called where there is no checkout."""
    result = stack.compose("exec", "-T", "api", "nexus", "doctor")
    lines = [line.split()[:2] for line in result.stdout.splitlines()]
    assert [state for state, _ in lines] == ["ok"] * len(lines)
    assert {name for _, name in lines} == {"settings", "postgres", "schema", "redis", "provider", "clock"}
    assert report(stack.compose("exec", "-T", "api", "nexus", "doctor", "--json")).state == "ok"


def test_nexus_doctor_says_which_container_has_what_it_needs(stack: Stack) -> None:
    result = stack.compose("exec", "-T", "worker", "nexus", "doctor", check=False)
    assert result.returncode == 1
    assert re.search(
        r"nexus: this container has no \w+: try 'docker compose exec api nexus doctor'\n", result.stderr
    )


def test_settings_of_the_next_start_are_tried_while_the_old_ones_run(stack: Stack) -> None:
    """Also those that api itself never looks at."""
    said = doctor(stack, LOG_LEVEL="LOUD", WORKER_CONCURRENCY="none", MIGRATOR_WAIT_SECONDS="soon")
    named = [re.match(r"setting (\w+): ", fault) for fault in said.faults("settings")]
    assert {match[1] for match in named if match} == {
        "LOG_LEVEL",
        "WORKER_CONCURRENCY",
        "MIGRATOR_WAIT_SECONDS",
    }
    assert said.of("containers", "warning") == [
        f"{service} runs with other settings than compose.yml and .env have now"
        for service in ("api", "worker")
    ]
    # Those that run are well meanwhile, and say so.
    assert [line for line in said.lines if line.state == "fault" and line.name != "settings"] == []
    assert said.of("schema", "ok")
    assert said.of("redis", "ok")


def test_a_password_that_is_not_the_one_of_the_volume(stack: Stack) -> None:
    """Before the next start fails with it."""
    said = doctor(stack, POSTGRES_PASSWORD="forgotten")  # noqa: S106  a test's own
    assert said.faults("postgres") == ["Postgres at postgres refused our password"]
    assert "POSTGRES_PASSWORD" in said.remedy("Postgres at postgres")
    assert said.of("schema") == ["not checked: Postgres does not answer"]
    assert "forgotten" not in said.printed


def test_images_of_other_code(stack: Stack) -> None:
    def images() -> list[str]:
        return doctor(stack).faults("images")

    wanted = {
        service: f"the image {stack.image(service)} was built from other code than this checkout has"
        for service in ("api", "worker")
    }
    with edited(stack.directory / "shared/nexus/api/probes.py", '"ok"}})', '"ok"}}) '):
        assert images() == list(wanted.values())
    lock = stack.directory / "requirements/worker.txt"
    with edited(lock, lock.read_text(), lock.read_text() + "# another\n"):
        assert images() == [wanted["worker"]]


@contextmanager
def another(stack: Stack, name: str, *making: str) -> Iterator[None]:
    """What the command makes has the name of one of the stack's images meanwhile."""

    def named() -> str:
        (found,) = stack.run("docker", "image", "ls", "--quiet", "--no-trunc", name).stdout.split()
        return found

    old = named()
    stack.run("docker", *making)
    made = named()
    assert made != old
    try:
        yield
    finally:
        stack.run("docker", "tag", old, name)
        stack.run("docker", "image", "rm", made)


def test_containers_of_older_images_and_images_that_are_none(stack: Stack, tmp_path: Path) -> None:
    empty, name = tmp_path / "empty.tar", stack.image("worker")
    empty.write_bytes(bytes(10240))
    with another(stack, name, "import", str(empty), name):
        said = doctor(stack)
    assert said.faults("containers") == [f"worker runs from an older image than {name} is now"]
    assert said.faults("images") == [f"the image {name} cannot be looked into"]


@pytest.mark.parametrize(
    ("line", "is_older"),
    [("LABEL org.opencontainers.image.revision=next", False), ('CMD ["true"]', True), ("ENV NEW=1", True)],
)
def test_an_image_is_older_by_more_than_its_labels(
    stack: Stack, tmp_path: Path, line: str, *, is_older: bool
) -> None:
    """A commit alone gives every image that is built after it another revision, and so another id."""
    name = stack.image("worker")
    (tmp_path / "Dockerfile").write_text(f"FROM {name}\n{line}\n")
    with another(stack, name, "build", "--quiet", "--tag", name, str(tmp_path)):
        said = doctor(stack)
    assert said.faults("containers") == [f"worker runs from an older image than {name} is now"] * is_older


def test_another_tag_of_the_same_name_is_another_image(stack: Stack) -> None:
    """As somebody keeps the old one, to go back to."""
    kept = f"{stack.image('worker')}:before"
    stack.run("docker", "tag", stack.image("api"), kept)
    try:
        said = doctor(stack)
    finally:
        stack.run("docker", "image", "rm", kept)
    assert said.of("containers") == ["they run from the images and settings of now"]
    assert said.of("images") == ["api and worker are of this code"]


def test_its_own_ports_are_nobody_elses_where_compose_refuses_a_variable(stack: Stack) -> None:
    said = doctor(stack, API_PORT="abc")
    assert said.faults("ports") == ["API_PORT is no port"]
    held = [stack.ports["postgres"], stack.ports["redis"]]
    assert said.of("ports", "unknown") == [
        f"not checked: somebody listens on {port}, and whether it is this stack is not known "
        "without Compose's configuration"
        for port in held
    ]


def test_an_engine_that_does_not_answer_is_no_older_image(stack: Stack, tmp_path: Path) -> None:
    shim(tmp_path / "bin", "docker", """case $* in *--no-trunc*) exit 1 ;; *) exec "$REAL" "$@" ;; esac""")
    said = doctor(stack, PATH=in_front(tmp_path / "bin"))
    whys = said.of("containers", "unknown")
    assert [why for why in whys if not why.startswith("not checked: Docker does not tell what ")] == []
    assert len(whys) == 4
    assert said.of("containers") == whys


def test_a_frozen_postgres_and_a_dead_redis(stack: Stack) -> None:
    stack.compose("pause", "postgres")
    stack.compose("kill", "redis")
    try:
        said = doctor(stack)
    finally:
        stack.compose("unpause", "postgres")
        stack.mend()
    assert "postgres is paused" in said.faults("stack")
    assert said.remedy("postgres is paused") == "docker compose unpause postgres"
    assert "redis has ended (exit code 137) while others run" in said.faults("stack")
    assert said.of("postgres") == said.of("schema") == ["not checked: postgres does not run"]
    assert said.of("redis") == ["not checked: redis does not run"]


def test_peers_are_asked_without_a_running_api(stack: Stack) -> None:
    """When it is most needed: the api does not start."""
    stack.compose("stop", "--timeout", "5", "api", "redis")
    try:
        said = doctor(stack)
        there = what_is_there(stack)
    finally:
        stack.mend()
    assert what_is_there(stack) == there
    assert [each for each in said.faults("stack") if each.startswith("api has ended (exit code ")]
    assert said.of("schema", "ok") == ["at revision 0002, the newest, and as it was written"]
    assert said.of("redis") == ["not checked: redis does not run"]
    assert said.of("provider", "ok")


#: One fault for each service, by what Compose itself offers.
ODD = """
services:
  postgres: {volumes: !override ["small:/var/lib/postgresql/data"]}
  redis: {mem_limit: 24m, healthcheck: {test: "false", interval: 1s, retries: 1}}
  migrator: {mem_limit: 64m, memswap_limit: 64m, entrypoint: ["python", "-c", "b'x' * 2**30"]}
  worker: {healthcheck: {interval: 600s}}
  api: {environment: {LOG_LEVEL: LOUD}}
volumes:
  small: {driver_opts: {type: tmpfs, device: tmpfs, o: "size=256m,mode=1777"}}
"""


@pytest.fixture(scope="module")
def odd_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = checkout_copy(tmp_path_factory.mktemp("odd") / "nexus")
    (directory / "compose.override.yml").write_text(ODD)
    with stack_of(directory) as stack:
        stack.compose("build", "api", "worker", "migrator")
        # One after the other: those that are started together wait for each other.
        stack.compose("up", "--detach", "--no-build", "--no-deps", "postgres")
        stack.compose("--file", "compose.yml", "run", "--rm", "-T", "--no-deps", "migrator", "upgrade")
        for service in ("redis", "migrator", "worker", "api"):
            stack.compose("up", "--detach", "--no-build", "--no-deps", service)
        yield stack


def state(stack: Stack, service: str, field: str) -> str:
    name = f"{stack.project}-{service}-1"
    return stack.run("docker", "inspect", "--format", f"{{{{.{field}}}}}", name).stdout.strip()


def test_what_containers_may_come_to(odd_stack: Stack) -> None:
    wait_until(
        "redis is unhealthy",
        lambda: state(odd_stack, "redis", "State.Health.Status") == "unhealthy",
        seconds=60,
    )
    wait_until("api is started again", lambda: int(state(odd_stack, "api", "RestartCount")) > 0, seconds=60)
    wait_until("migrator is ended for want of memory", lambda: _out_of_memory(odd_stack), seconds=60)
    # Nobody else's, and incompressible for a page cache.
    odd_stack.shell("redis", "redis-cli setrange filler 18000000 x")
    said = doctor(odd_stack)
    faults = said.faults("stack")
    assert [each for each in faults if re.match(r"api ends and is started again, \d+ times so far", each)]
    assert "redis runs and is unhealthy" in faults
    assert "migrator was ended for want of memory" in faults
    assert len(faults) == 3
    assert said.of("stack", "warning") == ["worker is starting"]
    (data,) = said.faults("disk")
    assert re.fullmatch(r"only \d+ MB free for the data volume, 512 needed", data)
    (full,) = said.of("memory", "warning")
    assert re.match(rf"{odd_stack.project}-redis-1 uses 9\d % of its memory limit", full)
    assert [re.sub(r":.*", "", each) for each in said.faults("settings")] == ["setting LOG_LEVEL"]
    _then_some_never_come_to_be(odd_stack)


def _out_of_memory(odd_stack: Stack) -> bool:
    """Started again where the engine has heard of its end before the kernel's reason."""
    if state(odd_stack, "migrator", "State.OOMKilled") == "true":
        return state(odd_stack, "migrator", "State.Status") == "exited"
    odd_stack.compose("start", "migrator")
    return False


def _then_some_never_come_to_be(odd_stack: Stack) -> None:
    odd_stack.compose("rm", "--stop", "--force", "worker")
    odd_stack.compose("create", "--no-build", "worker")
    odd_stack.compose("rm", "--stop", "--force", "redis")
    said = doctor(odd_stack)
    assert "worker was never started" in said.faults("stack")
    assert "there is no redis while others run" in said.faults("stack")
