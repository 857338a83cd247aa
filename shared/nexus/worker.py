"""The Celery application. It has no task of its own; the next slice brings them.

A task may run more than once (after a crash, a lost Redis, a stop in its middle): it must be idempotent.
"""

from celery import Celery
from celery.signals import setup_logging

from nexus.config import Settings
from nexus.consumer import Beat
from nexus.log import configure_logging

#: Redis hands a task to somebody else when it was not acknowledged for so long, seconds.
VISIBILITY_TIMEOUT = 3600
#: A task is killed before that, or it would run twice at once. Seconds.
TASK_TIME_LIMIT = 3000
#: How long a stop waits for running tasks before it puts them back into the queue. Seconds;
#: below stop_grace_period in compose.yml.
SOFT_SHUTDOWN_TIMEOUT = 10
#: How long one command may wait for Redis, seconds: the connection counts as lost then.
REDIS_TIMEOUT = 3


def create_celery(settings: Settings) -> Celery:
    """The application with the settings that survive a lost Redis, a killed worker and a stop."""
    app = Celery("nexus", task_cls="nexus.consumer:PersistentTask")
    app.conf.update(
        broker_url=settings.CELERY_BROKER_URL.get_secret_value(),
        result_backend=settings.CELERY_RESULT_BACKEND.get_secret_value(),
        # Redis: come back by itself, however long it was away.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT,
            "socket_timeout": REDIS_TIMEOUT,
            "socket_connect_timeout": REDIS_TIMEOUT,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        result_backend_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT},
        redis_socket_timeout=REDIS_TIMEOUT,
        redis_socket_connect_timeout=REDIS_TIMEOUT,
        # The first try to store a result after Redis was away goes over a connection that is dead.
        result_backend_always_retry=True,
        result_backend_max_retries=5,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_consumer="nexus.consumer:PersistentConsumer",
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
