"""Fixtures of the tests that drive Docker. They do harm, and only ever to the disposable stack."""

import socket
from collections.abc import Callable, Iterator
from uuid import uuid4

import docker
import httpx2
import pytest

from nexus.auth.local import LocalIssuer
from nexus.config import Settings
from tests.conftest import auth_headers
from tests.stack import report
from tests.stack.report import Finding
from tests.stack.stack import DISPOSABLE, PROJECT, Stack
from tests.waiting import wait_until

FINDINGS = pytest.StashKey[list[Finding]]()


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


@pytest.fixture(scope="session")
def findings(request: pytest.FixtureRequest) -> list[Finding]:
    """What drills add their figures to; shown at the end of the run."""
    return request.config.stash.setdefault(FINDINGS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = terminalreporter.config.stash.get(FINDINGS, [])
    if found:
        terminalreporter.section("what the faults did")
        for line in [*report.table(found), report.line(found)]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def headers(settings: Settings) -> Callable[[], dict[str, str]]:
    """What a new user's requests to the API of the stack carry, each time another user's."""
    issuer = LocalIssuer(settings)
    return lambda: auth_headers() | {"Authorization": f"Bearer {issuer.mint(uuid4())}"}


def readiness(api_url: str) -> tuple[int, dict[str, str]]:
    """The status of /ready and that of each part. A refused connection counts as status 0."""
    try:
        response = httpx2.get(f"{api_url}/ready", timeout=20)
    except httpx2.TransportError:
        return 0, {}
    body = response.json()
    # None where the whole request was given up.
    checks = (body.get("data") or body["error"]).get("checks", {})
    return response.status_code, {name: part["status"] for name, part in checks.items()}


@pytest.fixture(autouse=True)
def whole_stack(stack: Stack, api_url: str) -> Iterator[None]:
    """Every test starts from, and must leave behind, a stack that is well."""
    _await_whole(stack, api_url)
    yield
    _await_whole(stack, api_url)


def await_readiness(api_url: str, status: int, failed: set[str]) -> None:
    """Until /ready answers so and names these parts as failed."""

    def matches() -> bool:
        code, parts = readiness(api_url)
        return code == status and {name for name, state in parts.items() if state == "failed"} == failed

    wait_until(f"/ready is {status} with {failed or 'nothing'} failed", matches, seconds=30)


def _await_whole(stack: Stack, api_url: str) -> None:
    for name in ("postgres", "redis", "api", "worker"):
        stack.await_health(name, "healthy")
    wait_until("the API is ready", lambda: readiness(api_url)[0] == 200, seconds=30)
