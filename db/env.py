"""Alembic's entry: every caller (migrator, tests, the alembic command) passes through these guards."""

from alembic import context

from nexus.config import get_settings
from nexus.db.engine import create_database_engine
from nexus.db.migrations import Progress, migration_lock
from nexus.db.models import Base


def run_migrations() -> None:
    if context.is_offline_mode():
        raise SystemExit("nexus: 'alembic --sql' is not supported: 0002 reads the catalog while it runs")
    attributes = context.config.attributes
    url = attributes.get("database_url") or get_settings().database_url
    wait = attributes.get("wait_seconds") or get_settings().MIGRATOR_WAIT_SECONDS
    engine = create_database_engine(url, application_name="nexus-migrator")
    try:
        # The lock lives on a connection of its own, in autocommit. On alembic's connection a statement before
        # configure() opens a transaction that alembic then never commits: exit 0, nothing migrated.
        with migration_lock(engine, wait_seconds=wait), engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=Base.metadata,
                transaction_per_migration=True,
                on_version_apply=Progress(),
            )
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


run_migrations()
