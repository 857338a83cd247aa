"""What the routes answer with. Postgres writes it as JSON (nexus/db/json.py); tests hold the two together."""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from nexus.db.models import ProcessingStatus

T = TypeVar("T")

_EXAMPLE_TIME = "2026-11-25T09:30:00.000000Z"
Time = Annotated[datetime, Field(description="ISO 8601 in UTC", examples=[_EXAMPLE_TIME])]


class Answer(BaseModel, Generic[T]):
    """Every success but 204: what was asked for stands in `data`."""

    data: T


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Me(_Row):
    user_id: UUID
    default_library_id: UUID


class Library(_Row):
    id: UUID
    name: str
    owner_user_id: UUID
    is_default: bool
    role: Annotated[Literal["admin", "member"], Field(description="the viewer's role in it")]
    created_at: Time
    updated_at: Time


class Media(_Row):
    id: UUID
    kind: Literal["web_article", "epub", "pdf", "video", "podcast_episode"]
    title: str
    canonical_source_url: str | None
    processing_status: ProcessingStatus
    created_at: Time
    updated_at: Time


class Fragment(_Row):
    id: UUID
    media_id: UUID
    idx: int
    html_sanitized: str
    canonical_text: str
    created_at: Time


class LibraryMedia(_Row):
    library_id: UUID
    media_id: UUID
    created_at: Time


class DataResponse(Response):
    """JSON that is written already, in its envelope."""

    media_type = "application/json"

    def render(self, content: bytes | str) -> bytes:
        body = content.encode() if isinstance(content, str) else content
        return b'{"data":' + body + b"}"
