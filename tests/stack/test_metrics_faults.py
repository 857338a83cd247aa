"""What /metrics of the containers that ship tells while parts of them are killed or frozen."""

import httpx2
import pytest

from tests.api.scrape import Scrape, read
from tests.conftest import auth_headers
from tests.stack.stack import Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]

PROCESSES, STARTS = "nexus_api_processes", "nexus_api_process_starts_total"
#: The first child of the container's init is gunicorn; its children answer.
KILL_ONE = "kill -KILL $(cut -d ' ' -f 1 /proc/$(tr -d ' ' < /proc/1/task/1/children)/task/*/children)"


def scrape(api_url: str) -> Scrape:
    answer = httpx2.get(f"{api_url}/metrics", headers=auth_headers(), timeout=20)
    assert answer.status_code == 200
    return read(answer.text)


def await_value(api_url: str, name: str, value: float) -> None:
    wait_until(f"{name} is {value:g}", lambda: scrape(api_url).value(name) == value, seconds=30)


def test_a_killed_process_takes_no_count_with_it(stack: Stack, api_url: str) -> None:
    for _ in range(20):
        assert httpx2.get(f"{api_url}/nothing", timeout=20).status_code == 403
    before = scrape(api_url)
    assert before.value(PROCESSES) == 2
    code, output = stack.execute("api", "bash", "-c", KILL_ONE)
    assert code == 0, output
    await_value(api_url, STARTS, before.value(STARTS) + 1)
    await_value(api_url, PROCESSES, 2)
    assert before.backwards(scrape(api_url)) == []


def test_a_container_that_starts_counts_from_zero(stack: Stack, api_url: str) -> None:
    assert scrape(api_url).value("nexus_http_requests_total") > 0
    stack.restart("api")
    await_value(api_url, PROCESSES, 2)
    found = scrape(api_url)
    assert found.value(STARTS) == 2
    assert found.value("nexus_http_requests_total", route="none", status="403") == 0


@pytest.mark.parametrize("harm", ["killed", "frozen", "cut_off"])
def test_a_worker_that_is_away_is_missed(harm: str, stack: Stack, api_url: str) -> None:
    await_value(api_url, "nexus_workers", 1)
    with getattr(stack, harm)("worker"):
        await_value(api_url, "nexus_workers", 0)
    await_value(api_url, "nexus_workers", 1)


@pytest.mark.parametrize("harm", ["killed", "frozen", "cut_off"])
def test_without_redis_a_scrape_is_answered_and_says_so(harm: str, stack: Stack, api_url: str) -> None:
    def says_so() -> bool:
        # In one scrape: what a process has asked is good for a second, and another may answer the next one.
        found = scrape(api_url)
        failed = found.value("nexus_check_ok", check="redis") == 0
        return failed and found.labels("nexus_workers") == []

    with getattr(stack, harm)("redis"):
        wait_until("a scrape says so", says_so, seconds=30)
        assert scrape(api_url).value("nexus_check_ok", check="postgres") == 1
    await_value(api_url, "nexus_workers", 1)


def test_without_postgres_the_revision_is_unknown(stack: Stack, api_url: str) -> None:
    def says_so() -> bool:
        found = scrape(api_url)
        (revision,) = found.labels("nexus_schema_revision_info")
        return found.value("nexus_check_ok", check="postgres") == 0 and revision["found"] == "unknown"

    with stack.frozen("postgres"):
        wait_until("a scrape says so", says_so, seconds=30)
    wait_until(
        "it is known again",
        lambda: scrape(api_url).value("nexus_schema_revision_info", found="0002") == 1,
        seconds=30,
    )
