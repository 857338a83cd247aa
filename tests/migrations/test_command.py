"""The migrator's command line, as the process that runs in the container."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from nexus.db.guards import LOCK_KEY
from nexus.db.migrations import alembic_config
from nexus.migrator.check import written_catalog
from tests.migrations.conftest import HEAD, REVISIONS, Migrator, execute, schema
from tests.waiting import wait_until


def test_it_upgrades_says_so_and_has_nothing_to_do_the_second_time(fresh_db: URL) -> None:
    first = Migrator(fresh_db).run("upgrade")
    assert first.returncode == 0
    assert "revision=0001" in first.stderr
    assert f"revision='{HEAD} (head)'" in first.stderr
    second = Migrator(fresh_db).run("upgrade")
    assert second.returncode == 0
    assert "nothing to do" in second.stderr


def test_one_step_back_and_where_we_are(migrated_db: URL) -> None:
    migrator = Migrator(migrated_db)
    assert migrator.run("current").stdout == f"{HEAD} (head)\n"
    assert migrator.run("downgrade", "-1").returncode == 0
    assert migrator.run("current").stdout == f"{REVISIONS[-2]}\n"
    assert migrator.run("downgrade", "base").returncode == 0
    assert migrator.run("current").stdout == "base\n"


def test_history_lists_every_revision(fresh_db: URL) -> None:
    lines = Migrator(fresh_db).run("history").stdout.splitlines()
    steps = [f"{before} -> {after}" for before, after in pairwise(["<base>", *REVISIONS])]
    assert [line.split(",")[0] for line in lines] == [f"{steps[-1]} (head)", *steps[-2::-1]]


def test_check_is_content_with_a_migrated_database(migrated_db: URL) -> None:
    done = Migrator(migrated_db).run("check")
    assert (done.returncode, done.stdout) == (0, "")


def test_check_prints_what_differs(migrated_db: URL) -> None:
    execute(migrated_db, "ALTER TABLE media ALTER title DROP NOT NULL")
    done = Migrator(migrated_db).run("check")
    assert done.returncode == 1
    assert "-  column title text NOT NULL\n+  column title text\n" in done.stdout


def test_check_names_both_revisions(fresh_db: URL) -> None:
    done = Migrator(fresh_db).run("check")
    assert done.returncode == 1
    assert f"revision=base wanted={HEAD}" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["fly"], ["downgrade"], ["upgrade", "1", "2"], ["current", "x"]])
def test_wrong_arguments_give_usage_and_exit_2(arguments: list[str], fresh_db: URL) -> None:
    done = Migrator(fresh_db).run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: migrator")


@pytest.mark.parametrize("arguments", [["upgrade"], ["downgrade", "-1"], ["plan"]], ids=" ".join)
def test_a_database_of_a_newer_nexus_is_left_to_it(arguments: list[str], migrated_db: URL) -> None:
    execute(migrated_db, "UPDATE alembic_version SET version_num = '0815'")
    before = schema(migrated_db)
    done = Migrator(migrated_db).run(*arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"is at 0815, which this Nexus does not know; its newest is {HEAD}: run the version of" in line
    assert schema(migrated_db) == before


def test_an_unknown_revision_is_named(fresh_db: URL) -> None:
    done = Migrator(fresh_db).run("upgrade", "0815")
    assert done.returncode == 2
    assert "0815" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def lock_held(url: URL) -> Iterator[Connection]:
    """Somebody else migrates this database, as far as the migrator can see."""
    engine = create_engine(
        url,
        poolclass=NullPool,
        connect_args={"application_name": "somebody else"},
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
        yield connection


WAITING = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'nexus-migrator'
""")


def test_four_at_once_on_an_empty_database_all_end_well(fresh_db: URL) -> None:
    with lock_held(fresh_db) as connection:
        processes = [Migrator(fresh_db).start("upgrade") for _ in range(4)]
        wait_until(
            "all four wait for the lock",
            lambda: connection.execute(WAITING).scalar_one() == 4,
            seconds=60,
        )
        assert schema(fresh_db) == ""
    # Let go at one moment, so that they really race.
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], outputs
    assert schema(fresh_db) == written_catalog(HEAD)


