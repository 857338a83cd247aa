"""The API of the running stack, over real HTTP: gunicorn, the header, the answers."""

import socket

import httpx2
import pytest

from tests.conftest import auth_headers


def test_it_is_healthy_and_ready(api_url: str) -> None:
    assert httpx2.get(f"{api_url}/health").json() == {"data": {"status": "ok"}}
    ready = httpx2.get(f"{api_url}/ready")
    assert ready.status_code == 200
    assert set(ready.json()["data"]["checks"]) == {"postgres", "schema", "redis"}


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 403, "E_INTERNAL_ONLY"),
        ({"X-Nexus-Internal": "wrong"}, 403, "E_INTERNAL_ONLY"),
        (None, 401, "E_UNAUTHENTICATED"),
    ],
)
def test_the_internal_header(headers: dict[str, str] | None, status: int, code: str, api_url: str) -> None:
    response = httpx2.get(f"{api_url}/nowhere", headers=auth_headers() if headers is None else headers)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_bytes_that_are_no_http_do_not_hurt_it(api_url: str) -> None:
    url = httpx2.URL(api_url)
    with socket.create_connection((url.host, url.port or 80), timeout=10) as raw:
        raw.sendall(b"\x16\x03\x01 no http at all\r\n\r\n")
        assert raw.recv(64).startswith((b"HTTP/1.1 400", b""))
    assert httpx2.get(f"{api_url}/health").status_code == 200


def test_it_knows_that_its_worker_consumes(api_url: str) -> None:
    page = httpx2.get(f"{api_url}/metrics", headers=auth_headers())
    assert page.status_code == 200
    assert "\nnexus_workers 1.0\n" in page.text
