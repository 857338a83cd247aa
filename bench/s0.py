"""What `make bench-migration` migrates: databases at revision 0001, full of media, cloned for each use."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from alembic import command
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import URL

from bench.project import Project
from nexus.db.engine import connection_parameters
from nexus.db.migrations import alembic_config

#: In the order in which 0002 asks for them.
STATUSES = ("pending", "extracting", "ready_for_reading", "embedding", "ready", "failed")
#: The statuses that the media have in turn. Skewed: nine of ten have the one that 0002 finds last.
MIXES = {"even": STATUSES, "skewed": (*STATUSES[:-1], *STATUSES[-1:] * 45)}

#: A row of media takes 230 bytes, all that Postgres adds included.
FILL: tuple[LiteralString, ...] = (
    "INSERT INTO users (id) SELECT gen_random_uuid() FROM generate_series(1, 10000)",
    "INSERT INTO libraries (owner_user_id, name) SELECT id, 'To read' FROM users LIMIT 1",
    """
    INSERT INTO media (kind, title, canonical_source_url, processing_status, created_at, updated_at)
    SELECT
      (ARRAY['web_article', 'web_article', 'epub', 'pdf', 'video', 'podcast_episode'])[1 + n %% 6],
      'Nr. ' || n || ': what a “title” of ' || repeat('usual length ', (1 + n %% 4)::integer) || 'looks like',
      CASE WHEN n %% 6 NOT IN (2, 3)
        THEN 'https://reading.example/articles/' || n || '/' || md5(n::text) || '/what-a-title-may-be' END,
      (%(statuses)s::text[])[1 + n / 6 %% cardinality(%(statuses)s::text[])],
      now() - n * interval '97 seconds',
      now() - n * interval '89 seconds'
    FROM generate_series(1, %(rows)s::bigint) AS n
    """,
    "INSERT INTO library_media (library_id, media_id) SELECT libraries.id, media.id FROM libraries, media",
    "CREATE EXTENSION pgstattuple",
    "VACUUM ANALYZE",
)


class Server:
    """The Postgres of a project, with nothing else of it started."""

    def __init__(self, project: Project) -> None:
        project.compose("up", "--detach", "--wait", "postgres")
        user, password = (
            project.compose("exec", "-T", "postgres", "printenv", name).strip()
            for name in ("POSTGRES_USER", "POSTGRES_PASSWORD")
        )
        port = int(project.ports["POSTGRES_PORT"])
        self._url = URL.create("postgresql+psycopg", user, password, "127.0.0.1", port, "postgres")
        with self.session() as session:
            # Autovacuum would come into the middle, and remove the dead rows that are to be counted.
            session.execute("ALTER SYSTEM SET autovacuum = off")
            session.execute("SELECT pg_reload_conf()")

    def url(self, database: str) -> URL:
        return self._url.set(database=database)

    def session(self, database: str = "postgres") -> psycopg.Connection:
        """A connection in autocommit, to be used as a context."""
        return psycopg.connect(**connection_parameters(self.url(database)), autocommit=True)

    def version(self) -> str:
        with self.session() as session:
            return session.info.parameter_status("server_version") or ""

    def make(self, mix: str, rows: int) -> None:
        """A database at revision 0001 with so many media in a mix of statuses, which is its name too."""
        with self.session() as session:
            session.execute(SQL("CREATE DATABASE {}").format(Identifier(mix)))
        command.upgrade(alembic_config(self.url(mix), wait_seconds=10), "0001")
        values = {"rows": rows, "statuses": list(MIXES[mix])}
        with self.session(mix) as session:
            for statement in FILL:
                session.execute(statement, values if "%(" in statement else None)

    @contextmanager
    def clone(self, template: str) -> Iterator[str]:
        """The name of a copy that lasts until the end of the block."""
        name = f"{template}_copy"
        names = {"copy": Identifier(name), "template": Identifier(template)}
        with self.session() as session:
            session.execute(SQL("CREATE DATABASE {copy} TEMPLATE {template}").format(**names))
            try:
                yield name
            finally:
                session.execute(SQL("DROP DATABASE {copy} WITH (FORCE)").format(**names))
