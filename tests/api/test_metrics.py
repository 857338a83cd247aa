"""GET /metrics as Prometheus sees it: gunicorn with three processes, each of which may answer."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import httpx2
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from nexus.api import metrics
from nexus.api.app import create_app
from nexus.config import Settings
from tests.api.conftest import Api, running_api
from tests.api.scrape import Scrape, read, scrape, settled
from tests.conftest import scratch_database, settings_for
from tests.waiting import wait_until

PROCESSES = 3
REQUESTS, SECONDS = "nexus_http_requests_total", "nexus_http_request_duration_seconds"
IN_USE, LIMIT = "nexus_database_connections_in_use", "nexus_database_connections_limit"


@pytest.fixture(scope="module")
def database(settings: Settings, template_url: URL) -> Iterator[URL]:
    with scratch_database(settings, template=str(template_url.database)) as url:
        yield url


@pytest.fixture(scope="module")
def api(
    settings: Settings, database: URL, own_broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """One that only this module asks, and that sees nobody else's workers."""
    changes = {"API_WORKERS": PROCESSES, "LOG_FORMAT": "json", "CELERY_BROKER_URL": own_broker}
    # What is there answers, however long this machine stands still.
    own = settings_for(settings, database, READY_TIMEOUT_SECONDS=20, **changes)
    with running_api(own, tmp_path_factory.mktemp("counting")) as running:
        await_processes(running)
        yield running


def await_processes(api: Api) -> None:
    wait_until(
        "all processes are there", lambda: scrape(api).value("nexus_api_processes") == PROCESSES, seconds=30
    )


@contextmanager
def locked(url: URL, mode: str = "ACCESS EXCLUSIVE") -> Iterator[None]:
    """Whoever reads or writes libraries waits for Postgres; in mode SHARE only who writes."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"LOCK TABLE libraries IN {mode} MODE"))
            yield
    finally:
        engine.dispose()


@contextmanager
def constrained(url: URL) -> Iterator[None]:
    """Postgres refuses a name for a reason that the code knows nothing of."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text("ALTER TABLE libraries ADD CONSTRAINT c CHECK (name !~ 'bad') NOT VALID"))
            yield
            connection.execute(text("ALTER TABLE libraries DROP CONSTRAINT c"))
    finally:
        engine.dispose()


