"""What was counted outlives the process that counted it; what a process was at does not."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from nexus.config import Settings
from tests.api.conftest import Api, running_api
from tests.api.scrape import Scrape, get, scrape, settled
from tests.conftest import scratch_database, settings_for
from tests.waiting import wait_until

PROCESSES = 2
REQUESTS, STARTS = "nexus_http_requests_total", "nexus_api_process_starts_total"
#: What a client sees of a process that was killed.
GONE = (ConnectionError, HTTPException)


@pytest.fixture(scope="module")
def api(settings: Settings, template_url: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One for all of these tests: it must be well again after each."""
    with scratch_database(settings, template=str(template_url.database)) as url:
        own = settings_for(settings, url, API_WORKERS=PROCESSES)
        with running_api(own, tmp_path_factory.mktemp("processes")) as running:
            await_living(running)
            yield running


def await_living(api: Api, count: int = PROCESSES, *, starts: float = 0) -> None:
    """So many processes live, and so many at least have ever started."""

    def settled() -> bool:
        found = scrape(api)
        return found.value("nexus_api_processes") == count and found.value(STARTS) >= starts

    wait_until(f"{count} processes live", settled, seconds=30)


def processes(api: Api) -> list[int]:
    """Those that answer: gunicorn's children."""
    children = Path(f"/proc/{api.process.pid}/task/{api.process.pid}/children").read_text()
    return [int(each) for each in children.split()]


def folder_of(api: Api) -> Path:
    """Where the processes count: each has files in it open."""
    maps = Path(f"/proc/{processes(api)[0]}/maps").read_text()
    (folder,) = set(re.findall(r"(/dev/shm/nexus-metrics-\w+)/counter_\d+\.db", maps))
    return Path(folder)


def kept(api: Api) -> set[Path]:
    """What outlives the process that wrote it."""
    return {file for file in folder_of(api).iterdir() if not file.name.startswith("gauge")}


def work(api: Api, count: int = 40) -> None:
    """So many requests, shared by the processes."""
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda _: get(api, "/health"), range(count))
        assert {status for status, _ in answers} == {200}


def health(found: Scrape) -> float:
    return found.value(REQUESTS, route="/health", status="200")


def test_a_killed_process_takes_nothing_with_it_but_what_it_was_at(api: Api) -> None:
    viewer = api.user()
    assert viewer.default
    work(api)
    before, there = settled(api), kept(api)
    engine = create_engine(api.settings.database_url)
    with ThreadPoolExecutor(1) as threads, engine.begin() as connection:
        connection.execute(text("LOCK TABLE libraries IN SHARE MODE"))
        asked = threads.submit(viewer.http.post, "/libraries", json={"name": "x"})
        wait_until("it is at work", lambda: writes(api) == 1, seconds=4)
        for each in processes(api):
            os.kill(each, signal.SIGKILL)
        with pytest.raises(httpx2.TransportError):
            asked.result()
    engine.dispose()
    await_living(api, starts=before.value(STARTS) + PROCESSES)
    after = settled(api)
    assert after.value(STARTS) == before.value(STARTS) + PROCESSES
    assert (writes(api), after.value("nexus_http_requests_in_progress")) == (0, 0)
    assert before.backwards(after) == []
    assert health(after) == health(before)
    work(api)
    assert health(settled(api, after.answered() + 40)) == health(before) + 40
    assert kept(api) == there


def writes(api: Api) -> float:
    return scrape(api).value("nexus_database_connections_in_use", pool="writes")


def kill_one(api: Api) -> None:
    starts = scrape(api).value(STARTS)
    os.kill(processes(api)[0], signal.SIGKILL)
    await_living(api, starts=starts + 1)


def test_many_deaths_leave_no_more_files(api: Api) -> None:
    there = kept(api)
    for _ in range(5):
        kill_one(api)
    assert kept(api) == there


def test_a_process_less_is_a_process_less(api: Api) -> None:
    work(api)
    before = settled(api)
    api.process.send_signal(signal.SIGTTOU)
    await_living(api, PROCESSES - 1)
    found = scrape(api)
    assert found.value("nexus_database_connections_limit", pool="reads") == api.settings.API_POOL_SIZE
    assert health(found) == health(before)
    api.process.send_signal(signal.SIGTTIN)
    await_living(api)
    assert before.backwards(scrape(api)) == []


class Watch:
    """Asks and scrapes without a pause, and notes whatever goes backwards."""

    def __init__(self, api: Api) -> None:
        self.answered, self.scrapes = 0, 0
        self.backwards: list[str] = []
        self._api, self._done = api, threading.Event()

    def ask(self) -> None:
        while not self._done.is_set():
            with suppress(*GONE):
                status, _ = get(self._api, "/health")
                self.answered += status == 200

    def look(self) -> None:
        last = Scrape("", [])
        while not self._done.is_set():
            with suppress(*GONE):
                found = scrape(self._api)
                self.backwards += last.backwards(found)
                self.scrapes, last = self.scrapes + 1, found

    def await_more(self) -> None:
        """A scrape that began after this moment."""
        before = self.scrapes
        wait_until("it was scraped", lambda: self.scrapes >= before + 2, seconds=30)

    def end(self) -> None:
        self._done.set()


@contextmanager
def watched(api: Api) -> Iterator[Watch]:
    watch = Watch(api)
    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(watch.ask), threads.submit(watch.look)]
        try:
            yield watch
        finally:
            watch.end()
        for each in both:
            each.result()
    assert watch.backwards == []


def test_reloads_count_on(api: Api) -> None:
    """Old and new processes live side by side for a while."""
    before = settled(api)
    with watched(api) as watch:
        for _ in range(3):
            old = set(processes(api))
            api.process.send_signal(signal.SIGHUP)
            wait_until("the old ones have ended", partial(have_ended, api, old), seconds=30)
            watch.await_more()
    await_living(api, starts=before.value(STARTS) + 3 * PROCESSES)
    after = settled(api, before.answered() + watch.answered)
    assert after.value(STARTS) == before.value(STARTS) + 3 * PROCESSES
    assert health(after) == health(before) + watch.answered
    # Two for each of the old ones, and for each of the new ones.
    assert len(kept(api)) <= 2 * 2 * PROCESSES


def have_ended(api: Api, old: set[int]) -> bool:
    return not old & set(processes(api))


def test_nothing_goes_backwards_while_processes_are_killed(api: Api) -> None:
    with watched(api) as watch:
        for _ in range(5):
            kill_one(api)
            watch.await_more()


def test_nothing_is_left_when_it_ends(settings: Settings, migrated_db: URL, tmp_path: Path) -> None:
    with running_api(settings_for(settings, migrated_db), tmp_path) as api:
        await_living(api, api.settings.API_WORKERS)
        folder = folder_of(api)
        assert folder.exists()
    assert not folder.exists()
