"""The API is stopped or reloaded while clients ask it: whatever it has accepted is answered."""

import itertools
from collections.abc import Callable

import pytest

from tests.stack.load import load
from tests.stack.report import Finding
from tests.stack.stack import Stack
from tests.stack.test_api_faults import GUNICORN, anything, assert_answered, await_service, finding
from tests.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]

Headers = Callable[[], dict[str, str]]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_stop_and_a_start_lose_nothing(
    number: int, stack: Stack, api_url: str, headers: Headers, findings: list[Finding]
) -> None:
    """A client that is refused connects again: what it costs is the time between the processes."""
    with load(api_url, headers, anything) as running:
        await_service(running, 0)
        with stack.stopped("api"):
            state = stack.state("api")
            assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
        await_service(running, stack.mended)
    assert_answered(running, {200, 201})
    served = sorted(outcome.ended for outcome in running.outcomes)
    gap = max(later - earlier for earlier, later in itertools.pairwise(served))
    refused = sum(outcome.refused for outcome in running.outcomes)
    note = f"nobody was answered for {gap:.1f} s; {refused} connections refused and tried again"
    findings.append(finding(f"api stopped and started, {number}", running, stack.mended, note))


def test_reloads_lose_nothing(stack: Stack, api_url: str, headers: Headers, findings: list[Finding]) -> None:
    """SIGHUP: new processes in the same container, three times."""
    with load(api_url, headers, anything) as running:
        for _ in range(3):
            await_service(running, stack.note_mended())
            before = stack.processes("api", GUNICORN)
            # Not through the engine: it takes any signal for a stop, and would restart the container no more.
            stack.execute("api", "bash", "-c", "kill -HUP $(cat /proc/1/task/1/children)")
            wait_until(
                "all but the first process are new",
                lambda before=before: len(stack.processes("api", GUNICORN) & before) == 1,  # type: ignore[misc]
                seconds=60,
            )
        await_service(running, stack.note_mended())
    assert_answered(running, {200, 201})
    refused = sum(outcome.refused for outcome in running.outcomes)
    assert refused == 0
    findings.append(finding("api reloaded, three times", running, stack.mended))
