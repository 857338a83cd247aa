"""Up and down the chain of revisions: what the catalog holds at each stop."""

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from nexus.db.models import Base
from nexus.migrator.check import written_catalog
from tests.migrations.conftest import HEAD, REVISIONS, autocommit, downgrade, schema, upgrade


def test_migration_applies_cleanly(fresh_db: URL) -> None:
    """Migration 0002 applies to 0001 state."""
    upgrade(fresh_db, "0001")
    assert schema(fresh_db) == written_catalog("0001")
    upgrade(fresh_db, "0002")
    assert schema(fresh_db) == written_catalog("0002")


def test_migration_rollback(fresh_db: URL) -> None:
    """Migration 0002 rolls back cleanly."""
    upgrade(fresh_db, "0002")
    downgrade(fresh_db, "-1")
    assert schema(fresh_db) == written_catalog("0001")


@pytest.mark.parametrize("revision", REVISIONS)
def test_up_down_up_leaves_no_trace(revision: str, fresh_db: URL) -> None:
    upgrade(fresh_db, revision)
    there = schema(fresh_db)
    downgrade(fresh_db, "-1")
    upgrade(fresh_db, revision)
    assert schema(fresh_db) == there == written_catalog(revision)


def test_down_to_base_leaves_an_empty_schema(migrated_db: URL) -> None:
    downgrade(migrated_db, "base")
    assert schema(migrated_db) == ""


def test_the_models_are_the_migrated_schema(fresh_db: URL) -> None:
    """Types, labels, columns and their order, nullability, defaults, constraints, indexes with predicates."""
    engine = create_engine(fresh_db, poolclass=NullPool)
    Base.metadata.create_all(engine)
    assert schema(fresh_db) == written_catalog(HEAD)


@pytest.mark.parametrize(
    "drift",
    [
        "ALTER TYPE failure_stage ADD VALUE 'moon'",
        "DROP INDEX uix_media_canonical_url;"
        "CREATE UNIQUE INDEX uix_media_canonical_url ON media (kind, canonical_url)",
        "ALTER TABLE media ALTER created_by_user_id SET DEFAULT '00000000-0000-0000-0000-000000000000'",
        "ALTER TABLE media ALTER processing_attempts DROP NOT NULL",
        "ALTER TABLE memberships DROP CONSTRAINT ck_memberships_role, "
        "ADD CONSTRAINT ck_memberships_role CHECK (role IN ('admin', 'member', 'guest'))",
        "ALTER TABLE media_file ALTER size_bytes TYPE integer",
        "ALTER TABLE media DROP CONSTRAINT fk_media_created_by_user_id, "
        "ADD CONSTRAINT fk_media_created_by_user_id "
        "FOREIGN KEY (created_by_user_id) REFERENCES users ON DELETE CASCADE",
        "CREATE TABLE stray (id integer)",
        "CREATE VIEW stray AS SELECT 1 AS one",
        "CREATE FUNCTION stray() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE INDEX stray ON media (title)",
        "ALTER TABLE media DISABLE TRIGGER ALL",
        "ALTER TABLE media ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY stray ON media USING (true)",
        "CREATE RULE stray AS ON DELETE TO media DO INSTEAD NOTHING",
        'ALTER TABLE media ALTER title TYPE text COLLATE "C"',
        "ALTER TABLE media SET (fillfactor = 50)",
        "ALTER TABLE media_file SET UNLOGGED",
        "ALTER TABLE media REPLICA IDENTITY FULL",
        "COMMENT ON TABLE media IS 'stray'",
        "CREATE DOMAIN stray AS text",
        "CREATE SEQUENCE stray",
        "CREATE STATISTICS stray ON kind, title FROM media",
        "CREATE TABLE stray () INHERITS (media)",
        "ALTER TABLE fragments DROP CONSTRAINT fragments_media_id_fkey, "
        "ADD CONSTRAINT fragments_media_id_fkey "
        "FOREIGN KEY (media_id) REFERENCES media ON DELETE CASCADE NOT VALID",
    ],
)
def test_the_catalog_text_sees_drift(drift: str, migrated_db: URL) -> None:
    autocommit(migrated_db, drift)
    assert schema(migrated_db) != written_catalog(HEAD)
