"""The reference application: `gunicorn bench.reference.main:app`."""

import logging
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, HTTPException, Query
from sqlalchemy import select

from bench.reference import schemas
from bench.reference.deps import SessionDep, ViewerDep
from bench.reference.middleware import InternalHeaderMiddleware, RequestLogMiddleware
from nexus.db.models import LibraryMedia, Media, Membership

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

app = FastAPI(title="Reference")
app.add_middleware(InternalHeaderMiddleware)
app.add_middleware(RequestLogMiddleware)


@app.get("/health")
def health() -> dict[str, dict[str, str]]:
    return {"data": {"status": "ok"}}


@app.get("/me", response_model=schemas.Data[schemas.Me])
def get_me(viewer: ViewerDep) -> Any:
    return {"data": {"user_id": viewer.user.id, "default_library_id": viewer.default_library.id}}


@app.get("/media/{media_id}", response_model=schemas.Data[schemas.Media])
def get_media(media_id: UUID, viewer: ViewerDep, session: SessionDep) -> Any:
    media = session.scalars(
        select(Media)
        .join(LibraryMedia, LibraryMedia.media_id == Media.id)
        .join(Membership, Membership.library_id == LibraryMedia.library_id)
        .where(Media.id == media_id, Membership.user_id == viewer.user.id)
        .limit(1)
    ).first()
    if media is None:
        raise HTTPException(404, "Media not found")
    return {"data": media}


@app.get("/libraries/{library_id}/media", response_model=schemas.Data[list[schemas.Media]])
def list_library_media(
    library_id: UUID, viewer: ViewerDep, session: SessionDep, limit: Annotated[int, Query(ge=1)] = 100
) -> Any:
    if session.get(Membership, (library_id, viewer.user.id)) is None:
        raise HTTPException(404, "Library not found")
    media = session.scalars(
        select(Media)
        .join(LibraryMedia, LibraryMedia.media_id == Media.id)
        .where(LibraryMedia.library_id == library_id)
        .order_by(LibraryMedia.created_at.desc(), Media.id.desc())
        .limit(min(limit, 200))
    ).all()
    return {"data": media}
