"""The API has these routes and no others, and all but the public ones ask for the internal header."""

import asyncio
import re
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from nexus.api.app import create_app
from nexus.auth.local import LocalIssuer
from nexus.config import Settings

SECRET = "a-secret-of-the-tests"  # noqa: S105  of this file only
ABSENT = "redis://localhost:1/0"

#: Answer everybody, in every environment.
PUBLIC = {"GET /health", "GET /ready"}
#: Answer everybody who has the internal header, in every environment.
MACHINES = {"GET /metrics"}
#: Answer everybody in local and test, and do not exist elsewhere.
DESCRIPTION = {
    "GET /openapi.json",
    "GET /docs",
    "GET /redoc",
    "GET /docs/oauth2-redirect",
    "MOUNT /docs/assets",
}
#: Whoever adds a route adds a line here.
ROUTES = (
    PUBLIC
    | MACHINES
    | {
        "GET /me",
        "GET /libraries",
        "POST /libraries",
        "PATCH /libraries/{library_id}",
        "DELETE /libraries/{library_id}",
        "GET /libraries/{library_id}/media",
        "POST /libraries/{library_id}/media",
        "DELETE /libraries/{library_id}/media/{media_id}",
        "GET /media/{media_id}",
        "GET /media/{media_id}/fragments",
    }
)


def settings_in(environment: str) -> Settings:
    values: dict[str, str] = {
        "NEXUS_ENV": environment,
        "NEXUS_INTERNAL_SECRET": SECRET,
        "DATABASE_URL": "postgresql+psycopg://nobody:known-to-nobody@localhost:1/nothing",
        "REDIS_URL": ABSENT,
        "CELERY_BROKER_URL": ABSENT,
        "CELERY_RESULT_BACKEND": ABSENT,
    }
    if environment in {"staging", "prod"}:
        values |= {"AUTH_JWKS_URL": "http://localhost:1/", "AUTH_ISSUER": "us", "AUTH_AUDIENCES": "nexus"}
    return Settings.model_validate(values)


def app_in(environment: str) -> FastAPI:
    return create_app(settings_in(environment))


def routes(app: FastAPI) -> set[str]:
    """`GET /path` of every route, those that the description leaves out included."""
    return {
        f"{method} {route.path}"
        for route in iter_route_contexts(app.routes)
        # A mounted application has no methods, and would be out of this list's sight.
        for method in (route.methods or {"MOUNT"}) - {"HEAD"}
    }


def status(app: FastAPI, route: str, headers: dict[str, str] | None = None) -> int:
    method, path = re.sub(r"\{\w+\}", str(UUID(int=0)), route).split(" ", 1)
    if method == "MOUNT":
        method, path = "GET", f"{path}/swagger-ui.css"

    async def ask() -> int:
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://nexus") as client:
            return (await client.request(method, path, headers=headers)).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ("local", ROUTES | DESCRIPTION),
        ("test", ROUTES | DESCRIPTION),
        ("staging", ROUTES),
        ("prod", ROUTES),
    ],
)
def test_the_api_has_these_routes_and_no_others(environment: str, wanted: set[str]) -> None:
    assert routes(app_in(environment)) == wanted


@pytest.mark.parametrize("environment", ["local", "prod"])
@pytest.mark.parametrize("headers", [{}, {"X-Nexus-Internal": "wrong"}, {"X-Nexus-Internal": ""}])
def test_every_route_but_the_public_ones_refuses_strangers(environment: str, headers: dict[str, str]) -> None:
    app = app_in(environment)
    # Where there is no route, a stranger must not learn that either.
    asked = routes(app) | DESCRIPTION | {"GET /nothing-here", "POST /"}
    open_to_all = {route for route in asked if status(app, route, headers) != 403}
    assert open_to_all == PUBLIC | (DESCRIPTION if environment == "local" else set())


@pytest.mark.parametrize("environment", ["local", "prod"])
def test_every_route_for_users_asks_for_a_token_next(environment: str) -> None:
    app = app_in(environment)
    asked = (routes(app) - DESCRIPTION - PUBLIC) | {"GET /nothing-here", "POST /"}
    answers = {route: status(app, route, {"X-Nexus-Internal": SECRET}) for route in asked}
    assert answers == dict.fromkeys(asked - MACHINES, 401) | dict.fromkeys(MACHINES, 200)


def test_header_and_token_let_in() -> None:
    app = app_in("local")
    token = LocalIssuer(settings_in("local")).mint(UUID(int=1))
    headers = {"X-Nexus-Internal": SECRET, "Authorization": f"Bearer {token}"}
    assert status(app, "GET /nothing-here", headers) == 404
