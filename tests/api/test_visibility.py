"""Who reads what: the six cases of the S0 contract, and masking."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from nexus.db.models import Membership
from tests.api.conftest import Api, Viewer, failure


def test_the_six_cases(api: Api, new_media: Callable[..., UUID]) -> None:
    a, b, media = api.user(), api.user(), new_media()

    assert a.add(a.default, media).status_code == 201
    assert a.reads(media), "A adds M and reads it"

    assert not b.reads(media), "B cannot read it"

    other = a.new_library()
    assert a.media_in(other) == []
    assert a.reads(media), "A makes another library without M and still reads it"

    assert a.add(other, media).status_code == 201
    assert a.remove(a.default, media).status_code == 204
    assert a.media_in(other) == [], (
        "removed from the default library, it leaves A's own single-member libraries"
    )

    assert not a.reads(media), "then A cannot read it"

    assert b.add(b.default, media).status_code == 201
    assert b.reads(media)
    assert not a.reads(media), "B adds M, B reads, A still cannot"


def join(rows: Engine, library: str, user: UUID, role: str = "member") -> None:
    with Session(rows) as session, session.begin():
        session.add(Membership(library_id=UUID(library), user_id=user, role=role))


@pytest.mark.parametrize("role", ["admin", "member"])
def test_a_member_in_whatever_role_reads(
    role: str, api: Api, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    owner, other, media = api.user(), api.user(), new_media()
    shared = owner.new_library()
    owner.add(shared, media)
    assert not other.reads(media)
    join(rows, shared, other.id, role)
    assert other.reads(media)
    assert other.media_in(shared) == [str(media)]


@pytest.mark.parametrize("library", ["another's", "nobody's"])
def test_a_library_one_is_no_member_of_does_not_exist(
    library: str, api: Api, viewer: Viewer, new_media: Callable[..., UUID]
) -> None:
    owner, media = api.user(), new_media()
    target = owner.new_library() if library == "another's" else str(uuid4())
    answers = [
        viewer.http.get(f"/libraries/{target}/media"),
        viewer.http.patch(f"/libraries/{target}", json={"name": "Mine"}),
        viewer.http.delete(f"/libraries/{target}"),
        viewer.add(target, media),
        viewer.add(target, uuid4()),
        viewer.remove(target, media),
    ]
    assert [failure(answer) for answer in answers] == [(404, "E_LIBRARY_NOT_FOUND")] * len(answers)


def test_a_member_who_is_no_admin_changes_nothing(
    api: Api, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    owner, member, media = api.user(), api.user(), new_media()
    assert member.default
    shared = owner.new_library("Ours")
    owner.add(shared, media)
    join(rows, shared, member.id)
    answers = [
        member.http.patch(f"/libraries/{shared}", json={"name": "Mine"}),
        member.http.delete(f"/libraries/{shared}"),
        member.add(shared, new_media()),
        member.add(shared, uuid4()),
        member.remove(shared, media),
    ]
    assert [failure(answer) for answer in answers] == [(403, "E_FORBIDDEN")] * len(answers)
    assert member.media_in(shared) == [str(media)]


def test_media_that_are_nowhere_and_media_that_are_not_look_the_same(
    viewer: Viewer, new_media: Callable[..., UUID]
) -> None:
    hidden, absent = (viewer.http.get(f"/media/{media}") for media in (new_media(), uuid4()))
    assert failure(hidden) == (404, "E_MEDIA_NOT_FOUND")
    assert hidden.json() == absent.json()


def test_losing_the_membership_ends_reading_at_once(
    api: Api, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    owner, member, media = api.user(), api.user(), new_media()
    assert member.default
    shared = owner.new_library()
    join(rows, shared, member.id)
    owner.add(shared, media)
    member.remove(member.default, media)
    assert member.reads(media)
    with Session(rows) as session, session.begin():
        session.delete(session.get_one(Membership, (UUID(shared), member.id)))
    assert not member.reads(media)
