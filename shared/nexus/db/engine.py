"""How this code base connects to Postgres."""

import asyncio
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL

#: Seconds until a connection attempt is given up. libpq's own default is to wait for ever.
CONNECT_TIMEOUT = 3
#: Of Postgres as of Redis.
NOT_TRUSTED = "has a certificate that we do not trust"
#: What libpq says where TLS ends a connection, and what that means.
CERTIFICATE_ERRORS = {
    "certificate verify failed": NOT_TRUSTED,
    "signature failure": NOT_TRUSTED,  # of another CA with the name of ours
    "does not match host name": "has a certificate of another host",
    "root certificate file": "cannot be verified: the file of sslrootcert cannot be read",
}


def connection_parameters(url: URL, **more: object) -> dict[str, Any]:
    """What `psycopg.connect` takes, made of a URL as `Settings.database_url` gives it; `more` is added.

    Its query (`?sslmode=verify-full`) is libpq's, as it is for SQLAlchemy.
    """
    address = {
        "host": url.host,
        "port": url.port or 5432,
        "user": url.username,
        "password": url.password,
        "dbname": url.database,
        "connect_timeout": CONNECT_TIMEOUT,
    }
    return dict(url.query) | address | more


async def connect(parameters: dict[str, Any]) -> psycopg.AsyncConnection[Any]:
    """A connection, on the event loop.

    Raises:
        psycopg.OperationalError: none within CONNECT_TIMEOUT. libpq's own timeout does not count the time in
            which the name of the host is looked up.
    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await psycopg.AsyncConnection.connect(**parameters)
    except TimeoutError:
        raise psycopg.OperationalError(f"no connection within {CONNECT_TIMEOUT} s") from None


def create_database_engine(url: URL, *, application_name: str, **options: Any) -> Engine:
    """A pooled engine.

    Args:
        url: as `Settings.database_url` gives it.
        application_name: what `pg_stat_activity` shows, so that a lock's holder has a name.
        options: of `create_engine`; its `connect_args` are added to ours.
    """
    arguments = {"application_name": application_name, "connect_timeout": CONNECT_TIMEOUT}
    arguments |= options.pop("connect_args", {})
    # The values of a statement are somebody's data, and its errors end up in logs.
    return create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True, **options)
