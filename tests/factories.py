"""Rows for tests: plain functions, session first, defaults for whatever the test does not care about."""

from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy.orm import Session

from nexus.db.models import Base, Library, Media, User

Row = TypeVar("Row", bound=Base)


def make_user(session: Session, **columns: Any) -> User:
    return _add(session, User(**({"id": uuid4()} | columns)))


def make_library(session: Session, owner: User, **columns: Any) -> Library:
    return _add(session, Library(**({"owner_user_id": owner.id, "name": "Shelf"} | columns)))


def make_media(session: Session, creator: User, **columns: Any) -> Media:
    defaults = {"kind": "epub", "title": "A book", "created_by_user_id": creator.id}
    return _add(session, Media(**(defaults | columns)))


def _add(session: Session, row: Row) -> Row:
    session.add(row)
    session.flush()
    return row
