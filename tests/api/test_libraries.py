"""The routes of libraries and of the viewer, over real HTTP."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from nexus.api import answers
from nexus.db.models import Library, LibraryMedia, Media, Membership
from tests.api.conftest import NOBODYS, Api, Viewer, data, failure
from tests.api.test_visibility import join
from tests.waiting import wait_until


def test_the_first_request_makes_user_library_and_membership(viewer: Viewer, rows: Engine) -> None:
    me = data(viewer.http.get("/me"))
    assert me["user_id"] == str(viewer.id)
    (library,) = data(viewer.http.get("/libraries"))
    assert library["id"] == me["default_library_id"]
    assert (library["name"], library["is_default"], library["role"]) == ("My Library", True, "admin")
    with Session(rows) as session:
        assert session.get_one(Membership, (UUID(library["id"]), viewer.id)).role == "admin"


@pytest.mark.parametrize("path", ["/me", "/libraries", f"/media/{NOBODYS}", f"/libraries/{NOBODYS}/media"])
def test_whatever_is_asked_first_makes_them(path: str, viewer: Viewer, rows: Engine) -> None:
    viewer.http.get(path)
    with Session(rows) as session:
        owned = select(Library).where(Library.owner_user_id == viewer.id)
        assert [library.is_default for library in session.scalars(owned)] == [True]


def test_a_write_as_the_first_request_makes_them_too(viewer: Viewer) -> None:
    viewer.new_library("First")
    assert [each["name"] for each in data(viewer.http.get("/libraries"))] == ["My Library", "First"]


@pytest.mark.parametrize("lost", ["membership", "library"])
def test_what_is_lost_is_repaired_by_the_very_next_request(lost: str, viewer: Viewer, rows: Engine) -> None:
    default = UUID(viewer.default)
    with Session(rows) as session, session.begin():
        gone = Membership if lost == "membership" else Library
        session.delete(session.get_one(gone, (default, viewer.id) if lost == "membership" else default))
    (library,) = data(viewer.http.get("/libraries"))
    assert (library["is_default"], library["role"]) == (True, "admin")
    assert (library["id"] == str(default)) == (lost == "membership")


def test_a_known_viewer_is_served_without_a_write(
    viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    """By a database that refuses every write: what has to be repaired is found out by reading."""
    media = new_media()
    viewer.add(viewer.default, media)
    paths = (
        "/me",
        "/libraries",
        f"/libraries/{viewer.default}/media",
        f"/media/{media}",
        f"/media/{media}/fragments",
    )
    with unwritable(rows):
        assert [viewer.http.get(path).status_code for path in paths] == [200] * 5
        refused = viewer.http.post("/libraries", json={"name": "x"})
        assert failure(refused) == (503, "E_UNAVAILABLE"), "as on a standby"


@contextmanager
def unwritable(rows: Engine) -> Iterator[None]:
    """The setting counts for new sessions, so the old ones are ended."""
    with rows.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.scalar(text("SELECT quote_ident(current_database())"))

        def set_read_only(value: str) -> None:
            connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}"))
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            connection.execute(text(f"{end} AND pid <> pg_backend_pid()"))
            gone = text("SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()")
            wait_until("the sessions are ended", lambda: connection.scalar(gone), seconds=10)

        set_read_only("on")
        try:
            yield
        finally:
            connection.execute(text("SET default_transaction_read_only = off"))
            set_read_only("off")


def test_a_library_as_it_is_made(viewer: Viewer) -> None:
    made = data(viewer.http.post("/libraries", json={"name": "  Tea 茶 🍵 "}), 201)
    answers.Library.model_validate(made)
    assert made["name"] == "Tea 茶 🍵"
    assert made["owner_user_id"] == str(viewer.id)
    assert (made["is_default"], made["role"]) == (False, "admin")
    assert made["created_at"] == made["updated_at"]
    assert made["created_at"].endswith("Z")
    assert data(viewer.http.get("/libraries"))[1] == made


def test_libraries_come_by_age_and_then_by_id(viewer: Viewer, rows: Engine) -> None:
    assert viewer.default
    moment = datetime.fromisoformat("2001-02-03T04:05:06+09:00")
    with Session(rows) as session, session.begin():
        for _ in range(5):
            library = Library(owner_user_id=viewer.id, name="Old", created_at=moment)
            session.add(library)
            session.flush()
            session.add(Membership(library_id=library.id, user_id=viewer.id, role="member"))
    found = data(viewer.http.get("/libraries"))
    old = [each["id"] for each in found[:5]]
    assert old == sorted(old)
    assert {each["created_at"] for each in found[:5]} == {"2001-02-02T19:05:06.000000Z"}
    assert {each["role"] for each in found[:5]} == {"member"}
    assert found[5]["is_default"]


def test_a_rename_changes_name_and_updated_at_only(viewer: Viewer) -> None:
    before = data(viewer.http.post("/libraries", json={"name": "Old"}), 201)
    after = data(viewer.http.patch(f"/libraries/{before['id']}", json={"name": " New "}))
    assert after["name"] == "New"
    assert after["updated_at"] > before["updated_at"]
    unchanged = {"name", "updated_at"}
    assert {k: v for k, v in after.items() if k not in unchanged} == {
        k: v for k, v in before.items() if k not in unchanged
    }
    assert after in data(viewer.http.get("/libraries"))


def test_adding_media_does_not_change_updated_at(viewer: Viewer, new_media: Callable[..., UUID]) -> None:
    library = viewer.new_library()
    before = data(viewer.http.get("/libraries"))
    viewer.add(library, new_media())
    assert data(viewer.http.get("/libraries")) == before


def test_the_default_library_is_neither_renamed_nor_deleted(viewer: Viewer) -> None:
    default = viewer.default
    renamed = viewer.http.patch(f"/libraries/{default}", json={"name": "Mine"})
    deleted = viewer.http.delete(f"/libraries/{default}")
    assert failure(renamed) == failure(deleted) == (403, "E_DEFAULT_LIBRARY_FORBIDDEN")
    assert data(viewer.http.get("/libraries"))[0]["name"] == "My Library"


def test_delete_takes_memberships_and_contents_and_leaves_the_media(
    viewer: Viewer, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    library, media = viewer.new_library(), new_media()
    viewer.add(library, media)
    deleted = viewer.http.delete(f"/libraries/{library}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert failure(viewer.http.delete(f"/libraries/{library}")) == (404, "E_LIBRARY_NOT_FOUND")
    assert failure(viewer.http.get(f"/libraries/{library}/media")) == (404, "E_LIBRARY_NOT_FOUND")
    with Session(rows) as session:
        for table in (Membership, LibraryMedia):
            assert session.scalars(select(table).where(table.library_id == UUID(library))).all() == []
        assert session.get(Media, media)
    assert viewer.reads(media), "it stands in the default library still"


def test_a_library_with_other_members_is_not_deleted(api: Api, viewer: Viewer, rows: Engine) -> None:
    library, other = viewer.new_library(), api.user()
    assert other.default
    join(rows, library, other.id)
    assert failure(viewer.http.delete(f"/libraries/{library}")) == (403, "E_FORBIDDEN")
    assert library in [each["id"] for each in data(other.http.get("/libraries"))]


def test_any_admin_deletes(api: Api, viewer: Viewer, rows: Engine) -> None:
    """Also one who is not the owner, once the owner has left."""
    owner = api.user()
    library = owner.new_library()
    assert viewer.default
    join(rows, library, viewer.id, "admin")
    with Session(rows) as session, session.begin():
        session.delete(session.get_one(Membership, (UUID(library), owner.id)))
    assert viewer.http.delete(f"/libraries/{library}").status_code == 204


@pytest.mark.parametrize("name", ["x", "x" * 100, "é" * 100, " " + "x" * 100 + "\n", "a\tb", "🍵" * 100])
def test_good_names(name: str, viewer: Viewer) -> None:
    assert data(viewer.http.post("/libraries", json={"name": name}), 201)["name"] == name.strip()


@pytest.mark.parametrize("name", ["", " ", "\n\t ", "\u3000", "x" * 101, " " * 200])
@pytest.mark.parametrize("route", ["make", "rename", "rename nobody's"])
def test_bad_names_come_before_everything_that_asks_the_database(
    name: str, route: str, viewer: Viewer
) -> None:
    if route == "make":
        answer = viewer.http.post("/libraries", json={"name": name})
    else:
        target = viewer.new_library() if route == "rename" else uuid4()
        answer = viewer.http.patch(f"/libraries/{target}", json={"name": name})
    assert failure(answer) == (400, "E_NAME_INVALID")


def test_two_libraries_may_have_one_name(viewer: Viewer) -> None:
    assert viewer.new_library("Same") != viewer.new_library("Same")


@pytest.mark.parametrize(
    ("limit", "count"), [("1", 1), ("100", 100), ("200", 200), ("201", 200), ("9" * 30, 200)]
)
def test_limit(limit: str, count: int, many: Viewer) -> None:
    assert len(data(many.http.get(f"/libraries?limit={limit}"))) == count


def test_without_a_limit_it_is_100(many: Viewer) -> None:
    assert len(data(many.http.get("/libraries"))) == 100


@pytest.mark.parametrize(
    "limit", ["0", "-1", "", "x", "1.0", "1e2", " 1", "1_0", "0x1", "٣", "1,2", "null", "9" * 5000]
)
@pytest.mark.parametrize("path", ["/libraries", "/libraries/{default}/media"])
def test_a_limit_that_is_none(limit: str, path: str, viewer: Viewer) -> None:
    answer = viewer.http.get(path.format(default=viewer.default), params={"limit": limit})
    assert failure(answer) == (400, "E_INVALID_REQUEST")


@pytest.fixture(scope="module")
def many(api: Api, rows: Engine) -> Viewer:
    """A viewer with 205 libraries."""
    viewer = api.user()
    assert viewer.default
    with Session(rows) as session, session.begin():
        owner = session.get_one(Library, UUID(viewer.default)).owner_user_id
        for _ in range(204):
            library = Library(owner_user_id=owner, name="One of many")
            session.add(library)
            session.flush()
            session.add(Membership(library_id=library.id, user_id=owner, role="admin"))
    return viewer


def test_somebody_elses_library_is_not_listed(api: Api, viewer: Viewer) -> None:
    assert api.user().new_library() not in [each["id"] for each in data(viewer.http.get("/libraries"))]
