"""The worker as it runs: the real command line, a real Redis, real signals."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from celery import Celery
from redis import Redis

from nexus import consumer
from nexus.config import Settings
from nexus.config import settings as lazy_settings
from nexus.worker import create_celery
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
COMMAND = ["celery", "-A", "services.worker.main", "worker", "--loglevel=info"]


def test_redis_connectivity() -> None:
    """Celery broker is reachable."""
    with Redis.from_url(lazy_settings.REDIS_URL.get_secret_value()) as redis:
        assert redis.ping()


def test_celery_app_initializes() -> None:
    """Worker app can be imported without error."""
    from services.worker import celery_app  # noqa: PLC0415  its import is what is tested
    from services.worker.main import app  # noqa: PLC0415

    assert app.conf.broker_url
    assert celery_app is app


@pytest.fixture(scope="module")
def app(settings: Settings) -> Celery:
    return create_celery(settings)


def test_it_has_no_task_of_its_own(app: Celery) -> None:
    app.finalize()
    assert [name for name in app.tasks if not name.startswith("celery.")] == []
    assert app.conf.beat_schedule == {}


def test_times_are_ordered(app: Celery) -> None:
    """A task is killed before Redis hands it to somebody else; a stop ends before Docker loses patience."""
    conf = app.conf
    assert conf.task_soft_time_limit < conf.task_time_limit
    for options in (conf.broker_transport_options, conf.result_backend_transport_options):
        assert conf.task_time_limit < options["visibility_timeout"]
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yml").read_text())["services"]
    grace = int(services["worker"]["stop_grace_period"].removesuffix("s"))
    assert conf.worker_soft_shutdown_timeout < grace


def test_settings_that_keep_tasks(app: Celery) -> None:
    conf = app.conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert conf.broker_connection_max_retries is None
    assert conf.accept_content == ["json"]
    assert (conf.timezone, conf.enable_utc) == ("UTC", True)


def test_the_longest_pause_before_it_looks_for_redis_again(app: Celery) -> None:
    """Kombu's own grows to 30 seconds: watch what our consumer hands to it."""
    asked: dict[str, Any] = {}

    class Recorder:
        default_channel = SimpleNamespace()

        def ensure_connection(self, *_: Any, **options: Any) -> "Recorder":
            asked.update(options)
            return self

    persistent = consumer.PersistentConsumer.__new__(consumer.PersistentConsumer)
    persistent.app = app
    persistent.first_connection_attempt = True
    connected = persistent.ensure_connected(Recorder())
    assert connected.default_channel.QoS is consumer.Taken
    assert asked["interval_max"] == consumer.RECONNECT_PAUSE_MAX
    assert app.conf.worker_consumer == "nexus.consumer:PersistentConsumer"


@contextmanager
def running(tmp_path: Path, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        COMMAND,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path), "LOG_FORMAT": "json"} | environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        # Its children too, which may outlive it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def is_healthy(tmp_path: Path) -> bool:
    script = ROOT / "services/worker/healthcheck"
    return subprocess.run([script], env={"TMPDIR": str(tmp_path)}, check=False).returncode == 0


@pytest.mark.parametrize(
    ("stop", "environment", "code"),
    [
        (signal.SIGTERM, {}, 0),
        (signal.SIGTERM, {"REMAP_SIGTERM": "SIGQUIT"}, 0),
        (signal.SIGINT, {}, 1),  # celery's own code for Ctrl-C
    ],
    ids=["warm", "as in the image", "ctrl-c"],
)
def test_it_starts_is_healthy_and_stops(
    stop: signal.Signals, environment: dict[str, str], code: int, tmp_path: Path
) -> None:
    with running(tmp_path, **environment) as process:
        assert not is_healthy(tmp_path)
        wait_until("the worker is healthy", lambda: is_healthy(tmp_path), seconds=60)
        process.send_signal(stop)
        assert process.wait(timeout=30) == code
    log = (tmp_path / "log").read_text()
    assert "Connected to redis://" in log
    assert "Traceback" not in log
    assert not is_healthy(tmp_path)


@pytest.mark.parametrize(
    ("beat", "healthy"),
    [("{now}", True), ("{old}", False), ("", False), ("nonsense", False)],
)
def test_the_health_check_reads_the_beat(beat: str, healthy: bool, tmp_path: Path) -> None:
    now = int(subprocess.run(["date", "+%s"], capture_output=True, text=True, check=True).stdout)
    (tmp_path / consumer.BEAT_FILE.name).write_text(beat.format(now=now, old=now - 60) + "\n")
    assert is_healthy(tmp_path) is healthy


def test_no_beat_is_no_health(tmp_path: Path) -> None:
    assert not is_healthy(tmp_path)


def test_without_a_broker_it_refuses_to_start(tmp_path: Path) -> None:
    """Celery on its own would fall back to amqp://localhost without a word."""
    with running(tmp_path, CELERY_BROKER_URL="") as process:
        assert process.wait(timeout=60) == 78
    assert (tmp_path / "log").read_text() == (
        "nexus: setting CELERY_BROKER_URL: is missing (see .env.example)\n"
    )


def test_it_waits_for_a_redis_that_is_not_there_yet(tmp_path: Path) -> None:
    with running(tmp_path, CELERY_BROKER_URL="redis://127.0.0.1:1/0") as process:
        log = tmp_path / "log"
        wait_until("it says that it tries again", lambda: "Trying again" in log.read_text(), seconds=60)
        assert process.poll() is None
        assert not is_healthy(tmp_path)
