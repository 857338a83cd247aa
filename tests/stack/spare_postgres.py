"""A Postgres beside the disposable stack, to be harmed without harming that."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import docker
import psycopg
from docker.models.containers import Container
from sqlalchemy.engine import URL, make_url

from nexus.db.engine import connection_parameters
from tests.stack.stack import DISPOSABLE, GRACE, Stack
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
        code, output = self._container.exec_run(list(command))
        assert code == 0, output
        assert isinstance(output, bytes)
        return output.decode()

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
    model = stack.service("postgres")
    host, networks = model.attrs["HostConfig"], model.attrs["NetworkSettings"]["Networks"]
    password = "spare"  # noqa: S105
    name = f"nexus-spare-postgres-{uuid4().hex[:8]}"
    environment = dict(line.split("=", 1) for line in model.attrs["Config"]["Env"])
    environment |= {"POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": password, "POSTGRES_DB": "nexus_spare"}
    container = client.containers.run(
        model.attrs["Config"]["Image"],
        name=name,
        detach=True,
        user=model.attrs["Config"]["User"],
        environment=environment,
        network=next(iter(networks)),
        labels={DISPOSABLE: "true", **_project_of(model)},
        read_only=True,
        cap_drop=["ALL"],
        security_opt=host["SecurityOpt"],
        mem_limit=host["Memory"],
        shm_size=host["ShmSize"],
        tmpfs=host["Tmpfs"] | tmpfs,
        volumes=["/var/lib/postgresql/data"],
    )
    try:
        url = make_url(f"postgresql+psycopg://postgres:{password}@{name}:5432/nexus_spare")
        spare = SparePostgres(container, url)
        spare.await_answer()
        yield spare
    finally:
        container.remove(force=True, v=True)


def _project_of(model: Container) -> dict[str, str]:
    """The project alone: tear-down finds it, and nobody takes it for one of the stack's services."""
    label = "com.docker.compose.project"
    return {label: model.labels[label]}
