"""The `nexus` command, on the host and in the api container."""

import argparse
import sys
from collections.abc import Sequence

from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from nexus import doctor
from nexus.config import Settings, settings_or_exit
from nexus.db.engine import create_database_engine
from nexus.seed import seed


def _complain(message: str) -> int:
    sys.stderr.write(f"nexus: {message}\n")
    return 1


def _seed(settings: Settings) -> int:
    """Put the texts of nexus/seed/data into the database: all of them, or none."""
    if settings.is_public_deployment:
        return _complain(f"seed is for local and test; NEXUS_ENV is {settings.NEXUS_ENV}")
    engine = create_database_engine(settings.database_url, application_name="nexus-seed")
    try:
        with Session(engine) as session, session.begin():
            for work, rows in seed(session):
                state = f"added {rows} rows" if rows else "was there already"
                sys.stdout.write(f"{work.media_id}  {work.kind:<12} {work.title}: {state}\n")
    except OperationalError:
        return _complain(f"Postgres at {settings.database_url.host} cannot be used. Is it up? Try 'make ps'")
    except ProgrammingError:
        return _complain("the database is not at the newest revision: run 'make migrate' first")
    finally:
        engine.dispose()
    return 0


def _token(settings: Settings, name: str) -> int:
    """Print a token of the built-in issuer; nothing else goes to stdout, so that a shell can take it."""
    if settings.is_public_deployment:
        return _complain(f"the built-in issuer is for local and test; NEXUS_ENV is {settings.NEXUS_ENV}")
    if settings.AUTH_JWKS_URL is not None:
        return _complain("AUTH_JWKS_URL is set: tokens come from that provider, and ours would be refused")
    try:
        from nexus.auth.local import LocalIssuer, user_id  # noqa: PLC0415  only the api image has these libraries
    except ModuleNotFoundError as error:
        return _complain(f"this container has no {error.name}: try 'docker compose exec api nexus token'")
    if not name.isprintable():
        return _complain("the name must be text that can be printed")
    sys.stdout.write(LocalIssuer(settings).mint(user_id(name)) + "\n")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    try:
        return doctor.main(arguments.form, arguments.only, arguments.away)
    except ModuleNotFoundError as error:  # only the api image has its libraries
        return _complain(f"this container has no {error.name}: try 'docker compose exec api nexus doctor'")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", dest="form", action="store_const", const="json", default="text", help="one JSON document"
    )
    # For dev/doctor, which merges our findings with those of the host.
    parser.add_argument("--lines", dest="form", action="store_const", const="lines", help=argparse.SUPPRESS)
    parser.add_argument(
        "--only", action="append", default=[], choices=doctor.CHECKS, help="one check; may be repeated"
    )
    parser.add_argument("--away", action="append", default=[], help=argparse.SUPPRESS)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 well, 1 refused or failed, 2 usage, 78 wrong settings."""
    parser = argparse.ArgumentParser(prog="nexus", description="Nexus on the command line.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    verbs.add_parser("seed", help="put two public-domain texts into the database (local and test only)")
    token = verbs.add_parser("token", help="print a bearer token, good for a day (local and test only)")
    token.add_argument(
        "name", nargs="?", default="reader", help="who it is for: the same name is the same user"
    )
    _add_doctor(verbs.add_parser("doctor", help="look for faults and say what to do; changes nothing"))
    arguments = parser.parse_args(argv)
    if arguments.verb == "doctor":
        return _doctor(arguments)  # wrong settings are among what it tells
    settings = settings_or_exit()
    return _token(settings, arguments.name) if arguments.verb == "token" else _seed(settings)
