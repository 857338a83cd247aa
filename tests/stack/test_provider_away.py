"""The identity provider is away, silent, back: an API beside the stack's, whose provider are these tests."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import docker
import httpx2
import pytest

from tests.api.jwks import AUDIENCE, ISSUER, Provider, ed_key
from tests.conftest import auth_headers
from tests.stack.load import Request, load
from tests.stack.report import Finding
from tests.stack.spare import NETWORK, copy_of, networks_of
from tests.stack.stack import Stack
from tests.stack.test_api_faults import RECOVERY, assert_answered, await_service, finding
from tests.waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.drill, pytest.mark.timeout(240)]

#: Of the provider, for every API of this file.
PORT = 8901


@pytest.fixture(scope="module")
def my_address(docker_client: docker.DockerClient) -> str:
    me = docker_client.containers.get(socket.gethostname())
    return str(networks_of(me)[NETWORK]["IPAddress"])


@pytest.fixture
def oidc_api(docker_client: docker.DockerClient, stack: Stack, my_address: str) -> Iterator[str]:
    """Its address. It has not asked for any key yet."""
    provider = {
        "AUTH_JWKS_URL": f"http://{my_address}:{PORT}/jwks",
        "AUTH_ISSUER": ISSUER,
        "AUTH_AUDIENCES": AUDIENCE,
    }
    with copy_of(docker_client, stack, "api", provider) as container:
        url = f"http://{container.name}:8000"
        wait_until("it is ready", lambda: ready(url), seconds=60)
        yield url


def ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/ready", timeout=10).status_code == 200
    except httpx2.TransportError:
        return False


def headers() -> dict[str, str]:
    """With a token that nobody has seen yet."""
    return auth_headers() | {"Authorization": f"Bearer {ed_key().token()}"}


def me() -> Request:
    return Request("GET", "/me")


@contextmanager
def silent(address: str) -> Iterator[None]:
    """Something that takes connections and never says a word."""
    with socket.create_server((address, PORT)):
        yield


@contextmanager
def absent(_: str) -> Iterator[None]:
    yield


@pytest.mark.parametrize("fault", [absent, silent])
def test_without_keys_it_says_so_in_time_and_recovers(
    fault: Callable[[str], object], oidc_api: str, my_address: str, stack: Stack, findings: list[Finding]
) -> None:
    with load(oidc_api, headers, me, clients=4) as running:
        with fault(my_address):  # type: ignore[attr-defined]
            wait_until("they are told", lambda: len(running.outcomes) >= 8, seconds=60)
            answer = httpx2.get(f"{oidc_api}/me", headers=headers(), timeout=20)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "E_AUTH_UNAVAILABLE")
            assert httpx2.get(f"{oidc_api}/health", timeout=10).status_code == 200
            assert ready(oidc_api)
        with Provider(ed_key(), host=my_address, port=PORT):
            back = stack.note_mended()
            await_service(running, back + RECOVERY)
    assert_answered(running, {200, 503})
    assert running.recovery(back) <= RECOVERY
    findings.append(finding(f"identity provider {fault.__name__}, no keys yet", running, back))


def test_with_keys_nobody_notices_that_it_is_away(
    oidc_api: str, my_address: str, findings: list[Finding]
) -> None:
    with Provider(ed_key(), host=my_address, port=PORT) as provider:
        wait_until(
            "each of its two processes has the keys",
            lambda: asked(oidc_api) == 200 and provider.fetches == 2,
            seconds=30,
        )
    with load(oidc_api, headers, me, clients=4) as running:
        await_service(running, 0)
        # A client's token is remembered for a while: new ones must be good too.
        assert [asked(oidc_api) for _ in range(10)] == [200] * 10
    assert_answered(running, {200})
    findings.append(finding("identity provider absent, keys known", running, time.monotonic()))


def asked(url: str) -> int:
    return httpx2.get(f"{url}/me", headers=headers(), timeout=20).status_code
