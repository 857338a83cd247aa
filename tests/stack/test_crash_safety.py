"""Postgres is killed while the API writes: what was acknowledged is there, what was refused is not."""

import itertools
from collections.abc import Callable

import psycopg
import pytest

from nexus.config import Settings
from nexus.db.engine import connection_parameters
from tests.stack.load import Request, load
from tests.stack.report import Finding
from tests.stack.stack import Stack
from tests.stack.test_api_faults import assert_answered, await_service, finding

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]


class Writes:
    """Libraries with names of their own; every fifth has a name that is too long."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def __call__(self) -> Request:
        number = next(self._numbers)
        name = f"crash {number:08}"
        return Request("POST", "/libraries", {"name": name + "x" * 100 if number % 5 == 0 else name})


def name_of(request: Request) -> str:
    """The part of its name that is its own."""
    assert isinstance(request.body, dict)
    return str(request.body["name"])[:14]


def names_in_postgres(settings: Settings) -> set[str]:
    with psycopg.connect(**connection_parameters(settings.database_url)) as connection:
        found = connection.execute("SELECT left(name, 14) FROM libraries WHERE name LIKE 'crash %'")
        return {row[0] for row in found}


def test_what_was_acknowledged_survives_two_kills(
    stack: Stack,
    settings: Settings,
    api_url: str,
    headers: Callable[[], dict[str, str]],
    findings: list[Finding],
) -> None:
    with load(api_url, headers, Writes()) as running:
        await_service(running, 0)
        for _ in range(2):
            with stack.killed("postgres"):
                pass
            await_service(running, stack.mended)
    assert_answered(running, {201, 400, 503})
    there = names_in_postgres(settings)
    written = {name_of(outcome.request) for outcome in running.outcomes if outcome.status == 201}
    refused = {name_of(outcome.request) for outcome in running.outcomes if outcome.status == 400}
    assert len(written) > 100
    assert len(refused) > 10
    assert written - there == set()
    assert refused & there == set()
    note = f"{len(written)} writes acknowledged, all there; {len(refused)} refused, none there"
    findings.append(finding("postgres killed twice under writes", running, stack.mended, note))
