"""Routes of media. None makes any: that is the next slice's."""

from uuid import UUID

from fastapi import APIRouter, Response

from nexus import media
from nexus.api import answers
from nexus.api.answers import Answer, DataResponse
from nexus.api.deps import CallerDep
from nexus.api.errors import documented
from nexus.errors import MediaNotFoundError

router = APIRouter(tags=["media"], responses=documented(MediaNotFoundError))


@router.get("/media/{media_id}", response_model=Answer[answers.Media])
async def get_media(media_id: UUID, caller: CallerDep) -> Response:
    """One media item, if it stands in a library of the viewer's."""
    return DataResponse(await media.get_media(caller.database, caller.viewer, media_id))


@router.get("/media/{media_id}/fragments", response_model=Answer[list[answers.Fragment]])
async def list_fragments(media_id: UUID, caller: CallerDep) -> Response:
    """The text of a media item, in reading order."""
    return DataResponse(await media.list_fragments(caller.database, caller.viewer, media_id))
