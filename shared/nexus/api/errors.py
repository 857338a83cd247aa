"""Turns every exception into the one envelope of the contract. The only place that does."""

import traceback
from collections.abc import Sequence
from typing import Any

import psycopg
import sqlalchemy.exc
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from nexus.errors import (
    AuthUnavailableError,
    InternalError,
    InternalOnlyError,
    InvalidRequestError,
    MethodNotAllowedError,
    NexusError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from nexus.log import get_logger

_BY_STATUS: dict[int, type[NexusError]] = {404: NotFoundError, 405: MethodNotAllowedError}
#: What is raised when Postgres is away, refuses us, is too slow, ends our statement, or is a standby.
_POSTGRES_IS_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    sqlalchemy.exc.TimeoutError,
)
_OF_THE_DATABASE = (psycopg.Error, sqlalchemy.exc.SQLAlchemyError)
#: The guards', the framework's, and those of the peers.
_OF_EVERY_ROUTE: tuple[type[NexusError], ...] = (
    *(InvalidRequestError, UnauthenticatedError, InternalOnlyError),
    *(InternalError, UnavailableError, AuthUnavailableError),
)

#: Part of the message where a transaction was given up and may have been committed.
CHANGE_NOT_KNOWN = " Whether a change was made is not known."

log = get_logger("nexus.api")


class ErrorDetail(BaseModel):
    code: str
    message: str


class ErrorAnswer(BaseModel):
    """Every failure: a code for programs, a message for people."""

    error: ErrorDetail


def documented(*errors: type[NexusError]) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` for a route behind the guards: what each of them can answer, and these errors.

    Each code has an example under its status.
    """
    statuses: dict[int | str, dict[str, Any]] = {}
    for error in sorted({*_OF_EVERY_ROUTE, *errors}, key=lambda error: (error.status, error.code)):
        answer = statuses.setdefault(
            error.status, {"model": ErrorAnswer, "content": {"application/json": {"examples": {}}}}
        )
        examples = answer["content"]["application/json"]["examples"]
        examples[error.code] = {"value": error().envelope()}
        answer["description"] = ", ".join(examples)
    return statuses


def translate(error: Exception) -> NexusError:
    """What the caller is told about an exception."""
    if isinstance(error, NexusError):
        return error
    if isinstance(error, RequestValidationError):
        return _shape_error(error.errors())
    if isinstance(error, HTTPException) and isinstance(error.__cause__, NexusError):
        return error.__cause__  # raised while FastAPI read the body
    if isinstance(error, HTTPException):
        return _BY_STATUS.get(error.status_code, InvalidRequestError)()
    if isinstance(error, _OF_THE_DATABASE):
        return _database_error(error)
    log.error("unforeseen", exc_info=error)
    return InternalError()


def _database_error(error: Exception) -> NexusError:
    cause = (error.orig or error) if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    kind, state = type(cause).__name__, getattr(cause, "sqlstate", None)
    if isinstance(cause, _POSTGRES_IS_AWAY):
        log.warning("Postgres is away", kind=kind, sqlstate=state, reason=str(cause).strip().split("\n")[0])
        # Lost in the middle of a transaction, perhaps of its COMMIT.
        lost = getattr(error, "connection_invalidated", False)
        return UnavailableError(f"Postgres is away, or too slow.{CHANGE_NOT_KNOWN if lost else ''}")
    # Its message may quote the row, and with it what somebody wrote.
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("unforeseen error of the database", kind=kind, sqlstate=state, where=where)
    return InternalError()


def _shape_error(faults: Sequence[Any]) -> InvalidRequestError:
    first = faults[0]
    place = ".".join(str(part) for part in first["loc"])
    return InvalidRequestError(f"{place}: {first['msg'].removeprefix('Value error, ')}")


def error_response(error: NexusError, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(error.envelope(), error.status, error.headers | (headers or {}))


async def _handle(request: Request, error: Exception) -> JSONResponse:
    answer = translate(error)
    headers = {"Allow": _allowed(request)} if isinstance(answer, MethodNotAllowedError) else None
    return error_response(answer, headers)


def _allowed(request: Request) -> str:
    """Every method of this path (RFC 9110, 15.5.6). Starlette names those of the first route that has it."""
    path = request.scope["path"]
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.methods and route.path_regex.match(path):
            methods |= route.methods
    return ", ".join(sorted(methods))


def add_error_handlers(app: FastAPI) -> None:
    """For what routes raise. What is raised elsewhere reaches RequestMiddleware, which translates too."""
    for kind in (NexusError, HTTPException, RequestValidationError, *_OF_THE_DATABASE):
        app.add_exception_handler(kind, _handle)
