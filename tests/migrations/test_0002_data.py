"""Revision 0002 on a database that holds data: nothing is lost, up or down."""

from uuid import UUID

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from nexus.migrator.check import written_catalog
from tests.migrations.conftest import downgrade, execute, read, s0_rows, schema, upgrade

SYSTEM_USER = UUID(int=0)
STATUSES = ("pending", "extracting", "ready_for_reading", "embedding", "ready", "failed")


def users(url: URL) -> dict[UUID, str]:
    def query(connection: Connection) -> dict[UUID, str]:
        rows = connection.execute(text("SELECT id, created_at AT TIME ZONE 'UTC' FROM users"))
        return {row[0]: str(row[1]) for row in rows}

    found = read(url, query)
    assert isinstance(found, dict)
    return found


def test_every_row_survives_up_down_and_up(s0_with_data: URL) -> None:
    before = s0_rows(s0_with_data)
    assert {row[4] for row in before["media"]} == set(STATUSES)
    upgrade(s0_with_data, "0002")
    assert s0_rows(s0_with_data) == before
    downgrade(s0_with_data, "0001")
    assert s0_rows(s0_with_data) == before
    assert schema(s0_with_data) == written_catalog("0001")
    upgrade(s0_with_data, "0002")
    assert s0_rows(s0_with_data) == before
    assert schema(s0_with_data) == written_catalog("0002")


def test_old_media_belong_to_the_system_user(s0_with_data: URL) -> None:
    upgrade(s0_with_data, "0002")

    def owners(connection: Connection) -> list[object]:
        query = "SELECT DISTINCT created_by_user_id, processing_attempts FROM media"
        return [tuple(row) for row in connection.execute(text(query))]

    assert read(s0_with_data, owners) == [(SYSTEM_USER, 0)]
    assert users(s0_with_data)[SYSTEM_USER] == "1970-01-01 00:00:00"


def test_the_table_is_rewritten_without_dead_rows(s0_with_data: URL) -> None:
    upgrade(s0_with_data, "0002")

    def dead(connection: Connection) -> object:
        connection.execute(text("CREATE EXTENSION pgstattuple"))
        return connection.execute(text("SELECT dead_tuple_count FROM pgstattuple('media')")).scalar_one()

    assert read(s0_with_data, dead) == 0


def test_an_empty_table(s0_db: URL) -> None:
    upgrade(s0_db, "0002")
    downgrade(s0_db, "0001")
    assert s0_rows(s0_db)["media"] == []
    assert users(s0_db) == {}


def test_a_right_enum_type_that_is_there_already_is_adopted(s0_with_data: URL) -> None:
    labels = ", ".join(f"'{status}'" for status in STATUSES)
    execute(s0_with_data, f"CREATE TYPE processing_status AS ENUM ({labels})")
    upgrade(s0_with_data, "0002")
    assert schema(s0_with_data) == written_catalog("0002")
    downgrade(s0_with_data, "0001")
    assert schema(s0_with_data) == written_catalog("0001")


@pytest.mark.parametrize("existing", ["ENUM ('pending', 'ready')", "ENUM ()", "(one integer)"])
def test_a_wrong_type_of_that_name_stops_the_migration_and_changes_nothing(
    existing: str, s0_with_data: URL
) -> None:
    execute(s0_with_data, f"CREATE TYPE processing_status AS {existing}")
    before, rows = schema(s0_with_data), s0_rows(s0_with_data)
    with pytest.raises(RuntimeError, match=r"found \[.*wanted \['pending', 'extracting'.*DROP TYPE"):
        upgrade(s0_with_data, "0002")
    assert schema(s0_with_data) == before
    assert s0_rows(s0_with_data) == rows


def test_a_system_user_that_was_there_before_stays(s0_db: URL) -> None:
    execute(s0_db, f"INSERT INTO users (id, created_at) VALUES ('{SYSTEM_USER}', '2020-01-01T00:00:00Z')")
    upgrade(s0_db, "0002")
    assert users(s0_db)[SYSTEM_USER] == "2020-01-01 00:00:00"
    downgrade(s0_db, "0001")
    assert users(s0_db) == {SYSTEM_USER: "2020-01-01 00:00:00"}


@pytest.mark.parametrize("as_owner", [True, False])
def test_a_system_user_that_somebody_uses_stays_with_what_is_theirs(
    as_owner: bool, s0_with_data: URL
) -> None:
    upgrade(s0_with_data, "0002")
    if as_owner:
        execute(s0_with_data, f"INSERT INTO libraries (owner_user_id, name) VALUES ('{SYSTEM_USER}', 'x')")
    else:
        execute(
            s0_with_data,
            "INSERT INTO memberships (library_id, user_id, role) "
            f"SELECT id, '{SYSTEM_USER}', 'member' FROM libraries",
        )
    rows = s0_rows(s0_with_data)
    downgrade(s0_with_data, "0001")
    assert SYSTEM_USER in users(s0_with_data)
    assert s0_rows(s0_with_data) == rows


def test_rows_of_0002_do_not_stand_in_the_way_down(s0_with_data: URL) -> None:
    upgrade(s0_with_data, "0002")
    execute(s0_with_data, "INSERT INTO media_file SELECT id, 'path', 'application/pdf', 1 FROM media")
    execute(
        s0_with_data,
        "UPDATE media SET failure_stage = 'embed', last_error_code = 'E', canonical_url = 'https://e/' || id",
    )
    rows = s0_rows(s0_with_data)
    downgrade(s0_with_data, "0001")
    assert s0_rows(s0_with_data) == rows
