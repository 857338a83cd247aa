"""`nexus doctor` and a Redis that is set up wrong, or fills up. One of its own: others would not bear it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
import redis

from nexus.config import Settings
from nexus.doctor.findings import Finding
from nexus.doctor.redis import check_redis
from tests.checkout import free_ports
from tests.host.support import clean_environment, run
from tests.waiting import wait_until

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    image = clean_environment().get("REDIS_IMAGE", "redis:7.2-alpine")
    (port,) = free_ports(1)
    name = f"nexus-host-redis-{uuid4().hex[:8]}"
    start = ("docker", "run", "--detach", "--pull", "never", "--name", name, "--user", "redis")
    published = ("--publish", f"127.0.0.1:{port}:6379", image, "redis-server", "--save", "")
    run(*start, *published, cwd=None, env=os.environ)
    try:
        yield port
    finally:
        run("docker", "rm", "--force", "--volumes", name, cwd=None, env=os.environ)


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def client(port: int) -> Iterator["redis.Redis"]:
    with redis.Redis(port=port) as client:
        wait_until("Redis answers", lambda: _answers(client), seconds=30)
        yield client


@contextmanager
def configured(client: "redis.Redis", **values: object) -> Iterator[None]:
    before = {name: str(client.config_get(name)[name]) for name in values}
    try:
        for name, value in values.items():
            client.config_set(name, str(value))
        yield
    finally:
        for name, old in before.items():
            client.config_set(name, old)


def ask(port: int, login: str = "") -> Finding:
    """What is said of this Redis, by settings that name it for everything."""
    url = f"redis://{login}127.0.0.1:{port}/0"
    names = ("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")
    others = {
        "NEXUS_ENV": "test",
        "NEXUS_INTERNAL_SECRET": "secret",
        "DATABASE_URL": "postgresql+psycopg://nobody:known-to-nobody@localhost:1/nothing",
    }
    (finding,) = check_redis(Settings.model_validate(dict.fromkeys(names, url) | others))
    assert finding.name == "redis"
    return finding


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_policy_that_drops_queues(client: "redis.Redis", port: int, policy: str) -> None:
    with configured(client, **{"maxmemory-policy": policy}):
        found = ask(port)
    where = "Redis at 127.0.0.1 (CELERY_BROKER_URL)"
    assert found.state == "fault"
    assert found.message == f"{where} may drop queued tasks: its maxmemory-policy is {policy}"
    assert found.remedy == "set maxmemory-policy noeviction"


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-ttl"])
def test_a_policy_that_spares_queues(client: "redis.Redis", port: int, policy: str) -> None:
    """Queues have no expiry."""
    with configured(client, **{"maxmemory-policy": policy}):
        assert ask(port).state == "ok"


@pytest.mark.parametrize(
    ("share", "state", "word"),
    [(1.05, "warning", "nearly full"), (0.9, "fault", "full"), (2, "ok", "answers")],
)
def test_a_redis_that_fills_up(client: "redis.Redis", port: int, share: float, state: str, word: str) -> None:
    # Beside so much, what each connection takes is nothing. Not sent: what is stays in a buffer for a while.
    client.setrange("ballast", (64 << 20) - 1, "x")
    try:
        used = client.info("memory")["used_memory"]
        with configured(client, maxmemory=int(used * share)):
            found = ask(port)
    finally:
        client.delete("ballast")
    assert (found.state, f" {word}" in found.message) == (state, True)


def test_a_redis_that_refuses_us(client: "redis.Redis", port: int) -> None:
    client.acl_setuser("doctor", enabled=True, passwords="+right", commands=["+ping"])
    try:
        wrong, narrow = ask(port, "doctor:wrong@"), ask(port, "doctor:right@")
    finally:
        client.acl_deluser("doctor")
    assert (wrong.state, "refuses our password" in wrong.message) == ("fault", True)
    assert "CELERY_BROKER_URL" in wrong.remedy
    assert narrow.state == "unknown"
    assert "does not let us see its policy" in narrow.message
