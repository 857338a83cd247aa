"""The API as a process: on which databases it starts, and what it says when it does not."""

import os
import subprocess
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from nexus.config import Settings
from tests.api.conftest import GUNICORN, environment_of, running_api
from tests.checkout import REPO
from tests.conftest import settings_for
from tests.migrations.conftest import downgrade, execute


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
    assert "make migrate" in line
    return line


def test_it_refuses_a_database_that_was_never_migrated(settings: Settings, fresh_db: URL) -> None:
    assert "revision=none wanted=0002" in refused(settings_for(settings, fresh_db))


def test_it_refuses_a_database_that_is_behind(settings: Settings, migrated_db: URL) -> None:
    downgrade(migrated_db, "0001")
    assert "revision=0001 wanted=0002" in refused(settings_for(settings, migrated_db))


@pytest.mark.parametrize("revision", ["0003", "f00"])
def test_it_refuses_a_revision_that_it_does_not_know(
    revision: str, settings: Settings, migrated_db: URL
) -> None:
    execute(migrated_db, "UPDATE alembic_version SET version_num = :revision", revision=revision)
    assert f"revision={revision} wanted=0002" in refused(settings_for(settings, migrated_db))


def test_it_starts_without_postgres_and_says_so(settings: Settings, migrated_db: URL, tmp_path: Path) -> None:
    away = settings_for(settings, migrated_db.set(host="127.0.0.1", port=1))
    with running_api(away, tmp_path) as api:
        assert api.client().get("/ready").status_code == 503
        assert any("Postgres does not answer" in line for line in api.lines())
