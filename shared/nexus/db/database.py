"""Postgres as one API process uses it: reads on the event loop, writes as transactions in threads."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import QueuePool
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from nexus.db.engine import connection_parameters, create_database_engine
from nexus.db.reads import Reads
from nexus.db.statement import Read

#: Postgres ends a statement of ours after this, its waits for locks included. Milliseconds; below
#: API_REQUEST_TIMEOUT_SECONDS, so that a slow statement costs its request and not its connection.
STATEMENT_TIMEOUT = 5_000
#: The network may swallow what we send, or what we wait for: such a connection is ended after some 4 s.
NETWORK = {
    "tcp_user_timeout": 4_000,  # milliseconds
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
}

P = ParamSpec("P")
T = TypeVar("T")


class Pool(NamedTuple):
    """Connections of one process to Postgres."""

    in_use: int
    size: int


class Database:
    """Connects to nobody until it is used, so it may be made before a process forks.

    Args:
        url: as `Settings.database_url` gives it.
        size: connections at most, for reads and again for writes.
    """

    def __init__(self, url: URL, size: int) -> None:
        self._size = size
        bounds = {"options": f"-c statement_timeout={STATEMENT_TIMEOUT}"} | NETWORK
        self._reads = Reads(connection_parameters(url, application_name="nexus-api", **bounds), size)
        self._engine = create_database_engine(
            url, application_name="nexus-api", connect_args=bounds, pool_size=size, max_overflow=0
        )
        # As many threads as connections: nobody waits for one in the pool.
        self._threads = ThreadPoolExecutor(size, "nexus-write")

    async def read(self, read: Read, **values: object) -> tuple[bytes | None, ...]:
        """The one row of a read.

        Raises:
            psycopg.OperationalError: Postgres is away, or took longer than STATEMENT_TIMEOUT.
        """
        return await self._reads.run(read, **values)

    async def write(
        self, use_case: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What the use case returns, once its transaction is committed; any exception rolls back.

        A caller that is cancelled does not stop the transaction: whether it was committed is then not known.

        Raises:
            sqlalchemy.exc.OperationalError: as `read`.
        """

        def transaction() -> T:
            with Session(self._engine) as session, session.begin():
                return use_case(session, *args, **kwargs)

        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, transaction)

    def pools(self) -> dict[str, Pool]:
        """How much of it is in use just now, for `reads` and for `writes`."""
        assert isinstance(self._engine.pool, QueuePool)  # noqa: S101  create_engine's default
        return {
            "reads": Pool(self._size - len(self._reads.free), self._size),
            "writes": Pool(self._engine.pool.checkedout(), self._size),
        }

    def close(self) -> None:
        """Let go of every connection that is idle; never waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._reads.close()
        self._engine.dispose()
