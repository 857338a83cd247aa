"""Drills: a service is killed, frozen or stopped and says so; what is killed comes back."""

import contextlib

import docker.errors
import pytest
from docker.models.containers import Container

from tests.stack.conftest import await_readiness
from tests.stack.stack import Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]


def test_the_health_check_of_the_api_tells_that_postgres_is_away(stack: Stack) -> None:
    with stack.killed("postgres"):
        stack.await_health("api", "unhealthy")
    stack.await_health("api", "healthy")


#: By service: the mark of who was well once (services/*/healthcheck).
MARKS = {"api": "nexus-was-ready", "worker": "nexus-worker.began"}


def test_whoever_was_well_once_is_alive_while_redis_is_away(stack: Stack) -> None:
    """The health check as a swarm asks it, which replaces what is not."""

    def passing(*how: str) -> list[str]:
        return [
            name for name in MARKS if stack.execute(name, f"/app/services/{name}/healthcheck", *how)[0] == 0
        ]

    try:
        with stack.killed("redis"):
            # Ten times in a row: of the API's processes each keeps for a second what it found.
            for name in MARKS:
                stack.await_health(name, "unhealthy")
            assert passing("alive") == []
        wait_until("both are well", lambda: passing("alive") == list(MARKS), seconds=60)
        with stack.killed("redis"):
            wait_until("both miss Redis", lambda: passing() == [], seconds=30)
            assert passing("alive") == list(MARKS)
    finally:
        for name, mark in MARKS.items():
            stack.execute(name, "rm", "-f", f"/tmp/{mark}")  # noqa: S108  its own


@pytest.mark.parametrize("name", ["api", "worker", "postgres", "redis"])
def test_a_stop_is_clean_and_the_start_after_it_too(name: str, stack: Stack) -> None:
    container = stack.service(name)
    container.stop(timeout=30)
    state = stack.state(name)
    container.start()
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    stack.await_health(name, "healthy")


@pytest.mark.parametrize("name", ["api", "worker"])
def test_a_process_that_crashes_comes_back_alone(name: str, stack: Stack) -> None:
    started = stack.state(name)["StartedAt"]
    # From inside, to the parent of everything: the engine restarts what it did not kill itself.
    stack.execute(name, "bash", "-c", "kill -KILL $(cat /proc/1/task/1/children)")
    wait_until(f"{name} was started again", lambda: stack.state(name)["StartedAt"] != started, seconds=30)
    stack.await_health(name, "healthy")


def _killed(migrator: Container) -> bool:
    """Whether it was, before it had ended by itself."""
    migrator.start()
    with contextlib.suppress(docker.errors.APIError):
        migrator.kill()
    return bool(migrator.wait(timeout=60)["StatusCode"] == 137)


def test_a_migrator_that_is_killed_is_mended_by_the_next(stack: Stack, api_url: str) -> None:
    migrator = stack.service("migrator")
    wait_until("it is killed at work", lambda: _killed(migrator), seconds=30)
    migrator.start()
    assert migrator.wait(timeout=60)["StatusCode"] == 0
    await_readiness(api_url, 200, set())