def send(api: Api, request: bytes) -> bytes:
    """Over a connection of its own: any process may answer."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as raw:
        raw.sendall(request)
        with raw.makefile("rb") as stream:
            return stream.read()


def ask(api: Api, method: str, path: str, headers: dict[str, str]) -> int:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n{lines}\r\n"
    return int(send(api, head.encode()).split()[1])


@pytest.mark.parametrize("headers", [{}, {"X-Nexus-Internal": "wrong"}, {"X-Nexus-Internal": ""}])
def test_it_asks_for_the_internal_header(headers: dict[str, str], api: Api) -> None:
    answer = httpx2.get(f"{api.url}/metrics", headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "E_INTERNAL_ONLY")
    assert "nexus_" not in answer.text


@pytest.mark.parametrize("more", [{}, {"Authorization": "Bearer nonsense"}])
def test_it_asks_for_no_token(more: dict[str, str], api: Api) -> None:
    answer = httpx2.get(f"{api.url}/metrics", headers=api.internal | more, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("path", ["/metrics/", "/metrics/x", "//metrics", "/METRICS", "/me?/metrics"])
def test_only_this_very_path_goes_without_a_token(path: str, api: Api) -> None:
    assert ask(api, "GET", path, api.internal) == 401


def test_each_answer_is_counted_once_by_route_method_and_status(api: Api) -> None:
    headers = api.headers(uuid4())
    asked = [
        ("GET", "/me", headers, "/me", 200),
        ("GET", "/health", {}, "/health", 200),
        ("GET", f"/media/{uuid4()}", headers, "/media/{media_id}", 404),
        ("GET", "/media/x", headers, "/media/{media_id}", 400),
        ("POST", "/me", headers, "/me", 405),
        ("PROPFIND", "/me", headers, "/me", 405),
        ("GET", "/nothing", headers, "none", 404),
        ("GET", "/me", api.internal, "none", 401),
        ("GET", "/me", {}, "none", 403),
    ]
    before = settled(api)
    for method, path, sent, _, status in asked * 7:
        assert ask(api, method, path, sent) == status
    after = settled(api, before.answered() + 7 * len(asked))
    for method, _, _, route, status in asked:
        labels = {
            "method": "other" if method == "PROPFIND" else method,
            "route": route,
            "status": str(status),
        }
        assert after.since(before, REQUESTS, **labels) == 7, labels
    for each in after.labels(REQUESTS):
        if each["method"] != "none":
            both = {"route": each["route"], "method": each["method"]}
            assert after.value(f"{SECONDS}_count", **both) == after.value(REQUESTS, **both)


def test_every_process_counts_and_any_tells_it_all(api: Api) -> None:
    """The processes share what connects at the same time."""
    before = settled(api)
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(lambda _: ask(api, "GET", "/health", {}), range(600))) == {200}
        settled(api, before.answered() + 600)
        told = set(threads.map(lambda _: scrape(api).value(REQUESTS, route="/health"), range(30)))
    assert told == {before.value(REQUESTS, route="/health") + 600}


def test_errors_of_the_server_are_counted(api: Api, database: URL) -> None:
    viewer = api.user()
    assert viewer.default
    before = settled(api)
    with constrained(database):
        assert viewer.http.post("/libraries", json={"name": "bad"}).status_code == 500
    with locked(database):
        assert viewer.http.get("/libraries").status_code == 503
    after = settled(api, before.answered() + 2)
    assert after.since(before, REQUESTS, method="POST", route="/libraries", status="500") == 1
    asked = {"method": "GET", "route": "/libraries"}
    assert after.since(before, REQUESTS, status="503", **asked) == 1
    # It waited until Postgres ended its statement, after 5 s.
    assert after.since(before, f"{SECONDS}_bucket", le="2.5", **asked) == 0
    assert after.since(before, f"{SECONDS}_bucket", le="10.0", **asked) == 1
    assert 4 < after.since(before, f"{SECONDS}_sum", **asked) < 10


def test_what_is_no_http_is_counted(api: Api) -> None:
    before = settled(api)
    for garbage in (b"no http\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
        assert send(api, garbage).startswith(b"HTTP/1.1 400")
    after = settled(api, before.answered() + 3)
    assert after.since(before, REQUESTS, method="none", route="none", status="400") == 3


def test_nobody_can_make_series(api: Api, settings: Settings) -> None:
    """There are as many as there are routes, however many paths and methods are tried, by whomever."""
    headers = [{}, api.internal, api.headers(uuid4())]
    methods = ["GET", "TRACE", "PROPFIND", "MKCOL", "PURGE", "REPORT", "SEARCH", "M-SEARCH", "LINK", "LOCK"]

    def ask_around() -> Scrape:
        before = settled(api).answered()
        for method in methods:
            for sent in headers:
                for path in (f"/{uuid4()}", f"/libraries/{uuid4()}/{uuid4()}", f"/media/{uuid4()}"):
                    ask(api, method, f"{path}?{uuid4()}", sent)
        return settled(api, before + len(methods) * len(headers) * 3)

    first = ask_around()
    for _ in range(3):
        last = ask_around()
    assert set(last.values()) == set(first.values())
    labels = last.labels(REQUESTS)
    assert {each["method"] for each in labels} <= metrics.METHODS | {"other", "none"}
    templates = {str(route.path) for route in iter_route_contexts(create_app(settings).routes)}
    assert {each["route"] for each in labels} <= templates | {"none"}


@pytest.mark.parametrize(("mode", "pool"), [("ACCESS EXCLUSIVE", "reads"), ("SHARE", "writes")])
def test_connections_in_use_are_told_by_whoever_is_asked(
    mode: str, pool: str, api: Api, database: URL
) -> None:
    """A write reads who the viewer is before it begins, so it waits as a read where nobody may read."""
    viewer = api.user()
    assert viewer.default
    # As many as one process can have at work, should it get them all.
    clients = [api.client(api.headers(viewer.id)) for _ in range(api.settings.API_POOL_SIZE)]
    # One connection, so it is always the same process that is asked.
    scraper = api.client(api.internal)

    def at_work() -> dict[str, float]:
        found = read(scraper.get("/metrics").text)
        pools = {pool: found.value(IN_USE, pool=pool) for pool in ("reads", "writes")}
        return pools | {"requests": found.value("nexus_http_requests_in_progress")}

    idle = {"reads": 0, "writes": 0, "requests": 0}
    with ThreadPoolExecutor(len(clients)) as threads:
        with locked(database, mode):
            asked = [threads.submit(http.post, "/libraries", json={"name": "x"}) for http in clients]
            busy = idle | dict.fromkeys((pool, "requests"), len(clients))
            wait_until("all are seen", lambda: at_work() == busy, seconds=4)
        assert {each.result().status_code for each in asked} == {201}
    wait_until("nothing is at work any more", lambda: at_work() == idle, seconds=10)


def test_the_limit_is_that_of_all_processes(api: Api) -> None:
    found = scrape(api)
    limits = {pool: found.value(LIMIT, pool=pool) for pool in ("reads", "writes")}
    assert limits == dict.fromkeys(limits, api.settings.API_POOL_SIZE * PROCESSES)


def test_a_scrape_that_went_well_is_not_worth_a_line(api: Api) -> None:
    asked = {"well": api.internal, "refused": {}}
    for name, headers in asked.items():
        httpx2.get(f"{api.url}/metrics", headers=headers | {"X-Request-ID": name}, trust_env=False)
    wait_until("the line of the other", lambda: '"refused"' in api.log.read_text(), seconds=10)
    assert '"well"' not in api.log.read_text()
