"""What protects the database from a migration, and a migration from everybody else.

`db/env.py` puts these around every caller. Why each value is what it is stands in docs/migrations.md.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from nexus.db.engine import create_database_engine
from nexus.db.steps import APPLICATION_NAME
from nexus.log import get_logger

#: Key of the session advisory lock: one migrator at a time for each database. The bytes of "nexus".
LOCK_KEY = int.from_bytes(b"nexus")
#: Seconds between two looks at the lock. Polled, not waited for: a waiting statement is a snapshot that
#: CREATE INDEX CONCURRENTLY of the holder would wait for in turn, for ever.
LOCK_POLL = 0.1

#: Of every session of a migration. They stand above what the role or the database has set.
SESSION = {
    # Whoever comes after us waits behind us: so not for long. Above Postgres's deadlock_timeout of 1 s, after
    # which an autovacuum that is in our way is sent off; below that it would be waited for in vain.
    "lock_timeout": "1500ms",
    # A rewrite takes as long as it takes.
    "statement_timeout": "0",
    # The indexes of a rewritten table are sorted in memory, up to some million rows.
    "maintenance_work_mem": "256MB",
    # A migrator that is frozen between two statements must not keep its locks.
    "idle_in_transaction_session_timeout": "10s",
    # One that is killed in the middle of a statement must not either, until that ends by itself.
    "client_connection_check_interval": "500ms",
    # One whose host has vanished says nothing at all: its session, and the advisory lock, end after 25 s.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}

#: The same from our side: a server whose host has vanished is given up while we wait for its answer.
CLIENT_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}

#: Seconds before the second, third … attempt to get the locks of a revision; then always the last.
ATTEMPT_PAUSES = (1, 2, 4, 8)
#: SQLSTATEs of an attempt that may go well the next time: lock_not_available, deadlock_detected.
BLOCKED = frozenset({"55P03", "40P01"})

log = get_logger("nexus.migrator")


class MigrationBlockedError(Exception):
    """Somebody else, whom the message names, held what the migration needs for longer than our wait."""


class MigrationLockTimeoutError(MigrationBlockedError):
    """Another session migrates this database."""


class TableLockTimeoutError(MigrationBlockedError):
    """Other sessions use the tables."""


def create_migration_engine(url: URL) -> Engine:
    """An engine whose sessions carry SESSION; options that the URL itself gives come first, so ours win."""
    ours = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    given = url.query.get("options", ())
    options = " ".join([*([given] if isinstance(given, str) else given), ours])
    arguments = CLIENT_KEEPALIVES | {"options": options}
    return create_database_engine(url, application_name=APPLICATION_NAME, connect_args=arguments)


@contextmanager
def migration_lock(engine: Engine, *, wait_seconds: float) -> Iterator[Connection]:
    """Hold the migration lock of this database; gives the connection that holds it.

    Raises:
        MigrationLockTimeoutError: somebody else held it for `wait_seconds`.
    """
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        _acquire(connection, wait_seconds)
        yield connection
        # Not in a `finally`: after a failure the end of the session releases it, and asking a server that is
        # gone would hide why.
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})


def _acquire(connection: Connection, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    announced = False
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}).scalar_one():
        holder = _lock_holder(connection)
        if time.monotonic() > deadline:
            raise MigrationLockTimeoutError(
                f"another migration holds the lock for more than {wait_seconds:g} s: {holder}. Let it end; "
                "if nobody is there any more, end its session: SELECT pg_terminate_backend(pid)"
            )
        if not announced:
            log.info("waiting for another migration", holder=holder, at_most_seconds=wait_seconds)
            announced = True
        time.sleep(LOCK_POLL)


#: Who a session is, for people. Never its statement: that may hold somebody's data.
_WHO = """
    format('%s (pid %s, user %s, %s, %s)', coalesce(nullif(a.application_name, ''), a.backend_type), a.pid,
        coalesce(a.usename, 'none'), coalesce(host(a.client_addr), 'local'),
        CASE WHEN a.xact_start IS NULL THEN coalesce(a.state, 'at work') ELSE format('%s for %s s',
            coalesce(a.state, 'at work'), round(extract(epoch FROM clock_timestamp() - a.xact_start))) END)
"""

# A bigint key stands in pg_locks as two halves, with objsubid 1.
_LOCK_HOLDER = text(f"""
    SELECT {_WHO} FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (l.classid::bigint << 32) + l.objid::bigint = :key
""")  # noqa: S608  no text from outside is in it

_BLOCKERS = text(f"""
    SELECT a.pid, coalesce(l.relation::regclass::text, l.locktype) AS what, {_WHO} AS who
    FROM pg_locks l CROSS JOIN unnest(pg_blocking_pids(l.pid)) AS blocker
    JOIN pg_stat_activity a ON a.pid = blocker
    WHERE l.pid = :pid AND NOT l.granted
""")  # noqa: S608


def _lock_holder(connection: Connection) -> str:
    return connection.execute(_LOCK_HOLDER, {"key": LOCK_KEY}).scalar() or "it has just let go"


class Watch:
    """Looks at a session while it works, from another one, and says for whom it waits.

    Afterwards nobody could tell: who was in the way is known to Postgres only as long as somebody waits.
    """

    def __init__(self, connection: Connection, pid: int) -> None:
        self._connection = connection
        self._pid = pid
        self._seen: dict[int, str] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def blockers(self) -> str:
        """Those who were in the way since the last call."""
        seen, self._seen = self._seen, {}
        return "; ".join(seen.values()) or "somebody who has just let go"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(LOCK_POLL):
            try:
                rows = self._connection.execute(_BLOCKERS, {"pid": self._pid}).all()
            except SQLAlchemyError:
                return  # the migration's own session fails for the same reason, and says it
            for row in rows:
                if row.pid not in self._seen:
                    log.info("waiting for a lock", on=row.what, held_by=row.who)
                self._seen[row.pid] = f"{row.what} is held by {row.who}"


def with_attempts(run: Callable[[], None], watch: Watch, *, wait_seconds: float) -> None:
    """Run it again and again, with pauses, as long as the locks it needs are held by others.

    Between two attempts nothing of ours is locked, so whoever queued behind us gets through.

    Raises:
        TableLockTimeoutError: still in vain after `wait_seconds`.
    """
    deadline = time.monotonic() + wait_seconds
    attempt = 0
    while True:
        try:
            return run()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in BLOCKED:
                raise
        blockers = watch.blockers()
        pause = ATTEMPT_PAUSES[min(attempt, len(ATTEMPT_PAUSES) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311
        if time.monotonic() + pause > deadline:
            raise TableLockTimeoutError(
                f"the tables are in use for more than {wait_seconds:g} s: {blockers}. Rolled back; try again "
                "when that transaction has ended, or end it: SELECT pg_terminate_backend(pid)"
            )
        attempt += 1
        log.info(
            "rolled back, so that nobody waits behind us; trying again",
            attempt=attempt,
            in_seconds=round(pause, 1),
        )
        time.sleep(pause)
