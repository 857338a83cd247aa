"""`nexus doctor` asks Postgres: is it there, and is the schema in it ours?"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from nexus.config import Settings
from nexus.db import catalog
from nexus.db.engine import create_database_engine
from nexus.db.migrations import revision_scripts
from nexus.db.revisions import head_revision
from nexus.doctor.bounds import PATIENCE, bounded
from nexus.doctor.clock import skew
from nexus.doctor.findings import Finding, fault, ok, unchecked
from nexus.health import REVISIONS, connection_detail
from nexus.migrator.check import difference, written_catalog

#: A statement of ours takes milliseconds. Milliseconds.
STATEMENT_TIMEOUT = 5_000


@dataclass(frozen=True)
class Database:
    """What Postgres told us. `ahead`: seconds its clock is ahead of ours; `live`: its catalog as text."""

    revisions: list[str]
    ahead: float
    live: str


def _ask_postgres(settings: Settings) -> Database:
    options = f"-c statement_timeout={STATEMENT_TIMEOUT} -c default_transaction_read_only=on"
    engine = create_database_engine(
        settings.database_url,
        application_name="nexus-doctor",
        connect_args={"options": options},
        poolclass=NullPool,
    )
    with bounded(PATIENCE), engine.connect() as connection:
        ahead = (
            connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one() - datetime.now(UTC)
        ).total_seconds()
        live = catalog.describe(connection)
        return Database(_revisions(connection), ahead, live)


def _revisions(connection: Connection) -> list[str]:
    if connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar_one() is None:
        return []
    return [str(revision) for revision in connection.exec_driver_sql(REVISIONS).scalars()]


#: By what health.connection_detail says; the other faults go with the connection.
_POSTGRES_REMEDIES = {
    "refused our password": "the volume was made with another one: set that in POSTGRES_PASSWORD, or "
    "change it in Postgres (README.md, Settings)",
    "has no connection left": "find who holds them (SELECT * FROM pg_stat_activity), or lower API_POOL_SIZE",
    "has no such user or database": "POSTGRES_USER and POSTGRES_DB must be those the volume was made with",
    "is starting up": "wait; its log says what it is doing",
    "does not give our user the rights it needs": "GRANT CONNECT on the database, USAGE on its schema and "
    "SELECT on its tables to that user, or connect as the user that the migrator makes them with",
    "did not finish our query in time": "see what it waits for (SELECT * FROM pg_stat_activity), or whether "
    "its machine is overloaded",
    "does not admit this machine": "add a line for this machine, user and database to its pg_hba.conf; where "
    "it admits TLS only, demand that (?sslmode=require)",
    "has a certificate that we do not trust": "sslrootcert must name the CA that signed it; or it is expired",
    "has a certificate of another host": "connect by a name that is in the certificate; sslmode=verify-ca "
    "does not ask for the name",
    "cannot be verified: the file of sslrootcert cannot be read": "put the CA where sslrootcert says, "
    "readable in the containers (user 10001), or correct sslrootcert",
    "does not speak TLS, which sslmode demands": "turn TLS on in Postgres (ssl = on), or lower sslmode",
}


def _origin(error: Exception) -> BaseException | None:
    """What psycopg said, where SQLAlchemy has wrapped it."""
    return error.orig if isinstance(error, DBAPIError) else error


def _postgres_fault(origin: BaseException | None, settings: Settings) -> Finding:
    if isinstance(origin, psycopg.Error):
        detail = connection_detail(origin)
    else:
        detail = f"does not answer within {PATIENCE} s"
    remedy = _POSTGRES_REMEDIES.get(detail, "look at its state and its log ('make ps', 'make logs')")
    return fault("postgres", f"Postgres at {settings.database_url.host} {detail}", remedy)


def schema_findings(revisions: list[str], live: str) -> Finding:
    """What the database is at against what this code wants."""
    wanted, found = head_revision(), ", ".join(revisions)
    if not revisions:
        return fault("schema", "the database was never migrated", "run 'make migrate'")
    if revisions == [wanted]:
        return _drift(wanted, live)
    known = {script.revision for script in revision_scripts().walk_revisions()}
    if set(revisions) <= known:
        return fault("schema", f"the database is behind: {found}, wanted {wanted}", "run 'make migrate'")
    return fault(
        "schema",
        f"the database is at {found}, which this Nexus does not know; its newest is {wanted}",
        "run the version of Nexus that the database belongs to",
    )


def _drift(head: str, live: str) -> Finding:
    lines = difference(written_catalog(head), live, head).splitlines()[2:]
    changed = [line for line in lines if line.startswith(("+", "-"))]
    if not changed:
        return ok("schema", f"at revision {head}, the newest, and as it was written")
    return fault(
        "schema",
        f"the schema is not that of revision {head}: {len(changed)} lines differ, first: {changed[0]}",
        "who changed it by hand has to take that back; 'docker compose run migrator check' shows all",
    )


def check_postgres(settings: Settings) -> Iterator[Finding]:
    try:
        database = _ask_postgres(settings)
    except (DBAPIError, TimeoutError) as error:
        origin = _origin(error)
        yield _postgres_fault(origin, settings)
        answers = isinstance(origin, psycopg.Error) and origin.sqlstate is not None
        yield unchecked("schema", "Postgres does not tell it" if answers else "Postgres does not answer")
        return
    yield ok("postgres", f"Postgres at {settings.database_url.host} answers")
    yield schema_findings(database.revisions, database.live)
    yield skew("Postgres", database.ahead)
