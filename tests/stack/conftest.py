"""Fixtures of the tests that drive Docker. They do harm, and only ever to the disposable stack."""

import socket
from collections.abc import Iterator

import docker
import httpx2
import pytest

from tests.stack.stack import DISPOSABLE, PROJECT, Stack
from tests.waiting import wait_until


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
