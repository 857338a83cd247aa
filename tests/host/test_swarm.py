"""The stack on a swarm of one, from what `make stack-file` renders; in an engine of the test's own."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkout import REPO, checkout_copy, chosen_images
from tests.host.engine import ADDRESS, Engine, second_engine
from tests.host.support import Stack, clean_environment, run, secret_file, stack_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(600)]

NAME = "nexus"
SECRETS = {"internal_secret": "the-swarm-s-own-secret", "postgres_password": "p@ss:w/rd%41#"}
IMAGES = "nexus.local/nexus"
#: Seconds after which a swarm would have ended a task, and more: a few until the peers are missed, then ten
#: health checks, a second apart.
UNBORNE = 25


@dataclass(frozen=True)
class Swarm:
    stack: Stack
    engine: Engine
    #: The tasks of each service once the first version ran, whatever other tests did afterwards.
    first: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def render(self, tag: str, *arguments: str) -> str:
        self.stack.run("make", "stack-file", f"IMAGES={IMAGES}", f"TAG={tag}", *arguments)
        return (self.stack.directory / "stack.yml").read_text()

    def deploy(self, tag: str) -> None:
        """As docs/swarm.md says; the images are here already."""
        file = self.render(tag)
        options = ("--resolve-image", "never", "--compose-file", "-")
        self.engine.docker("stack", "deploy", *options, NAME, stdin=file)

    def tasks(self, service: str) -> list[dict[str, Any]]:
        """Every task there was, the ended ones too."""
        lines = self.engine.docker(
            "service", "ps", "--no-trunc", "--format", "{{json .}}", f"{NAME}_{service}"
        )
        return [json.loads(line) for line in lines.splitlines()]

    def up(self, service: str) -> list[dict[str, Any]]:
        """The tasks that run."""
        return [task for task in self.tasks(service) if task["CurrentState"].startswith("Running")]

    def running(self, service: str, tag: str) -> bool:
        """Whether both replicas run this version, and nothing of another one."""
        up = self.up(service)
        return len(up) == 2 and all(task["Image"].endswith(f":{tag}") for task in up)

    def update(self, service: str) -> str:
        """The state of the last one; empty before the first."""
        state = "{{with .UpdateStatus}}{{.State}}{{end}}"
        return self.engine.docker("service", "inspect", "--format", state, f"{NAME}_{service}").strip()

    def updated(self, service: str) -> bool:
        return self.update(service) in {"", "completed"}

    def settled(self, tag: str) -> bool:
        return all(self.running(service, tag) and self.updated(service) for service in ("api", "worker"))

    def at_rest(self) -> bool:
        """Whether no update goes on, in whatever direction."""
        return all(
            self.update(service) in {"", "completed", "rollback_completed"} and len(self.up(service)) == 2
            for service in ("api", "worker")
        )

    def version(self, service: str) -> str:
        """The tag of whoever runs; both replicas have the same."""
        (tag,) = {task["Image"].rpartition(":")[2] for task in self.up(service)}
        return str(tag)

    def containers(self, service: str) -> list[str]:
        label = f"label=com.docker.swarm.service.name={NAME}_{service}"
        return self.engine.docker("ps", "--quiet", "--filter", label).split()


def configured(directory: Path) -> dict[str, str]:
    """What an operator has in `.env`: Postgres and Redis outside, secrets in files."""
    (directory / "secrets").mkdir(mode=0o700)
    for name, value in SECRETS.items():
        secret_file(directory / "secrets" / name, value)
    return {
        "NEXUS_ENV": "test",
        "HEALTH_INTERVAL": "1s",
        "NEXUS_INTERNAL_SECRET": "",
        "NEXUS_INTERNAL_SECRET_FILE": "./secrets/internal_secret",
        "POSTGRES_PASSWORD": "",
        "POSTGRES_PASSWORD_FILE": "./secrets/postgres_password",
        "EXTERNAL_POSTGRES": f"postgresql+psycopg://nexus@{ADDRESS}:5432/nexus",
        "OWN_POSTGRES": "0",
        "EXTERNAL_REDIS": f"redis://{ADDRESS}:6379/0",
        "OWN_REDIS": "0",
    }


def build(engine: Engine, stack: Stack, tag: str) -> None:
    """Images of the code as it is."""
    stack.compose("build", "--quiet", "api", "worker")
    engine.load(stack.image("api"), stack.image("worker"))
    for service in ("api", "worker"):
        engine.docker("tag", stack.image(service), f"{IMAGES}/{service}:{tag}")


def write_next_version(directory: Path) -> None:
    """With a revision of its own: the recipe of a column."""
    for command in (("init", "--quiet"), ("apply", "-C1", "docs/recipes/column.patch")):
        run("git", *command, cwd=directory, env=clean_environment())


def provision(engine: Engine) -> None:
    """A Postgres and a Redis outside of the swarm, the swarm, its secrets."""
    images = {"POSTGRES_IMAGE": "postgres:15.8", "REDIS_IMAGE": "redis:7.2-alpine"} | chosen_images()
    engine.load(images["POSTGRES_IMAGE"], images["REDIS_IMAGE"])
    told = {
        "POSTGRES_USER": "nexus",
        "POSTGRES_DB": "nexus",
        "POSTGRES_PASSWORD": SECRETS["postgres_password"],
    }
    made = [f"--env={name}={value}" for name, value in told.items()]
    for name, port, options in (("postgres", 5432, made), ("redis", 6379, [])):
        published = (f"--name={name}", f"--publish={ADDRESS}:{port}:{port}")
        engine.docker("run", "--detach", *published, *options, images[f"{name.upper()}_IMAGE"])
    engine.docker("swarm", "init", "--advertise-addr", ADDRESS)
    for name, value in SECRETS.items():
        engine.docker("secret", "create", f"nexus_{name}", "-", stdin=value)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    directory = checkout_copy(tmp_path_factory.mktemp("swarm") / "nexus")
    with stack_of(directory, **configured(directory)) as stack, second_engine() as engine:
        build(engine, stack, "1")
        provision(engine)
        found = Swarm(stack, engine)
        found.deploy("1")
        wait_until("both replicas of both services run", lambda: found.settled("1"), seconds=240, pause=1)
        found.first.update({name: found.tasks(name) for name in ("api", "worker", "migrator")})
        write_next_version(directory)
        build(engine, stack, "2")
        yield found


def test_all_wait_for_the_migrator_by_themselves(swarm: Swarm) -> None:
    """Nothing orders the start; still nobody had to be started twice."""
    for service in ("api", "worker"):
        assert len(swarm.first[service]) == 2
    (job,) = swarm.first["migrator"]
    assert job["CurrentState"].startswith("Complete")
    assert "200" in asked(swarm, "/ready")


def asked(swarm: Swarm, path: str) -> str:
    """Status and body of one replica's answer; empty where it is none with 200."""
    (api, *_) = swarm.containers("api")
    ask = f"a = urlopen('http://127.0.0.1:8000{path}'); print(a.status, a.read())"
    script = f"from urllib.request import urlopen; {ask}"
    return swarm.engine.docker("exec", api, "python", "-c", script, check=False)


