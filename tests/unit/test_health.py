"""A probe is bounded, shared and never runs twice at once."""

import asyncio

import pytest

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


async def test_many_callers_share_one_run() -> None:
    runs = 0

    async def count() -> list[Part]:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        return [Part("redis", ok=True)]

    probe = Probe(("redis",), count, timeout=5)
    answers = await asyncio.gather(*(probe() for _ in range(100)))
    assert runs == 1
    assert all(parts[0].ok for parts in answers)
