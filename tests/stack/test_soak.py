"""`make soak`: ten minutes of mixed load. Memory stays bounded, no descriptor leaks, nothing fails."""

import itertools
import os
import random
import time
from collections.abc import Callable
from typing import NamedTuple
from uuid import uuid4

import pytest

from tests.stack.load import Load, Request, load
from tests.stack.report import Finding
from tests.stack.stack import Stack
from tests.waiting import wait_until

SECONDS = float(os.environ.get("NEXUS_SOAK_SECONDS", "600"))
#: So many answers make a process as large as it gets; only from then on is looked at it.
WARM = 20_000
#: Between two looks at memory and descriptors.
LOOK = min(15.0, SECONDS / 20)

pytestmark = [pytest.mark.docker, pytest.mark.soak, pytest.mark.timeout(SECONDS + 600)]

#: What a viewer may be told by this load; no 5xx.
EXPECTED = {200, 201, 400, 404}


class Sample(NamedTuple):
    #: Bytes, without the file cache.
    memory: int
    #: Open files of all its processes.
    descriptors: int


def sample(stack: Stack, name: str) -> Sample:
    stats = stack.service(name).stats(stream=False)
    assert isinstance(stats, dict)
    memory = stats["memory_stats"]
    cache = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    # Processes of health checks come and go meanwhile.
    code, listing = stack.execute(name, "bash", "-c", "ls /proc/[0-9]*/fd 2>/dev/null | grep -c ^[0-9]")
    assert code == 0
    return Sample(memory["usage"] - cache, int(listing))


class Mixture:
    """Reads, writes, refusals of every kind, in turn with what is large."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def __call__(self) -> Request:
        number = next(self._numbers)
        if number % 50 == 0:
            return Request("POST", "/libraries", {"name": "x" * 100_000})
        return random.choice(  # noqa: S311
            [
                Request("GET", "/me"),
                Request("GET", "/libraries"),
                Request("GET", "/libraries"),
                Request("GET", f"/media/{uuid4()}"),
                Request("GET", f"/libraries/{uuid4()}/media"),
                Request("GET", "/libraries?limit=0"),
                Request("POST", "/libraries", {"name": ""}),
                Request("POST", f"/libraries/{uuid4()}/media", {"media_id": str(uuid4())}),
                Request("PATCH", f"/libraries/{uuid4()}", {"name": f"Shelf {number}"}),
            ]
        )


def note(samples: list[Sample]) -> str:
    first, last = samples[0], samples[-1]
    highest = max(each.memory for each in samples)
    return (
        f"memory {first.memory / 1e6:.0f} to {last.memory / 1e6:.0f} MB, at most {highest / 1e6:.0f}; "
        f"descriptors {first.descriptors} to {last.descriptors}"
    )


def assert_bounded(samples: list[Sample], limit: int) -> None:
    """It settles: the second half needs hardly more than the first, and stays well below the limit."""
    half = len(samples) // 2
    early, late = samples[1:half], samples[half:]
    assert max(each.memory for each in late) < 1.15 * max(each.memory for each in early)
    assert max(each.memory for each in late) < 0.8 * limit
    assert min(each.descriptors for each in late) <= max(each.descriptors for each in early)
    assert max(each.descriptors for each in late) <= max(each.descriptors for each in early) + 10


def watch(stack: Stack, running: Load) -> dict[str, list[Sample]]:
    wait_until("it is warm", lambda: len(running.outcomes) >= WARM, seconds=300)
    samples: dict[str, list[Sample]] = {"api": [], "worker": []}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for name, found in samples.items():
            found.append(sample(stack, name))
        assert running.lost == []
        time.sleep(LOOK)  # the load is what is waited for
    return samples


def test_a_long_load_leaks_nothing(
    stack: Stack, api_url: str, headers: Callable[[], dict[str, str]], findings: list[Finding]
) -> None:
    with load(api_url, headers, Mixture(), clients=16) as running:
        samples = watch(stack, running)
    statuses = {outcome.status for outcome in running.outcomes}
    assert statuses <= EXPECTED, statuses - EXPECTED
    for name, found in samples.items():
        limit = int(stack.service(name).attrs["HostConfig"]["Memory"])
        counts = len(running.outcomes), running.answered, len(running.lost)
        findings.append(Finding(f"{SECONDS:.0f} s of load: {name}", 0.0, *counts, note(found)))
        assert_bounded(found, limit)
