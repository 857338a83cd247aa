"""Postgres or Redis is away, full or slow: each request has its answer in time, and all recovers."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx2
import psycopg
import pytest
from sqlalchemy import text

from nexus.config import Settings
from nexus.db.engine import connection_parameters
from tests.conftest import server
from tests.stack.conftest import await_readiness
from tests.stack.load import Load, Request, load
from tests.stack.report import Finding
from tests.stack.stack import Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]

#: API_REQUEST_TIMEOUT_SECONDS, and what we allow a busy machine on top.
BOUND, SLACK = 10.0, 5.0
#: Seconds after a peer's return by which all is well again.
RECOVERY = 5.0
#: As Python's command line has it; the init of the container names it without a folder.
GUNICORN = "bin/gunicorn"

Headers = Callable[[], dict[str, str]]


def anything() -> Request:
    """Mostly reads, some writes."""
    return random.choice(  # noqa: S311
        [
            Request("GET", "/me"),
            Request("GET", "/libraries"),
            Request("GET", "/libraries"),
            Request("POST", "/libraries", {"name": "Shelf"}),
        ]
    )


@contextmanager
def unharmed_processes(stack: Stack) -> Iterator[None]:
    before = stack.processes("api", GUNICORN)
    assert len(before) == 3
    yield
    assert stack.processes("api", GUNICORN) == before


def await_service(running: Load, since: float, count: int = 100) -> None:
    """Until so many requests that began after a moment went well."""
    wait_until("requests are served", lambda: running.served_since(since) >= count, seconds=30)


def await_refusal(running: Load) -> None:
    """Until somebody was told that it cannot be done now: at once, or when the time of a request is over."""
    wait_until(
        "a request is given up",
        lambda: any(outcome.status == 503 for outcome in list(running.outcomes)),
        seconds=BOUND + SLACK,
    )


def health(api_url: str) -> int:
    return httpx2.get(f"{api_url}/health", timeout=BOUND).status_code


def assert_answered(running: Load, allowed: set[int]) -> None:
    """Everybody has an answer, one of these, and within the bound."""
    assert running.lost == []
    assert {outcome.status for outcome in running.outcomes} <= allowed
    assert max(outcome.seconds for outcome in running.outcomes) < BOUND + SLACK


def finding(fault: str, running: Load, since: float, note: str = "") -> Finding:
    recovery = round(running.recovery(since), 1)
    return Finding(fault, recovery, len(running.outcomes), running.answered, len(running.lost), note)


@pytest.mark.parametrize("harm", ["killed", "stopped", "frozen", "cut_off"])
def test_postgres_is_away(
    harm: str, stack: Stack, api_url: str, headers: Headers, findings: list[Finding]
) -> None:
    with unharmed_processes(stack), load(api_url, headers, anything) as running:
        await_service(running, 0)
        with getattr(stack, harm)("postgres"):
            await_readiness(api_url, 503, {"postgres", "schema"})
            assert health(api_url) == 200
            assert stack.health("worker") == "healthy"
            await_refusal(running)
        await_readiness(api_url, 200, set())
        await_service(running, stack.mended + RECOVERY)
    assert_answered(running, {200, 201, 503})
    assert running.recovery(stack.mended) <= RECOVERY
    findings.append(finding(f"postgres {harm}".replace("_", " "), running, stack.mended))


@pytest.mark.parametrize("harm", ["killed", "frozen", "cut_off"])
def test_redis_is_away(
    harm: str, stack: Stack, api_url: str, headers: Headers, findings: list[Finding]
) -> None:
    """No request needs it."""
    with unharmed_processes(stack), load(api_url, headers, anything) as running:
        with getattr(stack, harm)("redis"):
            await_readiness(api_url, 503, {"redis"})
            assert health(api_url) == 200
        await_readiness(api_url, 200, set())
        await_service(running, stack.mended)
    assert_answered(running, {200, 201})
    findings.append(finding(f"redis {harm}, seen from the API".replace("_", " "), running, stack.mended))


def test_postgres_has_no_connection_left(
    stack: Stack, settings: Settings, api_url: str, headers: Headers, findings: list[Finding]
) -> None:
    with unharmed_processes(stack), ExitStack() as opened:
        end_sessions_of_the_api(settings)
        wait_until("no connection is left", lambda: not take_connection(settings, opened), seconds=30)
        with load(api_url, headers, anything) as running:
            wait_until("it has asked in vain", lambda: len(running.outcomes) >= 20, seconds=60)
            assert health(api_url) == 200
            opened.close()
            stack.note_mended()
            await_service(running, stack.mended + RECOVERY)
    assert_answered(running, {200, 201, 503})
    assert 503 in {outcome.status for outcome in running.outcomes}
    assert running.recovery(stack.mended) <= RECOVERY
    findings.append(finding("postgres without a free connection", running, stack.mended))


def end_sessions_of_the_api(settings: Settings) -> None:
    with server(settings) as connection:
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'nexus-api%'"
        )
        connection.execute(text(end))


def take_connection(settings: Settings, opened: ExitStack) -> bool:
    try:
        connection = psycopg.connect(**connection_parameters(settings.database_url))
    except psycopg.OperationalError:
        return False
    opened.callback(connection.close)
    return True


def test_postgres_is_slow(
    stack: Stack, settings: Settings, api_url: str, headers: Headers, findings: list[Finding]
) -> None:
    """A table that everything reads is locked: each request waits as long as a statement may, no longer."""
    with unharmed_processes(stack), load(api_url, headers, anything) as running:
        await_service(running, 0)
        with psycopg.connect(**connection_parameters(settings.database_url)) as connection:
            connection.execute("LOCK TABLE memberships IN ACCESS EXCLUSIVE MODE")
            await_refusal(running)
            assert health(api_url) == 200
            await_readiness(api_url, 200, set())
        stack.note_mended()
        await_service(running, stack.mended + RECOVERY)
    assert_answered(running, {200, 201, 503})
    assert running.recovery(stack.mended) <= RECOVERY
    findings.append(finding("postgres slow (a locked table)", running, stack.mended))
