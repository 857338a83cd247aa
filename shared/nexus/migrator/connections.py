"""Connections of the migrator's verbs that change nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from nexus.db.guards import create_migration_engine

T = TypeVar("T")


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """A connection that really ends with the block."""
    engine = create_migration_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def with_connection(url: URL, use: Callable[[Connection], T]) -> T:
    with connected(url) as connection:
        return use(connection)


@contextmanager
def temporary_schema(url: URL) -> Iterator[Connection]:
    """A connection on which whatever is created is temporary and hides what is there.

    Postgres removes it with the session, however that ends: also if we are killed.
    """
    with connected(url) as connection:
        with connection.begin():
            connection.exec_driver_sql("SET search_path TO pg_temp")
        yield connection
