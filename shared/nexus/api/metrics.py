"""GET /metrics: what operators watch; docs/metrics.md has the list.

What happens is counted by each process, where all of them see it (nexus/api/processes.py); a moment later and
together, since one by one, between other work, it costs three times as much. What a process is at, it notes
every second. The rest is asked when somebody scrapes, by the process that answers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import NamedTuple

import prometheus_client
from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from nexus import __version__
from nexus.api.processes import is_shared, shared_folder
from nexus.db.database import Database
from nexus.health import Part, Probe

#: Route, method, status, seconds: as `Requests.end` is told.
_Ended = tuple[str | None, str, int | None, float]
#: Route, method, status.
_Key = tuple[str | None, str, int | None]

METRICS_PATH = "/metrics"
#: Seconds after which a request that ended is counted. Whoever kills a process takes so much of its counts.
COUNT_INTERVAL = 0.05
#: Seconds between two notes of what a process is at.
NOTE_INTERVAL = 1.0
#: Upper bounds, seconds; a request is given up after 10 (API_REQUEST_TIMEOUT_SECONDS).
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: The methods that have a name of their own; what else HTTP has, or somebody makes up, is "other".
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Where no route was reached, no method understood, no answer given.
NONE = "none"

router = APIRouter(include_in_schema=False)

# The time at which each series began would be a series more for each, and several processes have several.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]

_COUNTED = CollectorRegistry()
_REQUESTS = Counter(
    "nexus_http_requests_total", "Answered requests", ["route", "method", "status"], registry=_COUNTED
)
_SECONDS = Histogram(
    "nexus_http_request_duration_seconds",
    "Time from the head of a request to the end of its answer",
    ["route", "method"],
    buckets=BUCKETS,
    registry=_COUNTED,
)


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    """The sum over the living processes."""
    return Gauge(name, meaning, labels, multiprocess_mode="livesum", registry=_COUNTED)


_IN_USE = _gauge("nexus_database_connections_in_use", "Connections to Postgres at work", "pool")
_LIMIT = _gauge("nexus_database_connections_limit", "Connections to Postgres at most", "pool")


class _Process(NamedTuple):
    starts: Counter
    living: Gauge
    in_progress: Gauge


@cache
def _process() -> _Process:
    """What has no label, for which the library opens its files at once: this process must have a slot."""
    return _Process(
        Counter("nexus_api_process_starts_total", "Processes started", registry=_COUNTED),
        _gauge("nexus_api_processes", "Processes that live"),
        _gauge("nexus_http_requests_in_progress", "Requests that are not answered yet"),
    )


class Requests:
    """The requests of this process. Made for one event loop."""

    def __init__(self) -> None:
        self._in_progress = 0
        self._ended: list[_Ended] = []
        # To look up a series costs the library more than to count.
        self._series: dict[_Key, tuple[Callable[[], None], Callable[[float], None]]] = {}

    @property
    def in_progress(self) -> int:
        return self._in_progress

    def begin(self) -> None:
        self._in_progress += 1

    def end(self, route: str | None, method: str, status: int | None, seconds: float) -> None:
        """
        Args:
            route: its template, never the path that somebody typed; None where none was reached.
            method: whatever the client said.
            status: None where the client left before it was answered.
            seconds: from `begin` to here.
        """
        self._in_progress -= 1
        if not self._ended:
            asyncio.get_running_loop().call_later(COUNT_INTERVAL, self.count)
        self._ended.append((route, method, status, seconds))

    def count(self) -> None:
        """Counts those that have ended and are not counted yet."""
        ended, self._ended = self._ended, []
        for route, method, status, seconds in ended:
            key = (route, method if method in METHODS else "other", status)
            count, observe = self._series.get(key) or self._series_of(key)
            count()
            observe(seconds)

    def _series_of(self, key: _Key) -> tuple[Callable[[], None], Callable[[float], None]]:
        route, method, status = key
        requests = _REQUESTS.labels(route or NONE, method, status or NONE)
        durations = _SECONDS.labels(route or NONE, method)
        series = self._series[key] = requests.inc, durations.observe
        return series


def count_malformed() -> None:
    """What was answered with 400 because it is no HTTP."""
    _REQUESTS.labels(NONE, NONE, 400).inc()


@asynccontextmanager
async def noting(requests: Requests, database: Database) -> AsyncIterator[None]:
    """Notes what this process is at, as long as the context lasts."""

    async def note_for_ever() -> None:
        while True:
            note(requests.in_progress, database)
            await asyncio.sleep(NOTE_INTERVAL)

    _process().starts.inc()
    task = asyncio.create_task(note_for_ever())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        requests.count()


def note(in_progress: int, database: Database) -> None:
    """What this process is at, for whoever is asked before it notes it again."""
    _process().living.set(1)
    _process().in_progress.set(in_progress)
    for name, pool in database.pools().items():
        _IN_USE.labels(name).set(pool.in_use)
        _LIMIT.labels(name).set(pool.size)


class Scraper:
    """Tells what is counted, and asks for what is not.

    Args:
        requests, database: of this process.
        probes: those of /ready, and that of the workers.
        wanted: the revision that this code is written for.
    """

    def __init__(self, requests: Requests, database: Database, probes: list[Probe], wanted: str) -> None:
        self._requests, self._database, self._probes, self._wanted = requests, database, probes, wanted

    async def scrape(self) -> bytes:
        """All of it as text. Takes COUNT_INTERVAL twice and as long as the slowest check, a bounded time."""
        # Until whatever ended before is counted, by the others too.
        await asyncio.sleep(2 * COUNT_INTERVAL)
        found = await asyncio.gather(*(probe() for probe in self._probes))
        parts = {part.name: part for each in found for part in each}
        # This process's own, as of now, but for this very request.
        note(self._requests.in_progress - 1, self._database)
        return generate_latest(_Families([*_counted(), *self._asked(parts)]))

    def _asked(self, parts: dict[str, Part]) -> Iterator[Metric]:
        yield InfoMetricFamily("nexus_build", "The version of this code", value={"version": __version__})
        workers = parts.pop("workers").facts
        revisions = {"found": str(parts["schema"].facts.get("found", "unknown")), "wanted": self._wanted}
        yield InfoMetricFamily("nexus_schema_revision", "The revision of the database", value=revisions)
        checks = GaugeMetricFamily("nexus_check_ok", "Whether a check of /ready passes", labels=["check"])
        for name, part in parts.items():
            checks.add_metric([name], part.ok)
        yield checks
        # Left out where Redis does not tell: that is not the same as none.
        if "alive" in workers:
            yield GaugeMetricFamily("nexus_workers", "Workers that consume", value=float(workers["alive"]))
        if "age" in workers:
            age = "nexus_worker_beat_age_seconds"
            yield GaugeMetricFamily(
                age, "Time since the oldest beat of a worker", value=float(workers["age"])
            )


def _counted() -> Iterable[Metric]:
    """What this process has counted, and the others that share with it."""
    if not is_shared():
        return _COUNTED.collect()
    collector: Collector = MultiProcessCollector(None, shared_folder())  # type: ignore[no-untyped-call]
    return collector.collect()


class _Families:
    """What the library can write down, in the order of the names."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return sorted(self._families, key=lambda family: family.name)


@router.get(METRICS_PATH)
async def metrics(request: Request) -> Response:
    """What Prometheus scrapes."""
    scraper: Scraper = request.app.state.scraper
    return Response(await scraper.scrape(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
