"""What the consumer adds to celery's. tests/stack/test_worker_drills.py shows that it holds."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu.transport.redis import Transport
from redis import Redis

from nexus import beat, consumer, worker
from nexus.config import Settings

#: Seconds from Redis's return until the worker consumes again; the drills hold it to that.
RECOVERY = 10


@pytest.fixture(scope="module")
def app(settings: Settings) -> Celery:
    return worker.create_celery(settings)


def test_it_is_back_in_time() -> None:
    """After a pause and an attempt that fails late, or after silence that is noticed late."""
    assert consumer.RECONNECT_PAUSE_MAX + worker.REDIS_TIMEOUT < RECOVERY
    assert consumer.SILENCE_MAX + beat.INTERVAL < RECOVERY
    assert beat.INTERVAL + consumer.BEAT_TIMEOUT < beat.MAX_AGE


def test_silence_is_no_answer_where_one_was_due(app: Celery) -> None:
    assert Transport.brpop_timeout < consumer.SILENCE_MAX
    # Ours comes before kombu's own, after which a worker was seen that never consumed again.
    own = Transport.brpop_timeout + app.conf.broker_transport_options["health_check_interval"]
    assert own > consumer.SILENCE_MAX + beat.INTERVAL


def test_no_command_waits_for_redis_without_a_bound(app: Celery) -> None:
    conf = app.conf
    bounds = {
        conf.broker_transport_options["socket_timeout"],
        conf.broker_transport_options["socket_connect_timeout"],
        conf.redis_socket_timeout,
        conf.redis_socket_connect_timeout,
    }
    assert bounds == {worker.REDIS_TIMEOUT}
    assert conf.result_backend_always_retry
    assert conf.result_backend_max_retries < 10


def a_task(app: Celery) -> Any:
    def nothing() -> None:
        """Never run."""

    return app.task(nothing, name=uuid4().hex, shared=False)


def test_every_task_can_be_given_up(app: Celery) -> None:
    nothing = a_task(app)
    assert isinstance(nothing, consumer.PersistentTask)
    assert nothing.Request == "nexus.consumer:Run"
    assert app.conf.worker_cancel_long_running_tasks_on_connection_loss


class Processes:
    """All that giving up asks of a pool."""

    def terminate_job(self, pid: int, signum: int) -> None:
        os.kill(pid, signum)


@pytest.mark.parametrize("late", [False, True], ids=["running", "not heard of yet"])
def test_a_run_that_is_given_up_ends_its_process(late: bool, app: Celery, settings: Settings) -> None:
    nothing = a_task(app)
    name = uuid4().hex
    with connected(app, settings.REDIS_URL.get_secret_value(), name) as connection:
        nothing.apply_async(queue=name, connection=connection, ignore_result=True)
        message = connection.SimpleQueue(name).get(timeout=5)
        run = consumer.Run(message, app=app, task=nothing)
        with subprocess.Popen(["sleep", "20"]) as process:
            if late:
                run.give_up(Processes())
            run.on_accepted(process.pid, time.monotonic())
            if not late:
                run.give_up(Processes())
            assert process.wait(timeout=10) == -signal.SIGTERM
        message.ack()
        connection.SimpleQueue(name).queue.delete()


@contextmanager
def connected(app: Celery, url: str, name: str) -> Iterator[Any]:
    options = {"unacked_key": f"{name}.unacked", "unacked_index_key": f"{name}.unacked_index"}
    with app.connection_for_read(url, transport_options=options) as connection:
        connection.default_channel.QoS = consumer.Taken
        yield connection


@pytest.mark.parametrize("emptied", [False, True], ids=["Redis knows it", "Redis was emptied"])
def test_what_was_taken_over_a_lost_connection_is_given_back_once(
    app: Celery, emptied: bool, settings: Settings
) -> None:
    url, name = settings.REDIS_URL.get_secret_value(), uuid4().hex
    unacked = f"{name}.unacked"
    with connected(app, url, name) as lost, connected(app, url, name) as found, Redis.from_url(url) as redis:
        lost.SimpleQueue(name).put("a task")
        taken = lost.SimpleQueue(name).get(timeout=5)
        assert redis.hlen(unacked) == 1
        kept = lost.default_channel.qos.surrender()
        if emptied:
            redis.delete(unacked, f"{unacked}_index", name)
        found.SimpleQueue(name).queue.declare()
        found.default_channel.qos.give_back(kept)
        assert (redis.llen(name), redis.hlen(unacked)) == (1, 0)
        again = found.SimpleQueue(name).get(timeout=5)
        assert (again.payload, again.delivery_tag) == ("a task", taken.delivery_tag)
        # The first run ends after all: that says nothing about the second.
        taken.ack()
        assert redis.hlen(unacked) == 1
        again.ack()
        assert (redis.llen(name), redis.hlen(unacked)) == (0, 0)
        found.SimpleQueue(name).queue.delete()
