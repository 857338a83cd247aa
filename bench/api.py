"""`make bench-api`: how fast the API answers, against a plain application and Postgres alone, in one run.

It runs on a copy of this tree, as a project of its own, and needs no stack of yours to be down. The three are
measured in turn, so that a change of the machine's mood meets them all. They share its cores with who asks
them. A target that is missed is a row that says so, not an exit code: docs/benchmarks.md tells why.
"""

import json
from datetime import datetime
from typing import Any, NamedTuple

import httpx2

from bench import overhead
from bench.dataset import Dataset, fill, psql, script_of
from bench.drivers import Application, Sample, median, pgbench
from bench.project import Project, end_on_signals, say, temporary_project
from bench.report import Row, machine, publish
from nexus.media import LIBRARY_MEDIA_READ, MEDIA_READ
from nexus.viewers import VIEWER_READ

#: Of everything that is measured, the median counts.
ROUNDS = 3
#: Of each measurement, and of what comes before the first one.
SECONDS, WARM_UP = 5, 2
ROWS = 100


class Route(NamedTuple):
    """A request that is measured, and how far the product should be ahead of the reference there."""

    name: str
    path: str
    #: The product's read of this route, for pgbench.
    script: str
    #: Requests per second, at least so many times the reference's.
    rate: float
    #: CPU per request, at most this part of the reference's.
    cpu: float | None = None
    #: Requests per second, at least this part of pgbench's. Rows found by their key have no such target: for
    #: them Postgres takes less than HTTP and a log line alone (docs/benchmarks.md).
    of_postgres: float | None = None


#: For every route: p99, at most this part of the reference's.
P99 = 0.5


def routes(data: Dataset) -> list[Route]:
    ids = {"viewer": data.viewer, "library": data.library, "media": data.media}
    listing = script_of(LIBRARY_MEDIA_READ, **ids, limit=ROWS)
    return [
        Route(
            f"GET /libraries/{{id}}/media, {ROWS} rows",
            f"/libraries/{data.library}/media",
            listing,
            rate=4,
            cpu=0.25,
            of_postgres=0.35,
        ),
        Route("GET /me", "/me", script_of(VIEWER_READ, **ids), rate=3),
        Route("GET /media/{id}", f"/media/{data.media}", script_of(MEDIA_READ, **ids), rate=3),
    ]


def _answer(project: Project, service: str, path: str, headers: dict[str, str]) -> str:
    address = project.compose("port", service, "8000").strip()
    answer = httpx2.get(f"http://{address}{path}", headers=headers, timeout=10, trust_env=False)
    return answer.raise_for_status().text


def _times(item: dict[str, Any]) -> dict[str, Any]:
    """One moment can be written in several ways."""
    return {
        name: datetime.fromisoformat(value) if name.endswith("_at") else value for name, value in item.items()
    }


def check(project: Project, route: Route, headers: dict[str, str]) -> None:
    """All three must do the same, or the figures compare nothing."""
    product, reference = (_answer(project, each, route.path, headers) for each in ("api", "reference"))
    data = json.loads(product, object_hook=_times)["data"]
    if json.loads(reference, object_hook=_times) != {"data": data}:
        raise SystemExit(f"nexus: {route.name}: the reference answers something else than the product")
    if isinstance(data, list) and len(data) != ROWS:
        raise SystemExit(f"nexus: {route.name}: {len(data)} rows instead of {ROWS}")
    found = product.removeprefix('{"data":').removesuffix("}")
    # The first column: the viewer is complete.
    if psql(project, route.script) != f"t|{found}\n":
        raise SystemExit(f"nexus: {route.name}: the statement finds something else than the product")


class Figures(NamedTuple):
    product: Sample
    reference: Sample
    postgres: Sample


def measure(project: Project, route: Route, product: Application, reference: Application) -> Figures:
    def once(seconds: int) -> Figures:
        return Figures(
            product.ask(route.path, seconds),
            reference.ask(route.path, seconds),
            pgbench(project, route.script, seconds),
        )

    say(f"measuring {route.name}")
    once(WARM_UP)
    rounds = [once(SECONDS) for _ in range(ROUNDS)]
    return Figures(*(median(samples) for samples in zip(*rounds, strict=True)))


def absolute(route: Route, figures: Figures) -> list[Row]:
    rows = []
    for who, sample in (("product", figures.product), ("reference", figures.reference)):
        rows += [
            Row(f"{route.name}: {who}", sample.rate, "requests/s"),
            Row(f"{route.name}: {who}, p99", sample.p99, "ms"),
            Row(f"{route.name}: {who}, CPU per request", sample.cpu, "ms"),
        ]
    return [*rows, Row(f"{route.name}: pgbench, the product's statement", figures.postgres.rate, "times/s")]


def relative(route: Route, figures: Figures) -> list[Row]:
    product, reference, postgres = figures
    title = f"{route.name}: product against"
    return [
        Row(
            f"{title} reference, requests/s",
            product.rate / reference.rate,
            "times",
            route.rate,
            at_least=True,
        ),
        Row(f"{title} reference, p99", product.p99 / reference.p99, "times", P99),
        Row(f"{title} reference, CPU per request", product.cpu / reference.cpu, "times", route.cpu),
        Row(
            f"{title} pgbench, requests/s",
            product.rate / postgres.rate,
            "times",
            route.of_postgres,
            at_least=True,
        ),
    ]


def main() -> None:
    end_on_signals()
    where = machine()
    with temporary_project("nexus-bench-api", "bench/compose.yml") as project:
        say("building and starting product, the same without counting, reference, wrk and pgbench")
        project.compose("up", "--detach", "--wait", "api", "reference", "uncounted", "load", "pgbench")
        say("filling the database")
        data = fill(project)
        wanted = routes(data)
        for route in wanted:
            check(project, route, data.headers)
        product, reference = (Application(project, each, data.headers) for each in ("api", "reference"))
        figures = [(route, measure(project, route, product, reference)) for route in wanted]
        cost = overhead.measure(project, "/me", data.headers)
    rows = [row for each in figures for row in absolute(*each)]
    publish("api", rows + [row for each in figures for row in relative(*each)] + cost, where)


if __name__ == "__main__":
    main()
