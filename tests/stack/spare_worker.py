"""A second worker made from the container of the first, with a task and a queue of its own.

The product has no task, so what happens to one can only be seen in a worker that includes a module of the
tests. All else is the product's: the image, the command, the environment, the hardening, the networks.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
from celery import Celery
from docker.models.containers import Container
from redis import Redis
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL

from tests.stack.execution import execute
from tests.stack.spare import copy_of
from tests.stack.stack import Stack
from tests.waiting import wait_until

#: A database of Redis that nobody else uses.
BROKER = "redis://redis:6379/5"
MODULE = Path(__file__).with_name("drill_task.py")
#: Where the module lies in the container: a volume, since the root is read-only.
FOLDER = "/drill"
QUEUE = "celery"
UNACKED = "unacked"
UNACKED_INDEX = "unacked_index"

log = logging.getLogger(__name__)

TABLES = """
CREATE TABLE marks (name text, what text, pid int, at float DEFAULT extract(epoch FROM clock_timestamp()));
CREATE TABLE released (name text)
"""


class Marks:
    """What the tasks say of themselves."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def times(self, name: str, what: str) -> list[float]:
        with self._engine.connect() as connection:
            found = connection.execute(
                text("SELECT at FROM marks WHERE name = :name AND what = :what ORDER BY at"),
                {"name": name, "what": what},
            )
            return [float(at) for at in found.scalars()]

    def starts(self, name: str) -> int:
        return len(self.times(name, "start"))

    def ends(self, name: str) -> int:
        return len(self.times(name, "end"))

    def pid(self, name: str) -> int:
        """Of the pool's process that started it last."""
        with self._engine.connect() as connection:
            statement = text("SELECT pid FROM marks WHERE name = :name ORDER BY at DESC LIMIT 1")
            return int(connection.execute(statement, {"name": name}).scalar_one())

    def release(self, name: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(text("INSERT INTO released VALUES (:name)"), {"name": name})


class SpareWorker:
    def __init__(self, container: Container, marks: Marks) -> None:
        self._container = container
        self.marks = marks
        self._celery = Celery(set_as_current=False)

    @property
    def container(self) -> Container:
        self._container.reload()
        return self._container

    def send(self, *, held: bool = False, ignore_result: bool = False) -> str:
        """Puts a task into the queue, over a connection of its own; the name by which its marks are found."""
        name = uuid4().hex[:8]
        # Named here: CELERY_BROKER_URL of the test-runner is stronger than what an application is made with.
        with self._celery.connection_for_write(url=BROKER) as connection:
            options: dict[str, Any] = {"connection": connection, "ignore_result": ignore_result}
            self._celery.send_task("drill.work", (name, held), task_id=name, **options)
        return name

    def send_held(self, *, ignore_result: bool = False) -> str:
        """A task that runs already, and goes on until it is released."""
        name = self.send(held=True, ignore_result=ignore_result)
        wait_until("the task has started", lambda: self.marks.starts(name) == 1, seconds=10)
        return name

    def await_end(self, name: str, *, seconds: float = 10) -> None:
        wait_until(f"the task {name} has ended", lambda: self.marks.ends(name) > 0, seconds=seconds)

    def execute(self, *command: str) -> tuple[int, str]:
        return execute(self.container, *command)

    def is_healthy(self) -> bool:
        """By the health check itself; the engine's word comes ten failures later."""
        return self.execute("/app/services/worker/healthcheck")[0] == 0

    def await_health(self, healthy: bool, *, seconds: float = 30) -> None:
        wait_until(
            f"the worker is {'' if healthy else 'un'}healthy",
            lambda: self.is_healthy() == healthy,
            seconds=seconds,
        )

    def start(self) -> None:
        """Where it was stopped or killed."""
        self._container.start()
        self.await_health(True)


def queue() -> Redis:
    return Redis.from_url(BROKER, decode_responses=True)


def left_in_redis() -> tuple[int, int]:
    """How many tasks wait in the queue, and how many are taken and not acknowledged."""
    with queue() as redis:
        waiting, taken = redis.llen(QUEUE), redis.hlen(UNACKED)
    assert isinstance(waiting, int)
    assert isinstance(taken, int)
    return waiting, taken


def asking() -> set[str]:
    """The connections over which workers wait for a task, by Redis's numbers of them."""
    with queue() as redis:
        clients = redis.client_list()
    return {each["id"] for each in clients if each["db"] == BROKER[-1] and "b" in each["flags"]}


def result(name: str) -> str:
    """The state of a task by the result backend; empty while there is none."""
    with queue() as redis:
        stored = redis.get(f"celery-task-meta-{name}")
    return str(json.loads(str(stored))["status"]) if stored else ""


@contextmanager
def spare_worker(stack: Stack, client: docker.DockerClient, marks_url: URL) -> Iterator[SpareWorker]:
    """Made, started, and removed with its volume, its marks and its queue."""
    worker = stack.service("worker").attrs["Config"]
    path = next(line.partition("=")[2] for line in worker["Env"] if line.startswith("PYTHONPATH="))
    environment = {
        "CELERY_BROKER_URL": BROKER,
        "CELERY_RESULT_BACKEND": BROKER,
        "PYTHONPATH": f"{path}:{FOLDER}",
        "DRILL_MARKS": marks_url.set(drivername="postgresql").render_as_string(hide_password=False),
    }
    command = [*worker["Cmd"], "--include", MODULE.stem]
    engine = create_engine(marks_url)
    try:
        with engine.begin() as connection:
            connection.execute(text(TABLES))
        files = {FOLDER: MODULE}
        with copy_of(client, stack, "worker", environment, files=files, command=command) as container:
            spare = SpareWorker(container, Marks(engine))
            try:
                spare.await_health(True)
                yield spare
            finally:
                log.info("the spare worker's log:\n%s", container.logs().decode())
    finally:
        engine.dispose()
        with queue() as redis:
            redis.flushdb()
