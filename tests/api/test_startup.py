"""The API as a process: on which databases it starts, and what it says when it does not."""

import os
import subprocess
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from nexus.config import Settings
from tests.api.conftest import GUNICORN, environment_of, running_api
from tests.checkout import REPO
from tests.conftest import settings_for, stranger
from tests.migrations.conftest import HEAD, downgrade, execute, upgrade


def refused(settings: Settings) -> str:
    """The last line of a gunicorn that is expected to end by itself."""
    done = subprocess.run(
        [*GUNICORN, "--bind", "127.0.0.1:0", "services.api.main:app"],
        env=os.environ | environment_of(settings),
        cwd=REPO,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "does not start" in line]
    return line


def refused_schema(settings: Settings) -> str:
    line = refused(settings)
    assert "make migrate" in line
    return line


def test_it_refuses_a_database_whose_revision_it_may_not_read(settings: Settings, migrated_db: URL) -> None:
    with stranger(settings, migrated_db) as url:
        assert "our user may not read alembic_version" in refused(settings_for(settings, url))


def test_it_refuses_a_database_that_was_never_migrated(settings: Settings, fresh_db: URL) -> None:
    assert f"revision=none wanted={HEAD}" in refused_schema(settings_for(settings, fresh_db))


def test_it_refuses_a_database_that_is_behind(settings: Settings, migrated_db: URL) -> None:
    downgrade(migrated_db, "0001")
    assert f"revision=0001 wanted={HEAD}" in refused_schema(settings_for(settings, migrated_db))


@pytest.mark.parametrize("revision", ["0099", "f00"])
def test_it_refuses_a_revision_that_it_does_not_know(
    revision: str, settings: Settings, migrated_db: URL
) -> None:
    execute(migrated_db, "UPDATE alembic_version SET version_num = :revision", revision=revision)
    assert f"revision={revision} wanted={HEAD}" in refused_schema(settings_for(settings, migrated_db))


def started(settings: Settings) -> "subprocess.Popen[str]":
    """A gunicorn that may have to wait; whoever starts it ends it."""
    return subprocess.Popen(
        [*GUNICORN, "--bind", "127.0.0.1:0", "services.api.main:app"],
        env=os.environ | environment_of(settings),
        cwd=REPO,
        stderr=subprocess.PIPE,
        text=True,
    )


def line_with(process: "subprocess.Popen[str]", wanted: str) -> str:
    """The next line that holds this, or everything there was."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if wanted in line:
            return line
    raise AssertionError(f"no line with {wanted!r} in:\n{''.join(seen)}")


@pytest.mark.parametrize("before", ["0001", "nothing"])
def test_it_waits_for_a_migration_that_is_to_come(
    before: str, settings: Settings, migrated_db: URL, fresh_db: URL
) -> None:
    database = migrated_db if before == "0001" else fresh_db
    if before == "0001":
        downgrade(migrated_db, "0001")
    with started(settings_for(settings, database, SCHEMA_WAIT_SECONDS=60)) as process:
        try:
            line_with(process, "waiting for the migration")
            upgrade(database)
            line_with(process, "Application startup complete")
        finally:
            process.terminate()
    assert process.returncode == 0


@pytest.mark.parametrize(("revision", "waits"), [("0001", True), ("9999", False)])
def test_it_waits_only_for_what_may_come_and_not_for_ever(
    revision: str, waits: bool, settings: Settings, migrated_db: URL
) -> None:
    execute(migrated_db, "UPDATE alembic_version SET version_num = :revision", revision=revision)
    with started(settings_for(settings, migrated_db, SCHEMA_WAIT_SECONDS=3)) as process:
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 1
    assert ("waiting for the migration" in said) == waits
    assert f"revision={revision} wanted={HEAD}" in said


def test_it_starts_without_postgres_and_says_so(settings: Settings, migrated_db: URL, tmp_path: Path) -> None:
    away = settings_for(settings, migrated_db.set(host="127.0.0.1", port=1))
    with running_api(away, tmp_path) as api:
        assert api.client().get("/ready").status_code == 503
        assert any("Postgres does not answer" in line for line in api.lines())
