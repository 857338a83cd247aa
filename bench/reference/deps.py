"""Dependencies: a session for each request, the user of the token, and who they are in the database."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import jwt
from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from nexus.auth.local import LocalIssuer
from nexus.config import get_settings
from nexus.db.models import Library, Membership, User

engine = create_engine(get_settings().database_url)
issuer = LocalIssuer(get_settings())
public_key = asyncio.run(issuer.find(None, "EdDSA"))[0].public

Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


def get_session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session)]


def get_user_id(credentials: Credentials) -> UUID:
    try:
        claims = jwt.decode(
            credentials.credentials,
            public_key,
            algorithms=["EdDSA"],
            issuer=issuer.name,
            audience=issuer.audience,
            leeway=60,
            options={"require": ["exp", "iss", "sub", "aud"]},
        )
        return UUID(claims["sub"])
    except (jwt.PyJWTError, ValueError):
        raise HTTPException(401, "Could not validate credentials") from None


UserIdDep = Annotated[UUID, Depends(get_user_id)]


@dataclass
class Viewer:
    user: User
    default_library: Library


def get_viewer(session: SessionDep, user_id: UserIdDep) -> Viewer:
    """Get or create: the user, their default library, their membership in it."""
    user = session.get(User, user_id)
    if user is None:
        user = User(id=user_id)
        session.add(user)
        session.commit()
    library = session.scalars(
        select(Library).where(Library.owner_user_id == user.id, Library.is_default)
    ).one_or_none()
    if library is None:
        library = Library(owner_user_id=user.id, name="My Library", is_default=True)
        session.add(library)
        session.commit()
    if session.get(Membership, (library.id, user.id)) is None:
        session.add(Membership(library_id=library.id, user_id=user.id, role="admin"))
        session.commit()
    return Viewer(user, library)


ViewerDep = Annotated[Viewer, Depends(get_viewer)]
