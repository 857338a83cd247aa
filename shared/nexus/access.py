"""Who may see and change what. The only place that decides it.

A library exists for its members, and media exist for those who have them in a library of theirs; for others
they do not (404). Members who are no admin are refused changes (403).
"""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, case, exists, select, true
from sqlalchemy.orm import Session

from nexus.db.models import Library, LibraryMedia, Membership
from nexus.errors import ForbiddenError, LibraryNotFoundError
from nexus.viewers import VIEWER

_Id = ColumnElement[UUID] | SQLColumnExpression[UUID]


def is_member(library_id: _Id) -> ColumnElement[bool]:
    """Whether the viewer of a read is a member of this library, in whatever role."""
    return exists().where(Membership.library_id == library_id, Membership.user_id == VIEWER)


def can_read(media_id: _Id) -> ColumnElement[bool]:
    """Whether the viewer of a read has these media in a library of which they are a member.

    Their default library is looked at first: an index finds it, while S0 has none for a user's libraries.
    """
    own = Library.__table__.alias("own")
    in_default = exists().where(
        own.c.owner_user_id == VIEWER,
        own.c.is_default,
        Membership.library_id == own.c.id,
        Membership.user_id == VIEWER,
        LibraryMedia.library_id == own.c.id,
        LibraryMedia.media_id == media_id,
    )
    in_any = exists().where(
        Membership.user_id == VIEWER,
        LibraryMedia.library_id == Membership.library_id,
        LibraryMedia.media_id == media_id,
    )
    # CASE, because the arms of OR have no promised order.
    return case((in_default, true()), else_=in_any)


def administered_library(session: Session, viewer: UUID, library_id: UUID, **lock: Any) -> Library:
    """The library, if the viewer may change it; locked, if `lock` gives options of `with_for_update`.

    Raises:
        LibraryNotFoundError: the viewer is no member, or there is none.
        ForbiddenError: the viewer is a member but no admin.
    """
    statement = (
        select(Library, Membership.role)
        .join(Membership, Membership.library_id == Library.id)
        .where(Library.id == library_id, Membership.user_id == viewer)
    )
    if lock:
        statement = statement.with_for_update(of=Library, **lock)
    row = session.execute(statement).one_or_none()
    if row is None:
        raise LibraryNotFoundError
    if row.role != "admin":
        raise ForbiddenError
    library: Library = row.Library
    return library
