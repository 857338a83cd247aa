"""Writes: one transaction each, committed before anybody hears of it, undone by any failure."""

import asyncio
from collections.abc import Iterator
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

from nexus.api.errors import translate
from nexus.db.database import Database
from nexus.db.engine import connection_parameters
from nexus.db.models import User

pytestmark = pytest.mark.anyio


@pytest.fixture
def database(migrated_db: URL) -> Iterator[Database]:
    database = Database(migrated_db, size=2)
    yield database
    database.close()


def users(url: URL) -> set[UUID]:
    engine = create_engine(url)
    with Session(engine) as session:
        found = set(session.scalars(select(User.id)))
    engine.dispose()
    return found


def make(session: Session, user: UUID) -> str:
    session.add(User(id=user))
    session.flush()
    return "made"


def make_and_fail(session: Session, user: UUID) -> None:
    make(session, user)
    raise LookupError("after the row was written")


def make_and_lose_the_connection(session: Session, user: UUID) -> None:
    make(session, user)
    session.execute(select(func.pg_terminate_backend(func.pg_backend_pid())))


async def test_it_is_committed_when_it_returns(database: Database, migrated_db: URL) -> None:
    user = uuid4()
    assert await database.write(make, user) == "made"
    assert user in users(migrated_db)


async def test_a_failure_undoes_everything_and_is_told(database: Database, migrated_db: URL) -> None:
    user = uuid4()
    for _ in range(5):  # more than there are connections
        with pytest.raises(LookupError):
            await database.write(make_and_fail, user)
    assert user not in users(migrated_db)
    assert await database.write(make, user) == "made"


async def test_a_connection_lost_in_the_middle_leaves_it_open_what_happened(database: Database) -> None:
    with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
        await database.write(make_and_lose_the_connection, uuid4())
    assert (translate(caught.value).status, "not known" in translate(caught.value).text) == (503, True)
    assert await database.write(make, uuid4()) == "made"


async def test_without_a_connection_nothing_happened(migrated_db: URL) -> None:
    database = Database(migrated_db.set(host="127.0.0.1", port=1), size=2)
    with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
        await database.write(make, uuid4())
    database.close()
    assert (translate(caught.value).status, "not known" in translate(caught.value).text) == (503, False)


async def test_no_more_at_once_than_connections(database: Database) -> None:
    def count(session: Session) -> int:
        session.execute(select(func.pg_sleep(0.05)))
        counted = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND state <> 'idle' AND backend_type = 'client backend'"  # not autovacuum
        )
        return int(session.execute(counted).scalar_one())

    assert max(await asyncio.gather(*(database.write(count) for _ in range(10)))) <= 2


async def test_what_a_statement_holds_is_not_in_its_error(database: Database) -> None:
    def fail(session: Session, value: str) -> None:
        session.execute(text("SELECT 1 / (length(:value) * 0)"), {"value": value})

    with pytest.raises(sqlalchemy.exc.DataError) as caught:
        await database.write(fail, "somebody's words")
    assert "somebody's words" not in str(caught.value)


def test_reads_connect_as_writes_do() -> None:
    """With what the URL's query asks of libpq: TLS, above all."""
    url = make_url("postgresql+psycopg://u:p@h:5433/db?sslmode=verify-full&sslrootcert=/ca.pem")
    parameters = connection_parameters(url, application_name="a")
    assert psycopg.conninfo.make_conninfo(**parameters) == (
        "sslmode=verify-full sslrootcert=/ca.pem host=h port=5433 user=u password=p dbname=db "
        "connect_timeout=3 application_name=a"
    )
