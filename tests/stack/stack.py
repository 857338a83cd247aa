"""The disposable stack as the Docker engine sees it, and the verbs that harm it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import docker
from docker.models.containers import Container
from docker.models.networks import Network

from tests.stack.execution import execute
from tests.waiting import wait_until

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"
DISPOSABLE = "nexus.disposable"
#: Seconds that a container gets to stop by itself; above every stop_grace_period of compose.yml.
GRACE = 40

Change = Callable[[Container], object]


class Stack:
    """The containers of the compose project that this test-runner belongs to."""

    def __init__(self, client: docker.DockerClient, project: str) -> None:
        self._client = client
        self._project = project
        #: When the last harm was mended, by time.monotonic().
        self.mended = 0.0

    def containers(self) -> dict[str, Container]:
        """By service, without one-off containers such as the test-runner itself."""
        found = self._client.containers.list(
            all=True, filters={"label": [f"{PROJECT}={self._project}", f"{ONE_OFF}=False"]}
        )
        return {container.labels[SERVICE]: container for container in found}

    def service(self, name: str) -> Container:
        container = self.containers()[name]
        container.reload()
        return container

    def state(self, name: str) -> dict[str, object]:
        return dict(self.service(name).attrs["State"])

    def health(self, name: str) -> str:
        health = self.state(name)["Health"]
        assert isinstance(health, dict)
        return str(health["Status"])

    def await_health(self, name: str, status: str, *, seconds: float = 60) -> None:
        wait_until(f"{name} is {status}", lambda: self.health(name) == status, seconds=seconds)

    def execute(self, name: str, *command: str) -> tuple[int, str]:
        return execute(self.service(name), *command)

    def note_mended(self) -> float:
        """Now, if a harm that is none of these verbs was mended."""
        self.mended = time.monotonic()
        return self.mended

    def processes(self, name: str, command: str) -> set[str]:
        """The pids, as the host numbers them, of its processes with these words in their command line."""
        top = self.service(name).top()
        pid, line = top["Titles"].index("PID"), top["Titles"].index("CMD")
        return {row[pid] for row in top["Processes"] if command in row[line]}

    @contextmanager
    def _harmed(self, name: str, harm: Change, mend: Change) -> Iterator[None]:
        container = self.service(name)
        harm(container)
        try:
            yield
        finally:
            mend(container)
            self.note_mended()
            self.await_health(name, "healthy")

    @contextmanager
    def killed(self, name: str) -> Iterator[None]:
        """SIGKILL; started again afterwards, since the engine restarts nothing that was killed through it."""
        with self._harmed(name, Container.kill, Container.start):
            yield

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """SIGTERM, and whatever grace it needs; started again afterwards."""
        with self._harmed(name, lambda container: container.stop(timeout=GRACE), Container.start):
            yield

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Paused: the connections stay open and nobody answers."""
        with self._harmed(name, Container.pause, Container.unpause):
            yield

    @contextmanager
    def cut_off(self, name: str) -> Iterator[None]:
        """Without a network: what others send it goes nowhere, and its name does not resolve."""
        networks = self._networks(self.service(name))

        def disconnect(container: Container) -> None:
            for network, _ in networks:
                network.disconnect(container, force=True)

        def reconnect(container: Container) -> None:
            # Without its aliases it would not be found by the name of its service.
            for network, aliases in networks:
                network.connect(container, aliases=aliases)

        with self._harmed(name, disconnect, reconnect):
            yield

    def restart(self, name: str) -> None:
        """At once, with nothing of what it held in memory."""
        container = self.service(name)
        container.restart(timeout=0)
        self.note_mended()
        self.await_health(name, "healthy")

    @contextmanager
    def moved(self, name: str) -> Iterator[None]:
        """To another address, in the network that its clients share besides, and back afterwards.

        What clients send to the address that was left goes nowhere, and nobody tells them.
        """
        container = self.service(name)
        ((home, aliases),) = self._networks(container)
        elsewhere = self._client.networks.get(f"{self._project}_default")
        self._move(container, aliases, home, elsewhere)
        try:
            yield
        finally:
            self._move(container, aliases, elsewhere, home)

    def _move(self, container: Container, aliases: list[str], left: Network, joined: Network) -> None:
        left.disconnect(container, force=True)
        joined.connect(container, aliases=aliases)
        self.note_mended()

    def _networks(self, container: Container) -> list[tuple[Network, list[str]]]:
        joined = container.attrs["NetworkSettings"]["Networks"]
        return [(self._client.networks.get(name), each["Aliases"]) for name, each in joined.items()]
