"""Makes a migration stand still at a place of one's choosing, so that it can be harmed exactly there.

Nothing of the product knows about it: event triggers and triggers of the test's own look at the step that the
session shows as its application name, and wait for an advisory lock that the test holds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from nexus.db.steps import APPLICATION_NAME
from tests.waiting import wait_until

KEY = 815

#: A place beside the steps: all is done but the transaction has not committed.
COMMIT = "commit"

#: A statement is at the place "<step>", a row of an index that a rewrite builds at "amid <step>".
_INSTALL = (
    "CREATE SCHEMA holding",
    """
    CREATE FUNCTION holding.at(place text) RETURNS void LANGUAGE plpgsql SET lock_timeout = 0 AS $$
    BEGIN
        IF place = '{place}' THEN PERFORM pg_advisory_xact_lock_shared({key}); END IF;
    END $$
    """,
    """
    CREATE FUNCTION holding.step() RETURNS text LANGUAGE sql AS
        $$ SELECT substr(current_setting('application_name'), {skipped}) $$
    """,
    """
    CREATE FUNCTION holding.command() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM holding.at(holding.step()); END $$
    """,
    """
    CREATE FUNCTION holding.users() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM holding.at(holding.step()); RETURN NULL; END $$
    """,
    """
    CREATE FUNCTION holding.version() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM holding.at('commit'); RETURN NULL; END $$
    """,
    """
    CREATE FUNCTION holding.row(title text) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN PERFORM holding.at('amid ' || holding.step()); RETURN 0; END $$
    """,
    "CREATE INDEX held_rows ON media (holding.row(title))",
    "CREATE TRIGGER held_users BEFORE INSERT OR DELETE ON users EXECUTE FUNCTION holding.users()",
    "CREATE TRIGGER held_version BEFORE INSERT OR UPDATE OR DELETE ON alembic_version "
    "EXECUTE FUNCTION holding.version()",
    "CREATE EVENT TRIGGER held_commands ON ddl_command_start EXECUTE FUNCTION holding.command()",
)

_WAITING_FOR_US = text("""
    SELECT pid FROM pg_stat_activity
    WHERE application_name LIKE :migrator AND CAST(:holder AS integer) = ANY (pg_blocking_pids(pid))
""")


@contextmanager
def held_at(place: str, url: URL) -> Iterator[Callable[[], int]]:
    """A migration of this database that comes to this place stays there until the block ends.

    Args:
        place: a step; `amid` a step that rewrites media, when half of the rewrite is done; or COMMIT.

    Yields:
        what waits until one has come there, and gives the pid of its session in Postgres.
    """
    _install(place, url)
    engine = create_engine(url, poolclass=NullPool, connect_args={"application_name": "holder"})
    connection = engine.connect()
    # A second one: within a transaction pg_stat_activity stays as it was first seen.
    looking = engine.execution_options(isolation_level="AUTOCOMMIT").connect()
    holder = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    values = {"migrator": f"{APPLICATION_NAME}: %", "holder": holder}
    try:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": KEY})
        if place.startswith("lock "):
            # No statement that a trigger could see: held by what it waits for.
            connection.execute(text("LOCK TABLE media IN ACCESS SHARE MODE"))

        def held() -> int:
            def waiting() -> int | None:
                return looking.execute(_WAITING_FOR_US, values).scalar()

            return int(wait_until(f"the migration is held at: {place}", waiting, seconds=60) or 0)

        yield held
    finally:
        for each in (connection, looking):
            with suppress(SQLAlchemyError):  # the server may have been killed
                each.close()
        _uninstall(url)


def _install(place: str, url: URL) -> None:
    values = {"place": place, "key": KEY, "skipped": len(f"{APPLICATION_NAME}: ") + 1}
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in _INSTALL:
            connection.exec_driver_sql(statement.format(**values))


def _uninstall(url: URL) -> None:
    engine = create_engine(url, poolclass=NullPool)

    def dropped() -> bool:
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql("DROP SCHEMA holding CASCADE")
        except SQLAlchemyError:
            return False
        return True

    wait_until("the server is back, and nothing of ours is left", dropped, seconds=60)
