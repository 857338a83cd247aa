"""Route of the viewer."""

from fastapi import APIRouter, Response

from nexus import viewers
from nexus.api import answers
from nexus.api.answers import Answer, DataResponse
from nexus.api.deps import CallerDep
from nexus.api.errors import documented

router = APIRouter(tags=["viewer"])


@router.get("/me", response_model=Answer[answers.Me], responses=documented())
async def me(caller: CallerDep) -> Response:
    """Who the viewer is, and which library is theirs by default."""
    return DataResponse(await viewers.describe_viewer(caller.database, caller.viewer))
