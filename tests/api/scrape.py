"""What /metrics shows, read by the library's own parser."""

from contextlib import closing
from http.client import HTTPConnection
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import Api
from tests.waiting import wait_until

#: Name and labels: what Prometheus keeps as one series.
Series = tuple[str, frozenset[tuple[str, str]]]


class Scrape(NamedTuple):
    text: str
    families: list[Metric]

    def values(self) -> dict[Series, float]:
        found = [
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in self.families
            for sample in family.samples
        ]
        assert len(found) == len(dict(found)), "a series stands there twice"
        return dict(found)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels; what was never counted is 0."""
        return sum(
            value
            for (found, having), value in self.values().items()
            if found == name and labels.items() <= having
        )

    def since(self, before: "Scrape", name: str, **labels: str) -> float:
        return self.value(name, **labels) - before.value(name, **labels)

    def labels(self, name: str) -> list[dict[str, str]]:
        """Those of each sample of this name."""
        return [dict(having) for found, having in self.values() if found == name]

    def answered(self) -> float:
        """All requests that were counted, but for scrapes."""
        name = "nexus_http_requests_total"
        return self.value(name) - self.value(name, route="/metrics")

    def backwards(self, later: "Scrape") -> list[str]:
        """Every series that may never become less, and did, or is gone."""
        counted = [family for family in self.families if family.type in {"counter", "histogram"}]
        after = later.values()
        return [
            f"{series}: {value}, then {after.get(series)}"
            for series, value in Scrape("", counted).values().items()
            if after.get(series, -1) < value
        ]


def read(page: str) -> Scrape:
    return Scrape(page, list(text_string_to_metric_families(page)))


def get(api: Api, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body, over a connection of its own: any process may answer."""
    connection = HTTPConnection("127.0.0.1", api.port, timeout=30)
    with closing(connection):
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def scrape(api: Api) -> Scrape:
    status, body = get(api, "/metrics", api.internal)
    assert status == 200, body
    return read(body)


def settled(api: Api, answered: float = 0) -> Scrape:
    """One that tells so many answered requests at least, and after which no more of them are told.

    A process counts 50 ms after it has answered, later where others keep it from the processor.
    """

    def found() -> Scrape | None:
        first, second = scrape(api), scrape(api)
        return second if answered <= first.answered() == second.answered() else None

    what = f"{answered:g} requests are counted, and no more"
    scraped = wait_until(what, found, seconds=20)
    assert scraped is not None
    return scraped
