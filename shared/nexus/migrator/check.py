"""Compares the live catalog with the written one of its revision and with that of the models."""

import difflib

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from nexus.db import catalog
from nexus.db.migrations import ALEMBIC_INI, current_revision
from nexus.db.models import Base
from nexus.db.revisions import head_revision
from nexus.log import get_logger
from nexus.migrator.connections import temporary_schema, with_connection

SCHEMA_FILES = ALEMBIC_INI.parent / "schema"

log = get_logger("nexus.migrator")


def difference(wanted: str, found: str, name: str) -> str:
    """A unified diff, empty if there is none."""
    lines = wanted.splitlines(keepends=True), found.splitlines(keepends=True)
    return "".join(difflib.unified_diff(*lines, name, "database"))


def written_catalog(revision: str) -> str:
    """What `db/schema/` says of a revision; a revision that is still being written has no file yet."""
    path = SCHEMA_FILES / f"{revision}.txt"
    return path.read_text() if path.exists() else ""


def _catalog_of_models(connection: Connection) -> str:
    # Not looking first whether things are there: it would find those of the live schema.
    Base.metadata.create_all(connection, checkfirst=False)
    schema = connection.exec_driver_sql("SELECT pg_my_temp_schema()::regnamespace::text").scalar_one()
    return catalog.describe(connection, schema)


def differences(url: URL) -> list[tuple[str, str]]:
    """What the live schema is compared with, and the difference, for each that differs."""
    live = with_connection(url, catalog.describe)
    with temporary_schema(url) as connection, connection.begin():
        models = _catalog_of_models(connection)
    head = head_revision()
    compared = [
        (f"db/schema/{head}.txt", written_catalog(head)),
        ("shared/nexus/db/models.py", models),
    ]
    found = [(name, difference(wanted, live, name)) for name, wanted in compared]
    return [(name, lines) for name, lines in found if lines]


def is_at_head(url: URL) -> bool:
    """Whether there is anything to compare; says so in the log if not."""
    revision, head = with_connection(url, current_revision), head_revision()
    if revision != head:
        log.error("the database is at another revision", revision=revision or "base", wanted=head)
    return revision == head
