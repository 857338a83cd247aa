"""Turns every exception into the one envelope of the contract. The only place that does."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from nexus.errors import (
    InternalError,
    InvalidRequestError,
    MethodNotAllowedError,
    NexusError,
    NotFoundError,
)

_BY_STATUS: dict[int, type[NexusError]] = {404: NotFoundError, 405: MethodNotAllowedError}


def _answer(error: NexusError, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(error.envelope(), error.status, headers)


async def _nexus_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NexusError)  # noqa: S101  for mypy: registered for this class only
    return _answer(error)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    known = _BY_STATUS.get(error.status_code, InvalidRequestError)
    # 405 must carry Allow (RFC 9110, 15.5.6); Starlette puts it into the headers.
    return _answer(known(), dict(error.headers or {}))


async def _shape_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _answer(InvalidRequestError(f"{place}: {first['msg']}"))


async def _unforeseen(_: Request, __: Exception) -> JSONResponse:
    # Starlette raises it again after the answer, so that the server logs the traceback.
    return _answer(InternalError())


def add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(NexusError, _nexus_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _shape_error)
    app.add_exception_handler(Exception, _unforeseen)
