"""Helpers for tests that move a database between revisions."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from nexus.db import catalog
from nexus.db.migrations import alembic_config, revision_scripts

#: The chain from its first revision to its newest, which are not the same for ever.
REVISIONS = [script.revision for script in revision_scripts().walk_revisions()][::-1]
HEAD = REVISIONS[-1]

Rows = dict[str, list[tuple[object, ...]]]


def upgrade(url: URL, revision: str = "head") -> None:
    command.upgrade(alembic_config(url, wait_seconds=10), revision)


def downgrade(url: URL, revision: str) -> None:
    command.downgrade(alembic_config(url, wait_seconds=10), revision)


def read(url: URL, use: Callable[[Connection], object]) -> object:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return use(connection)


def execute(url: URL, statement: str, **values: object) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement), values)


def autocommit(url: URL, statement: str) -> None:
    """For what Postgres runs outside of a transaction only, and for what is no SQLAlchemy text."""
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)


def schema(url: URL) -> str:
    return str(read(url, catalog.describe))


#: What fills a database at 0001: every kind, every status, odd titles.
FILL = """
    INSERT INTO users (id) SELECT gen_random_uuid() FROM generate_series(1, 5);
    INSERT INTO libraries (owner_user_id, name, is_default) SELECT id, 'My Library', true FROM users;
    INSERT INTO memberships (library_id, user_id, role) SELECT id, owner_user_id, 'admin' FROM libraries;
    INSERT INTO media (kind, title, canonical_source_url, processing_status, created_at, updated_at)
        SELECT (ARRAY['web_article', 'epub', 'pdf', 'video', 'podcast_episode'])[1 + n % 5],
               (ARRAY['', 'plain', E'tab\\there', '日本語 “”', repeat('long ', 2000), '\\x00'])[1 + n % 6],
               CASE WHEN n % 2 = 0 THEN 'https://example.org/' || n END,
               (ARRAY['pending', 'extracting', 'ready_for_reading',
                      'embedding', 'ready', 'failed'])[1 + n / 5 % 6],
               timestamptz '2020-01-01' + n * interval '1 hour',
               timestamptz '2021-01-01' + n * interval '1 minute'
        FROM generate_series(0, 299) n;
    INSERT INTO fragments (media_id, idx, canonical_text, html_sanitized)
        SELECT id, idx, title, '<p>' || title || '</p>' FROM media, generate_series(0, 2) idx;
    INSERT INTO library_media (library_id, media_id)
        SELECT libraries.id, media.id FROM libraries, media;
"""


def fill(url: URL) -> None:
    for statement in FILL.strip().rstrip(";").split(";\n"):
        execute(url, statement)


#: Every column of revision 0001.
S0_COLUMNS = {
    "users": "id, created_at",
    "libraries": "id, owner_user_id, name, is_default, created_at, updated_at",
    "memberships": "library_id, user_id, role, created_at",
    "media": "id, kind, title, canonical_source_url, processing_status::text, created_at, updated_at",
    "fragments": "id, media_id, idx, canonical_text, html_sanitized, created_at",
    "library_media": "library_id, media_id, created_at",
}


def s0_rows(url: URL) -> Rows:
    """Every row of revision 0001's tables, without the system user, which belongs to 0002."""

    def rows(connection: Connection) -> Rows:
        return {
            table: sorted(
                (tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM {table}"))), key=repr
            )
            for table, columns in S0_COLUMNS.items()
        }

    found = read(url, rows)
    assert isinstance(found, dict)
    found["users"] = [row for row in found["users"] if row[0].int != 0]
    return found


@pytest.fixture
def s0_db(fresh_db: URL) -> URL:
    """A database at revision 0001."""
    upgrade(fresh_db, "0001")
    return fresh_db


@pytest.fixture
def s0_with_data(s0_db: URL) -> URL:
    fill(s0_db)
    return s0_db


class Migrator:
    """The real command line, as a process."""

    def __init__(self, url: URL) -> None:
        self._url = url

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        url = self._url.render_as_string(hide_password=False)
        return subprocess.Popen(
            [sys.executable, "-m", "services.migrator.main", *arguments],
            env=os.environ | {"DATABASE_URL": url, "LOG_FORMAT": "text"} | environment,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)
