"""What the database itself refuses, and what it lets through, at the newest revision."""

from typing import Any

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from nexus.db.models import FailureStage, Fragment, Library, Media, MediaFile, ProcessingStatus, User
from tests.factories import make_library, make_media, make_user

URL = "https://example.org/a%20page"


def test_canonical_url_uniqueness(db_session: Session) -> None:
    """Partial unique index on (kind, canonical_url) enforced."""
    user = make_user(db_session)
    make_media(db_session, user, kind="web_article", canonical_url=URL)
    make_media(db_session, user, kind="video", canonical_url=URL)
    with pytest.raises(IntegrityError, match="uix_media_canonical_url"):
        make_media(db_session, user, kind="web_article", canonical_url=URL)


def test_media_without_canonical_url_are_never_duplicates(db_session: Session) -> None:
    user = make_user(db_session)
    make_media(db_session, user, kind="web_article")
    make_media(db_session, user, kind="web_article")
    assert db_session.scalar(select(func.count()).select_from(Media)) == 2


def test_file_sha256_uniqueness_per_user(db_session: Session) -> None:
    """Partial unique index on (user, kind, sha256) enforced."""
    user, other = make_user(db_session), make_user(db_session)
    make_media(db_session, user, kind="pdf", file_sha256="abc")
    make_media(db_session, other, kind="pdf", file_sha256="abc")
    make_media(db_session, user, kind="epub", file_sha256="abc")
    with pytest.raises(IntegrityError, match="uix_media_file_sha256"):
        make_media(db_session, user, kind="pdf", file_sha256="abc")


def test_file_sha256_is_free_for_kinds_without_a_file(db_session: Session) -> None:
    user = make_user(db_session)
    make_media(db_session, user, kind="video", file_sha256="abc")
    make_media(db_session, user, kind="video", file_sha256="abc")
    assert db_session.scalar(select(func.count()).select_from(Media)) == 2


@pytest.mark.parametrize("column", ["requested_url", "canonical_url"])
def test_urls_end_at_2048_characters(column: str, db_session: Session) -> None:
    user = make_user(db_session)
    make_media(db_session, user, **{column: "x" * 2048})
    with pytest.raises(IntegrityError, match=f"ck_media_{column}_length"):
        make_media(db_session, user, **{column: "y" * 2049})


def test_a_long_canonical_url_that_is_not_ascii_does_not_fit_the_index(db_session: Session) -> None:
    """Why `canonical_url` is percent-encoded ASCII: the CHECK counts characters, the btree bytes (2,704)."""
    user = make_user(db_session)
    many_bytes = "".join(chr(0x4E00 + n) for n in range(2048))
    with pytest.raises(DBAPIError, match="exceeds btree version 4 maximum 2704"):
        make_media(db_session, user, canonical_url=many_bytes)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", None),
        ("title", None),
        ("processing_attempts", None),
        ("processing_status", None),
        ("created_by_user_id", None),
    ],
)
def test_not_null_columns_of_media(column: str, value: Any, db_session: Session) -> None:
    media = make_media(db_session, make_user(db_session))
    with pytest.raises(IntegrityError, match="violates not-null"):
        db_session.execute(
            text(f"UPDATE media SET {column} = :v WHERE id = :id"), {"v": value, "id": media.id}
        )


def test_media_without_a_creator_is_refused_by_the_database_itself(db_session: Session) -> None:
    """The backfill's default is gone: nothing falls to the system user in silence."""
    with pytest.raises(IntegrityError, match="created_by_user_id"):
        db_session.execute(text("INSERT INTO media (kind, title) VALUES ('epub', 'Orphan')"))


def test_defaults_of_a_new_media_row(db_session: Session) -> None:
    user = make_user(db_session)
    row = db_session.execute(
        text("INSERT INTO media (kind, title, created_by_user_id) VALUES ('epub', 'New', :user) RETURNING *"),
        {"user": user.id},
    ).one()
    assert (row.processing_status, row.processing_attempts, row.failure_stage) == ("pending", 0, None)


