"""The disk is full amid a rewrite: nothing is lost. With the space that `plan` names it is not full."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import docker
import pytest
from psycopg.errors import DiskFull
from sqlalchemy import text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from nexus.db.steps import Extent, extent
from nexus.migrator.check import written_catalog
from nexus.migrator.plan import peak_space
from tests.migrations.conftest import (
    Migrator,
    autocommit,
    downgrade,
    execute,
    fill,
    read,
    s0_rows,
    schema,
    upgrade,
)
from tests.migrations.test_plan import rehearsed
from tests.stack.spare_postgres import SparePostgres, spare_postgres
from tests.stack.stack import Stack

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]

#: Where the tables lie, and how large that is. WAL lies elsewhere: when that is full, Postgres itself ends.
SMALL, SIZE = "/small", 256
ROWS = 60_000


@pytest.fixture(scope="module")
def small(docker_client: docker.DockerClient, stack: Stack) -> Iterator[SparePostgres]:
    tmpfs = {SMALL: f"mode=1777,size={SIZE}m"}
    with spare_postgres(docker_client, stack, tmpfs) as found:
        found.execute("mkdir", f"{SMALL}/tables")
        autocommit(found.url, f"CREATE TABLESPACE small LOCATION '{SMALL}/tables'")
        yield found


class Move(NamedTuple):
    run: Callable[[URL], None]
    arguments: tuple[str, ...]
    start: str
    end: str


UP = Move(lambda url: upgrade(url, "0002"), ("upgrade", "0002"), "0001", "0002")
DOWN = Move(lambda url: downgrade(url, "0001"), ("downgrade", "0001"), "0002", "0001")


@contextmanager
def filled(small: SparePostgres, move: Move) -> Iterator[URL]:
    """A database in the small place with many media, at the revision where the move begins."""
    url = small.url.set(database=f"from_{move.start}")
    autocommit(small.url, f"CREATE DATABASE {url.database} TABLESPACE small")
    upgrade(url, "0001")
    fill(url)
    execute(
        url,
        "INSERT INTO media (kind, title, processing_status) "
        f"SELECT 'pdf', 'Volume ' || n, 'ready_for_reading' FROM generate_series(1, {ROWS}) n",
    )
    upgrade(url, move.start)
    autocommit(url, "VACUUM ANALYZE")
    autocommit(url, "CHECKPOINT")
    try:
        yield url
    finally:
        autocommit(small.url, f"DROP DATABASE {url.database} WITH (FORCE)")


def needed(url: URL, move: Move) -> int:
    """What `plan` says."""
    media = read(url, lambda connection: extent(connection, "media"))
    assert isinstance(media, Extent)
    return peak_space(rehearsed(url, "0002", up=move is UP), {"media": media})


@contextmanager
def free(small: SparePostgres, size: int) -> Iterator[None]:
    """So many bytes are free in the small place, and not more."""
    blocks, block_size = (int(word) for word in small.execute("stat", "-f", "-c", "%a %S", SMALL).split())
    ballast = blocks * block_size - size
    assert ballast > 0, "the small place is too small for this test"
    small.execute("fallocate", "-l", str(ballast), f"{SMALL}/ballast")
    try:
        yield
    finally:
        small.execute("rm", f"{SMALL}/ballast")


@pytest.mark.parametrize("move", [UP, DOWN], ids=["upgrade", "downgrade"])
def test_a_full_disk_loses_nothing(move: Move, small: SparePostgres) -> None:
    with filled(small, move) as url:
        before = schema(url), s0_rows(url)
        with free(small, needed(url, move) // 2):
            done = Migrator(url).run(*move.arguments)
            assert done.returncode == 1
            last = done.stderr.splitlines()[-1]
            assert "the migration failed and was rolled back" in last
            assert "the disk of Postgres is full" in last
            assert (schema(url), s0_rows(url)) == before
        move.run(url)
        assert (schema(url), s0_rows(url)) == (written_catalog(move.end), before[1])


@pytest.mark.parametrize("move", [UP, DOWN], ids=["upgrade", "downgrade"])
def test_the_space_that_the_plan_names_is_enough(move: Move, small: SparePostgres) -> None:
    with filled(small, move) as url:
        with free(small, needed(url, move)):
            move.run(url)
        assert schema(url) == written_catalog(move.end)


def test_the_server_goes_on_while_its_disk_is_full(small: SparePostgres) -> None:
    with filled(small, UP) as url, free(small, needed(url, UP) // 2):
        with pytest.raises(OperationalError) as raised:
            upgrade(url)
        assert isinstance(raised.value.orig, DiskFull)
        assert read(url, lambda c: c.execute(text("SELECT count(*) FROM media")).scalar_one()) == ROWS + 300
