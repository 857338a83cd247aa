"""The viewer: whoever a token speaks for. Made at the first request, mended when something is lost."""

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, exists, literal, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from nexus.db.database import Database
from nexus.db.json import json_object
from nexus.db.models import Library, Membership, User
from nexus.db.statement import Read

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_LIBRARY_NAME = "My Library"

#: The viewer's id in every read.
VIEWER = bindparam("viewer", type_=Library.owner_user_id.type)

_default_library = select(
    Library.owner_user_id.label("user_id"), Library.id.label("default_library_id")
).where(Library.owner_user_id == VIEWER, Library.is_default)
_owner_is_member = exists().where(
    Membership.library_id == Library.id, Membership.user_id == Library.owner_user_id
)


def reading(body: ColumnElement[str]) -> Read:
    """A read for a viewer: whether they are complete, and what they asked for, both true at one moment."""
    complete = exists(_default_library.where(_owner_is_member))
    return Read(select(complete, body))


VIEWER_READ = reading(json_object(_default_library))


async def read_as(database: Database, viewer: UUID, read: Read, **values: object) -> bytes | None:
    """The JSON that a read made by `reading` finds, or None; an incomplete viewer is completed first."""
    complete, body = await database.read(read, viewer=viewer, **values)
    if complete != b"t":
        await database.write(complete_viewer, viewer)
        _, body = await database.read(read, viewer=viewer, **values)
    return body


async def write_as(
    database: Database,
    viewer: UUID,
    use_case: Callable[Concatenate[Session, UUID, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """What a use case returns for a viewer, who is completed first.

    In a transaction of its own: within the use case's, two viewers could wait for each other's new libraries.
    """
    await describe_viewer(database, viewer)
    return await database.write(use_case, viewer, *args, **kwargs)


async def describe_viewer(database: Database, viewer: UUID) -> bytes:
    """Their id and default library, as JSON."""
    body = await read_as(database, viewer, VIEWER_READ)
    if body is None:
        raise LookupError("the default library vanished between two statements")
    return body


def complete_viewer(session: Session, viewer: UUID) -> None:
    """Make what is missing of the user, the default library and their membership in it.

    Any number may do so at once: an INSERT waits for the one that came before it, then leaves its row alone.
    """
    session.execute(insert(User).values(id=viewer).on_conflict_do_nothing())
    make_default_libraries(session, select(User.id).where(User.id == viewer))


def make_default_libraries(session: Session, users: Select[*tuple[Any, ...]]) -> None:
    """Make the default library of those users who have none, and their membership in it where it is lost.

    In the order of their ids, so that two who do so for the same users never wait for each other.
    """
    user = users.subquery("missing").c[0]
    has_one = exists().where(Library.owner_user_id == user, Library.is_default)
    missing = select(user, literal(DEFAULT_LIBRARY_NAME), true()).where(~has_one).order_by(user)
    columns = [Library.owner_user_id, Library.name, Library.is_default]
    session.execute(insert(Library).from_select(columns, missing).on_conflict_do_nothing())

    lost = (
        select(Library.id, Library.owner_user_id, literal("admin"))
        .where(Library.owner_user_id.in_(users), Library.is_default, ~_owner_is_member)
        .order_by(Library.owner_user_id)
    )
    columns = [Membership.library_id, Membership.user_id, Membership.role]
    session.execute(insert(Membership).from_select(columns, lost).on_conflict_do_nothing())
