"""A Postgres and a Redis of the operator's own in place of the stack's."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

import httpx2
import pytest

from tests.checkout import checkout_copy, chosen_images, free_ports
from tests.host.conftest import AWKWARD_PASSWORD
from tests.host.doctor import report
from tests.host.oidc import host_address
from tests.host.support import Stack, secret_file, stack_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(300)]

REDIS_PASSWORD = "not-the-published-one"  # noqa: S105  a test's own


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["docker", *arguments], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout


@contextmanager
def container(image: str, port: int, inside: int, *arguments: str) -> Iterator[str]:
    """Run in nobody's compose project, and reached from other networks as another machine would be."""
    name, command = f"nexus-host-peer-{uuid4().hex[:8]}", arguments[arguments.index("--") + 1 :]
    options = arguments[: arguments.index("--")]
    published = f"{host_address()}:{port}:{inside}"
    docker("run", "--detach", "--name", name, "--publish", published, *options, image, *command)
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


@dataclass(frozen=True)
class Foreign:
    stack: Stack
    redis: str

    def redis_cli(self, *arguments: str) -> str:
        return docker("exec", self.redis, "redis-cli", "-a", REDIS_PASSWORD, "--no-auth-warning", *arguments)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    images = {"POSTGRES_IMAGE": "postgres:15.8", "REDIS_IMAGE": "redis:7.2-alpine"} | chosen_images()
    directory = checkout_copy(tmp_path_factory.mktemp("foreign") / "nexus")
    (postgres_port, redis_port), address = free_ports(2), host_address()
    secret_file(directory / "redis_url", f"redis://:{REDIS_PASSWORD}@{address}:{redis_port}/3\n")
    told = {"POSTGRES_USER": "reader", "POSTGRES_PASSWORD": AWKWARD_PASSWORD, "POSTGRES_DB": "books"}
    made = [f"--env={name}={value}" for name, value in told.items()]
    variables = {
        "EXTERNAL_POSTGRES": f"postgresql+psycopg://reader@{address}:{postgres_port}/books?sslmode=prefer",
        "POSTGRES_PASSWORD": AWKWARD_PASSWORD,
        "OWN_POSTGRES": "0",
        "EXTERNAL_REDIS": "",
        "EXTERNAL_REDIS_FILE": "./redis_url",
        "OWN_REDIS": "0",
        # Each process keeps for a second what it found: of two, one may be ready again before the other.
        "API_WORKERS": "1",
    }
    with (
        container(images["POSTGRES_IMAGE"], postgres_port, 5432, *made, "--"),
        container(
            images["REDIS_IMAGE"], redis_port, 6379, "--", "redis-server", "--requirepass", REDIS_PASSWORD
        ) as redis,
        stack_of(directory, **variables) as stack,
    ):
        stack.run("make", "up")
        yield Foreign(stack, redis)


def test_nexus_runs_on_them_and_on_nothing_else(foreign: Foreign) -> None:
    services = foreign.stack.compose("ps", "--all", "--format", "{{.Service}}").stdout.split()
    assert sorted(services) == ["api", "migrator", "worker"]
    foreign.stack.await_ready()
    assert "nexus" in foreign.redis_cli("CLIENT", "LIST") or "_kombu" in foreign.redis_cli(
        "-n", "3", "KEYS", "*"
    )
    assert foreign.stack.migrator("check").returncode == 0


def exit_of(stack: Stack, service: str) -> tuple[int, list[str]]:
    """A new start of a service: its exit code and the lines of ours that say why."""
    done = stack.compose("run", "--rm", "-T", "--no-deps", service, check=False)
    return done.returncode, re.findall(r"Nexus does not start on.*", done.stdout + done.stderr)


@contextmanager
def policy_of(foreign: Foreign, policy: str) -> Iterator[None]:
    foreign.redis_cli("CONFIG", "SET", "maxmemory-policy", policy)
    try:
        yield
    finally:
        foreign.redis_cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
        # What was found is good for a second, and other tests follow in any order.
        wait_until("ready again", lambda: _ready(foreign.stack).status_code == 200, seconds=10)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_a_redis_that_may_evict_queues_is_refused(foreign: Foreign, policy: str) -> None:
    with policy_of(foreign, policy):
        for service in ("api", "worker"):
            code, (line,) = exit_of(foreign.stack, service)
            assert code == 1
            assert line.startswith("Nexus does not start on this Redis: set noeviction")
        # Who runs already says it.
        answer = wait_until("not ready", lambda: _unready(foreign.stack), seconds=10)
        assert "may drop queued tasks" in answer


def _ready(stack: Stack) -> httpx2.Response:
    """Its answer; 503 while nobody gives one."""
    with suppress(httpx2.TransportError):
        return stack.get("/ready")
    return httpx2.Response(503, json={"error": {"message": ""}})


def _unready(stack: Stack) -> str:
    answer = _ready(stack)
    return str(answer.json()["error"]["message"]) if answer.status_code == 503 else ""


def test_a_redis_that_spares_what_has_no_expiry_is_not(foreign: Foreign) -> None:
    with policy_of(foreign, "volatile-ttl"):
        foreign.stack.compose("restart", "api", "worker")
        wait_until("ready", lambda: _ready(foreign.stack).status_code == 200, seconds=60)


def test_the_doctor_asks_them(foreign: Foreign) -> None:
    """Of the stack's own, which does not run here, it asks neither port nor volume nor container."""
    # Tests before this one ran `compose run`, which builds: containers of what is an image now.
    foreign.stack.run("make", "up")
    said = report(foreign.stack.run("dev/doctor", "--json", check=False))
    assert [line for line in said.lines if line.state != "ok"] == []
    assert said.of("postgres") == [f"Postgres at {host_address()} answers"]
    assert said.of("secrets") == ["1 file, closed to others, open to the containers"]
    assert said.of("ports") == [f"{foreign.stack.ports['api']} are free or ours"]
    with policy_of(foreign, "allkeys-lru"):
        said = report(foreign.stack.run("dev/doctor", "--json", check=False))
    (evicts,) = said.faults("redis")
    assert evicts.endswith("may drop queued tasks: its maxmemory-policy is allkeys-lru")
