"""Bounded checks of what Nexus stands on: Postgres, Redis, the schema revision.

A check never takes longer than its bound, never runs twice at once and never more often than once a second,
whoever asks how often: /ready is public.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
import redis.asyncio
import redis.exceptions
from sqlalchemy.engine import URL

from nexus import beat
from nexus.db.engine import CERTIFICATE_ERRORS, NOT_TRUSTED, connect, connection_parameters

#: Seconds for which a finished check is good.
FRESH_SECONDS = 1.0

#: What is wrong with a Redis that evicts_queues.
EVICTS = "may drop queued tasks when its memory is full (maxmemory-policy allkeys-…)"

#: The rows of alembic's table: one, unless somebody has branched the chain.
REVISIONS = "SELECT version_num FROM alembic_version ORDER BY version_num"


@dataclass(frozen=True)
class Part:
    """The state of one thing we stand on. `detail` is for people and names no host, user or secret."""

    name: str
    ok: bool
    detail: str = "ok"
    #: What the check has learnt, for programs.
    facts: Mapping[str, str | int] = field(default_factory=dict)

    def as_json(self) -> dict[str, str]:
        return {"status": "ok" if self.ok else "failed", "detail": self.detail}


Check = Callable[[], Coroutine[None, None, list[Part]]]


@dataclass
class Probe:
    """Runs one check with a bound and shares its result.

    Args:
        names: the parts the check speaks for; they are reported as failed when it does not answer.
        check: the check itself.
        timeout: its bound, seconds.
    """

    names: tuple[str, ...]
    check: Check
    timeout: float
    _running: asyncio.Task[list[Part]] | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)

    async def __call__(self) -> list[Part]:
        task = self._current()
        left = self._started + self.timeout - time.monotonic()
        # wait(), not wait_for(): a check that hangs in its own cancellation must not hold up the answer.
        await asyncio.wait({task}, timeout=max(0.0, left))
        if task.done() and not task.cancelled():
            return task.result()
        task.cancel()
        return [Part(name, ok=False, detail=f"no answer within {self.timeout:g} s") for name in self.names]

    def _current(self) -> asyncio.Task[list[Part]]:
        task = self._running
        if task is None or (task.done() and time.monotonic() - self._started >= FRESH_SECONDS):
            self._started = time.monotonic()
            task = self._running = asyncio.create_task(self.check())
        return task


def postgres_probe(url: URL, wanted_revision: str, timeout: float) -> Probe:
    """Checks `postgres` and `schema` on a connection of its own: a full pool is no lost Postgres."""

    async def check() -> list[Part]:
        try:
            revisions = await _revisions(url, timeout)
        except psycopg.Error as error:
            detail = connection_detail(error)
            return [Part("postgres", ok=False, detail=detail), Part("schema", ok=False, detail="not known")]
        return [Part("postgres", ok=True), _schema_part(revisions, wanted_revision)]

    return Probe(("postgres", "schema"), check, timeout)


async def _revisions(url: URL, bound: float) -> list[str]:
    """The revisions the database is at; none if it was never migrated."""
    # The network may swallow what we send: end such a connection instead of keeping it for minutes.
    patience = int(bound * 1000)
    parameters = connection_parameters(url, application_name="nexus-ready", tcp_user_timeout=patience)
    connection = await connect(parameters | {"autocommit": True})
    async with connection:
        try:
            cursor = await connection.execute(REVISIONS)
            return [row[0] for row in await cursor.fetchall()]
        except psycopg.errors.UndefinedTable:
            return []


_NO_RIGHTS = "does not give our user the rights it needs"
_TOO_SLOW = "did not finish our query in time"
#: psycopg gives a connection that failed no SQLSTATE, so its text has to tell. The first that fits counts.
_FAILED_CONNECTIONS = (
    ("password authentication failed", "refused our password"),
    ("permission denied for database", _NO_RIGHTS),
    ("pg_hba.conf", "does not admit this machine"),
    ("too many clients", "has no connection left"),
    ("too many connections", "has no connection left"),
    ("remaining connection slots", "has no connection left"),
    ("starting up", "is starting up"),
    ("shutting down", "is shutting down"),
    *CERTIFICATE_ERRORS.items(),
    ("does not support SSL", "does not speak TLS, which sslmode demands"),
    ("Connection refused", "refused the connection"),
    ("does not exist", "has no such user or database"),
)


def connection_detail(error: psycopg.Error) -> str:
    """Why Postgres cannot be used, without a name of anything: the end of a sentence that begins with it."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return _NO_RIGHTS
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return _TOO_SLOW
    if isinstance(error, psycopg.errors.AdminShutdown | psycopg.errors.CrashShutdown):
        return "is shutting down"
    message = str(error)
    if error.sqlstate is None:
        fitting = (detail for text, detail in _FAILED_CONNECTIONS if text in message)
        return next(fitting, "is out of reach")
    # It is there, whatever it has against us.
    return f"answered with an error (SQLSTATE {error.sqlstate})"


def _schema_part(revisions: list[str], wanted: str) -> Part:
    found = ", ".join(revisions) or "none"
    detail = f"revision {found}, wanted {wanted}"
    return Part("schema", ok=found == wanted, detail=detail, facts={"found": found})


def _redis(url: str, timeout: float) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, client_name="nexus-ready"
    )


def untrusted(error: redis.exceptions.RedisError | OSError) -> bool:
    """Whether TLS ended a connection to Redis: another CA, another host's certificate, an expired one."""
    return "certificate verify failed" in str(error)


def evicts_queues(memory: dict[str, Any]) -> bool:
    """Whether a Redis with this `INFO memory` may drop a queue when its memory is full.

    `volatile-…` spares what has no expiry, as queues and what was taken from them have none.
    """
    return str(memory.get("maxmemory_policy", "")).startswith("allkeys-")


def redis_probe(url: str, timeout: float) -> Probe:
    """Checks `redis`: it is there, lets us in, and does not drop what is queued."""

    async def check() -> list[Part]:
        try:
            async with _redis(url, timeout) as client:
                evicts = evicts_queues(await client.info("memory"))
        except redis.exceptions.NoPermissionError:
            return [Part("redis", ok=True)]  # it answers; its policy is not ours to see
        except redis.exceptions.AuthenticationError:
            return [Part("redis", ok=False, detail="refused our password")]
        except (redis.exceptions.RedisError, OSError) as error:
            return [Part("redis", ok=False, detail=NOT_TRUSTED if untrusted(error) else "is out of reach")]
        return [Part("redis", ok=not evicts, detail=EVICTS if evicts else "ok")]

    return Probe(("redis",), check, timeout)


def workers_probe(url: str, timeout: float) -> Probe:
    """Checks `workers`: whether Redis tells which of them consume, and what it tells.

    Its facts: `alive`, how many do, and where one is connected `age`, the seconds since the last beat of the
    one that has been silent for longest.
    """

    async def check() -> list[Part]:
        try:
            async with _redis(url, timeout) as client:
                listed = await client.client_list(_type="normal")
                database = str(client.connection_pool.connection_kwargs.get("db", 0))
        except (redis.exceptions.RedisError, OSError):
            return [Part("workers", ok=False, detail="not known")]
        ages = [
            int(each["idle"])
            for each in listed
            if each["name"] == beat.CLIENT_NAME and each["db"] == database
        ]
        facts = {"alive": sum(age <= beat.MAX_AGE for age in ages)} | ({"age": max(ages)} if ages else {})
        return [Part("workers", ok=True, facts=facts)]

    return Probe(("workers",), check, timeout)
