"""Runs the reads on libpq itself: a cursor and a pool cost more than the row (docs/benchmarks.md)."""

import asyncio
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import pq

from nexus.db.engine import connect
from nexus.db.statement import Read


class _Connection:
    """Runs one statement at a time; its socket wakes it, also when the peer hangs up in between."""

    def __init__(self, opened: psycopg.AsyncConnection[Any]) -> None:
        self._opened, self._pq, self._socket = opened, opened.pgconn, opened.pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._prepared, self.open = set[bytes](), True
        self._result: pq.abc.PGresult | None = None
        self._answer: asyncio.Future[Any] = self._loop.create_future()
        self._answer.cancel()  # nobody has asked yet
        self._loop.add_reader(self._socket, self._readable)

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.remove_reader(self._socket)
            self._pq.finish()

    async def run(self, read: Read, values: dict[str, object]) -> tuple[bytes | None, ...]:
        if read.name not in self._prepared:
            await self._ask(self._pq.send_prepare, read.name, read.sql)
            self._prepared.add(read.name)
        values = read.constants | values
        arguments = [str(values[name]).encode() for name in read.parameters]
        result = await self._ask(self._pq.send_query_prepared, read.name, arguments)
        return tuple(result.get_value(0, column) for column in range(result.nfields))

    async def _ask(self, send: Any, *arguments: object) -> pq.abc.PGresult:
        self._answer = self._loop.create_future()
        try:
            send(*arguments)
            self._pq.flush()
            result: pq.abc.PGresult = await self._answer
        except BaseException:  # also a request that was given up: its answer must not become the next one's
            self.close()
            raise
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
        return result

    def _readable(self) -> None:
        with suppress(asyncio.InvalidStateError):  # nobody waits
            try:
                for _ in range(2):  # its last words and its end come together, and wake us once
                    self._pq.consume_input()
                while not self._pq.is_busy():
                    if (result := self._pq.get_result()) is None:
                        return self._answer.set_result(self._result)
                    self._result = result
            except psycopg.OperationalError as error:
                self.close()
                self._answer.set_exception(error)


class Reads:
    """The read connections of one process: at most `size`, each opened when it is first needed."""

    def __init__(self, parameters: dict[str, Any], size: int) -> None:
        self._parameters = parameters | {"autocommit": True}
        self.free: list[_Connection | None] = [None] * size
        self._turn = asyncio.Semaphore(size)  # first come, first served: asyncio's queues are not

    async def run(self, read: Read, **values: object) -> tuple[bytes | None, ...]:
        """The one row, each column as Postgres writes it; psycopg.OperationalError where it is away."""
        async with self._turn:
            connection = self.free.pop()
            try:
                if connection is not None and connection.open:
                    try:
                        return await connection.run(read, values)
                    except psycopg.OperationalError:
                        if connection.open:  # else lost, maybe while idle: a read may be asked again
                            raise
                connection = _Connection(await connect(self._parameters))
                return await connection.run(read, values)
            finally:
                self.free.append(connection)

    def close(self) -> None:
        """Close what nobody uses just now; the rest ends with its process."""
        for connection in filter(None, self.free):
            connection.close()
