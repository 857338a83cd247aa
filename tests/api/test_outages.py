"""Postgres is away, frozen or slow: 503 with the right code within the bound, recovery without a restart."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.engine import URL

from nexus.config import Settings
from nexus.db.models import Library
from tests.api.conftest import Api, Viewer, data, failure, running_api
from tests.api.test_concurrency import at_once
from tests.conftest import settings_for
from tests.migrations.conftest import downgrade
from tests.proxy import Proxy, proxy_to
from tests.waiting import wait_until

UNAVAILABLE = (503, "E_UNAVAILABLE")
#: What the API of this file may take for a request, seconds; and what we allow a busy machine on top.
BOUND, SLACK = 2.0, 8.0


class Cuttable(NamedTuple):
    api: Api
    proxy: Proxy


@pytest.fixture(scope="module")
def cuttable(
    settings: Settings, api_database: URL, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cuttable]:
    """An API whose way to Postgres can be cut."""
    with proxy_to(str(api_database.host), api_database.port or 5432) as proxy:
        away = api_database.set(host="127.0.0.1", port=proxy.port)
        own = settings_for(settings, away, API_REQUEST_TIMEOUT_SECONDS=BOUND, LOG_FORMAT="json")
        with running_api(own, tmp_path_factory.mktemp("cuttable")) as api:
            yield Cuttable(api, proxy)
            proxy.heal()


def every_kind(viewer: Viewer, media: UUID) -> dict[str, httpx2.Response]:
    http = viewer.http
    return {
        "read": http.get("/me"),
        "list": http.get(f"/libraries/{uuid4()}/media"),
        "write": http.post("/libraries", json={"name": "x"}),
        "add": http.post(f"/libraries/{uuid4()}/media", json={"media_id": str(media)}),
    }


def await_works(*viewers: Viewer) -> None:
    """The bound is short, and the machine may be busy."""
    for viewer in viewers:
        wait_until("the API works", partial(works, viewer), seconds=5 + SLACK)


def works(viewer: Viewer) -> bool:
    read = viewer.http.get("/me").status_code
    written = viewer.http.post("/libraries", json={"name": "x"}).status_code
    return (read, written) == (200, 201)


@pytest.mark.parametrize("harm", ["cut", "freeze"])
@pytest.mark.parametrize("connected", [True, False])
def test_away_and_back(harm: str, connected: bool, cuttable: Cuttable) -> None:
    viewer, media = cuttable.api.user(), uuid4()
    viewer.http.timeout = httpx2.Timeout(BOUND + SLACK)
    if connected:
        await_works(viewer)
    else:
        cuttable.proxy.cut()
        cuttable.proxy.heal()
    getattr(cuttable.proxy, harm)()
    try:
        answers = every_kind(viewer, media)
        assert {kind: failure(answer) for kind, answer in answers.items()} == dict.fromkeys(
            answers, UNAVAILABLE
        )
        assert viewer.http.get("/health").status_code == 200
    finally:
        cuttable.proxy.heal()
    await_works(viewer)


def test_one_cut_between_two_requests_is_not_noticed_by_reads(cuttable: Cuttable) -> None:
    """Idle connections are known to be dead before anybody uses them, or are tried once more."""
    viewer = cuttable.api.user()
    await_works(viewer)
    for _ in range(10):
        cuttable.proxy.cut()
        cuttable.proxy.heal()
        assert viewer.http.get("/me").status_code == 200


def test_a_flood_while_postgres_is_frozen_neither_hangs_nor_breaks_the_pool(cuttable: Cuttable) -> None:
    viewers = [cuttable.api.user() for _ in range(40)]
    await_works(viewers[0])
    cuttable.proxy.freeze()
    try:
        calls: list[Callable[[], httpx2.Response]] = []
        for viewer in viewers:
            calls.append(partial(viewer.http.get, "/me"))
            calls.append(partial(viewer.http.post, "/libraries", json={"name": "x"}))
        assert {failure(answer) for answer in at_once(calls)} == {UNAVAILABLE}
    finally:
        cuttable.proxy.heal()
    await_works(*viewers)


def test_writes_that_hang_are_answered_and_hold_up_nobody_afterwards(
    cuttable: Cuttable, rows: Engine
) -> None:
    """More of them than there are threads: somebody else holds the library that they all want to rename."""
    viewer = cuttable.api.user()
    library = viewer.new_library()
    twins = [cuttable.api.user(viewer.id) for _ in range(20)]
    with rows.connect() as other, other.begin():
        other.execute(select(Library.id).where(Library.id == UUID(library)).with_for_update())
        rename = {"name": "Renamed"}
        answers = at_once([partial(twin.http.patch, f"/libraries/{library}", json=rename) for twin in twins])
        assert {failure(answer) for answer in answers} == {UNAVAILABLE}
        assert any("not known" in answer.json()["error"]["message"] for answer in answers)
        assert failure(viewer.http.delete(f"/libraries/{library}")) == UNAVAILABLE
        assert viewer.http.get("/me").status_code == 200, "reads have connections of their own"
    await_works(viewer)


def test_a_slow_statement_is_ended_by_postgres_and_its_connection_lives_on(
    api: Api, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    viewer, media = api.user(), new_media()
    viewer.add(viewer.default, media)
    with rows.connect() as other, other.begin():
        other.execute(text("LOCK TABLE fragments IN ACCESS EXCLUSIVE MODE"))
        slow = viewer.http.get(f"/media/{media}/fragments")
        assert failure(slow) == UNAVAILABLE
        assert data(viewer.http.get("/me")), "whoever does not need that table is served"
    assert data(viewer.http.get(f"/media/{media}/fragments")) == []


def test_a_backend_that_is_terminated_costs_nobody_a_restart(api: Api, rows: Engine) -> None:
    viewer = api.user()
    await_works(viewer)
    with rows.connect() as other:
        terminate = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'nexus-api' AND datname = current_database()"
        )
        assert other.execute(terminate).scalar_one() > 0
    wait_until("the API works again", lambda: works(viewer), seconds=SLACK)


def test_the_log_says_why_and_tells_no_password(cuttable: Cuttable, settings: Settings) -> None:
    viewer = cuttable.api.user()
    cuttable.proxy.cut()
    try:
        answer = viewer.http.get("/me")
    finally:
        cuttable.proxy.heal()
    assert failure(answer) == UNAVAILABLE
    request_id = answer.headers["x-request-id"]
    lines = [line for line in cuttable.api.lines() if request_id in line]
    assert any("Postgres is away" in line for line in lines)
    assert str(settings.database_url.password) not in answer.text


def test_no_postgres_at_all(settings: Settings, api_database: URL, tmp_path: Path) -> None:
    """It starts, says so, and needs no restart when Postgres comes."""
    with proxy_to(str(api_database.host), api_database.port or 5432) as proxy:
        proxy.cut()
        own = settings_for(settings, api_database.set(host="127.0.0.1", port=proxy.port))
        with running_api(own, tmp_path) as api:
            viewer = api.user()
            assert failure(viewer.http.get("/me")) == UNAVAILABLE
            proxy.heal()
            wait_until("it works", lambda: works(viewer), seconds=SLACK)


def test_a_schema_that_is_taken_away_from_a_running_api(
    settings: Settings, migrated_db: URL, tmp_path: Path
) -> None:
    with running_api(settings_for(settings, migrated_db), tmp_path) as api:
        downgrade(migrated_db, "base")
        viewer = api.user()
        assert failure(viewer.http.get("/me")) == (500, "E_INTERNAL")
        assert "UndefinedTable" in "\n".join(api.lines())
