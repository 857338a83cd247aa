"""The routes of media, and what standing in a library means, over real HTTP."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from nexus.api import answers
from nexus.db.models import Fragment, Library, LibraryMedia, Media, Membership, ProcessingStatus
from tests.api.conftest import Api, Viewer, data, failure
from tests.api.test_visibility import join
from tests.factories import make_user

ODD = "\"quotes\" \\ back, 'single', </script>, \u2028, tab\t, new\nline, 本, 🍵, +00:00"


def test_media_as_they_are(viewer: Viewer, new_media: Callable[..., UUID]) -> None:
    moment = datetime(2020, 2, 29, 12, 30, 0, 120, tzinfo=UTC)
    media = new_media(
        kind="pdf",
        title=ODD,
        canonical_source_url="https://example.com/ä?q=1&r=2",
        processing_status=ProcessingStatus.failed,
        created_at=moment,
        updated_at=moment,
    )
    viewer.add(viewer.default, media)
    found = data(viewer.http.get(f"/media/{media}"))
    answers.Media.model_validate(found)
    assert found == {
        "id": str(media),
        "kind": "pdf",
        "title": ODD,
        "canonical_source_url": "https://example.com/ä?q=1&r=2",
        "processing_status": "failed",
        "created_at": "2020-02-29T12:30:00.000120Z",
        "updated_at": "2020-02-29T12:30:00.000120Z",
    }
    assert data(viewer.http.get(f"/libraries/{viewer.default}/media")) == [found]


def test_media_without_a_source(viewer: Viewer, new_media: Callable[..., UUID]) -> None:
    media = new_media()
    viewer.add(viewer.default, media)
    assert data(viewer.http.get(f"/media/{media}"))["canonical_source_url"] is None


def test_fragments_come_in_reading_order(
    viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    media, other = new_media(), new_media()
    with Session(rows) as session, session.begin():
        for idx in (7, 0, 3):
            session.add(Fragment(media_id=media, idx=idx, canonical_text=f"{idx}{ODD}", html_sanitized="<p>"))
        session.add(Fragment(media_id=other, idx=1, canonical_text="", html_sanitized=""))
    viewer.add(viewer.default, media)
    found = data(viewer.http.get(f"/media/{media}/fragments"))
    for each in found:
        answers.Fragment.model_validate(each)
    assert [each["idx"] for each in found] == [0, 3, 7]
    assert [each["canonical_text"] for each in found] == [f"0{ODD}", f"3{ODD}", f"7{ODD}"]
    assert {each["media_id"] for each in found} == {str(media)}


def test_media_without_fragments_have_an_empty_list(viewer: Viewer, new_media: Callable[..., UUID]) -> None:
    media = new_media()
    viewer.add(viewer.default, media)
    assert data(viewer.http.get(f"/media/{media}/fragments")) == []


def test_an_empty_library(viewer: Viewer) -> None:
    assert data(viewer.http.get(f"/libraries/{viewer.default}/media")) == []


def test_the_latest_come_first_and_then_the_greater_id(
    viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    first, *same = (new_media() for _ in range(5))
    library = viewer.new_library()
    for media in (first, *same):
        viewer.add(library, media)
    moment = datetime.now(UTC)
    with Session(rows) as session, session.begin():
        here = update(LibraryMedia).where(LibraryMedia.library_id == UUID(library))
        session.execute(here.values(created_at=moment - timedelta(days=1)))
        session.execute(here.where(LibraryMedia.media_id == first).values(created_at=moment))
    assert viewer.media_in(library) == [str(first), *sorted(map(str, same), reverse=True)]
    limited = data(viewer.http.get(f"/libraries/{library}/media?limit=2"))
    assert [each["id"] for each in limited] == viewer.media_in(library)[:2]


def test_adding_answers_with_the_row_and_again_with_the_same(
    viewer: Viewer, new_media: Callable[..., UUID]
) -> None:
    library, media = viewer.new_library(), new_media()
    added = data(viewer.add(library, media), 201)
    answers.LibraryMedia.model_validate(added)
    assert (added["library_id"], added["media_id"]) == (library, str(media))
    assert data(viewer.add(library, media), 201) == added


def test_adding_puts_it_into_the_default_library_of_every_member(
    api: Api, viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    library, others, media = viewer.new_library(), [api.user(), api.user()], new_media()
    for other in others:
        assert other.default
        join(rows, library, other.id)
    viewer.add(library, media)
    assert [other.media_in(other.default) for other in (viewer, *others)] == [[str(media)]] * 3


def test_adding_makes_the_default_library_of_a_member_who_has_none(
    api: Api, viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    library, media = viewer.new_library(), new_media()
    with Session(rows) as session, session.begin():
        newcomer = make_user(session).id
    join(rows, library, newcomer)
    viewer.add(library, media)
    with Session(rows) as session:
        default = session.scalars(
            select(Library).where(Library.owner_user_id == newcomer, Library.is_default)
        ).one()
        assert session.get_one(Membership, (default.id, newcomer)).role == "admin"
    other = api.user(newcomer)
    assert other.media_in(other.default) == [str(media)]


def test_adding_what_stands_in_the_default_library_already(
    viewer: Viewer, new_media: Callable[..., UUID]
) -> None:
    library, media = viewer.new_library(), new_media()
    first = data(viewer.add(viewer.default, media), 201)
    assert data(viewer.add(library, media), 201)["created_at"] > first["created_at"]
    assert data(viewer.add(viewer.default, media), 201) == first


def test_adding_what_is_not_there(viewer: Viewer) -> None:
    assert failure(viewer.add(viewer.default, uuid4())) == (404, "E_MEDIA_NOT_FOUND")


def test_adding_goes_by_id_readable_or_not(api: Api, viewer: Viewer, new_media: Callable[..., UUID]) -> None:
    other, media = api.user(), new_media()
    other.add(other.default, media)
    assert not viewer.reads(media)
    assert viewer.add(viewer.default, media).status_code == 201


def test_removing_from_another_library_removes_that_row_only(
    viewer: Viewer, new_media: Callable[..., UUID]
) -> None:
    one, two, media = viewer.new_library(), viewer.new_library(), new_media()
    viewer.add(one, media)
    viewer.add(two, media)
    removed = viewer.remove(one, media)
    assert (removed.status_code, removed.content) == (204, b"")
    assert viewer.media_in(one) == []
    assert viewer.media_in(two) == viewer.media_in(viewer.default) == [str(media)]
    assert failure(viewer.remove(one, media)) == (404, "E_MEDIA_NOT_FOUND")


def test_removing_from_the_default_library_spares_what_others_share(
    api: Api, viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    other, media, untouched = api.user(), new_media(), new_media()
    assert other.default
    alone, shared, foreign = viewer.new_library(), viewer.new_library(), other.new_library()
    join(rows, shared, other.id)
    join(rows, foreign, viewer.id, "admin")
    for library in (alone, shared, foreign):
        viewer.add(library, media)
    viewer.add(alone, untouched)
    assert viewer.remove(viewer.default, media).status_code == 204
    assert viewer.media_in(alone) == [str(untouched)]
    assert viewer.media_in(shared) == viewer.media_in(foreign) == [str(media)]
    assert viewer.media_in(viewer.default) == [str(untouched)]
    assert other.media_in(other.default) == [str(media)]
    assert viewer.reads(media), "it stands in a library they share"


def test_a_single_member_library_that_somebody_else_owns_is_spared(
    api: Api, viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    owner, media = api.user(), new_media()
    library = owner.new_library()
    assert viewer.default
    join(rows, library, viewer.id, "admin")
    with Session(rows) as session, session.begin():
        session.delete(session.get_one(Membership, (UUID(library), owner.id)))
    viewer.add(library, media)
    viewer.remove(viewer.default, media)
    assert viewer.media_in(library) == [str(media)]


def test_an_admin_of_somebody_elses_default_library_removes_that_row_only(
    api: Api, viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    owner, media = api.user(), new_media()
    mine = viewer.new_library()
    viewer.add(mine, media)
    owner.add(owner.default, media)
    join(rows, owner.default, viewer.id, "admin")
    assert viewer.remove(owner.default, media).status_code == 204
    assert viewer.media_in(mine) == viewer.media_in(viewer.default) == [str(media)]


@pytest.mark.parametrize(("query", "count"), [("", 100), ("?limit=3", 3), ("?limit=500", 200)])
def test_a_library_of_many(query: str, count: int, api: Api, rows: Engine) -> None:
    viewer = api.user()
    default = UUID(viewer.default)
    with Session(rows) as session, session.begin():
        creator = make_user(session).id
        media = [Media(kind="video", title=f"No. {n}", created_by_user_id=creator) for n in range(205)]
        session.add_all(media)
        session.flush()
        session.add_all(LibraryMedia(library_id=default, media_id=each.id) for each in media)
    assert len(data(viewer.http.get(f"/libraries/{default}/media{query}"))) == count
