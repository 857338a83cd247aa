"""The answers, as pydantic models that read ORM objects."""

from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from nexus.db.models import ProcessingStatus

T = TypeVar("T")


class Data(BaseModel, Generic[T]):
    data: T


class Me(BaseModel):
    user_id: UUID
    default_library_id: UUID


class Media(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    kind: str
    title: str
    canonical_source_url: str | None
    processing_status: ProcessingStatus
    created_at: datetime
    updated_at: datetime
