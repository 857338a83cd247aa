"""Routes of libraries and of what stands in them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, WithJsonSchema

from nexus import libraries, media
from nexus.api import answers
from nexus.api.answers import Answer, DataResponse
from nexus.api.deps import DEFAULT_LIMIT, CallerDep, Limit, Utf8Route
from nexus.api.errors import documented
from nexus.errors import (
    DefaultLibraryForbiddenError,
    ForbiddenError,
    LibraryNotFoundError,
    MediaNotFoundError,
    NameInvalidError,
)
from nexus.viewers import write_as

router = APIRouter(tags=["libraries"], route_class=Utf8Route)

#: What `str.strip` takes away, as every dialect of regular expressions reads it; each has another idea of \s.
_SPACE = r"\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
#: 1 to 100 characters, none of them a NUL, between spaces.
_NAME = rf"^[{_SPACE}]*[^{_SPACE}\u0000]([^\u0000]{{0,98}}[^{_SPACE}\u0000])?[{_SPACE}]*$"


def _storable(value: str) -> str:
    """JSON can spell what no UTF-8 holds, half a surrogate pair, and what no Postgres keeps, a NUL."""
    if "\0" in value or value != value.encode("utf-8", "ignore").decode():
        raise ValueError("must hold neither a NUL nor half a surrogate pair")
    return value


class LibraryName(BaseModel):
    """The body that names a library."""

    name: Annotated[
        str,
        AfterValidator(_storable),
        # For those who read the description. `checked` decides: too long is another code than malformed.
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                # And no maxLength, which would count the spaces at its ends.
                "pattern": _NAME,
                "description": "1 to 100 characters, not counting spaces at its ends",
                "examples": ["Books about tea"],
            }
        ),
    ]

    def checked(self) -> str:
        """The name without spaces at its ends.

        Raises:
            NameInvalidError: nothing is left, or more than 100 characters.
        """
        name = self.name.strip()
        if not 1 <= len(name) <= 100:
            raise NameInvalidError
        return name


class MediaId(BaseModel):
    """The body that names media."""

    media_id: UUID


_CHANGE = (ForbiddenError, LibraryNotFoundError)


@router.get("/libraries", response_model=Answer[list[answers.Library]], responses=documented())
async def list_libraries(caller: CallerDep, limit: Limit = DEFAULT_LIMIT) -> Response:
    """The viewer's libraries, the oldest first."""
    return DataResponse(await libraries.list_libraries(caller.database, caller.viewer, limit))


@router.post(
    "/libraries",
    status_code=201,
    response_model=Answer[answers.Library],
    responses=documented(NameInvalidError),
)
async def create_library(body: LibraryName, caller: CallerDep) -> Response:
    """Make a library; the viewer becomes its owner and admin."""
    name = body.checked()
    return DataResponse(await write_as(caller.database, caller.viewer, libraries.create_library, name), 201)


@router.patch(
    "/libraries/{library_id}",
    response_model=Answer[answers.Library],
    responses=documented(NameInvalidError, DefaultLibraryForbiddenError, *_CHANGE),
)
async def rename_library(library_id: UUID, body: LibraryName, caller: CallerDep) -> Response:
    """Give a library another name."""
    name = body.checked()
    changed = await write_as(caller.database, caller.viewer, libraries.rename_library, library_id, name)
    return DataResponse(changed)


@router.delete(
    "/libraries/{library_id}", status_code=204, responses=documented(DefaultLibraryForbiddenError, *_CHANGE)
)
async def delete_library(library_id: UUID, caller: CallerDep) -> Response:
    """Delete a library of which the viewer is the only member; the media stay."""
    await write_as(caller.database, caller.viewer, libraries.delete_library, library_id)
    return Response(status_code=204)


@router.get(
    "/libraries/{library_id}/media",
    response_model=Answer[list[answers.Media]],
    responses=documented(LibraryNotFoundError),
)
async def list_library_media(library_id: UUID, caller: CallerDep, limit: Limit = DEFAULT_LIMIT) -> Response:
    """What stands in a library, the latest first."""
    return DataResponse(await media.list_library_media(caller.database, caller.viewer, library_id, limit))


@router.post(
    "/libraries/{library_id}/media",
    status_code=201,
    response_model=Answer[answers.LibraryMedia],
    responses=documented(*_CHANGE, MediaNotFoundError),
)
async def add_media(library_id: UUID, body: MediaId, caller: CallerDep) -> Response:
    """Put media into a library and into the default library of each of its members."""
    added = await write_as(caller.database, caller.viewer, media.add_media, library_id, body.media_id)
    return DataResponse(added, 201)


@router.delete(
    "/libraries/{library_id}/media/{media_id}",
    status_code=204,
    responses=documented(*_CHANGE, MediaNotFoundError),
)
async def remove_media(library_id: UUID, media_id: UUID, caller: CallerDep) -> Response:
    """Take media out of a library; out of the default one means out of all that only the viewer uses."""
    await write_as(caller.database, caller.viewer, media.remove_media, library_id, media_id)
    return Response(status_code=204)
