"""Drills of the worker: its Redis is taken away, or it is killed itself, while it is at work.

What must not happen: a task that is never done, a worker that never consumes again. See docs/faults.md.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import docker
import pytest
from sqlalchemy.engine import URL

from nexus.config import Settings
from nexus.worker import VISIBILITY_TIMEOUT
from tests.conftest import scratch_database
from tests.stack.report import Finding
from tests.stack.spare_worker import (
    QUEUE,
    UNACKED,
    UNACKED_INDEX,
    SpareWorker,
    asking,
    left_in_redis,
    queue,
    result,
    spare_worker,
)
from tests.stack.stack import GRACE, Stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]

#: Seconds from Redis's return to the end of a task that was sent after it. Twice what test_consumer.py
#: promises, since a shared machine may stand still for some of them; docs/faults.md has what was measured.
RECOVERY = 20
#: The long outage, seconds: kombu's own pauses would have grown to 30 by then.
LONG = 120

Harm = Callable[[str], AbstractContextManager[None]]
log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def marks_url(settings: Settings) -> Iterator[URL]:
    with scratch_database(settings) as url:
        yield url


@pytest.fixture(scope="module")
def module_worker(stack: Stack, docker_client: docker.DockerClient, marks_url: URL) -> Iterator[SpareWorker]:
    with spare_worker(stack, docker_client, marks_url) as worker:
        yield worker


@pytest.fixture
def worker(module_worker: SpareWorker) -> SpareWorker:
    """At work, with nothing to do."""
    if module_worker.container.status != "running":
        with queue() as redis:
            redis.flushdb()
        module_worker.start()
    module_worker.await_health(True)
    wait_until("nothing is left of the test before", lambda: left_in_redis() == (0, 0), seconds=10)
    return module_worker


def consumes_again(worker: SpareWorker, stack: Stack) -> float:
    """A new task is done, and the health check is green, within RECOVERY seconds of Redis's return.

    Returns:
        the seconds to the end of that task.
    """
    name = worker.send()
    worker.await_end(name, seconds=RECOVERY - (time.monotonic() - stack.mended))
    worker.await_health(True, seconds=RECOVERY - (time.monotonic() - stack.mended))
    returned = time.time() - (time.monotonic() - stack.mended)
    green = time.monotonic() - stack.mended
    (end,) = worker.marks.times(name, "end")
    wait_until("its result is there", lambda: result(name) == "SUCCESS", seconds=RECOVERY)
    log.info("after the return: a new task had ended in %.1f s, green in %.1f s", end - returned, green)
    return round(end - returned, 1)


def is_done(worker: SpareWorker, name: str, *, starts: int) -> None:
    """The held task ends once, however often it had to be started, and nothing is left of it in Redis."""
    wait_until(f"it started {starts} times", lambda: worker.marks.starts(name) >= starts, seconds=RECOVERY)
    # Whoever waits for the result is not told that there will be none.
    assert result(name) in {"", "RETRY"}
    worker.marks.release(name)
    worker.await_end(name)
    wait_until("all is acknowledged", lambda: left_in_redis() == (0, 0), seconds=10)
    log.info("the unfinished task: %d starts, %d ends", worker.marks.starts(name), worker.marks.ends(name))
    assert worker.marks.ends(name) == 1


def no_longer_asked(connections: set[str]) -> None:
    """Up to a second long Redis would still hand out a task over a connection whose other end is gone."""
    wait_until("Redis has given up the requests", lambda: not connections & asking(), seconds=5)


def finding(fault: str, recovery: float, tasks: int) -> Finding:
    """All tasks that were sent are done, or the drill has failed before this."""
    return Finding(f"{fault}, seen from the worker", recovery, tasks, tasks, 0, "tasks")


def process(worker: SpareWorker) -> tuple[object, object]:
    state = worker.container.attrs["State"]
    return state["StartedAt"], state["Status"]


@pytest.mark.parametrize("harm", ["killed", "frozen", "cut_off"])
def test_redis_is_away_until_it_is_noticed(
    harm: str, worker: SpareWorker, stack: Stack, findings: list[Finding]
) -> None:
    before, name = process(worker), worker.send_held()
    away: Harm = getattr(stack, harm)
    with away("redis"):
        since = time.monotonic()
        worker.await_health(False)
        log.info("%s: red after %.1f s", harm, time.monotonic() - since)
    recovery = consumes_again(worker, stack)
    is_done(worker, name, starts=1)
    assert process(worker) == before
    findings.append(finding(f"redis {harm}".replace("_", " "), recovery, 2))


def test_redis_is_away_for_long(worker: SpareWorker, stack: Stack, findings: list[Finding]) -> None:
    before, name = process(worker), worker.send_held()
    with stack.killed("redis"):
        since = time.monotonic()
        stack.await_health("worker", "unhealthy")
        assert not worker.is_healthy()
        log.info("the engine called the worker unhealthy after %.1f s", time.monotonic() - since)
        time.sleep(LONG - (time.monotonic() - since))
    recovery = consumes_again(worker, stack)
    is_done(worker, name, starts=2)
    assert process(worker) == before
    findings.append(finding("redis away for 120 s", recovery, 2))


def test_redis_starts_again_and_is_empty(worker: SpareWorker, stack: Stack, findings: list[Finding]) -> None:
    before, name = process(worker), worker.send_held()
    stack.restart("redis")
    recovery = consumes_again(worker, stack)
    is_done(worker, name, starts=2)
    assert process(worker) == before
    findings.append(finding("redis restarted empty", recovery, 2))


def test_redis_has_a_new_address(worker: SpareWorker, stack: Stack, findings: list[Finding]) -> None:
    before, name = process(worker), worker.send_held()
    asked = asking()
    with stack.moved("redis"):
        no_longer_asked(asked)
        consumes_again(worker, stack)
        asked = asking()
    no_longer_asked(asked)
    recovery = consumes_again(worker, stack)
    is_done(worker, name, starts=2)
    assert process(worker) == before
    findings.append(finding("redis at a new address", recovery, 3))


def test_tasks_that_end_while_redis_is_frozen(
    worker: SpareWorker, stack: Stack, findings: list[Finding]
) -> None:
    """Their acknowledgements do not arrive. If their places stayed taken, no task would be taken any more."""
    before = process(worker)
    names = [worker.send_held(ignore_result=True) for _ in range(2)]
    with stack.frozen("redis"):
        for name in names:
            worker.marks.release(name)
        for name in names:
            worker.await_end(name)
        worker.await_health(False)
    recovery = consumes_again(worker, stack)
    # Both places are free again, or the second of these would not start.
    names = [worker.send_held(), worker.send_held()]
    for name in names:
        worker.marks.release(name)
    for name in names:
        worker.await_end(name)
    wait_until("all is acknowledged", lambda: left_in_redis() == (0, 0), seconds=RECOVERY)
    assert process(worker) == before
    findings.append(finding("redis frozen while tasks end", recovery, 5))


def test_a_stop_lets_a_task_end_and_puts_back_the_other(worker: SpareWorker) -> None:
    short, long = worker.send_held(), worker.send_held()
    since = time.time()
    worker.container.kill("SIGTERM")
    wait_until(
        "it is stopping",
        lambda: b"Initiating Soft Shutdown" in worker.container.logs(since=int(since)),
        seconds=10,
    )
    worker.marks.release(short)
    assert worker.container.wait(timeout=GRACE)["StatusCode"] == 0
    log.info("stopped after %.1f s", time.time() - since)
    assert (worker.marks.starts(short), worker.marks.ends(short)) == (1, 1)
    assert left_in_redis() == (1, 0)
    worker.start()
    is_done(worker, long, starts=2)


def test_a_process_of_the_pool_is_killed(worker: SpareWorker) -> None:
    before, name = process(worker), worker.send_held()
    since = time.time()
    assert worker.execute("bash", "-c", f"kill -KILL {worker.marks.pid(name)}") == (0, "")
    is_done(worker, name, starts=2)
    log.info("started again after %.1f s", worker.marks.times(name, "start")[1] - since)
    assert process(worker) == before


def test_the_whole_worker_is_killed(worker: SpareWorker) -> None:
    name = worker.send_held()
    worker.container.kill("SIGKILL")
    worker.container.wait(timeout=GRACE)
    assert left_in_redis() == (0, 1)
    with queue() as redis:
        (taken,) = redis.hvals(UNACKED)
        assert name in taken
        assert redis.llen(QUEUE) == 0
        # As if so much time had passed: nobody waits for an hour here.
        (tag,) = redis.hkeys(UNACKED)
        redis.zincrby(UNACKED_INDEX, -VISIBILITY_TIMEOUT, tag)
    worker.start()
    is_done(worker, name, starts=2)
