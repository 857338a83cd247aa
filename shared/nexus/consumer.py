"""How the worker outlives its Redis: it comes back by itself, and what it had taken is done again.

Celery 5.7 and kombu 5.7 on their own give unfinished tasks back over the very connection that was lost, and
only what Redis still knows. A task may be lost so, and a worker may never consume again.
"""

import select
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import redis
from celery import Task, bootsteps
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from celery.worker.state import reserved_requests
from kombu.transport.redis import QoS
from redis.backoff import NoBackoff
from redis.retry import Retry

from nexus import beat

#: Longest pause between two attempts to reach a lost Redis, seconds. Kombu's own grows to 30.
RECONNECT_PAUSE_MAX = 5
#: How long a beat waits for Redis, seconds.
BEAT_TIMEOUT = 1.0
#: Kombu asks Redis for a task again and again, to be answered within 1 second. Without an answer for so long,
#: seconds, the connection counts as lost, as when Redis moved to another address. Kombu would look after 11.
SILENCE_MAX = 3.0
#: What services/worker/healthcheck reads: the time of the last beat, in whole seconds since the epoch.
BEAT_FILE = Path(tempfile.gettempdir()) / "nexus-worker.beat"


class Taken(QoS):
    """What was taken from the queue over one connection and is not acknowledged yet."""

    #: An acknowledgement did not reach Redis. Celery only logs that, and the place of the task stays taken.
    broken = False
    #: The connection is gone, and the tasks are given back over the next one. An acknowledgement that still
    #: comes must not count: the second run has the same tag.
    _surrendered = False

    def append(self, message: Any, delivery_tag: str) -> None:
        # Noted here before Redis is told, which may be gone in between: the queue has forgotten it already.
        self._quick_append(delivery_tag, message)
        super().append(message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        self._settle(super().ack, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._settle(super().reject, delivery_tag, requeue)

    def _settle(self, settle: Any, *arguments: Any) -> None:
        if self._surrendered:
            return
        try:
            settle(*arguments)
        except redis.RedisError:
            self.broken = True
            raise

    def surrender(self) -> dict[str, Any]:
        """Messages by their tags; afterwards kombu finds nothing to give back over the lost connection."""
        self._surrendered = True
        self._flush()  # type: ignore[no-untyped-call]
        messages = dict(self._delivered)
        self._delivered.clear()
        return messages

    def give_back(self, messages: dict[str, Any]) -> None:
        """What another one surrendered goes to the head of the queue."""
        for tag, message in messages.items():
            # As if taken just now, since only what Redis knows as taken can be restored, and it may be empty.
            self.append(message, tag)
        self.restore_unacked()  # type: ignore[no-untyped-call]


class Run(Request):  # type: ignore[misc]  # celery has no types
    """One run of a task, which can be given up: another will follow, and they must not go on side by side."""

    _given_up_by: Any = None

    def give_up(self, pool: Any) -> None:
        if self.time_start:
            # Without a word to the result backend, which is away too: celery would wait for it.
            self.cancel(pool, emit_retry=False)
        else:
            # It is on its way to a process, or in one that has not been heard of yet.
            self._given_up_by = pool

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        if self._given_up_by is not None:
            self.cancel(self._given_up_by, emit_retry=False)


class PersistentTask(Task):  # type: ignore[misc]
    """What every task is, so that its runs can be given up."""

    Request = "nexus.consumer:Run"


class PersistentConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer; while Redis is away it keeps what it took, and gives it back afterwards."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._kept: dict[str, Any] = {}
        super().__init__(*arguments, **options)

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=1, interval_step=1, interval_max=RECONNECT_PAUSE_MAX
        )
        connected = super().ensure_connected(conn)
        connected.default_channel.QoS = Taken
        return connected

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        if self.task_consumer is not None:
            # What closing the connection may still read from it: kombu puts that back, nobody starts it.
            self.task_consumer.on_message = lambda _: None
            self._kept.update(self.task_consumer.channel.qos.surrender())
        for run in tuple(reserved_requests):
            if run.task.acks_late and not run.acknowledged:
                run.give_up(self.pool)
        super().on_connection_error_after_connected(exc)

    def on_ready(self) -> None:
        """Connected, the queues are declared, nothing is consumed yet."""
        self.task_consumer.channel.qos.give_back(self._kept)
        self._kept.clear()
        super().on_ready()


def _is_silent(asked: Any, since: float) -> bool:
    """Not, if the answer is there and only not read yet, because it was this process that stood still."""
    return time.monotonic() - since > SILENCE_MAX and not select.select([asked._sock], [], [], 0)[0]  # noqa: SLF001


class Beat(bootsteps.StartStopStep):  # type: ignore[misc]
    """Writes the time to BEAT_FILE while this worker consumes and Redis answers; stops, and it goes stale.

    It runs on the consumer's own event loop, which stands still while the connection is being renewed.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        self._timer: Any = None
        self._redis: redis.Redis | None = None
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        self._redis = redis.Redis.from_url(
            parent.app.conf.broker_url,
            # By this name, and by how long it is silent, the API knows who consumes (nexus/beat.py).
            client_name=beat.CLIENT_NAME,
            socket_timeout=BEAT_TIMEOUT,
            socket_connect_timeout=BEAT_TIMEOUT,
            # The next beat is the second try; the consumer's loop stands still meanwhile.
            retry=Retry(NoBackoff(), 0),
        )
        # The first one after the loop runs, not here: nothing is consumed yet.
        self._timer = parent.timer.call_repeatedly(beat.INTERVAL, self._beat, (parent,))
        parent.timer.call_after(0, self._beat, (parent,))

    def stop(self, parent: Any) -> None:
        del parent
        BEAT_FILE.unlink(missing_ok=True)
        if self._timer is not None:
            self._timer.cancel()
        if self._redis is not None:
            self._redis.close()

    shutdown = stop

    def _beat(self, parent: Any) -> None:
        # The pool may overlook the end of a process that a task is on its way to, and looks again after 5 s.
        parent.pool.maintain_pool()
        if parent.connection is None or not parent.task_consumer.queues:
            return
        channel = parent.task_consumer.channel
        if channel.qos.broken:
            raise redis.ConnectionError("Redis did not take an acknowledgement")
        asked = channel._in_poll  # noqa: SLF001  kombu does not tell otherwise
        if asked and _is_silent(asked, since=channel._brpop_sent_at):  # noqa: SLF001
            # Closed here, or kombu would first wait some seconds more for an answer.
            asked.disconnect()
            raise redis.ConnectionError(f"Redis has not answered for {SILENCE_MAX:g} s")
        try:
            assert self._redis is not None  # noqa: S101  set by start()
            self._redis.ping()
        except redis.RedisError:
            return
        fresh = BEAT_FILE.with_suffix(".new")
        fresh.write_text(f"{int(time.time())}\n")
        fresh.replace(BEAT_FILE)
