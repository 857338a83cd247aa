"""What follows for other libraries when media are put into one, or taken out of one.

Closure: what stands in a library stands in the default library of each member, until that member removes it
there.

Each change locks the libraries whose contents hang together before it changes a row: whoever adds locks the
library and the default libraries of its members, whoever removes locks the one it removes from. Locks are
taken in one order, default libraries last and each kind by id: nobody waits for somebody who waits for them.
"""

from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, literal, select, union
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from nexus.db.models import Library, LibraryMedia, Membership
from nexus.errors import LibraryNotFoundError, MediaNotFoundError
from nexus.viewers import make_default_libraries


def add(session: Session, library_id: UUID, media_id: UUID) -> None:
    """Into this library and the default library of each member, which is made for whoever has none.

    Raises:
        LibraryNotFoundError: the library was deleted meanwhile.
    """
    members = select(Membership.user_id).where(Membership.library_id == library_id)
    make_default_libraries(session, members)
    # IN over a union, since OR would have Postgres look at every library there is.
    default = select(Library.id).where(Library.is_default, Library.owner_user_id.in_(members))
    together = union(default, select(literal(library_id)))
    locked = session.scalars(
        select(Library.id)
        .where(Library.id.in_(together))
        .order_by(Library.is_default, Library.id)
        .with_for_update(key_share=True)
    ).all()
    if library_id not in locked:
        raise LibraryNotFoundError
    rows = [{"library_id": each, "media_id": media_id} for each in locked]
    session.execute(insert(LibraryMedia).values(rows).on_conflict_do_nothing())


def remove(session: Session, viewer: UUID, library: Library, media_id: UUID) -> None:
    """Out of this library, which is locked; out of the viewer's default: out of all that are theirs alone.

    Raises:
        MediaNotFoundError: it does not stand in this library.
    """
    row = LibraryMedia.media_id == media_id
    gone = delete(LibraryMedia).where(row, LibraryMedia.library_id == library.id)
    if session.scalar(gone.returning(LibraryMedia.media_id)) is None:
        raise MediaNotFoundError
    if library.is_default and library.owner_user_id == viewer:
        own = select(Library.id).where(Library.owner_user_id == viewer, _only_member_is(viewer))
        session.execute(delete(LibraryMedia).where(row, LibraryMedia.library_id.in_(own)))


def _only_member_is(user: UUID) -> ColumnElement[bool]:
    member = exists().where(Membership.library_id == Library.id)
    return member.where(Membership.user_id == user) & ~member.where(Membership.user_id != user)
