"""Revisions run on empty temporary tables, to see what they do: statements, locks, rewrites.

What Postgres does with a table does not depend on the rows in it, so this is observed and not guessed. A
revision whose statements depend on the rows, or that leaves its transaction, could not be shown this way.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL

from nexus.db.steps import observed
from nexus.migrator.connections import temporary_schema

#: The table locks of Postgres, weakest first, by the names of pg_locks.
LOCK_MODES = tuple(
    f"{mode}Lock"
    for mode in (
        *("AccessShare", "RowShare", "RowExclusive", "ShareUpdateExclusive"),
        *("Share", "ShareRowExclusive", "Exclusive", "AccessExclusive"),
    )
)

#: By table, the strongest mode of pg_locks.
Locks = dict[str, str]


@dataclass
class Statement:
    sql: str
    #: Those that were not held before it, or only in a weaker mode.
    locks: Locks


@dataclass
class RehearsedStep:
    name: str
    #: What the revision says it rewrites.
    announced: str | None
    statements: list[Statement] = field(default_factory=list)
    #: The tables that Postgres did write anew.
    rewritten: list[str] = field(default_factory=list)


@dataclass
class RehearsedRevision:
    revision: str
    title: str
    is_upgrade: bool
    steps: list[RehearsedStep]

    @property
    def locks(self) -> Locks:
        """The strongest of each table; all are held until the revision commits."""
        return _strongest(each.locks for step in self.steps for each in step.statements)

    @property
    def rewritten(self) -> list[str]:
        """A table once for each time it is written anew."""
        return [table for step in self.steps for table in step.rewritten]


def _strongest(several: Iterator[Locks]) -> Locks:
    found: Locks = {}
    for table, mode in (item for locks in several for item in locks.items()):
        if table not in found or LOCK_MODES.index(mode) > LOCK_MODES.index(found[table]):
            found[table] = mode
    return found


def rehearse(
    url: URL, done: Sequence[Script], to_come: Sequence[Script], *, up: bool
) -> list[RehearsedRevision]:
    """What the revisions to come do to a database at which those before are done.

    Changes nothing in the database, and locks nothing of it.
    """
    with temporary_schema(url) as connection:
        with connection.begin(), observed(_unseen):
            for script in done:
                _apply(connection, script, up=True)
        return [_rehearse_revision(connection, script, up=up) for script in to_come]


@contextmanager
def _unseen(*_: object) -> Iterator[None]:
    yield


def _apply(connection: Connection, script: Script, *, up: bool) -> None:
    with Operations.context(MigrationContext.configure(connection)):
        (script.module.upgrade if up else script.module.downgrade)()


def _rehearse_revision(connection: Connection, script: Script, *, up: bool) -> RehearsedRevision:
    recorder = _Recorder(connection)
    # A transaction for each, as in earnest: the locks of the one before are released.
    with connection.begin(), observed(recorder.step):
        recorder.start()
        _apply(connection, script, up=up)
        recorder.stop()
    return RehearsedRevision(script.revision, script.doc, up, recorder.steps)


_HELD = """
    SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = pg_backend_pid() AND l.granted
      AND c.relnamespace = pg_my_temp_schema() AND c.relkind IN ('r', 'p')
"""
#: The file of a table is another one after it was written anew.
_FILES = """
    SELECT relname, relfilenode FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'
"""


class _Recorder:
    """Sees each statement of a connection, and what is locked after it that was not before."""

    def __init__(self, connection: Connection) -> None:
        self.steps: list[RehearsedStep] = []
        self._connection = connection
        self._held: Locks = {}
        self._looking = False

    def start(self) -> None:
        event.listen(self._connection, "after_cursor_execute", self._executed)

    def stop(self) -> None:
        event.remove(self._connection, "after_cursor_execute", self._executed)

    @contextmanager
    def step(self, name: str, rewrites: str | None, _: Connection) -> Iterator[None]:
        self.steps.append(RehearsedStep(name, rewrites))
        before = dict(self._look(_FILES))
        yield
        after = dict(self._look(_FILES))
        self.steps[-1].rewritten = [
            table for table in before if after.get(table, before[table]) != before[table]
        ]

    def _look(self, query: str) -> list[Any]:
        self._looking = True
        try:
            return [tuple(row) for row in self._connection.exec_driver_sql(query)]
        finally:
            self._looking = False

    def _executed(self, _: Connection, __: object, statement: str, *___: object) -> None:
        if self._looking:
            return
        held = _strongest({table: mode} for table, mode in self._look(_HELD))
        new = {table: mode for table, mode in held.items() if self._held.get(table) != mode}
        self._held = held
        self.steps[-1].statements.append(Statement(dedent(statement).strip(), new))
