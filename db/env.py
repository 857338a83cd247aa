"""Alembic's entry: every caller (migrator, tests, the alembic command) passes through these guards."""

from alembic import context
from sqlalchemy import Connection

from nexus.config import get_settings
from nexus.db.guards import Watch, create_migration_engine, migration_lock, with_attempts
from nexus.db.migrations import Work
from nexus.db.models import Base


def run_once(connection: Connection, work: Work) -> None:
    """One attempt; each revision commits by itself, and what has committed is not done again."""
    # Alembic takes a transaction that is open for somebody else's, and would never commit.
    connection.rollback()
    options = {
        "connection": connection,
        "target_metadata": Base.metadata,
        "transaction_per_migration": True,
        "on_version_apply": work.applied,
    }
    context.configure(**options)
    context.configure(**options, fn=work.remaining(context.get_context().opts["fn"]))
    with context.begin_transaction():
        context.run_migrations()


def run_migrations() -> None:
    if context.is_offline_mode():
        raise SystemExit("nexus: 'alembic --sql' is not supported: 'migrator plan' shows the statements")
    attributes = context.config.attributes
    url = attributes.get("database_url") or get_settings().database_url
    wait = attributes.get("wait_seconds") or get_settings().MIGRATOR_WAIT_SECONDS
    engine = create_migration_engine(url)
    try:
        # The lock lives on a connection of its own, in autocommit. On alembic's connection a statement before
        # configure() opens a transaction that alembic then never commits: exit 0, nothing migrated.
        with migration_lock(engine, wait_seconds=wait) as lock, engine.connect() as connection:
            work = Work()
            with Watch(lock, backend_pid(connection)) as watch:
                with_attempts(lambda: run_once(connection, work), watch, wait_seconds=wait)
    finally:
        engine.dispose()


def backend_pid(connection: Connection) -> int:
    driver = connection.connection.driver_connection
    return int(driver.info.backend_pid)


run_migrations()
