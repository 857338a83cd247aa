"""The running stack as the Docker engine sees it, and verbs that harm it. Only ever the disposable one."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import httpx2
import pytest
from docker.models.containers import Container

from tests.waiting import wait_until

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"
DISPOSABLE = "nexus.disposable"


class Stack:
    """The containers of the compose project that this test-runner belongs to."""

    def __init__(self, client: docker.DockerClient, project: str) -> None:
        self._client = client
        self._project = project

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
        code, output = self.service(name).exec_run(list(command))
        assert isinstance(output, bytes)
        assert code is not None
        return code, output.decode()

    @contextmanager
    def killed(self, name: str) -> Iterator[None]:
        """SIGKILL; started again afterwards, since the engine restarts nothing that was killed through it."""
        self.service(name).kill()
        try:
            yield
        finally:
            self.service(name).start()
            self.await_health(name, "healthy")

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Paused: the connections stay open and nobody answers."""
        self.service(name).pause()
        try:
            yield
        finally:
            self.service(name).unpause()
            self.await_health(name, "healthy")


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    """Fails, never skips, where there is no Docker engine."""
    client = docker.from_env()
    client.ping()
    yield client
    client.close()


@pytest.fixture(scope="session")
def stack(docker_client: docker.DockerClient) -> Stack:
    """The disposable stack around us; refuses any other."""
    me = docker_client.containers.get(socket.gethostname())
    found = Stack(docker_client, me.labels[PROJECT])
    for container in [me, *found.containers().values()]:
        if container.labels.get(DISPOSABLE) != "true":
            pytest.exit(
                f"{container.name} is not marked disposable (label {DISPOSABLE}): these tests do harm, "
                "and run only against compose.ci.yml. Use 'make test' or 'make drill'",
                returncode=3,
            )
    return found


def readiness(api_url: str) -> tuple[int, dict[str, str]]:
    """The status of /ready and that of each part. A refused connection counts as status 0."""
    try:
        response = httpx2.get(f"{api_url}/ready", timeout=20)
    except httpx2.TransportError:
        return 0, {}
    body = response.json()
    checks = (body.get("data") or body["error"])["checks"]
    return response.status_code, {name: part["status"] for name, part in checks.items()}


@pytest.fixture(autouse=True)
def whole_stack(stack: Stack, api_url: str) -> Iterator[None]:
    """Every test starts from, and must leave behind, a stack that is well."""
    _await_whole(stack, api_url)
    yield
    _await_whole(stack, api_url)


def _await_whole(stack: Stack, api_url: str) -> None:
    for name in ("postgres", "redis", "api", "worker"):
        stack.await_health(name, "healthy")
    wait_until("the API is ready", lambda: readiness(api_url)[0] == 200, seconds=30)
