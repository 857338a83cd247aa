"""What revision the code wants, what the database has, and how to get from one to the other."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL

from nexus.log import get_logger

ALEMBIC_INI = Path(__file__).parents[3] / "db" / "alembic.ini"

#: Key of the session advisory lock: one migrator at a time for each database. The bytes of "nexus".
LOCK_KEY = int.from_bytes(b"nexus")
#: Seconds between two looks at the lock. Polled, not waited for: a waiting statement is a snapshot that
#: CREATE INDEX CONCURRENTLY of the holder would wait for in turn, for ever.
LOCK_POLL = 0.1

log = get_logger("nexus.migrator")


class MigrationLockTimeoutError(Exception):
    """Another session migrates this database, and has not finished within our wait."""


def alembic_config(database_url: URL | None = None, wait_seconds: float | None = None) -> Config:
    """Alembic's configuration. Without arguments `db/env.py` takes both values from the settings."""
    config = Config(ALEMBIC_INI)
    config.attributes["database_url"] = database_url
    config.attributes["wait_seconds"] = wait_seconds
    return config


def head_revision() -> str:
    """The newest revision this code knows."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if head is None:
        raise RuntimeError(f"no revision found by {ALEMBIC_INI}")
    return head


def current_revision(connection: Connection) -> str | None:
    """The revision the database is at; None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def migration_lock(engine: Engine, *, wait_seconds: float) -> Iterator[None]:
    """Hold the migration lock of this database.

    Raises:
        MigrationLockTimeoutError: somebody else, whom the message names, held it for `wait_seconds`.
    """
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        _acquire(connection, wait_seconds)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})


def _acquire(connection: Connection, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    announced = False
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}).scalar_one():
        holder = _lock_holder(connection)
        if time.monotonic() > deadline:
            raise MigrationLockTimeoutError(
                f"another migration holds the lock for more than {wait_seconds:g} s: {holder}"
            )
        if not announced:
            log.info("waiting for another migration", holder=holder, at_most_seconds=wait_seconds)
            announced = True
        time.sleep(LOCK_POLL)


def _lock_holder(connection: Connection) -> str:
    # A bigint key stands in pg_locks as two halves, with objsubid 1.
    row = connection.execute(
        text("""
            SELECT a.pid, a.application_name, host(a.client_addr) AS client
            FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND (l.classid::bigint << 32) + l.objid::bigint = :key
        """),
        {"key": LOCK_KEY},
    ).first()
    if row is None:
        return "it has just let go"
    return f"{row.application_name} (pid {row.pid}, {row.client or 'local'})"


class Progress:
    """Alembic's `on_version_apply` callback: says which step is done, and how long it took."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def __call__(self, *, step: Any, **_: Any) -> None:
        verb = "upgraded" if step.is_upgrade else "downgraded"
        seconds = round(time.monotonic() - self._since, 2)
        revision = ", ".join(step.up_revision_ids) or "base"
        log.info(verb, revision=revision, seconds=seconds)
        self._since = time.monotonic()
