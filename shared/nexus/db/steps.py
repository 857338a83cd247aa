"""The steps of a revision: each is named before it begins, and what it took is said after it.

    with step("rewrite media with the status as an enum", rewrites="media"):
        op.execute(...)

Postgres reports no progress of an ALTER TABLE, so none is invented: a step that rewrites a table says how
large that is. `pg_stat_activity` shows the step as the session's application name.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from alembic import op
from sqlalchemy import Connection, text

from nexus.log import get_logger

#: What `pg_stat_activity` shows of a migration. Postgres cuts names after 63 bytes.
APPLICATION_NAME = "nexus-migrator"
#: Bytes up to which the rows of a table are counted: some milliseconds.
COUNTED_SIZE = 10_000_000

log = get_logger("nexus.migrator")


class Extent(NamedTuple):
    """How large a table is."""

    #: Counted where that is quick, else as the planner estimates it.
    rows: int
    #: The table with its indexes and long values.
    size: int

    def __str__(self) -> str:
        return f"about {self.rows:,} rows, {megabytes(self.size)}"


def megabytes(size: int) -> str:
    """Bytes for people: in MB, of a million bytes."""
    return f"{size / 1e6:,.1f} MB"


def extent(connection: Connection, table: str) -> Extent:
    """The extent of one table of the search path."""
    query = text("SELECT pg_table_size(to_regclass(:table)), pg_total_relation_size(to_regclass(:table))")
    own, whole = connection.execute(query, {"table": table}).one()
    return Extent(
        _count(connection, table) if own < COUNTED_SIZE else _estimate(connection, table), int(whole)
    )


def _count(connection: Connection, table: str) -> int:
    return int(connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"').scalar_one())  # noqa: S608  a table's name


def _estimate(connection: Connection, table: str) -> int:
    # Unlike reltuples, the planner knows about a table that was never analyzed; but it takes every table for
    # ten pages at least.
    plan = connection.exec_driver_sql(f'EXPLAIN (FORMAT JSON) SELECT FROM "{table}"').scalar_one()
    return int(plan[0]["Plan"]["Plan Rows"])


#: Given a step's name, the table it rewrites and the migration's connection, what surrounds the step.
Observer = Callable[[str, str | None, Connection], AbstractContextManager[None]]


@contextmanager
def _logged(name: str, rewrites: str | None, connection: Connection) -> Iterator[None]:
    shown = {"application_name": f"{APPLICATION_NAME}: {name}"}
    connection.execute(text("SELECT set_config('application_name', :application_name, true)"), shown)
    facts = {"table": f"{rewrites}: {extent(connection, rewrites)}"} if rewrites else {}
    log.info("step", name=name, **facts)
    since = time.monotonic()
    yield
    log.info("step done", name=name, seconds=round(time.monotonic() - since, 3))


_observer: ContextVar[Observer] = ContextVar("observer", default=_logged)


def step(name: str, *, rewrites: str | None = None) -> AbstractContextManager[None]:
    """One step of the revision that runs.

    Args:
        name: what it does, in the imperative; at most 45 characters.
        rewrites: the table that Postgres writes anew in it. A test holds this against what Postgres does.
    """
    return _observer.get()(name, rewrites, op.get_bind())


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Every step until the end of the block goes to this observer instead of the log."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)
