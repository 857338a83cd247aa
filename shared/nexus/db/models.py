"""The tables of revision 0002 as SQLAlchemy maps them. No business logic, no transitions.

Columns stand in the order the database has them; a test compares the whole catalog of these models with
that of the migrated database. Constraints without a name take the one Postgres gives.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ENUM, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class ProcessingStatus(StrEnum):
    pending = "pending"
    extracting = "extracting"
    ready_for_reading = "ready_for_reading"
    embedding = "embedding"
    ready = "ready"
    failed = "failed"


class FailureStage(StrEnum):
    upload = "upload"
    extract = "extract"
    transcribe = "transcribe"
    embed = "embed"
    other = "other"


def _labels(enum: type[StrEnum]) -> list[str]:
    return [member.value for member in enum]


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy declares it as an instance attribute
        str: Text,
        datetime: TIMESTAMP(timezone=True),
        # By value and under the names the migrations give; SQLAlchemy's default would be `processingstatus`.
        ProcessingStatus: ENUM(ProcessingStatus, name="processing_status", values_callable=_labels),
        FailureStage: ENUM(FailureStage, name="failure_stage", values_callable=_labels),
    }


def _id() -> Mapped[UUID]:
    return mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))


def _now() -> Mapped[datetime]:
    return mapped_column(server_default=text("now()"))


def _cascade(target: str, **options: Any) -> Mapped[UUID]:
    return mapped_column(ForeignKey(target, ondelete="CASCADE"), **options)


class User(Base):
    """Somebody with an account; `id` is the token's `sub`."""

    __tablename__ = "users"

    id: Mapped[UUID] = _id()
    created_at: Mapped[datetime] = _now()


class Library(Base):
    __tablename__ = "libraries"
    __table_args__ = (
        CheckConstraint("char_length(name) >= 1 AND char_length(name) <= 100", "ck_libraries_name_length"),
        Index(
            "uix_libraries_one_default_per_user",
            "owner_user_id",
            unique=True,
            postgresql_where=text("is_default"),
        ),
    )

    id: Mapped[UUID] = _id()
    owner_user_id: Mapped[UUID] = _cascade("users.id")
    name: Mapped[str]
    is_default: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()


class Membership(Base):
    __tablename__ = "memberships"
    __table_args__ = (CheckConstraint("role IN ('admin', 'member')", "ck_memberships_role"),)

    library_id: Mapped[UUID] = _cascade("libraries.id", primary_key=True)
    user_id: Mapped[UUID] = _cascade("users.id", primary_key=True)
    role: Mapped[str]
    created_at: Mapped[datetime] = _now()


class Media(Base):
    """Anything that can be read, heard or watched. `canonical_url` is percent-encoded ASCII."""

    __tablename__ = "media"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('web_article', 'epub', 'pdf', 'video', 'podcast_episode')", "ck_media_kind"
        ),
        CheckConstraint(
            "requested_url IS NULL OR char_length(requested_url) <= 2048", "ck_media_requested_url_length"
        ),
        CheckConstraint(
            "canonical_url IS NULL OR char_length(canonical_url) <= 2048", "ck_media_canonical_url_length"
        ),
        Index(
            "uix_media_canonical_url",
            "kind",
            "canonical_url",
            unique=True,
            postgresql_where=text("canonical_url IS NOT NULL"),
        ),
        Index(
            "uix_media_file_sha256",
            "created_by_user_id",
            "kind",
            "file_sha256",
            unique=True,
            postgresql_where=text("file_sha256 IS NOT NULL AND kind IN ('pdf', 'epub')"),
        ),
    )

    id: Mapped[UUID] = _id()
    kind: Mapped[str]
    title: Mapped[str]
    canonical_source_url: Mapped[str | None]
    created_at: Mapped[datetime] = _now()
    updated_at: Mapped[datetime] = _now()
    processing_status: Mapped[ProcessingStatus] = mapped_column(
        default=ProcessingStatus.pending, server_default=text("'pending'")
    )
    failure_stage: Mapped[FailureStage | None]
    last_error_code: Mapped[str | None]
    last_error_message: Mapped[str | None]
    processing_attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    processing_started_at: Mapped[datetime | None]
    processing_completed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    requested_url: Mapped[str | None]
    canonical_url: Mapped[str | None]
    file_sha256: Mapped[str | None]
    external_playback_url: Mapped[str | None]
    provider: Mapped[str | None]
    provider_id: Mapped[str | None]
    # No ON DELETE action: a user who created media cannot be deleted by accident.
    created_by_user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", name="fk_media_created_by_user_id")
    )


class MediaFile(Base):
    """Where the uploaded file of a media item lies."""

    __tablename__ = "media_file"

    media_id: Mapped[UUID] = _cascade("media.id", primary_key=True)
    storage_path: Mapped[str]
    content_type: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)  # files above 2 GB


class Fragment(Base):
    """A piece of a media item's text, in reading order by `idx`."""

    __tablename__ = "fragments"
    __table_args__ = (UniqueConstraint("media_id", "idx", name="uq_fragments_media_idx"),)

    id: Mapped[UUID] = _id()
    media_id: Mapped[UUID] = _cascade("media.id")
    idx: Mapped[int]
    canonical_text: Mapped[str]
    html_sanitized: Mapped[str]
    created_at: Mapped[datetime] = _now()


class LibraryMedia(Base):
    __tablename__ = "library_media"

    library_id: Mapped[UUID] = _cascade("libraries.id", primary_key=True)
    media_id: Mapped[UUID] = _cascade("media.id", primary_key=True)
    created_at: Mapped[datetime] = _now()
