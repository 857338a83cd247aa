"""docs/metrics.md lists what /metrics shows, no more and no less; names are as Prometheus wants them."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import yaml
from prometheus_client import Metric
from redis import Redis

from nexus import beat
from nexus.api.metrics import BUCKETS
from tests.api.conftest import Api
from tests.api.scrape import Scrape, get, scrape
from tests.checkout import REPO

PAGE = (REPO / "docs/metrics.md").read_text()


class Row(NamedTuple):
    kind: str
    labels: frozenset[str]


@pytest.fixture(scope="module")
def found(api: Api) -> Iterator[Scrape]:
    """All of it: a request was answered, and a worker is there."""
    assert get(api, "/health")[0] == 200
    with Redis.from_url(
        api.settings.CELERY_BROKER_URL.get_secret_value(), client_name=beat.CLIENT_NAME
    ) as it:
        it.ping()
        yield scrape(api)


def full_name(family: Metric) -> str:
    """The parser takes the end off a counter's name."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def documented() -> dict[str, Row]:
    rows = re.findall(r"(?m)^\| `(nexus_\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", PAGE)
    assert len(rows) == len({name for name, _, _ in rows}) > 0
    return {name: Row(kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_page_lists_every_metric_with_its_type_and_labels(found: Scrape) -> None:
    shown = {
        full_name(family): Row(
            family.type, frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
        )
        for family in found.families
    }
    assert documented() == shown


def test_the_page_speaks_of_no_metric_that_there_is_not() -> None:
    known = set(documented()) | {
        f"{name}_{end}"
        for name, row in documented().items()
        if row.kind == "histogram"
        for end in ("bucket", "sum", "count")
    }
    assert set(re.findall(r"\bnexus_[a-z_]+\b", PAGE)) - known == set()


def test_the_page_names_the_buckets(found: Scrape) -> None:
    (listed,) = re.findall(r"Buckets: ([\d., ]+) s", PAGE)
    assert tuple(float(each) for each in listed.split(", ")) == BUCKETS
    bounds = {each["le"] for each in found.labels("nexus_http_request_duration_seconds_bucket")}
    assert {float(each) for each in bounds} == {*BUCKETS, float("inf")}


def test_names_are_as_prometheus_wants_them(found: Scrape) -> None:
    for family in found.families:
        name = full_name(family)
        assert re.fullmatch(r"nexus_[a-z]+(_[a-z]+)*", name)
        assert family.documentation, name
        assert family.type in {"counter", "gauge", "histogram"}, name
        assert (family.type == "counter") == name.endswith("_total"), name
        assert not re.search(r"(milli|micro)?seconds_|_ms\b|_(count|sum|bucket)$", name), name


def test_every_family_is_declared_once(found: Scrape) -> None:
    for word in ("HELP", "TYPE"):
        names = re.findall(rf"(?m)^# {word} (\w+) ", found.text)
        assert len(names) == len(set(names)) == len(found.families), word
    assert "_created" not in found.text


def test_examples_are_yaml_and_name_our_header_and_path() -> None:
    scraping, rules = (yaml.safe_load(block) for block in re.findall(r"(?ms)^```yaml\n(.*?)^```", PAGE))
    (job,) = scraping["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert set(job["http_headers"]) == {"X-Nexus-Internal"}
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len(alerts) >= 4
    for alert in alerts:
        assert alert.keys() == {"alert", "expr", "for", "labels", "annotations"}, alert
        assert re.search(r"\b(nexus_[a-z_]+|up)\b", alert["expr"]), alert
