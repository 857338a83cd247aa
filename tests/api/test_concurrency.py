"""Many requests at once: one default library each, no deadlock, no lost row, nothing half done."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from uuid import UUID, uuid4

import httpx2
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from nexus.db.models import Library, LibraryMedia, Membership
from tests.api.conftest import Api, Viewer, data
from tests.api.test_visibility import join
from tests.factories import make_user

#: Threads that ask. More than the API has connections and than it has processes.
CROWD = 50


def at_once(calls: Iterable[Callable[[], httpx2.Response]]) -> list[httpx2.Response]:
    with ThreadPoolExecutor(CROWD) as crowd:
        return [each.result() for each in [crowd.submit(call) for call in calls]]


def test_50_first_requests_at_once_make_one_library(api: Api, rows: Engine) -> None:
    user = uuid4()
    viewers = [api.user(user) for _ in range(50)]
    answers = at_once([partial(viewer.http.get, "/me") for viewer in viewers])
    assert len({data(answer)["default_library_id"] for answer in answers}) == 1
    with Session(rows) as session:
        assert len(session.scalars(select(Library).where(Library.owner_user_id == user)).all()) == 1
        assert len(session.scalars(select(Membership).where(Membership.user_id == user)).all()) == 1


def test_a_lost_membership_is_repaired_once_by_many_at_once(api: Api, rows: Engine) -> None:
    user = uuid4()
    viewers = [api.user(user) for _ in range(CROWD)]
    default = UUID(viewers[0].default)
    for _ in range(3):
        with Session(rows) as session, session.begin():
            session.delete(session.get_one(Membership, (default, user)))
        answers = at_once([partial(viewer.http.get, "/me") for viewer in viewers])
        assert {data(answer)["default_library_id"] for answer in answers} == {str(default)}
        with Session(rows) as session:
            assert session.get_one(Membership, (default, user)).role == "admin"


def test_first_requests_of_every_kind_at_once(api: Api, new_media: Callable[..., UUID]) -> None:
    user, media = uuid4(), new_media()
    calls: list[Callable[[], httpx2.Response]] = []
    for _ in range(10):
        viewer = api.user(user)
        calls += [
            partial(viewer.http.get, "/me"),
            partial(viewer.http.post, "/libraries", json={"name": "x"}),
            partial(viewer.http.get, "/libraries"),
            partial(viewer.http.get, f"/media/{media}"),
        ]
    assert {answer.status_code for answer in at_once(calls)} == {200, 201, 404}
    assert len(data(api.user(user).http.get("/libraries"))) == 11


def test_adding_one_thing_at_once_is_one_row_with_one_time(
    viewer: Viewer, api: Api, new_media: Callable[..., UUID]
) -> None:
    library, media = viewer.new_library(), new_media()
    twins = [api.user(viewer.id) for _ in range(20)]
    answers = at_once([partial(twin.add, library, media) for twin in twins])
    assert len({data(answer, 201)["created_at"] for answer in answers}) == 1
    assert viewer.media_in(viewer.default) == [str(media)]


def test_removing_one_thing_at_once_succeeds_once(
    viewer: Viewer, api: Api, new_media: Callable[..., UUID]
) -> None:
    media = new_media()
    viewer.add(viewer.default, media)
    twins = [api.user(viewer.id) for _ in range(20)]
    answers = at_once([partial(twin.remove, viewer.default, media) for twin in twins])
    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 19


def test_members_without_a_default_library_get_one_each(
    api: Api, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    """Two admins add to libraries that share their members, in both orders, while these log in first."""
    media, owners = [new_media(), new_media()], [api.user(), api.user()]
    with Session(rows) as session, session.begin():
        newcomers = [make_user(session).id for _ in range(8)]
    libraries = [owner.new_library() for owner in owners]
    for newcomer in newcomers:
        for library in libraries:
            join(rows, library, newcomer)
    calls = [
        partial(owner.add, library, item)
        for owner, library in zip(owners, libraries, strict=True)
        for item in media
    ]
    logins = [partial(api.user(newcomer).http.get, "/me") for newcomer in newcomers]
    answers = at_once([*calls, *logins])
    assert {answer.status_code for answer in answers} == {200, 201}
    for newcomer in newcomers:
        other = api.user(newcomer)
        assert set(other.media_in(other.default)) == set(map(str, media))


#: What a library of one's own alone holds and one's default library does not: no order explains it.
ORPHANS = """
    SELECT l.id, lm.media_id
    FROM libraries l JOIN library_media lm ON lm.library_id = l.id
    JOIN libraries d ON d.owner_user_id = l.owner_user_id AND d.is_default
    WHERE l.owner_user_id = ANY(:users) AND NOT l.is_default
      AND (SELECT array_agg(m.user_id) FROM memberships m WHERE m.library_id = l.id) = ARRAY[l.owner_user_id]
      AND NOT EXISTS (SELECT FROM library_media x WHERE x.library_id = d.id AND x.media_id = lm.media_id)
