"""A Postgres beside the disposable stack, to be harmed without harming that."""

from collections.abc import Iterator
from contextlib import contextmanager

import docker
import psycopg
from docker.models.containers import Container
from sqlalchemy.engine import URL, make_url

from nexus.db.engine import connection_parameters
from tests.stack.execution import execute
from tests.stack.spare import copy_of
from tests.stack.stack import GRACE, Stack
from tests.waiting import wait_until


class SparePostgres:
    """The image, settings and hardening of the stack's own, with a volume of its own."""

    def __init__(self, container: Container, url: URL) -> None:
        self._container = container
        self.url = url

    def await_answer(self) -> None:
        def answers() -> bool:
            try:
                psycopg.connect(**connection_parameters(self.url)).close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until("the spare Postgres answers", answers, seconds=60)

    def execute(self, *command: str) -> str:
        code, output = execute(self._container, *command)
        assert code == 0, output
        return output

    def kill_session(self, pid: int) -> None:
        """SIGKILL to one process of the server, upon which that ends all the others and recovers."""
        self.execute("bash", "-c", f"kill -KILL {pid}")

    def restart(self) -> None:
        self._container.restart(timeout=GRACE)

    def lose_power(self) -> None:
        self._container.kill()
        self._container.start()


@contextmanager
def spare_postgres(
    client: docker.DockerClient, stack: Stack, tmpfs: dict[str, str]
) -> Iterator[SparePostgres]:
    """One of these, gone at the end.

    Args:
        tmpfs: more file systems in memory, by path.
    """
    settings = {"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": "spare", "POSTGRES_DB": "nexus_spare"}
    volumes = ["/var/lib/postgresql/data"]
    with copy_of(client, stack, "postgres", settings, tmpfs=tmpfs, volumes=volumes) as container:
        url = make_url(f"postgresql+psycopg://postgres:spare@{container.name}:5432/nexus_spare")
        spare = SparePostgres(container, url)
        spare.await_answer()
        yield spare
