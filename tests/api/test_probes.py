"""GET /health and GET /ready, in process, against real peers and peers that are away, slow or wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest
from alembic import command
from sqlalchemy.engine import URL

from nexus.api.app import create_app
from nexus.config import Settings
from nexus.db.migrations import alembic_config
from tests.conftest import settings_for
from tests.migrations.conftest import HEAD

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def client(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_app(settings), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://nexus") as http:
        yield http


@asynccontextmanager
async def deaf_server() -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """A peer that accepts connections and never says a word: what a frozen one looks like."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], writers
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def checks_of(settings: Settings) -> tuple[int, dict[str, dict[str, str]]]:
    async with client(settings) as http, asyncio.timeout(20):
        response = await http.get("/ready")
    body = response.json()
    return response.status_code, (body.get("data") or body["error"])["checks"]


async def test_ready_names_every_part(settings: Settings, migrated_db: URL) -> None:
    status, checks = await checks_of(settings_for(settings, migrated_db))
    assert status == 200
    assert checks == {
        "postgres": {"status": "ok", "detail": "ok"},
        "schema": {"status": "ok", "detail": f"revision {HEAD}, wanted {HEAD}"},
        "redis": {"status": "ok", "detail": "ok"},
    }


async def test_a_database_that_was_never_migrated(settings: Settings, fresh_db: URL) -> None:
    status, checks = await checks_of(settings_for(settings, fresh_db))
    assert status == 503
    assert checks["postgres"]["status"] == "ok"
    assert checks["schema"] == {"status": "failed", "detail": f"revision none, wanted {HEAD}"}


async def test_a_database_that_is_behind(settings: Settings, migrated_db: URL) -> None:
    await asyncio.to_thread(command.downgrade, alembic_config(migrated_db, 10), "0001")
    status, checks = await checks_of(settings_for(settings, migrated_db))
    assert status == 503
    assert checks["schema"]["detail"] == f"revision 0001, wanted {HEAD}"


async def test_postgres_that_refuses_connections(settings: Settings, migrated_db: URL) -> None:
    status, checks = await checks_of(settings_for(settings, migrated_db.set(host="127.0.0.1", port=1)))
    assert status == 503
    assert checks["postgres"] == {"status": "failed", "detail": "refused the connection"}
    assert checks["schema"]["status"] == "failed"
    assert checks["redis"]["status"] == "ok"


async def test_postgres_that_refuses_our_password(settings: Settings, migrated_db: URL) -> None:
    status, checks = await checks_of(settings_for(settings, migrated_db.set(password="wrong")))  # noqa: S106
    assert status == 503
    assert checks["postgres"]["detail"] == "refused our password"


async def test_redis_that_refuses_connections(settings: Settings, migrated_db: URL) -> None:
    away = settings_for(settings, migrated_db, REDIS_URL="redis://127.0.0.1:1/0")
    status, checks = await checks_of(away)
    assert status == 503
    assert checks["redis"] == {"status": "failed", "detail": "is out of reach"}
    assert checks["postgres"]["status"] == "ok"


async def test_frozen_peers_are_named_within_the_bound(settings: Settings, migrated_db: URL) -> None:
    async with deaf_server() as (port, _):
        frozen = settings_for(
            settings,
            migrated_db.set(host="127.0.0.1", port=port),
            REDIS_URL=f"redis://127.0.0.1:{port}/0",
            READY_TIMEOUT_SECONDS=0.2,
        )
        status, checks = await checks_of(frozen)
    assert status == 503
    assert checks["postgres"]["detail"] == "no answer within 0.2 s"
    assert checks["redis"]["status"] == "failed"


async def test_a_flood_of_ready_is_one_connection(settings: Settings, migrated_db: URL) -> None:
    async with deaf_server() as (port, connections):
        frozen = settings_for(
            settings, migrated_db.set(host="127.0.0.1", port=port), READY_TIMEOUT_SECONDS=0.5
        )
        async with client(frozen) as http:
            answers = await asyncio.gather(*(http.get("/ready") for _ in range(200)))
        assert {answer.status_code for answer in answers} == {503}
        assert len(connections) == 1


async def test_it_recovers_by_itself(settings: Settings, migrated_db: URL) -> None:
    app_settings = settings_for(settings, migrated_db)
    await asyncio.to_thread(command.downgrade, alembic_config(migrated_db, 10), "0001")
    async with client(app_settings) as http:
        assert (await http.get("/ready")).status_code == 503
        await asyncio.to_thread(command.upgrade, alembic_config(migrated_db, 10), "head")
        async with asyncio.timeout(10):
            while (await http.get("/ready")).status_code != 200:
                await asyncio.sleep(0.1)


async def test_the_message_names_no_host_user_or_secret(settings: Settings, migrated_db: URL) -> None:
    away = settings_for(
        settings,
        migrated_db.set(host="127.0.0.1", port=1, username="hidden", password="hunter2"),  # noqa: S106
    )
    async with client(away) as http:
        text = (await http.get("/ready")).text
    assert "E_UNAVAILABLE" in text
    for secret in ("127.0.0.1", "hidden", "hunter2", str(migrated_db.database)):
        assert secret not in text


async def test_health_asks_nobody(settings: Settings, migrated_db: URL) -> None:
    nobody = settings_for(
        settings, migrated_db.set(host="127.0.0.1", port=1), REDIS_URL="redis://127.0.0.1:1/0"
    )
    async with client(nobody) as http:
        response = await http.get("/health")
    assert (response.status_code, response.json()) == (200, {"data": {"status": "ok"}})
