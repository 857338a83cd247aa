"""Migrations that are killed at every step, up and down: no row is lost, and the next run ends well."""

import json
import signal
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple
from uuid import uuid4

import docker
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from nexus.migrator.check import written_catalog
from tests.migrations.conftest import (
    Migrator,
    Rows,
    autocommit,
    downgrade,
    fill,
    read,
    s0_rows,
    schema,
    upgrade,
)
from tests.migrations.holding import COMMIT, held_at
from tests.stack.spare_postgres import SparePostgres, spare_postgres
from tests.stack.stack import Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]


class Move(NamedTuple):
    """A way between 0001 and 0002, and the steps of it."""

    arguments: tuple[str, ...]
    run: Callable[[URL], None]
    start: str
    end: str
    rewrite: str
    steps: tuple[str, ...]

    @property
    def places(self) -> tuple[str, ...]:
        return (*self.steps, f"amid {self.rewrite}", COMMIT)


UP = Move(
    ("upgrade", "0002"),
    lambda url: upgrade(url, "0002"),
    start="0001",
    end="0002",
    rewrite="write media anew with its new columns",
    steps=(
        "lock users and media",
        "create the enum types",
        "insert the system user",
        "write media anew with its new columns",
        "put the enum in place of the text",
        "give all media to the system user",
        "create media_file",
        "create the unique indexes of media",
    ),
)
DOWN = Move(
    ("downgrade", "0001"),
    lambda url: downgrade(url, "0001"),
    start="0002",
    end="0001",
    rewrite="write media anew with the status as text",
    steps=(
        "lock users, media and media_file",
        "drop the unique indexes of media",
        "drop media_file",
        "drop the new columns of media",
        "write media anew with the status as text",
        "put the text in place of the enum",
        "constrain the columns of media",
        "drop the enum types",
        "delete the system user if it is ours",
    ),
)
EVERY_PLACE = pytest.mark.parametrize(
    ("move", "place"),
    [
        pytest.param(move, place, id=f"{move.arguments[0]}-{place}")
        for move in (UP, DOWN)
        for place in move.places
    ],
)


@pytest.fixture(scope="module")
def spare(docker_client: docker.DockerClient, stack: Stack) -> Iterator[SparePostgres]:
    with spare_postgres(docker_client, stack, tmpfs={}) as found:
        yield found


class Clones:
    """Databases with data at a revision, copied from one that is made the first time."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self.at = cache(self._template)

    def _template(self, revision: str) -> URL:
        url = self._server.set(database=f"template_{revision}")
        autocommit(self._server, f"CREATE DATABASE {url.database}")
        upgrade(url, "0001")
        fill(url)
        upgrade(url, revision)
        return url

    def clone(self, revision: str) -> URL:
        url = self._server.set(database=f"clone_{uuid4().hex[:8]}")
        autocommit(self._server, f"CREATE DATABASE {url.database} TEMPLATE {self.at(revision).database}")
        return url


@pytest.fixture(scope="module")
def clones(spare: SparePostgres) -> Clones:
    return Clones(spare.url)


class State(NamedTuple):
    revision: str
    catalog: str
    rows: Rows


def state(url: URL) -> State:
    query = text("SELECT version_num FROM alembic_version")
    revision = read(url, lambda connection: connection.execute(query).scalar_one())
    return State(str(revision), schema(url), s0_rows(url))


def kill_the_migrator(url: URL, move: Move, place: str) -> None:
    """SIGKILL to the process; what it waits for is held until its session in Postgres has ended."""
    with held_at(place, url) as held:
        process = Migrator(url).start(*move.arguments)
        pid = held()
        process.kill()
        process.communicate(timeout=30)
        gone = text("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = :pid")
        wait_until(
            "its session has ended",
            lambda: read(url, lambda connection: connection.execute(gone, {"pid": pid}).scalar_one()),
            seconds=30,
        )


def harm_the_server(
    url: URL, move: Move, place: str, harm: Callable[[int], None], spare: SparePostgres
) -> None:
    """Whatever happens to the server, the migrator says in one line that it failed."""
    with held_at(place, url) as held:
        process = Migrator(url).start(*move.arguments)
        harm(held())
        spare.await_answer()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1, err
        assert "the migration failed and was rolled back" in err.splitlines()[-1]
        assert "Traceback" not in err


def assert_unharmed(url: URL, move: Move, before: State) -> None:
    """The revision it came from with all its rows, then, after the next run, the one it was on its way to."""
    assert state(url) == before
    move.run(url)
    assert state(url) == State(move.end, written_catalog(move.end), before.rows)


@EVERY_PLACE
def test_the_migrator_is_killed(move: Move, place: str, clones: Clones) -> None:
    url = clones.clone(move.start)
    before = state(url)
    kill_the_migrator(url, move, place)
    assert_unharmed(url, move, before)


@EVERY_PLACE
def test_its_session_in_postgres_is_killed(
    move: Move, place: str, clones: Clones, spare: SparePostgres
) -> None:
    url = clones.clone(move.start)
    before = state(url)
    harm_the_server(url, move, place, spare.kill_session, spare)
    assert_unharmed(url, move, before)


def test_a_migrator_that_is_frozen_keeps_no_lock(clones: Clones) -> None:
    """Postgres ends its session, idle in its transaction; when it wakes up it says that it failed."""
    url = clones.clone(UP.start)
    before = state(url)
    with held_at(UP.rewrite, url) as held:
        process = Migrator(url).start(*UP.arguments)
        held()
        process.send_signal(signal.SIGSTOP)
    # The end of the block has waited for the lock on media.
    assert state(url) == before
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the migration failed and was rolled back" in err.splitlines()[-1]
    assert_unharmed(url, UP, before)


@pytest.mark.parametrize("harm", [SparePostgres.restart, SparePostgres.lose_power])
@pytest.mark.parametrize("move", [UP, DOWN], ids=["upgrade", "downgrade"])
def test_the_server_ends_amid_the_rewrite(
    move: Move, harm: Callable[[SparePostgres], None], clones: Clones, spare: SparePostgres
) -> None:
    url = clones.clone(move.start)
    before = state(url)
    harm_the_server(url, move, f"amid {move.rewrite}", lambda _: harm(spare), spare)
    assert_unharmed(url, move, before)


@pytest.mark.parametrize("move", [UP, DOWN], ids=["upgrade", "downgrade"])
def test_these_are_all_the_steps(move: Move, clones: Clones) -> None:
    done = Migrator(clones.clone(move.start)).run(*move.arguments, LOG_FORMAT="json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert tuple(line["name"] for line in lines if line["event"] == "step done") == move.steps