@pytest.mark.parametrize(("column", "value"), [("kind", "scroll"), ("processing_status", "done")])
def test_labels_that_do_not_exist_are_refused(column: str, value: str, db_session: Session) -> None:
    media = make_media(db_session, make_user(db_session))
    with pytest.raises(DBAPIError):
        db_session.execute(
            text(f"UPDATE media SET {column} = :v WHERE id = :id"), {"v": value, "id": media.id}
        )


def test_every_status_and_stage_goes_in_and_comes_back(db_session: Session) -> None:
    user = make_user(db_session)
    pairs = [(status, stage) for status in ProcessingStatus for stage in FailureStage]
    for status, stage in pairs:
        make_media(db_session, user, processing_status=status, failure_stage=stage)
    db_session.expire_all()
    found = [(media.processing_status, media.failure_stage) for media in db_session.scalars(select(Media))]
    assert sorted(found) == sorted(pairs)


def test_a_file_larger_than_an_integer(db_session: Session) -> None:
    media = make_media(db_session, make_user(db_session))
    file = MediaFile(media_id=media.id, storage_path="a", content_type="video/mp4", size_bytes=3 * 2**40)
    db_session.add(file)
    db_session.flush()
    db_session.refresh(file)
    assert file.size_bytes == 3 * 2**40


def test_deleting_media_takes_its_file_and_fragments(db_session: Session) -> None:
    media = make_media(db_session, make_user(db_session))
    db_session.add(MediaFile(media_id=media.id, storage_path="a", content_type="b", size_bytes=1))
    db_session.add(Fragment(media_id=media.id, idx=0, canonical_text="a", html_sanitized="a"))
    db_session.flush()
    db_session.execute(delete(Media).where(Media.id == media.id))
    assert db_session.scalar(select(func.count()).select_from(MediaFile)) == 0
    assert db_session.scalar(select(func.count()).select_from(Fragment)) == 0


def test_a_user_who_created_media_cannot_be_deleted_by_accident(db_session: Session) -> None:
    user = make_user(db_session)
    make_media(db_session, user)
    with pytest.raises(IntegrityError, match="fk_media_created_by_user_id"):
        db_session.execute(delete(User).where(User.id == user.id))


def test_one_default_library_for_each_user(db_session: Session) -> None:
    user = make_user(db_session)
    make_library(db_session, user, is_default=True)
    make_library(db_session, user, is_default=False)
    make_library(db_session, make_user(db_session), is_default=True)
    with pytest.raises(IntegrityError, match="uix_libraries_one_default_per_user"):
        make_library(db_session, user, is_default=True)


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_names_of_libraries_have_1_to_100_characters(name: str, db_session: Session) -> None:
    user = make_user(db_session)
    make_library(db_session, user, name="é" * 100)
    with pytest.raises(IntegrityError, match="ck_libraries_name_length"):
        make_library(db_session, user, name=name)


def test_fragments_of_one_media_have_distinct_places(db_session: Session) -> None:
    media = make_media(db_session, make_user(db_session))
    for idx in (0, 1):
        db_session.add(Fragment(media_id=media.id, idx=idx, canonical_text="a", html_sanitized="a"))
    db_session.flush()
    db_session.add(Fragment(media_id=media.id, idx=1, canonical_text="a", html_sanitized="a"))
    with pytest.raises(IntegrityError, match="uq_fragments_media_idx"):
        db_session.flush()


@pytest.mark.parametrize(("role", "accepted"), [("admin", True), ("member", True), ("owner", False)])
def test_roles_of_members(role: str, accepted: bool, db_session: Session) -> None:
    user = make_user(db_session)
    library: Library = make_library(db_session, user)
    insert = text("INSERT INTO memberships (library_id, user_id, role) VALUES (:library, :user, :role)")
    values = {"library": library.id, "user": user.id, "role": role}
    if accepted:
        assert db_session.execute(insert, values).rowcount == 1  # type: ignore[attr-defined]
        return
    with pytest.raises(IntegrityError, match="ck_memberships_role"):
        db_session.execute(insert, values)
