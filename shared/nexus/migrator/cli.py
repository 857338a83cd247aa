"""The migrator's command line."""

import argparse
import sys
from collections.abc import Callable, Sequence

import psycopg
from alembic import command
from alembic.util.exc import CommandError
from sqlalchemy.exc import SQLAlchemyError

from nexus.config import Settings
from nexus.db import catalog
from nexus.db.guards import MigrationBlockedError
from nexus.db.migrations import alembic_config, current_revision
from nexus.db.revisions import head_revision, known_revisions
from nexus.log import get_logger
from nexus.migrator.check import differences, is_at_head
from nexus.migrator.connections import with_connection
from nexus.migrator.plan import plan
from nexus.migrator.waiting import NoDatabaseError, wait_for_postgres

EXIT_OK = 0
EXIT_FAILED = 1  # a revision failed or is not known here, or `check` found a difference
EXIT_USAGE = 2  # argparse's own
EXIT_NO_DATABASE = 3  # Postgres did not answer in time, or refused us
EXIT_LOCKED = 4  # another migrator, or somebody who uses the tables, was in the way for too long

log = get_logger("nexus.migrator")


class UnknownRevisionError(Exception):
    """The database is of a newer Nexus."""


def _place(revision: str | None) -> str:
    return f"{revision or 'base'}{' (head)' if revision == head_revision() else ''}"


def _known_revision(settings: Settings) -> str | None:
    """That of the database.

    Raises:
        UnknownRevisionError: alembic's own words for it say neither what is wrong nor what to do.
    """
    found = with_connection(settings.database_url, current_revision)
    if found is not None and found not in known_revisions():
        raise UnknownRevisionError(
            f"the database is at {found}, which this Nexus does not know; its newest is {head_revision()}: "
            "run the version of Nexus that it belongs to"
        )
    return found


def _migrate(settings: Settings, revision: str, run: Callable[..., None]) -> int:
    url = settings.database_url
    before = _known_revision(settings)
    run(alembic_config(url, settings.MIGRATOR_WAIT_SECONDS), revision)
    after = with_connection(url, current_revision)
    if before == after:
        log.info("nothing to do", database=url.database, revision=_place(after))
    else:
        log.info("done", database=url.database, before=before or "base", revision=_place(after))
    return EXIT_OK


def _current(settings: Settings) -> int:
    sys.stdout.write(f"{_place(with_connection(settings.database_url, current_revision))}\n")
    return EXIT_OK


def _history(settings: Settings) -> int:
    command.history(alembic_config(settings.database_url))
    return EXIT_OK


def _plan(settings: Settings, target: str) -> int:
    _known_revision(settings)
    sys.stdout.write(plan(settings.database_url, target))
    return EXIT_OK


def _describe(settings: Settings) -> int:
    sys.stdout.write(with_connection(settings.database_url, catalog.describe))
    return EXIT_OK


def _check(settings: Settings) -> int:
    url = settings.database_url
    if not is_at_head(url):
        return EXIT_FAILED
    found = differences(url)
    for name, lines in found:
        sys.stdout.write(lines)
        log.error("the schema differs", database=url.database, wanted=name)
    if found:
        return EXIT_FAILED
    log.info("the schema is as written and as the models", revision=head_revision(), database=url.database)
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="migrator", description="Migrates the Nexus database.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    up = verbs.add_parser("upgrade", help="to a revision, by default the newest")
    up.add_argument("revision", nargs="?", default="head")
    down = verbs.add_parser("downgrade", help="to a revision, or -1 for one step back")
    down.add_argument("revision")
    planned = verbs.add_parser("plan", help="print what upgrade or downgrade would do; changes nothing")
    planned.add_argument(
        "revision", nargs="?", default="head", help="by default the newest; -1 for one step back"
    )
    verbs.add_parser("current", help="print the revision the database is at")
    verbs.add_parser("history", help="print all revisions")
    verbs.add_parser("check", help="compare the database with the newest revision; exit 1 if it differs")
    verbs.add_parser("describe", help="print the catalog in the form of db/schema")
    return parser


def _dispatch(arguments: argparse.Namespace, settings: Settings) -> int:
    verbs: dict[str, Callable[[], int]] = {
        "upgrade": lambda: _migrate(settings, arguments.revision, command.upgrade),
        "downgrade": lambda: _migrate(settings, arguments.revision, command.downgrade),
        "plan": lambda: _plan(settings, arguments.revision),
        "current": lambda: _current(settings),
        "history": lambda: _history(settings),
        "check": lambda: _check(settings),
        "describe": lambda: _describe(settings),
    }
    return verbs[arguments.verb]()


def main(argv: Sequence[str], settings: Settings) -> int:
    """Run one verb.

    Returns:
        the exit code: 0 well, 1 failed, 2 usage, 3 no database, 4 somebody else in the way.
    """
    arguments = _parser().parse_args(argv)
    try:
        wait_for_postgres(settings.database_url, settings.MIGRATOR_WAIT_SECONDS)
        return _dispatch(arguments, settings)
    except NoDatabaseError as error:
        log.error(str(error))  # noqa: TRY400  a sentence for people; a traceback would bury it
        return EXIT_NO_DATABASE
    except UnknownRevisionError as error:
        log.error(str(error))  # noqa: TRY400
        return EXIT_FAILED
    except MigrationBlockedError as error:
        log.error(str(error))  # noqa: TRY400
        return EXIT_LOCKED
    except CommandError as error:
        log.error(f"alembic: {error}")  # noqa: TRY400, G004
        return EXIT_USAGE
    except (SQLAlchemyError, RuntimeError) as error:
        log.error("the migration failed and was rolled back", reason=_reason(error))  # noqa: TRY400
        return EXIT_FAILED


def _reason(error: Exception) -> str:
    reason = str(error).splitlines()[0]
    if isinstance(getattr(error, "orig", None), psycopg.errors.DiskFull):
        # Postgres's own text may be no more than "wrote only 4096 of 8192 bytes".
        return f"the disk of Postgres is full, 'migrator plan' says how much is needed: {reason}"
    return reason
