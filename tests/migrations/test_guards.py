"""What stands around every migration: others are named, nobody queues behind it, no lock outlives it."""

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from nexus.db import guards
from nexus.db.guards import TableLockTimeoutError, create_migration_engine
from nexus.db.migrations import alembic_config
from nexus.migrator.check import written_catalog
from tests.migrations.conftest import HEAD, Migrator, autocommit, downgrade, read, s0_rows, schema, upgrade
from tests.migrations.holding import COMMIT, held_at
from tests.waiting import wait_until

REWRITE = "write media anew with its new columns"


@contextmanager
def session(url: URL, name: str) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool, connect_args={"application_name": name})
    with engine.connect() as connection:
        yield connection


@contextmanager
def reader_of_media(url: URL) -> Iterator[Connection]:
    """Somebody whose transaction has read media and goes on for as long as it likes."""
    with session(url, "a long report") as connection:
        connection.execute(text("SELECT count(*) FROM media"))
        yield connection


def activity(url: URL, condition: str) -> list[tuple[object, ...]]:
    query = text(f"SELECT pid, application_name FROM pg_stat_activity WHERE {condition}")
    found = read(url, lambda connection: [tuple(row) for row in connection.execute(query)])
    assert isinstance(found, list)
    return found


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, err = process.communicate(timeout=90)
    return process.returncode, err