@pytest.mark.parametrize("service", ["api", "worker"])
def test_a_task_is_hardened_and_shows_no_secret(swarm: Swarm, service: str) -> None:
    for container in swarm.containers(service):
        text = swarm.engine.docker("inspect", container)
        (found,) = json.loads(text)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert (host["PidsLimit"], host["Memory"]) == (256, 512 << 20)
        assert found["Config"]["User"] == "10001:10001"
        assert found["NetworkSettings"]["Ports"] in ({}, {"8000/tcp": None})
        assert [secret for secret in SECRETS.values() if secret in text] == []
        modes = swarm.engine.docker("exec", container, "stat", "-c", "%a %u", *_mounted(SECRETS))
        assert modes.splitlines() == ["440 10001"] * len(SECRETS)


def _mounted(names: dict[str, str]) -> list[str]:
    return [f"/run/secrets/{name}" for name in names]


@contextlib.contextmanager
def client(swarm: Swarm) -> Iterator[str]:
    """The id of a container in the swarm's network that goes on asking."""
    (api, *_) = swarm.containers("api")
    token = swarm.engine.docker("exec", api, "nexus", "token").strip()
    options = ("--network", f"{NAME}_default", f"--volume={REPO}/tests:/load/tests:ro", "--workdir", "/load")
    asking = ("python", "-m", "tests.host.swarm_client", "http://api:8000", SECRETS["internal_secret"], token)
    started = swarm.engine.docker("run", "--detach", *options, f"{IMAGES}/api:1", *asking).strip()
    try:
        yield started
    finally:
        swarm.engine.docker("rm", "--force", started)


@contextlib.contextmanager
def no_request_is_lost(swarm: Swarm) -> Iterator[None]:
    """Of those of several clients, from before to after."""
    with client(swarm) as asking:

        def await_answers() -> None:
            before = answered()
            wait_until("requests are answered", lambda: answered() > before + 100, seconds=60)

        def answered() -> int:
            return int((re.findall(r"(?m)^(\d+)$", swarm.engine.docker("logs", asking)) or ["0"])[-1])

        await_answers()
        yield
        await_answers()
        swarm.engine.docker("stop", "--time", "60", asking)
        found = json.loads(swarm.engine.docker("logs", asking).splitlines()[-1])
    assert found["lost"] == 0, found
    assert set(found["statuses"]) == {"200"}, found


