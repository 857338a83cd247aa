"""Use cases about libraries: a shelf of media, with members."""

from typing import Any
from uuid import UUID

from sqlalchemy import Integer, Select, bindparam, func, select
from sqlalchemy.orm import Session

from nexus import access
from nexus.db.database import Database
from nexus.db.json import json_array, json_object, utc
from nexus.db.models import Library, Membership
from nexus.errors import DefaultLibraryForbiddenError, ForbiddenError
from nexus.viewers import VIEWER, read_as, reading


def _as_seen_by(viewer: object) -> Select[*tuple[Any, ...]]:
    """The libraries of a viewer, each with the viewer's role in it."""
    columns = (
        *(Library.id, Library.name, Library.owner_user_id, Library.is_default, Membership.role),
        *(utc(Library.created_at), utc(Library.updated_at)),
    )
    return (
        select(*columns)
        .join(Membership, Membership.library_id == Library.id)
        .where(Membership.user_id == viewer)
    )


LIBRARIES_READ = reading(
    json_array(
        _as_seen_by(VIEWER).order_by(Library.created_at, Library.id).limit(bindparam("limit", type_=Integer))
    )
)


async def list_libraries(database: Database, viewer: UUID, limit: int) -> bytes:
    """The viewer's libraries as a JSON array, the oldest first."""
    return await read_as(database, viewer, LIBRARIES_READ, limit=limit) or b"[]"


def create_library(session: Session, viewer: UUID, name: str) -> str:
    """Make a library whose owner and admin is the viewer; gives it as JSON."""
    library = Library(owner_user_id=viewer, name=name)
    session.add(library)
    session.flush()
    session.add(Membership(library_id=library.id, user_id=viewer, role="admin"))
    session.flush()
    return _as_json(session, viewer, library.id)


def rename_library(session: Session, viewer: UUID, library_id: UUID, name: str) -> str:
    """Give a library another name; gives it as JSON.

    Raises:
        LibraryNotFoundError, ForbiddenError: as `access.administered_library`.
        DefaultLibraryForbiddenError: it is a default library.
    """
    library = access.administered_library(session, viewer, library_id, key_share=True)
    _refuse_default(library)
    library.name = name
    library.updated_at = func.now()
    session.flush()
    return _as_json(session, viewer, library_id)


def delete_library(session: Session, viewer: UUID, library_id: UUID) -> None:
    """Delete a library, with its memberships and the list of what is in it; the media stay.

    Raises:
        LibraryNotFoundError, ForbiddenError: as `access.administered_library`.
        ForbiddenError: also while it has other members.
        DefaultLibraryForbiddenError: it is a default library.
    """
    library = access.administered_library(session, viewer, library_id, key_share=False)
    _refuse_default(library)
    others = select(Membership.user_id).where(
        Membership.library_id == library_id, Membership.user_id != viewer
    )
    if session.scalars(others.limit(1)).first() is not None:
        raise ForbiddenError("A library with other members is not deleted.")
    session.delete(library)


def _refuse_default(library: Library) -> None:
    if library.is_default:
        raise DefaultLibraryForbiddenError


def _as_json(session: Session, viewer: UUID, library_id: UUID) -> str:
    return session.execute(
        select(json_object(_as_seen_by(viewer).where(Library.id == library_id)))
    ).scalar_one()
