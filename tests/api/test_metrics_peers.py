"""What /metrics tells of the peers and of the workers, and that a peer that is away holds up nobody."""

import asyncio
from collections.abc import Iterator

import pytest
import redis.asyncio
from alembic import command
from redis import Redis
from sqlalchemy.engine import URL

from nexus import __version__, beat
from nexus.api import metrics
from nexus.api.app import create_app
from nexus.config import Settings
from nexus.db.migrations import alembic_config
from tests.api.scrape import Scrape, read
from tests.api.test_probes import client, deaf_server
from tests.conftest import on_database, settings_for

pytestmark = pytest.mark.anyio


async def scrape_of(settings: Settings) -> Scrape:
    header = {"X-Nexus-Internal": settings.NEXUS_INTERNAL_SECRET.get_secret_value()}
    async with client(settings) as http, asyncio.timeout(20):
        answer = await http.get("/metrics", headers=header)
    assert answer.status_code == 200
    return read(answer.text)


def checks(found: Scrape) -> dict[str, float]:
    names = ("postgres", "schema", "redis")
    assert {labels["check"] for labels in found.labels("nexus_check_ok")} == set(names)
    return {name: found.value("nexus_check_ok", check=name) for name in names}


@pytest.fixture
def own(settings: Settings, migrated_db: URL, own_broker: str) -> Settings:
    # What is there answers, however long this machine stands still.
    return settings_for(settings, migrated_db, CELERY_BROKER_URL=own_broker, READY_TIMEOUT_SECONDS=20)


async def test_all_is_well(own: Settings) -> None:
    found = await scrape_of(own)
    assert checks(found) == {"postgres": 1, "schema": 1, "redis": 1}
    assert found.labels("nexus_schema_revision_info") == [{"found": "0002", "wanted": "0002"}]
    assert found.labels("nexus_build_info") == [{"version": __version__}]
    # One process alone would add these, several would not.
    assert "_created" not in found.text


async def test_a_database_that_is_behind(own: Settings, migrated_db: URL) -> None:
    await asyncio.to_thread(command.downgrade, alembic_config(migrated_db, 10), "0001")
    found = await scrape_of(own)
    assert checks(found) == {"postgres": 1, "schema": 0, "redis": 1}
    assert found.labels("nexus_schema_revision_info") == [{"found": "0001", "wanted": "0002"}]


async def test_postgres_is_away(own: Settings, migrated_db: URL) -> None:
    found = await scrape_of(settings_for(own, migrated_db.set(host="127.0.0.1", port=1)))
    assert checks(found) == {"postgres": 0, "schema": 0, "redis": 1}
    assert found.labels("nexus_schema_revision_info") == [{"found": "unknown", "wanted": "0002"}]
    assert found.value("nexus_database_connections_limit", pool="reads") == own.API_POOL_SIZE


async def test_redis_is_away(own: Settings, migrated_db: URL) -> None:
    away = "redis://127.0.0.1:1/0"
    found = await scrape_of(settings_for(own, migrated_db, REDIS_URL=away, CELERY_BROKER_URL=away))
    assert checks(found) == {"postgres": 1, "schema": 1, "redis": 0}
    assert workers(found) is None


async def test_frozen_peers_hold_up_a_scrape_no_longer_than_their_bound(
    own: Settings, migrated_db: URL
) -> None:
    async with deaf_server() as (port, _):
        deaf = f"redis://127.0.0.1:{port}/0"
        frozen = settings_for(
            own,
            migrated_db.set(host="127.0.0.1", port=port),
            REDIS_URL=deaf,
            CELERY_BROKER_URL=deaf,
            READY_TIMEOUT_SECONDS=0.2,
        )
        found = await scrape_of(frozen)
    assert checks(found) == {"postgres": 0, "schema": 0, "redis": 0}
    assert workers(found) is None
    assert found.labels("nexus_build_info")


async def test_whoever_ends_counts_what_nobody_was_told_yet(own: Settings) -> None:
    def counted() -> float:
        found = metrics._COUNTED.get_sample_value(  # noqa: SLF001  a scrape would wait until it is counted
            "nexus_http_requests_total", {"route": "/ending", "method": "GET", "status": "200"}
        )
        return found or 0

    app = create_app(own)
    async with app.router.lifespan_context(app):
        app.state.requests.begin()
        app.state.requests.end("/ending", "GET", 200, 0.1)
        assert counted() == 0
    assert counted() == 1


async def test_a_flood_of_scrapes_is_one_connection_to_each(own: Settings, migrated_db: URL) -> None:
    header = {"X-Nexus-Internal": own.NEXUS_INTERNAL_SECRET.get_secret_value()}
    async with deaf_server() as (port, connections):
        deaf = f"redis://127.0.0.1:{port}/0"
        frozen = settings_for(own, migrated_db, CELERY_BROKER_URL=deaf, READY_TIMEOUT_SECONDS=0.5)
        async with client(frozen) as http:
            answers = await asyncio.gather(*(http.get("/metrics", headers=header) for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(connections) == 1


def workers(found: Scrape) -> tuple[float, float | None] | None:
    """How many are alive, and the age of the oldest beat if there is one; None where nobody knows."""
    if not found.labels("nexus_workers"):
        assert not found.labels("nexus_worker_beat_age_seconds")
        return None
    age = "nexus_worker_beat_age_seconds"
    return found.value("nexus_workers"), found.value(age) if found.labels(age) else None


@pytest.fixture
def beats(own_broker: str) -> Iterator[list[Redis]]:
    """Connections as those of workers, which have just asked Redis something."""
    made = [Redis.from_url(own_broker, client_name=beat.CLIENT_NAME) for _ in range(2)]
    for each in made:
        each.ping()
    yield made
    for each in made:
        each.close()


async def test_no_worker_is_none(own: Settings) -> None:
    assert workers(await scrape_of(own)) == (0, None)


async def test_each_beat_is_a_worker(own: Settings, beats: list[Redis]) -> None:
    found = workers(await scrape_of(own))
    assert found is not None
    alive, age = found
    assert alive == 2
    assert age is not None
    assert 0 <= age <= beat.MAX_AGE
    for each in beats:
        each.close()
    assert workers(await scrape_of(own)) == (0, None)


async def test_a_worker_that_is_silent_is_none(
    own: Settings, beats: list[Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert beats
    monkeypatch.setattr(beat, "MAX_AGE", -1)
    found = workers(await scrape_of(own))
    assert found is not None
    alive, age = found
    assert alive == 0
    assert age is not None


async def test_others_are_no_workers(own: Settings, own_broker: str) -> None:
    """Another name; the name in another database, which is that of another Nexus."""
    others = [
        redis.asyncio.Redis.from_url(own_broker, client_name="somebody"),
        redis.asyncio.Redis.from_url(on_database(own_broker, 7), client_name=beat.CLIENT_NAME),
    ]
    for each in others:
        await each.ping()
    assert workers(await scrape_of(own)) == (0, None)
    for each in others:
        await each.aclose()
