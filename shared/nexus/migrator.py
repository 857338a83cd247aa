"""The migrator's command line: waits for Postgres, then does one thing and says what it did."""

import argparse
import difflib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psycopg
from alembic import command
from alembic.util.exc import CommandError
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from nexus.config import Settings
from nexus.db import catalog
from nexus.db.engine import connection_parameters, create_database_engine
from nexus.db.migrations import (
    ALEMBIC_INI,
    MigrationLockTimeoutError,
    alembic_config,
    current_revision,
    head_revision,
)
from nexus.log import get_logger

EXIT_OK = 0
EXIT_FAILED = 1  # a revision failed, or `check` found a difference
EXIT_USAGE = 2  # argparse's own
EXIT_NO_DATABASE = 3  # Postgres did not answer in time, or refused us
EXIT_LOCKED = 4  # another migrator was at work for too long

SCHEMA_FILES = ALEMBIC_INI.parent / "schema"
#: Seconds between two attempts to reach Postgres.
RETRY_PAUSE = 0.1

log = get_logger("nexus.migrator")

T = TypeVar("T")


class NoDatabaseError(Exception):
    """Postgres cannot be used; the message names the reason and the remedy."""


def _refusal(message: str, url: URL) -> str | None:
    """What a person should do about an answer that waiting will not change, or None."""
    # libpq gives no SQLSTATE for a refused connection; its texts are the only thing to tell them apart by.
    refusals = (
        (
            "password authentication failed",
            f"refused the password of user {url.username}",
            "POSTGRES_PASSWORD",
        ),
        (f'database "{url.database}" does not exist', f"has no database {url.database}", "POSTGRES_DB"),
        (f'role "{url.username}" does not exist', f"has no user {url.username}", "POSTGRES_USER"),
    )
    for answer, refusal, variable in refusals:
        if answer in message:
            return (
                f"Postgres at {url.host} {refusal}: {variable} differs from the one the data volume was made "
                "with. Set the old one, or remove the data with 'make reset'"
            )
    return None


def wait_for_postgres(url: URL, seconds: float) -> None:
    """Return as soon as Postgres lets us in.

    Raises:
        NoDatabaseError: it refuses us for a reason that waiting does not mend, or `seconds` are over.
    """
    deadline = time.monotonic() + seconds
    announced = False
    while True:
        try:
            psycopg.connect(**connection_parameters(url)).close()
        except psycopg.OperationalError as error:
            message = str(error)
        else:
            return
        if refusal := _refusal(message, url):
            raise NoDatabaseError(refusal)
        if time.monotonic() > deadline:
            last = message.strip().splitlines()[-1].strip()
            raise NoDatabaseError(
                f"Postgres at {url.host}:{url.port or 5432} did not answer within {seconds:g} s ({last}). "
                "Is it running? See 'docker compose ps' and 'docker compose logs postgres'"
            )
        if not announced:
            log.info("waiting for Postgres", host=url.host, at_most_seconds=seconds)
            announced = True
        time.sleep(RETRY_PAUSE)


def _with_connection(url: URL, use: Callable[[Connection], T]) -> T:
    engine = create_database_engine(url, application_name="nexus-migrator")
    try:
        with engine.connect() as connection:
            return use(connection)
    finally:
        engine.dispose()


def _migrate(settings: Settings, revision: str, run: Callable[..., None]) -> int:
    url = settings.database_url
    before = _with_connection(url, current_revision)
    run(alembic_config(url, settings.MIGRATOR_WAIT_SECONDS), revision)
    after = _with_connection(url, current_revision)
    head = head_revision()
    place = f"{after or 'base'}{' (head)' if after == head else ''}"
    if before == after:
        log.info("nothing to do", database=url.database, revision=place)
    else:
        log.info("done", database=url.database, before=before or "base", revision=place)
    return EXIT_OK


def upgrade(settings: Settings, revision: str) -> int:
    return _migrate(settings, revision, command.upgrade)


def downgrade(settings: Settings, revision: str) -> int:
    return _migrate(settings, revision, command.downgrade)


def current(settings: Settings) -> int:
    revision = _with_connection(settings.database_url, current_revision)
    sys.stdout.write(f"{revision or 'base'}{' (head)' if revision == head_revision() else ''}\n")
    return EXIT_OK


def history(settings: Settings) -> int:
    command.history(alembic_config(settings.database_url))
    return EXIT_OK


def check(settings: Settings) -> int:
    """Compare the live database with the head revision and with the written catalog of it."""
    head = head_revision()
    revision, live = _with_connection(
        settings.database_url, lambda c: (current_revision(c), catalog.describe(c))
    )
    if revision != head:
        log.error("the database is at another revision", revision=revision or "base", wanted=head)
        return EXIT_FAILED
    path = SCHEMA_FILES / f"{head}.txt"
    difference = _difference(path, live)
    if difference:
        sys.stdout.write(difference)
        log.error(
            "the schema differs", database=settings.database_url.database, wanted=f"db/schema/{path.name}"
        )
        return EXIT_FAILED
    log.info("the schema is as written", revision=head, database=settings.database_url.database)
    return EXIT_OK


def _difference(path: Path, live: str) -> str:
    # A revision that is still being written has no file yet: then everything is a difference.
    wanted = path.read_text().splitlines(keepends=True) if path.exists() else []
    return "".join(
        difflib.unified_diff(wanted, live.splitlines(keepends=True), f"db/schema/{path.name}", "database")
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="migrator", description="Migrates the Nexus database.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    up = verbs.add_parser("upgrade", help="to a revision, by default the newest")
    up.add_argument("revision", nargs="?", default="head")
    down = verbs.add_parser("downgrade", help="to a revision, or -1 for one step back")
    down.add_argument("revision")
    verbs.add_parser("current", help="print the revision the database is at")
    verbs.add_parser("history", help="print all revisions")
    verbs.add_parser("check", help="compare the database with the newest revision; exit 1 if it differs")
    return parser


def _dispatch(arguments: argparse.Namespace, settings: Settings) -> int:
    verbs: dict[str, Callable[[], int]] = {
        "upgrade": lambda: upgrade(settings, arguments.revision),
        "downgrade": lambda: downgrade(settings, arguments.revision),
        "current": lambda: current(settings),
        "history": lambda: history(settings),
        "check": lambda: check(settings),
    }
    return verbs[arguments.verb]()


def main(argv: Sequence[str], settings: Settings) -> int:
    """Run one verb.

    Returns:
        the exit code: 0 well, 1 failed, 2 usage, 3 no database, 4 another migrator at work.
    """
    arguments = _parser().parse_args(argv)
    try:
        wait_for_postgres(settings.database_url, settings.MIGRATOR_WAIT_SECONDS)
        return _dispatch(arguments, settings)
    except NoDatabaseError as error:
        log.error(str(error))  # noqa: TRY400  a sentence for people; a traceback would bury it
        return EXIT_NO_DATABASE
    except MigrationLockTimeoutError as error:
        log.error(str(error))  # noqa: TRY400
        return EXIT_LOCKED
    except CommandError as error:
        log.error(f"alembic: {error}")  # noqa: TRY400, G004
        return EXIT_USAGE
    except (SQLAlchemyError, RuntimeError) as error:
        log.error("the migration failed and was rolled back", reason=str(error).splitlines()[0])  # noqa: TRY400
        return EXIT_FAILED