"""


def violations(rows: Engine, users: list[UUID]) -> list[str]:
    with Session(rows) as session:
        defaults = select(Library.owner_user_id).where(Library.is_default, Library.owner_user_id.in_(users))
        found = [] if sorted(session.scalars(defaults)) == sorted(users) else ["not one default library each"]
        orphans = session.execute(text(ORPHANS), {"users": users})
        return found + [f"{library} holds {media}" for library, media in orphans]


def deadlocks(rows: Engine) -> int:
    with Session(rows) as session:
        session.execute(select(func.pg_stat_clear_snapshot()))
        statement = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(session.execute(statement).scalar_one())


def test_a_storm_ends_consistent_and_nobody_deadlocks(
    api: Api, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    """Three users share libraries and add, remove, rename and delete at once; answers are the contract's."""
    random = Random(20261125)  # noqa: S311  the requests, not their order, are the same each time
    before = deadlocks(rows)
    viewers = [api.user() for _ in range(3)]
    media = [new_media() for _ in range(4)]
    shared = [viewer.new_library("Shared") for viewer in viewers]
    alone = [viewer.new_library("Alone") for viewer in viewers]
    for number, viewer in enumerate(viewers):
        for library in {*shared, viewers[number - 1].default} - {shared[number]}:
            # Also somebody's default library, which no route of S0 does, and nothing forbids.
            join(rows, library, viewer.id, "admin")

    def some_request() -> Callable[[], httpx2.Response]:
        number, item = random.randrange(3), random.choice(media)
        viewer = api.user(viewers[number].id)
        own = viewers[number].default
        library = random.choice([own, alone[number], *shared, viewers[number - 1].default])
        verbs = [
            partial(viewer.add, library, item),
            partial(viewer.add, library, item),
            partial(viewer.remove, library, item),
            partial(viewer.remove, own, item),
            partial(viewer.http.delete, f"/libraries/{alone[number]}"),
            partial(viewer.http.patch, f"/libraries/{library}", json={"name": "Renamed"}),
            partial(viewer.http.get, f"/libraries/{library}/media"),
        ]
        return random.choice(verbs)

    answers = at_once([some_request() for _ in range(400)])
    assert {answer.status_code for answer in answers} <= {200, 201, 204, 403, 404}
    assert violations(rows, [viewer.id for viewer in viewers]) == []
    assert deadlocks(rows) == before


def test_deleting_while_others_add_loses_nothing(
    viewer: Viewer, api: Api, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    library, media = viewer.new_library(), [new_media() for _ in range(20)]
    twins = [api.user(viewer.id) for _ in media]
    calls: list[Callable[[], httpx2.Response]] = [
        partial(twin.add, library, item) for twin, item in zip(twins, media, strict=True)
    ]
    calls.insert(10, lambda: viewer.http.delete(f"/libraries/{library}"))
    answers = at_once(calls)
    deleted = answers.pop(10)
    assert deleted.status_code == 204
    assert {answer.status_code for answer in answers} <= {201, 404}
    added = {str(item) for item, answer in zip(media, answers, strict=True) if answer.status_code == 201}
    assert set(viewer.media_in(viewer.default)) == added
    with Session(rows) as session:
        left = select(LibraryMedia).where(LibraryMedia.library_id == UUID(library))
        assert session.scalars(left).all() == []
