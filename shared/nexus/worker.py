"""The Celery application. It has no task of its own; the next slice brings them.

A task may run more than once (after a crash, a lost Redis, a stop in its middle): it must be idempotent.
"""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import redis
from celery import Celery, bootsteps
from celery.signals import setup_logging
from celery.worker.consumer import Consumer

from nexus.config import Settings
from nexus.log import configure_logging

#: Redis hands a task to somebody else when it was not acknowledged for so long, seconds.
VISIBILITY_TIMEOUT = 3600
#: A task is killed before that, or it would run twice at once. Seconds.
TASK_TIME_LIMIT = 3000
#: How long a stop waits for running tasks before it puts them back into the queue. Seconds;
#: below stop_grace_period in compose.yml.
SOFT_SHUTDOWN_TIMEOUT = 10
#: Longest pause between two attempts to reach a lost Redis, seconds. Kombu's own grows to 30.
RECONNECT_PAUSE_MAX = 5
#: Seconds between two beats, and how long a beat waits for Redis.
BEAT_INTERVAL = 2.0
BEAT_TIMEOUT = 1.0

#: What services/worker/healthcheck reads: the time of the last beat, in whole seconds since the epoch.
BEAT_FILE = Path(tempfile.gettempdir()) / "nexus-worker.beat"


class PersistentConsumer(Consumer):  # type: ignore[misc]  # celery has no types
    """Celery's consumer with a shorter longest pause while Redis is away."""

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=1, interval_step=1, interval_max=RECONNECT_PAUSE_MAX
        )
        return super().ensure_connected(conn)


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
            parent.app.conf.broker_url, socket_timeout=BEAT_TIMEOUT, socket_connect_timeout=BEAT_TIMEOUT
        )
        # The first one after the loop runs, not here: nothing is consumed yet.
        self._timer = parent.timer.call_repeatedly(BEAT_INTERVAL, self._beat, (parent,))
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
        if parent.connection is None or not parent.task_consumer.queues:
            return
        try:
            assert self._redis is not None  # noqa: S101  set by start()
            self._redis.ping()
        except redis.RedisError:
            return
        fresh = BEAT_FILE.with_suffix(".new")
        fresh.write_text(f"{int(time.time())}\n")
        fresh.replace(BEAT_FILE)


def create_celery(settings: Settings) -> Celery:
    """The application with the settings that survive a lost Redis, a killed worker and a stop."""
    app = Celery("nexus")
    app.conf.update(
        broker_url=settings.CELERY_BROKER_URL.get_secret_value(),
        result_backend=settings.CELERY_RESULT_BACKEND.get_secret_value(),
        # Redis: come back by itself, however long it was away.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        result_backend_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT},
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_consumer="nexus.worker:PersistentConsumer",
        # Tasks: acknowledged when done, given back when their process dies.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=TASK_TIME_LIMIT,
        task_soft_time_limit=TASK_TIME_LIMIT - 60,
        worker_prefetch_multiplier=1,
        worker_concurrency=settings.WORKER_CONCURRENCY,
        worker_soft_shutdown_timeout=SOFT_SHUTDOWN_TIMEOUT,
        result_expires=86_400,
        # Never pickle: whoever can write to Redis would run code here.
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        timezone="UTC",
        worker_hijack_root_logger=False,
    )
    app.steps["consumer"].add(Beat)
    # Celery would set up its own format otherwise; weak=False because nothing else holds the function.
    setup_logging.connect(lambda **_: configure_logging(settings), weak=False)
    return app