def test_a_lock_that_is_held_too_long_names_its_holder(fresh_db: URL) -> None:
    with lock_held(fresh_db):
        done = Migrator(fresh_db).run("upgrade", MIGRATOR_WAIT_SECONDS="0.5")
    assert done.returncode == 4
    assert "somebody else (pid" in done.stderr.splitlines()[-1]
    assert schema(fresh_db) == ""


def test_no_postgres_is_one_line_with_the_place_to_look(fresh_db: URL) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = fresh_db.set(host="127.0.0.1", port=unused.getsockname()[1])
        done = Migrator(nobody).run("upgrade", MIGRATOR_WAIT_SECONDS="0.3")
    assert done.returncode == 3
    assert "did not answer within 0.3 s" in done.stderr.splitlines()[-1]
    assert "docker compose ps" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "variable"),
    [
        ({"password": "wrong"}, "POSTGRES_PASSWORD"),
        ({"database": "nexus_test_absent"}, "POSTGRES_DB"),
        # Postgres asks an unknown user for a password too, so that nobody can find out who exists.
        ({"username": "nobody_here"}, "POSTGRES_PASSWORD"),
    ],
)
def test_a_refusal_is_one_line_with_the_remedy_and_no_waiting(
    change: dict[str, str], variable: str, fresh_db: URL
) -> None:
    done = Migrator(fresh_db.set(**change)).run("upgrade")  # type: ignore[arg-type]
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert f"{variable} differs" in line
    assert "make reset" in line


def test_wrong_settings_are_one_line_each(fresh_db: URL) -> None:
    done = Migrator(fresh_db).run("upgrade", NEXUS_ENV="moon", REDIS_URL="")
    assert done.returncode == 78
    assert sorted(line.split(":")[1] for line in done.stderr.splitlines()) == [
        " setting NEXUS_ENV",
        " setting REDIS_URL",
    ]


def test_a_failing_revision_says_so_in_one_line(fresh_db: URL) -> None:
    execute(fresh_db, "CREATE TABLE libraries (id integer)")
    done = Migrator(fresh_db).run("upgrade")
    assert done.returncode == 1
    assert 'relation "libraries" already exists' in done.stderr
    assert "Traceback" not in done.stderr


def test_check_prints_what_differs_from_the_models(migrated_db: URL) -> None:
    """What `alembic check` cannot see: a label."""
    execute(migrated_db, "ALTER TYPE failure_stage ADD VALUE 'moon'")
    done = Migrator(migrated_db).run("check")
    assert done.returncode == 1
    assert done.stdout.count("+  upload, extract, transcribe, embed, other, moon\n") == 2
    assert f"--- db/schema/{HEAD}.txt\n+++ database\n" in done.stdout
    assert "--- shared/nexus/db/models.py\n+++ database\n" in done.stdout


def test_describe_prints_the_catalog_as_it_is_written(migrated_db: URL) -> None:
    assert Migrator(migrated_db).run("describe").stdout == written_catalog(HEAD)


def test_each_step_is_named_before_it_and_timed_after_it(s0_with_data: URL) -> None:
    done = Migrator(s0_with_data).run("upgrade", LOG_FORMAT="json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    steps = [line for line in lines if line["event"] in {"step", "step done"}]
    before, after = steps[0::2], steps[1::2]
    assert {line["event"] for line in before} == {"step"}
    assert [line["name"] for line in before] == [line["name"] for line in after]
    assert all(line["seconds"] >= 0 for line in after)
    (rewrite,) = [line["table"] for line in before if "table" in line]
    assert re.fullmatch(r"media: about 300 rows, 0\.\d MB", rewrite)


def test_offline_mode_is_refused(fresh_db: URL) -> None:
    with pytest.raises(SystemExit, match="'migrator plan' shows the statements"):
        command.upgrade(alembic_config(fresh_db, wait_seconds=1), "head", sql=True)
