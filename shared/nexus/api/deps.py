"""What routes ask for: who calls, with which database, and the parameters that several of them share."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BeforeValidator, Field

from nexus.db.database import Database

#: `limit` without one, and its cap.
DEFAULT_LIMIT, MAX_LIMIT = 100, 200


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified viewer of a request, and the database of this process."""

    viewer: UUID
    database: Database


# One dependency for both, and no thread for it: each dependency costs every request some microseconds.
async def _caller(request: Request) -> Caller:
    return Caller(request.scope["nexus.viewer"], request.app.state.database)


CallerDep = Annotated[Caller, Depends(_caller)]


class _Utf8Request(Request):
    async def json(self) -> Any:
        # Given bytes, json.loads would take UTF-16 and UTF-32 too.
        return json.loads((await self.body()).decode("utf-8"))


class Utf8Route(APIRoute):
    """A route whose body is JSON in UTF-8, as RFC 8259 has it, and in nothing else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_utf8(request: Request) -> Response:
            return await handle(_Utf8Request(request.scope, request.receive))

        return handle_utf8


def _integer(value: Any) -> Any:
    # pydantic alone would take "1.0", " 1" and "1_0" for integers too.
    if isinstance(value, str) and not value.removeprefix("-").isdecimal():
        raise ValueError("must be an integer")
    return value


Limit = Annotated[
    int,
    BeforeValidator(_integer, json_schema_input_type=Annotated[int, Field(ge=1)]),
    Query(ge=1, description=f"at most so many; more than {MAX_LIMIT} means {MAX_LIMIT}"),
    AfterValidator(lambda value: min(value, MAX_LIMIT)),
]
