"""What must hold before the API starts."""

import sys

import psycopg

from nexus.config import Settings
from nexus.db.database import STATEMENT_TIMEOUT
from nexus.db.engine import connection_parameters
from nexus.db.migrations import head_revision
from nexus.health import REVISIONS
from nexus.log import get_logger

#: Exit code of an API that found a schema it was not written for.
EXIT_SCHEMA = 1

log = get_logger("nexus.api")


def require_schema(settings: Settings) -> None:
    """End this process if the database is at another revision than this code, or was never migrated.

    A Postgres that does not answer is no reason: it is told by /ready, and may come back.
    """
    wanted = head_revision()
    try:
        found = _found(settings)
    except psycopg.OperationalError:
        log.warning("Postgres does not answer, the schema is not known yet; /ready will say it")
        return
    if found != [wanted]:
        log.critical(
            "the API does not start on this schema: migrate it ('make migrate'), or run the version of Nexus "
            "that it belongs to",
            revision=", ".join(found) or "none",
            wanted=wanted,
        )
        sys.exit(EXIT_SCHEMA)


def _found(settings: Settings) -> list[str]:
    options = {"application_name": "nexus-api-start", "options": f"-c statement_timeout={STATEMENT_TIMEOUT}"}
    with psycopg.connect(**connection_parameters(settings.database_url, **options)) as connection:
        try:
            return [row[0] for row in connection.execute(REVISIONS)]
        except psycopg.errors.UndefinedTable:
            return []
