"""The API knows by Redis alone which workers consume: the real command, a real Redis, real signals."""

import asyncio
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus import beat
from nexus.health import workers_probe
from tests.waiting import wait_until
from tests.worker.test_worker import is_healthy, running


def alive(broker: str) -> int:
    (part,) = asyncio.run(workers_probe(broker, 5)())
    assert part.ok
    return int(part.facts["alive"])


def await_alive(broker: str, count: int) -> None:
    wait_until(f"{count} workers consume", lambda: alive(broker) == count, seconds=30)


def test_a_worker_that_consumes_is_seen_and_one_that_stopped_is_not(own_broker: str, tmp_path: Path) -> None:
    assert alive(own_broker) == 0
    with running(tmp_path, CELERY_BROKER_URL=own_broker) as process:
        await_alive(own_broker, 1)
        # It notes its beat after Redis has answered it.
        wait_until("it is healthy", lambda: is_healthy(tmp_path), seconds=10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert alive(own_broker) == 0


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()


def freeze(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize("harm", [kill, freeze])
def test_a_worker_that_no_longer_consumes_is_missed(
    harm: Callable[["subprocess.Popen[str]"], None], own_broker: str, tmp_path: Path
) -> None:
    with running(tmp_path, CELERY_BROKER_URL=own_broker) as process:
        await_alive(own_broker, 1)
        harm(process)
        await_alive(own_broker, 0)


def test_the_health_check_says_the_same_of_an_old_beat() -> None:
    script = Path(__file__).parents[2] / "services/worker/healthcheck"
    assert f"EPOCHSECONDS - beat <= {beat.MAX_AGE})" in script.read_text()
