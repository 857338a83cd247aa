"""Closure and visibility against a simple model: users, libraries, memberships, adds, removes in any order.

The real thing is asked over HTTP; the model is a dict of sets. Hypothesis finds the sequence, and shrinks it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from nexus.db.models import Membership
from tests.api.conftest import Api, Viewer
from tests.api.test_visibility import join


@dataclass
class Shelf:
    """A library in the model."""

    id: str
    owner: UUID
    is_default: bool
    #: User to role.
    members: dict[UUID, str]
    media: set[str] = field(default_factory=set)


class Closure(RuleBasedStateMachine):
    """Each rule does the same to the API and to the model and compares the answers' status."""

    api: Api
    rows: Engine
    make_media: Callable[..., UUID]

    users = Bundle("users")
    libraries = Bundle("libraries")
    media = Bundle("media")

    def __init__(self) -> None:
        super().__init__()
        self.shelves: dict[str, Shelf] = {}
        self.viewers: dict[UUID, Viewer] = {}

    @initialize(target=media)
    def some_media(self) -> object:
        return multiple(self.make_media(), self.make_media())

    @initialize(target=users)
    def some_users(self) -> object:
        return multiple(*self._people())

    @initialize(target=libraries)
    def some_libraries(self) -> object:
        """Of two users, each with a default library, one of their own, and one that both administer."""
        one, two = self._people()
        alone, shared = self._library_of(one), self._library_of(two)
        self._join(shared, one, "admin")
        return multiple(alone, shared, self._default(one).id, self._default(two).id)

    @rule(target=users)
    def first_login(self) -> UUID:
        return self._log_in()

    @rule(target=libraries, user=users)
    def default_library(self, user: UUID) -> str:
        return self._default(user).id

    @rule(target=libraries, user=users)
    def new_library(self, user: UUID) -> str:
        return self._library_of(user)

    @rule(library=libraries, user=users, role=st.sampled_from(["admin", "member"]))
    def somebody_joins(self, library: str, user: UUID, role: str) -> None:
        """No route of S0 does it; a later slice will."""
        if library in self.shelves and user not in self.shelves[library].members:
            self._join(library, user, role)

    @rule(library=libraries, user=users)
    def somebody_leaves(self, library: str, user: UUID) -> None:
        shelf = self.shelves.get(library)
        if shelf and user in shelf.members and not (shelf.is_default and shelf.owner == user):
            with Session(self.rows) as session, session.begin():
                session.delete(session.get_one(Membership, (UUID(library), user)))
            del shelf.members[user]

    @rule(library=libraries, user=users, item=media)
    def somebody_adds(self, library: str, user: UUID, item: UUID) -> None:
        self._add(library, user, item)

    @rule(library=libraries, item=media)
    def the_owner_adds(self, library: str, item: UUID) -> None:
        if library in self.shelves:
            self._add(library, self.shelves[library].owner, item)

    @rule(library=libraries, user=users, item=media)
    def somebody_removes(self, library: str, user: UUID, item: UUID) -> None:
        self._remove(library, user, item)

    @rule(user=users, item=media)
    def somebody_removes_from_their_default_library(self, user: UUID, item: UUID) -> None:
        self._remove(self._default(user).id, user, item)

    def _add(self, library: str, user: UUID, item: UUID) -> None:
        answer = self.viewers[user].add(library, item)
        wanted = self._may_change(library, user) or 201
        assert answer.status_code == wanted
        if wanted == 201:
            shelf = self.shelves[library]
            for member in shelf.members:
                self._default(member).media.add(str(item))
            shelf.media.add(str(item))

    def _remove(self, library: str, user: UUID, item: UUID) -> None:
        answer = self.viewers[user].remove(library, item)
        wanted = self._may_change(library, user) or (204 if str(item) in self.shelves[library].media else 404)
        assert answer.status_code == wanted
        if wanted == 204:
            self._take_out(self.shelves[library], user, str(item))

    @rule(library=consumes(libraries), user=users)
    def delete(self, library: str, user: UUID) -> None:
        answer = self.viewers[user].http.delete(f"/libraries/{library}")
        shelf = self.shelves.get(library)
        wanted = self._may_change(library, user) or 204
        if shelf and wanted == 204 and (shelf.is_default or len(shelf.members) > 1):
            wanted = 403
        assert answer.status_code == wanted
        if wanted == 204:
            del self.shelves[library]

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        for user, viewer in self.viewers.items():
            mine = [shelf for shelf in self.shelves.values() if user in shelf.members]
            listed = {each["id"]: each["role"] for each in viewer.http.get("/libraries").json()["data"]}
            assert listed == {shelf.id: shelf.members[user] for shelf in mine}
            for shelf in mine:
                assert set(viewer.media_in(shelf.id)) == shelf.media
            readable = set().union(*(shelf.media for shelf in mine))
            for item in set().union(*(shelf.media for shelf in self.shelves.values())):
                assert viewer.reads(UUID(item)) == (item in readable)

    def _people(self) -> list[UUID]:
        while len(self.viewers) < 2:
            self._log_in()
        return list(self.viewers)[:2]

    def _log_in(self) -> UUID:
        viewer = self.api.user()
        self.viewers[viewer.id] = viewer
        self.shelves[viewer.default] = Shelf(viewer.default, viewer.id, True, {viewer.id: "admin"})
        return viewer.id

    def _library_of(self, user: UUID) -> str:
        library = self.viewers[user].new_library()
        self.shelves[library] = Shelf(library, user, False, {user: "admin"})
        return library

    def _join(self, library: str, user: UUID, role: str) -> None:
        join(self.rows, library, user, role)
        self.shelves[library].members[user] = role

    def _default(self, user: UUID) -> Shelf:
        return next(shelf for shelf in self.shelves.values() if shelf.is_default and shelf.owner == user)

    def _may_change(self, library: str, user: UUID) -> int | None:
        """The status of a refusal, or None."""
        shelf = self.shelves.get(library)
        if shelf is None or user not in shelf.members:
            return 404
        return None if shelf.members[user] == "admin" else 403

    def _take_out(self, shelf: Shelf, user: UUID, item: str) -> None:
        shelf.media.discard(item)
        if shelf.is_default and shelf.owner == user:
            for other in self.shelves.values():
                if other.owner == user and not other.is_default and set(other.members) == {user}:
                    other.media.discard(item)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_closure_and_visibility_follow_the_model(
    api: Api, rows: Engine, new_media: Callable[..., UUID]
) -> None:
    bound = {"api": api, "rows": rows, "make_media": staticmethod(new_media)}
    machine = type("BoundClosure", (Closure,), bound)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
