"""`migrator plan`: what would be done to this database, statement by statement, before it is done."""

import re
from collections.abc import Iterator
from textwrap import indent

from alembic.script import Script
from alembic.util.exc import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from nexus.db.migrations import current_revision, revision_scripts
from nexus.db.steps import Extent, extent, megabytes
from nexus.migrator.connections import with_connection
from nexus.migrator.rehearsal import RehearsedRevision, RehearsedStep, rehearse

#: Bytes that a rewrite may add to each row: the columns it fills, rounded up generously.
GROWTH_PER_ROW = 64

#: What others cannot do with a table while a mode is held on it.
_STOPS = {
    "AccessExclusiveLock": "nobody reads or writes",
    "ExclusiveLock": "nobody writes",
    "ShareRowExclusiveLock": "nobody writes",
    "ShareLock": "nobody writes",
    "ShareUpdateExclusiveLock": "everybody reads and writes",
    "RowExclusiveLock": "everybody reads and writes",
    "RowShareLock": "everybody reads and writes",
    "AccessShareLock": "everybody reads and writes",
}


def plan(url: URL, target: str) -> str:
    """The revisions between the database and a target, as text. Changes nothing and locks nothing.

    Args:
        target: a revision, `head`, `base`, or a number of steps: `+1`, `-1`.

    Raises:
        alembic.util.exc.CommandError: there is no such revision.
    """
    found, chain = (
        with_connection(url, current_revision),
        list(reversed(list(revision_scripts().walk_revisions()))),
    )
    here = _place(chain, found)
    there = _target(chain, here, target)
    place = f"{url.database} is at {found or 'base'}"
    if here == there:
        return f"{place}: nothing to do\n"
    up = there > here
    to_come = chain[here:there] if up else chain[there:here][::-1]
    revisions = rehearse(url, chain[:here], to_come, up=up)
    extents = with_connection(url, lambda c: _extents(c, {t for each in revisions for t in each.locks}))
    to_do = ", ".join(_heading(each) for each in revisions)
    return "\n".join([f"{place}; to come: {to_do}\n", *(_revision(each, extents) for each in revisions)])


def _place(chain: list[Script], revision: str | None) -> int:
    """How many revisions of the chain are done at this one."""
    return [None, *(script.revision for script in chain)].index(revision)


def _target(chain: list[Script], here: int, target: str) -> int:
    if re.fullmatch(r"[+-]\d+", target):
        there = here + int(target)
        if not 0 <= there <= len(chain):
            raise CommandError(f"there are no {abs(int(target))} revisions that way: see 'migrator history'")
        return there
    if target == "base":
        return 0
    script = revision_scripts().get_revision(target)
    return _place(chain, script.revision)


def _extents(connection: Connection, tables: set[str]) -> dict[str, Extent]:
    """Of those that are there: others are yet to be created."""
    exists = text("SELECT to_regclass(:table) IS NOT NULL")
    there = {table for table in tables if connection.execute(exists, {"table": table}).scalar_one()}
    return {table: extent(connection, table) for table in sorted(there)}


def peak_space(revision: RehearsedRevision, extents: dict[str, Extent]) -> int:
    """Bytes that a revision needs at most beside what is there, WAL apart.

    A table that is written anew stands twice on the disk until the revision commits.
    """
    rewritten = [extents[table] for table in revision.rewritten if table in extents]
    return sum(each.size + each.rows * GROWTH_PER_ROW for each in rewritten)


def _heading(revision: RehearsedRevision) -> str:
    return f"{'up to' if revision.is_upgrade else 'down from'} {revision.revision}"


def _revision(revision: RehearsedRevision, extents: dict[str, Extent]) -> str:
    parts = [f"{_heading(revision)}: {revision.title}", "", *_summary(revision, extents), ""]
    for number, step in enumerate(revision.steps, start=1):
        parts += [*_step(number, step), ""]
    return "\n".join(parts)


def _summary(revision: RehearsedRevision, extents: dict[str, Extent]) -> Iterator[str]:
    there = {table: mode for table, mode in sorted(revision.locks.items()) if table in extents}
    yield "  locks, all held until the end of this revision:" if there else "  locks no table that is there"
    for table, mode in there.items():
        yield f"    {table}: {_words(mode)}, {_STOPS[mode]}; {extents[table]}"
    rewritten = [table for table in revision.rewritten if table in extents]
    if not rewritten:
        yield "  writes no table anew"
        return
    space = megabytes(peak_space(revision, extents))
    yield f"  writes anew: {', '.join(rewritten)}"
    yield f"  needs at most {space} of disk until its end, and about as much for WAL"


def _step(number: int, step: RehearsedStep) -> Iterator[str]:
    yield f"  {number}. {step.name}"
    for statement in step.statements:
        yield indent(f"{statement.sql};".replace(";;", ";"), " " * 7)
        yield from (
            f"     takes {_words(mode)} on {table}" for table, mode in sorted(statement.locks.items())
        )
    yield from (f"     writes {table} anew" for table in step.rewritten)


def _words(mode: str) -> str:
    """`AccessExclusiveLock` as SQL writes it: ACCESS EXCLUSIVE."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", mode.removesuffix("Lock")).upper()