def await_line(process: "subprocess.Popen[str]", words: str) -> str:
    """The first line on its stderr that holds these words. pytest's own time limit bounds it."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"it ended with {process.wait()} before it said: {words}")


def test_every_session_of_a_migration_carries_the_bounds(migrated_db: URL) -> None:
    engine = create_migration_engine(
        migrated_db.update_query_dict({"options": "-c lock_timeout=1h -c jit=off"})
    )
    with engine.connect() as connection:
        found = {
            name: connection.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar_one()
            for name in (*guards.SESSION, "jit")
        }
    engine.dispose()
    assert found == {
        "lock_timeout": "1500ms",
        "statement_timeout": "0",
        "maintenance_work_mem": "256MB",
        "idle_in_transaction_session_timeout": "10s",
        "client_connection_check_interval": "500ms",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "jit": "off",  # of the URL's own options what we do not set stays
    }


def test_the_bounds_stand_above_those_of_the_database(s0_with_data: URL) -> None:
    autocommit(s0_with_data, f'ALTER DATABASE "{s0_with_data.database}" SET statement_timeout = 1')
    upgrade(s0_with_data)


def test_a_reader_in_the_way_is_named_and_waited_for(s0_with_data: URL) -> None:
    rows = s0_rows(s0_with_data)
    with reader_of_media(s0_with_data) as reader:
        process = Migrator(s0_with_data).start("upgrade")
        # The first may be of autovacuum, which Postgres sends off.
        line = await_line(process, "a long report (pid ")
        assert "waiting for a lock" in line
        assert "on=media" in line
        assert "idle in transaction for " in line
        await_line(process, "rolled back, so that nobody waits behind us")
        reader.rollback()
    assert ended(process)[0] == 0
    assert schema(s0_with_data) == written_catalog(HEAD)
    assert s0_rows(s0_with_data) == rows


def test_nobody_waits_behind_a_migration_that_waits(s0_with_data: URL) -> None:
    with reader_of_media(s0_with_data) as reader, session(s0_with_data, "another reader") as other:
        process = Migrator(s0_with_data).start("upgrade")
        await_line(process, "waiting for a lock")
        # Longer than lock_timeout would mean that the migrator's wait for the lock has no bound.
        other.exec_driver_sql("SET statement_timeout = '10s'")
        other.execute(text("SELECT count(*) FROM media"))
        other.rollback()
        reader.rollback()
    assert ended(process)[0] == 0


def test_a_reader_that_never_ends_is_named_in_the_end(s0_with_data: URL) -> None:
    before, rows = schema(s0_with_data), s0_rows(s0_with_data)
    with reader_of_media(s0_with_data):
        done = Migrator(s0_with_data).run("upgrade", MIGRATOR_WAIT_SECONDS="2")
    assert done.returncode == 4
    last = done.stderr.splitlines()[-1]
    assert re.search(
        r"the tables are in use for more than 2 s: .*media is held by a long report \(pid ", last
    )
    assert "Traceback" not in done.stderr
    assert schema(s0_with_data) == before
    assert s0_rows(s0_with_data) == rows


def test_the_alembic_command_has_the_same_guards(s0_with_data: URL) -> None:
    with reader_of_media(s0_with_data), pytest.raises(TableLockTimeoutError, match="a long report"):
        command.upgrade(alembic_config(s0_with_data, wait_seconds=0.1), "head")


def test_an_attempt_that_is_repeated_does_not_go_further_than_asked(s0_with_data: URL) -> None:
    """`-1` asked for again, after the first revision had committed, would be one too many."""
    upgrade(s0_with_data, "0002")
    with session(s0_with_data, "a long report") as reader:
        # In nobody's way before the second revision.
        reader.execute(text("SELECT count(*) FROM fragments"))
        process = Migrator(s0_with_data).start("downgrade", "-2")
        await_line(process, "downgraded")
        await_line(process, "rolled back, so that nobody waits behind us")
        assert schema(s0_with_data) == written_catalog("0001")
        reader.rollback()
    assert ended(process)[0] == 0
    assert schema(s0_with_data) == ""


def test_a_locked_version_table_is_waited_for_too(s0_with_data: URL) -> None:
    """There the attempt fails outside of any revision, and alembic must not find a transaction open."""
    with session(s0_with_data, "somebody") as other, ThreadPoolExecutor(1) as threads:
        other.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
        migration = threads.submit(upgrade, s0_with_data)
        blocked = "application_name = 'nexus-migrator' AND wait_event_type = 'Lock'"
        wait_until("it waits", lambda: activity(s0_with_data, blocked), seconds=30)
        wait_until("it has given up", lambda: not activity(s0_with_data, blocked), seconds=30)
        other.rollback()
        migration.result(60)
    assert schema(s0_with_data) == written_catalog(HEAD)


def test_each_revision_is_a_transaction_of_its_own(s0_with_data: URL) -> None:
    upgrade(s0_with_data)
    with session(s0_with_data, "a long report") as reader:
        reader.execute(text("SELECT count(*) FROM fragments"))
        done = Migrator(s0_with_data).run("downgrade", "base", MIGRATOR_WAIT_SECONDS="1")
    assert done.returncode == 4
    assert "downgraded [nexus.migrator] revision=0002" in done.stderr
    assert schema(s0_with_data) == written_catalog("0001")


def test_the_step_at_work_can_be_seen_in_postgres(s0_with_data: URL) -> None:
    with held_at(f"amid {REWRITE}", s0_with_data) as held:
        process = Migrator(s0_with_data).start("upgrade")
        pid = held()
        assert activity(s0_with_data, f"pid = {pid}") == [(pid, f"nexus-migrator: {REWRITE}")]
    assert ended(process)[0] == 0
    assert schema(s0_with_data) == written_catalog(HEAD)


@pytest.mark.parametrize("place", [f"amid {REWRITE}", COMMIT])
def test_a_migrator_that_is_killed_leaves_no_lock(place: str, s0_with_data: URL) -> None:
    before, rows = schema(s0_with_data), s0_rows(s0_with_data)
    with held_at(place, s0_with_data) as held:
        process = Migrator(s0_with_data).start("upgrade")
        pid = held()
        process.kill()
        process.communicate(timeout=30)
        # What it waits for is not coming: without client_connection_check_interval it would wait for ever.
        wait_until("its session is gone", lambda: not activity(s0_with_data, f"pid = {pid}"), seconds=30)
        assert s0_rows(s0_with_data) == rows
    assert schema(s0_with_data) == before
    assert Migrator(s0_with_data).run("upgrade").returncode == 0
    assert s0_rows(s0_with_data) == rows


def test_a_failed_revision_keeps_no_lock_and_hides_no_reason(s0_with_data: URL) -> None:
    engine = create_engine(s0_with_data, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TYPE failure_stage AS ENUM ('moon')")
    with pytest.raises(RuntimeError, match="moon"):
        upgrade(s0_with_data)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TYPE failure_stage")
    upgrade(s0_with_data)
    downgrade(s0_with_data, "0001")
