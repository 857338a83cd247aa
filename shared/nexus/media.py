"""Use cases about media: what can be read, heard or watched, and in which libraries it stands."""

from uuid import UUID

from sqlalchemy import Integer, Uuid, bindparam, case, select
from sqlalchemy.orm import Session

from nexus import access, closure
from nexus.db.database import Database
from nexus.db.json import json_array, json_object, utc
from nexus.db.models import Fragment, LibraryMedia, Media
from nexus.errors import LibraryNotFoundError, MediaNotFoundError
from nexus.viewers import read_as, reading

_LIBRARY = bindparam("library", type_=Uuid())
_MEDIA = bindparam("media", type_=Uuid())
_COLUMNS = (
    *(Media.id, Media.kind, Media.title, Media.canonical_source_url, Media.processing_status),
    *(utc(Media.created_at), utc(Media.updated_at)),
)

MEDIA_READ = reading(json_object(select(*_COLUMNS).where(Media.id == _MEDIA, access.can_read(_MEDIA))))

LIBRARY_MEDIA_READ = reading(
    case(
        (
            access.is_member(_LIBRARY),
            json_array(
                select(*_COLUMNS)
                .join(LibraryMedia, LibraryMedia.media_id == Media.id)
                .where(LibraryMedia.library_id == _LIBRARY)
                .order_by(LibraryMedia.created_at.desc(), Media.id.desc())
                .limit(bindparam("limit", type_=Integer))
            ),
        )
    )
)

FRAGMENTS_READ = reading(
    case(
        (
            access.can_read(_MEDIA),
            json_array(
                select(
                    *(Fragment.id, Fragment.media_id, Fragment.idx, Fragment.html_sanitized),
                    *(Fragment.canonical_text, utc(Fragment.created_at)),
                )
                .where(Fragment.media_id == _MEDIA)
                .order_by(Fragment.idx)
            ),
        )
    )
)


async def get_media(database: Database, viewer: UUID, media_id: UUID) -> bytes:
    """One media item as JSON.

    Raises:
        MediaNotFoundError: the viewer has it in no library, or there is none.
    """
    return _found(await read_as(database, viewer, MEDIA_READ, media=media_id))


async def list_fragments(database: Database, viewer: UUID, media_id: UUID) -> bytes:
    """The text of a media item as a JSON array, in reading order.

    Raises:
        MediaNotFoundError: as `get_media`.
    """
    return _found(await read_as(database, viewer, FRAGMENTS_READ, media=media_id))


def _found(body: bytes | None) -> bytes:
    if body is None:
        raise MediaNotFoundError
    return body


async def list_library_media(database: Database, viewer: UUID, library_id: UUID, limit: int) -> bytes:
    """What stands in a library as a JSON array, the latest first.

    Raises:
        LibraryNotFoundError: the viewer is no member, or there is none.
    """
    body = await read_as(database, viewer, LIBRARY_MEDIA_READ, library=library_id, limit=limit)
    if body is None:
        raise LibraryNotFoundError
    return body


def add_media(session: Session, viewer: UUID, library_id: UUID, media_id: UUID) -> str:
    """Put media into a library and into the default library of each of its members; gives the row as JSON.

    Raises:
        LibraryNotFoundError, ForbiddenError: as `access.administered_library`.
        MediaNotFoundError: there is none. Whether the viewer can read it makes no difference: intended.
    """
    access.administered_library(session, viewer, library_id)
    # Held until the end, so that it cannot be deleted meanwhile.
    held = select(Media.id).where(Media.id == media_id).with_for_update(read=True, key_share=True)
    if session.scalar(held) is None:
        raise MediaNotFoundError
    closure.add(session, library_id, media_id)
    row = select(LibraryMedia.library_id, LibraryMedia.media_id, utc(LibraryMedia.created_at)).where(
        LibraryMedia.library_id == library_id, LibraryMedia.media_id == media_id
    )
    return session.execute(select(json_object(row))).scalar_one()


def remove_media(session: Session, viewer: UUID, library_id: UUID, media_id: UUID) -> None:
    """Take media out of a library; out of the viewer's default library means out of all that only they use.

    Raises:
        LibraryNotFoundError, ForbiddenError: as `access.administered_library`.
        MediaNotFoundError: it does not stand in this library.
    """
    library = access.administered_library(session, viewer, library_id, key_share=True)
    closure.remove(session, viewer, library, media_id)
