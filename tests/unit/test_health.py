"""A probe is bounded, shared and never runs twice at once."""

import asyncio

import pytest

from nexus import health
from nexus.health import Part, Probe

pytestmark = pytest.mark.anyio


async def test_a_check_that_hangs_is_reported_for_each_of_its_parts() -> None:
    async def hang() -> list[Part]:
        await asyncio.Event().wait()
        return []

    parts = await Probe(("postgres", "schema"), hang, timeout=0.05)()
    assert [(part.name, part.ok) for part in parts] == [("postgres", False), ("schema", False)]
    assert "0.05 s" in parts[0].detail


async def test_a_check_that_ignores_its_cancellation_does_not_hold_up_the_answer() -> None:
    release = asyncio.Event()

    async def stubborn() -> list[Part]:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return [Part("redis", ok=True)]

    probe = Probe(("redis",), stubborn, timeout=0.05)
    async with asyncio.timeout(10):
        assert not (await probe())[0].ok
        assert not (await probe())[0].ok
    release.set()


class Counter:
    """A check that is always well, and counts."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self) -> list[Part]:
        self.runs += 1
        await asyncio.sleep(0)
        return [Part("redis", ok=True)]


async def test_many_callers_at_once_share_one_run() -> None:
    count = Counter()
    probe = Probe(("redis",), count, timeout=5)
    answers = await asyncio.gather(*(probe() for _ in range(100)))
    assert count.runs == 1
    assert all(parts[0].ok for parts in answers)


async def test_a_result_is_good_for_a_while_and_then_found_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    count = Counter()
    probe = Probe(("redis",), count, timeout=5)
    monkeypatch.setattr(health, "FRESH_SECONDS", 3600)
    for _ in range(5):
        await probe()
    assert count.runs == 1
    monkeypatch.setattr(health, "FRESH_SECONDS", 0)
    await probe()
    assert count.runs == 2