def test_a_rolling_update_with_a_revision_loses_no_request(swarm: Swarm) -> None:
    with no_request_is_lost(swarm):
        swarm.deploy("2")
        wait_until("all run the new version", lambda: swarm.settled("2"), seconds=240, pause=1)
    assert "revision 0003, wanted 0003" in asked(swarm, "/ready")
    assert swarm.tasks("migrator")[0]["CurrentState"].startswith("Complete")


def test_a_version_that_does_not_start_is_taken_back(swarm: Swarm) -> None:
    good = swarm.version("api")
    broken = f'FROM {IMAGES}/api:{good}\nCMD ["false"]\n'
    swarm.engine.docker("build", "--quiet", "--tag", f"{IMAGES}/api:broken", "-", stdin=broken)
    swarm.engine.docker("tag", f"{IMAGES}/worker:{good}", f"{IMAGES}/worker:broken")
    with no_request_is_lost(swarm):
        swarm.deploy("broken")
        wait_until(
            "it is taken back", lambda: swarm.update("api") == "rollback_completed", seconds=240, pause=1
        )
    wait_until("the workers, which started, are in place", swarm.at_rest, seconds=120, pause=1)
    assert swarm.running("api", good)


def test_peers_that_are_away_cost_no_task(swarm: Swarm) -> None:
    """A swarm replaces what is unhealthy, and nobody would be better off."""

    def running() -> set[str]:
        return {task["ID"] for name in ("api", "worker") for task in swarm.up(name)}

    wait_until("no update goes on", swarm.at_rest, seconds=240, pause=1)
    before = running()
    peers = ("postgres", "redis")
    away = time.time()
    swarm.engine.docker("stop", *peers)
    try:
        wait_until(
            "all were looked at for long enough",
            lambda: all(looked_at(swarm, each) > away + UNBORNE for each in watched(swarm)),
            seconds=120,
            pause=1,
        )
        assert (asked(swarm, "/ready"), asked(swarm, "/health")[:3]) == ("", "200")
    finally:
        swarm.engine.docker("start", *peers)
    wait_until("it is ready", lambda: asked(swarm, "/ready").startswith("200"), seconds=60)
    for worker in swarm.containers("worker"):
        check = ("exec", worker, "bash", "-c", "/app/services/worker/healthcheck && echo well")
        wait_until("it consumes", lambda: "well" in swarm.engine.docker(*check, check=False), seconds=60)  # noqa: B023
    assert running() == before


def watched(swarm: Swarm) -> list[str]:
    return [*swarm.containers("api"), *swarm.containers("worker")]


def looked_at(swarm: Swarm, container: str) -> float:
    """When its last health check began, seconds since the epoch; 0 if it is gone."""
    starts = "{{range .State.Health.Log}}{{.Start.Unix}} {{end}}"
    found = swarm.engine.docker("inspect", "--format", starts, container, check=False).split()
    return float(found[-1]) if found else 0.0


def test_the_engine_of_this_machine_is_in_no_swarm(swarm: Swarm) -> None:
    state = ("docker", "info", "--format", "{{.Swarm.LocalNodeState}}")
    own = subprocess.run(state, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    assert (own, swarm.engine.docker(*state[1:]).strip()) == ("inactive", "active")


def test_what_must_not_stand_in_a_stack_file_is_refused(swarm: Swarm) -> None:
    before = swarm.render("1")
    wrong = {
        "NEXUS_INTERNAL_SECRET": "hunter2",
        "NEXUS_INTERNAL_SECRET_FILE": "",
        "EXTERNAL_POSTGRES": "",
        "EXTERNAL_REDIS": "redis://:hunter2@redis.example/0",
    }
    done = swarm.stack.run("make", "stack-file", f"IMAGES={IMAGES}", check=False, **wrong)
    said = [line for line in done.stderr.splitlines() if line.startswith("nexus: ")]
    assert [line.split()[1] for line in said] == ["NEXUS_INTERNAL_SECRET", "postgres", "EXTERNAL_REDIS"]
    assert "hunter2" not in done.stdout + done.stderr
    assert (swarm.stack.directory / "stack.yml").read_text() == before
    assert yaml.safe_load(before)["services"]["api"]["image"] == f"{IMAGES}/api:1"


@pytest.mark.parametrize(
    "wrong",
    [
        ["IMAGES="],
        ["IMAGES=Not A Name"],
        ["IMAGES=https://registry.example.org/nexus"],
        ["IMAGES=a/b", "TAG="],
        ["IMAGES=a/b", "API_REPLICAS=none"],
    ],
)
def test_a_wrong_argument_is_named(swarm: Swarm, wrong: list[str]) -> None:
    done = swarm.stack.run("make", "stack-file", *wrong, check=False)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("nexus: ")]
    assert line
