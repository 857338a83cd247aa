"""How this code base connects to Postgres."""

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL

#: Seconds until a connection attempt is given up. libpq's own default is to wait for ever.
CONNECT_TIMEOUT = 5


def create_database_engine(url: URL, *, application_name: str) -> Engine:
    """A pooled engine.

    Args:
        url: as `Settings.database_url` gives it.
        application_name: what `pg_stat_activity` shows, so that a lock's holder has a name.
    """
    return create_engine(
        url,
        connect_args={"application_name": application_name, "connect_timeout": CONNECT_TIMEOUT},
        pool_pre_ping=True,
    )
