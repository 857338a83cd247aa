"""Waiting for Postgres, as long as that can help."""

import time

import psycopg
from sqlalchemy.engine import URL

from nexus.db.engine import CERTIFICATE_ERRORS, connection_parameters
from nexus.log import get_logger

#: Seconds between two attempts to reach Postgres.
RETRY_PAUSE = 0.1

log = get_logger("nexus.migrator")


class NoDatabaseError(Exception):
    """Postgres cannot be used; the message names the reason and the remedy."""


def _last_line(message: str) -> str:
    return message.strip().splitlines()[-1].strip()


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
    if any(answer in message for answer in CERTIFICATE_ERRORS):
        return (
            f"Postgres at {url.host} shows no certificate that we trust ({_last_line(message)}): "
            "see sslmode and sslrootcert in EXTERNAL_POSTGRES, and EXTERNAL_CA"
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
            where = f"{url.host}:{url.port or 5432}"
            raise NoDatabaseError(
                f"Postgres at {where} did not answer within {seconds:g} s ({_last_line(message)}). "
                "Is it running? See 'docker compose ps' and 'docker compose logs postgres'"
            )
        if not announced:
            log.info("waiting for Postgres", host=url.host, at_most_seconds=seconds)
            announced = True
        time.sleep(RETRY_PAUSE)
