"""GET /health and GET /ready, the public probes."""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from nexus.errors import UnavailableError
from nexus.health import Part, Probe

router = APIRouter(tags=["probes"])


class Health(BaseModel):
    status: Literal["ok"]


class HealthAnswer(BaseModel):
    data: Health


class PartState(BaseModel):
    status: Literal["ok", "failed"]
    detail: str


class Readiness(BaseModel):
    status: Literal["ready"]
    checks: dict[str, PartState]


class ReadyAnswer(BaseModel):
    data: Readiness


class UnreadyError(BaseModel):
    code: Literal["E_UNAVAILABLE"]
    message: str
    checks: dict[str, PartState]


class UnreadyAnswer(BaseModel):
    error: UnreadyError


@router.get("/health", response_model=HealthAnswer)
async def health() -> JSONResponse:
    """Whether this process answers. Asks nobody else: a restart would not mend Postgres."""
    return JSONResponse({"data": {"status": "ok"}})


_EXAMPLE = {
    "error": {
        "code": "E_UNAVAILABLE",
        "message": "Not ready: redis (is out of reach).",
        "checks": {"redis": {"status": "failed", "detail": "is out of reach"}},
    }
}
_UNREADY: dict[int | str, dict[str, Any]] = {
    503: {
        "model": UnreadyAnswer,
        "description": "E_UNAVAILABLE",
        "content": {"application/json": {"examples": {"E_UNAVAILABLE": {"value": _EXAMPLE}}}},
    }
}


@router.get("/ready", response_model=ReadyAnswer, responses=_UNREADY)
async def ready(request: Request) -> JSONResponse:
    """Whether this process can do its work: Postgres, Redis and the schema revision, each bounded in time."""
    probes: list[Probe] = request.app.state.probes
    results = await asyncio.gather(*(probe() for probe in probes))
    parts = [part for result in results for part in result]
    checks = {part.name: part.as_json() for part in parts}
    failed = [part for part in parts if not part.ok]
    if not failed:
        return JSONResponse({"data": {"status": "ready", "checks": checks}})
    return _unready(failed, checks)


def _unready(failed: list[Part], checks: dict[str, dict[str, str]]) -> JSONResponse:
    error = UnavailableError(
        "Not ready: " + "; ".join(f"{part.name} ({part.detail})" for part in failed) + "."
    )
    body = {"error": {"code": error.code, "message": error.text, "checks": checks}}
    return JSONResponse(body, error.status)
