"""What must hold before api and worker start."""

import sys
import time

import psycopg
import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from nexus.config import Settings
from nexus.db.engine import connection_parameters
from nexus.db.revisions import head_revision, known_revisions
from nexus.health import EVICTS, REVISIONS, evicts_queues
from nexus.log import get_logger

#: Exit code of a process that found a peer it must not work with.
EXIT_REFUSED = 1
#: Bound of each question to a peer, seconds.
PATIENCE = 5
#: Between two looks at a schema that is still behind, seconds.
PAUSE = 0.5

log = get_logger("nexus.startup")


def require_peers(settings: Settings) -> None:
    """End this process if the database is at another revision than this code, or Redis may lose queued tasks.

    A peer that does not answer is no reason: it is told by /ready, and may come back.
    """
    require_schema(settings)
    require_lasting_queue(settings)


def require_schema(settings: Settings) -> None:
    """Wait SCHEMA_WAIT_SECONDS for a migration that is still to come; then end this process."""
    wanted = head_revision()
    deadline = time.monotonic() + settings.SCHEMA_WAIT_SECONDS
    found = _found(settings)
    if _may_come(found) and time.monotonic() < deadline:
        log.info("waiting for the migration", wanted=wanted, at_most_seconds=settings.SCHEMA_WAIT_SECONDS)
    while _may_come(found) and time.monotonic() < deadline:
        time.sleep(PAUSE)
        found = _found(settings)
    if found is None:
        log.warning("Postgres does not answer, the schema is not known yet; /ready will say it")
    elif found != [wanted]:
        log.critical(
            "Nexus does not start on this schema: migrate it ('make migrate'), or run the version of Nexus "
            "that it belongs to",
            revision=", ".join(found) or "none",
            wanted=wanted,
        )
        sys.exit(EXIT_REFUSED)


def _may_come(found: list[str] | None) -> bool:
    """Whether a migration to our revision would help; not if the database is ahead of us."""
    return not found or (found[0] in known_revisions() and found != [head_revision()])


def _found(settings: Settings) -> list[str] | None:
    """The revisions the database is at, none if it was never migrated; None if Postgres does not answer."""
    options = {"application_name": "nexus-start", "options": f"-c statement_timeout={PATIENCE}s"}
    try:
        with psycopg.connect(**connection_parameters(settings.database_url, **options)) as connection:
            return [row[0] for row in connection.execute(REVISIONS)]
    except psycopg.errors.UndefinedTable:
        return []
    except psycopg.errors.InsufficientPrivilege:
        log.critical(
            "Nexus does not start on this database: our user may not read alembic_version; "
            "name the user that owns the database, or GRANT it the rights of that one"
        )
        sys.exit(EXIT_REFUSED)
    except psycopg.OperationalError:
        return None


def require_lasting_queue(settings: Settings) -> None:
    """End this process if the broker may drop the keys of queues when its memory is full."""
    url = settings.CELERY_BROKER_URL.get_secret_value()
    options = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "client_name": "nexus-start"}
    try:
        with redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **options) as client:
            evicts = evicts_queues(client.info("memory"))
    except redis.exceptions.NoPermissionError:
        log.warning("Redis does not tell its maxmemory-policy to this user; it must be noeviction")
    except redis.exceptions.RedisError:
        log.warning("Redis does not answer, its maxmemory-policy is not known yet; /ready will say it")
    else:
        if evicts:
            log.critical("Nexus does not start on this Redis: set noeviction", reason=EVICTS)
            sys.exit(EXIT_REFUSED)
