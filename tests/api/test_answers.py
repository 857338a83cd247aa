"""Postgres writes what the reads answer, and nobody looks at it on the way: here it meets its models."""

from collections.abc import Callable
from uuid import UUID

import pytest
from fastapi.routing import iter_route_contexts
from pydantic import TypeAdapter
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from nexus.api.app import PROBE_PATHS, create_app
from nexus.db.models import Fragment, ProcessingStatus
from tests.api.conftest import Api, Viewer

KINDS = ("web_article", "epub", "pdf", "video", "podcast_episode")


@pytest.fixture
def filled(viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]) -> dict[str, str]:
    """The viewer has media of every kind and status; what stands for the parameters of the paths."""
    library = viewer.new_library()
    for number, status in enumerate(ProcessingStatus):
        media = new_media(
            kind=KINDS[number % len(KINDS)],
            processing_status=status,
            canonical_source_url=None if number % 2 else "https://example.com/",
        )
        viewer.add(library, media)
    with Session(rows) as session, session.begin():
        session.add_all(
            Fragment(media_id=media, idx=idx, canonical_text="text", html_sanitized="<p>text</p>")
            for idx in range(3)
        )
    return {"library_id": library, "media_id": str(media)}


def test_every_read_answers_with_its_model(api: Api, viewer: Viewer, filled: dict[str, str]) -> None:
    reads = [
        route
        for route in iter_route_contexts(create_app(api.settings).routes)
        if "GET" in (route.methods or ()) and getattr(route, "response_model", None)
    ]
    checked = set()
    for route in reads:
        if route.path in PROBE_PATHS:
            continue
        answer = viewer.http.get(str(route.path).format(**filled))
        assert answer.status_code == 200
        model = TypeAdapter(route.response_model)
        # To the letter: nothing is left out or added, nor is a time written in another way.
        found = model.validate_json(answer.content)
        assert model.dump_python(found, mode="json") == _with_short_times(answer.json())
        assert found.data, "an empty list would fit any model"
        checked.add(route.path)
    assert checked == {
        "/me",
        "/libraries",
        "/libraries/{library_id}/media",
        "/media/{media_id}",
        "/media/{media_id}/fragments",
    }


def _with_short_times(value: object) -> object:
    """As pydantic writes times: without microseconds where there are none."""
    if isinstance(value, dict):
        return {key: _with_short_times(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_short_times(each) for each in value]
    return value.replace(".000000Z", "Z") if isinstance(value, str) else value
