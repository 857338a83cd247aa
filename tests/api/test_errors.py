"""Every failure is `{"error": {"code", "message"}}` with its code's status; the header is checked first."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy.engine import URL

from nexus.api.app import create_app
from nexus.auth.local import LocalIssuer
from nexus.config import Settings
from nexus.errors import UnavailableError
from tests.api.conftest import failure
from tests.conftest import settings_for

pytestmark = pytest.mark.anyio

SECRET = "the secret of this test"  # noqa: S105


class Body(BaseModel):
    name: str


def add_test_routes(app: FastAPI) -> None:
    """Routes that fail in each way a route can, a crash of our own code included."""

    @app.post("/test/shape")
    async def shape(body: Body) -> dict[str, str]:
        return {"data": body.name}

    @app.get("/test/crash")
    async def crash() -> None:
        raise ZeroDivisionError("the message of a stranger")

    @app.get("/test/away")
    async def away() -> None:
        raise UnavailableError("Postgres is away.")


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    own = settings_for(settings, settings.database_url, NEXUS_INTERNAL_SECRET=SECRET)
    app = create_app(own)
    add_test_routes(app)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {LocalIssuer(own).mint(uuid4())}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://nexus", headers=headers) as client:
        yield client


INSIDE = {"X-Nexus-Internal": SECRET}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Nexus-Internal": ""},
        {"X-Nexus-Internal": "wrong"},
        {"X-Nexus-Internal": SECRET + "x"},
        {"X-Nexus-Internal": SECRET[:-1]},
        {"X-Nexus-Internal": SECRET.upper()},
    ],
)
@pytest.mark.parametrize("path", ["/", "/nowhere", "/test/crash", "/health/", "/ready/x", "//health"])
async def test_without_the_right_header_nothing_is_told(
    headers: dict[str, str], path: str, http: httpx2.AsyncClient
) -> None:
    response = await http.get("http://nexus" + path, headers=headers)
    assert failure(response) == (403, "E_INTERNAL_ONLY")


async def test_a_header_sent_twice_is_none(http: httpx2.AsyncClient) -> None:
    twice = [("X-Nexus-Internal", SECRET), ("X-Nexus-Internal", "wrong")]
    assert failure(await http.get("/nowhere", headers=twice)) == (403, "E_INTERNAL_ONLY")


@pytest.mark.parametrize("path", ["/health", "/openapi.json"])
async def test_public_paths_need_no_header(path: str, http: httpx2.AsyncClient) -> None:
    assert (await http.get(path)).status_code == 200


async def test_the_description_is_not_public_in_production(settings: Settings) -> None:
    own = settings.database_url.set(password="own")  # noqa: S106
    provider = {"AUTH_JWKS_URL": "http://localhost:1/", "AUTH_ISSUER": "us", "AUTH_AUDIENCES": "nexus"}
    prod = settings_for(settings, own, NEXUS_ENV="prod", NEXUS_INTERNAL_SECRET=SECRET, **provider)
    transport = httpx2.ASGITransport(create_app(prod))
    async with httpx2.AsyncClient(transport=transport, base_url="http://nexus") as client:
        assert failure(await client.get("/openapi.json")) == (403, "E_INTERNAL_ONLY")
        headers = {"X-Nexus-Internal": SECRET}
        assert failure(await client.get("/openapi.json", headers=headers)) == (401, "E_UNAUTHENTICATED")


async def test_an_unknown_path(http: httpx2.AsyncClient) -> None:
    assert failure(await http.get("/nowhere", headers=INSIDE)) == (404, "E_NOT_FOUND")


async def test_a_slash_too_many_is_another_path(http: httpx2.AsyncClient) -> None:
    assert failure(await http.get("/health/", headers=INSIDE)) == (404, "E_NOT_FOUND")


async def test_a_wrong_method_says_which_are_right(http: httpx2.AsyncClient) -> None:
    response = await http.post("/health", headers=INSIDE)
    assert failure(response) == (405, "E_METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"name": 1}', b'{"nom": "x"}', b"\xff\xfe", b'{"name": "\xff"}', b"null"]
)
async def test_a_malformed_body_is_400_and_never_422_or_500(content: bytes, http: httpx2.AsyncClient) -> None:
    headers = INSIDE | {"Content-Type": "application/json"}
    response = await http.post("/test/shape", content=content, headers=headers)
    assert failure(response) == (400, "E_INVALID_REQUEST")


async def test_a_peer_that_is_away(http: httpx2.AsyncClient) -> None:
    assert failure(await http.get("/test/away", headers=INSIDE)) == (503, "E_UNAVAILABLE")


async def test_a_crash_tells_nothing_of_its_cause(http: httpx2.AsyncClient) -> None:
    response = await http.get("/test/crash", headers=INSIDE)
    assert failure(response) == (500, "E_INTERNAL")
    assert "stranger" not in response.text


def test_the_database_is_not_needed_to_make_an_app(settings: Settings, fresh_db: URL) -> None:
    assert create_app(settings_for(settings, fresh_db.set(host="127.0.0.1", port=1))).title == "Nexus"
