"""How reads run: prepared, without BEGIN, on few connections, and none gets another's answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, Integer, Text, bindparam, column, create_engine, func, select, table, text
from sqlalchemy.engine import URL

from nexus.db.engine import connection_parameters
from nexus.db.reads import Reads
from nexus.db.statement import Read
from tests.waiting import wait_until

pytestmark = pytest.mark.anyio

NUMBER = bindparam("number", type_=Integer)
ECHO = Read(select(NUMBER + 1, NUMBER))
SLEEP = Read(select(NUMBER, func.pg_sleep(bindparam("seconds", type_=Integer))))
DIVIDE = Read(select(100 / NUMBER))
PID = Read(select(func.pg_backend_pid()))
PREPARED = Read(select(func.count()).select_from(table("pg_prepared_statements", column("name"))))
SIZE = 3


@pytest.fixture
async def reads(fresh_db: URL) -> AsyncIterator[Reads]:
    found = Reads(connection_parameters(fresh_db, application_name="the-reads"), SIZE)
    yield found
    found.close()


@pytest.fixture
def other(fresh_db: URL) -> Any:
    """Somebody else in the same database."""
    engine = create_engine(fresh_db, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


def sessions(other: Engine) -> list[tuple[str, str]]:
    """State and statement of each read connection."""
    with other.connect() as connection:
        found = connection.execute(
            text("SELECT state, query FROM pg_stat_activity WHERE application_name = 'the-reads'")
        )
        return [(row.state, row.query) for row in found]


async def test_a_row_comes_as_postgres_writes_it(reads: Reads) -> None:
    assert await reads.run(ECHO, number=41) == (b"42", b"41")
    nothing = Read(select(bindparam("nothing", None, type_=Text).is_(None), func.nullif(1, 1)))
    assert await reads.run(nothing, nothing="") == (b"f", None)


async def test_a_statement_is_prepared_once_and_runs_without_a_transaction(
    reads: Reads, other: Engine
) -> None:
    for number in range(5):
        await reads.run(ECHO, number=number)
    assert await reads.run(PREPARED) == (b"2",), "this one and the one before"
    ((state, statement),) = sessions(other)
    assert state == "idle"
    assert statement == PREPARED.sql.decode()


async def test_there_are_never_more_connections_than_allowed(reads: Reads, other: Engine) -> None:
    answers = await asyncio.gather(*(reads.run(ECHO, number=number) for number in range(200)))
    assert answers == [(str(n + 1).encode(), str(n).encode()) for n in range(200)]
    assert len(sessions(other)) == SIZE


async def test_first_come_first_served(fresh_db: URL) -> None:
    """Also where somebody who was just served asks again: they must not overtake those who wait."""
    reads = Reads(connection_parameters(fresh_db), 1)
    served: list[int] = []

    async def ask_twice(number: int) -> None:
        for _ in range(2):
            await reads.run(ECHO, number=number)
            served.append(number)

    await asyncio.gather(*(ask_twice(number) for number in range(30)))
    reads.close()
    assert served == [*range(30), *range(30)]


async def test_a_refused_statement_leaves_its_connection_usable(reads: Reads) -> None:
    before = await reads.run(PID)
    with pytest.raises(psycopg.errors.DivisionByZero):
        await reads.run(DIVIDE, number=0)
    assert await reads.run(DIVIDE, number=5) == (b"20.0000000000000000",)
    assert await reads.run(PID) == before


async def test_a_read_that_is_given_up_never_answers_another(reads: Reads, other: Engine) -> None:
    for number in range(10):
        given_up = asyncio.create_task(reads.run(SLEEP, number=number, seconds=600))
        await asyncio.to_thread(
            wait_until, "it runs", lambda: any("pg_sleep" in each[1] for each in sessions(other)), seconds=10
        )
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert await reads.run(ECHO, number=number) == (str(number + 1).encode(), str(number).encode())


async def test_a_lost_connection_is_replaced_before_anybody_uses_it(reads: Reads, other: Engine) -> None:
    pid = await reads.run(PID)
    with other.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": int(pid[0] or 0)})
    await asyncio.to_thread(wait_until, "it is gone", lambda: not sessions(other), seconds=10)
    assert await reads.run(PID) != pid


async def test_a_connection_that_turns_out_to_be_lost_costs_nothing(reads: Reads, other: Engine) -> None:
    """The event loop stands still meanwhile, so that nobody notices before the next statement is sent."""
    pid = await reads.run(PID)
    with other.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": int(pid[0] or 0)})
    wait_until("it is gone", lambda: not sessions(other), seconds=10)
    assert await reads.run(PID) != pid


async def test_a_connection_lost_in_the_middle_is_an_operational_error(reads: Reads, other: Engine) -> None:
    waiting = asyncio.create_task(reads.run(SLEEP, number=1, seconds=600))
    await asyncio.to_thread(
        wait_until, "it runs", lambda: any("pg_sleep" in each[1] for each in sessions(other)), seconds=10
    )
    with other.connect() as connection:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'the-reads'"
        connection.execute(text(end))
    with pytest.raises(psycopg.OperationalError):
        await waiting
    assert await reads.run(ECHO, number=1) == (b"2", b"1")


async def test_nobody_there(fresh_db: URL) -> None:
    reads = Reads(connection_parameters(fresh_db.set(host="127.0.0.1", port=1)), SIZE)
    for _ in range(2 * SIZE):
        with pytest.raises(psycopg.OperationalError):
            await reads.run(ECHO, number=1)
