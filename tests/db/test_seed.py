"""`nexus seed`: whole texts, once, and never where others' data may be."""

import re
from importlib.resources import files

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from nexus import cli
from nexus.config import Settings
from nexus.db.models import Fragment, Media
from nexus.seed import WORKS, seed
from tests.conftest import settings_for


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text)


def test_every_word_of_both_texts_arrives_in_order(db_session: Session) -> None:
    list(seed(db_session))
    for work in WORKS:
        query = select(Fragment).where(Fragment.media_id == work.media_id).order_by(Fragment.idx)
        fragments = list(db_session.scalars(query))
        source = files("nexus.seed").joinpath("data", f"{work.slug}.txt").read_text(encoding="utf-8")
        assert [fragment.idx for fragment in fragments] == list(range(len(fragments)))
        assert words(" ".join(fragment.canonical_text for fragment in fragments)) == words(source)
        assert all(fragment.html_sanitized.startswith(("<h2>", "<p>")) for fragment in fragments)


def test_a_second_run_adds_nothing(db_session: Session) -> None:
    first = [rows for _, rows in seed(db_session)]
    second = [rows for _, rows in seed(db_session)]
    assert all(rows > 1 for rows in first)
    assert second == [0, 0]
    assert db_session.scalar(select(func.count()).select_from(Media)) == len(WORKS)


def test_the_command_commits_and_says_what_it_did(
    settings: Settings, migrated_db: URL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "settings_or_exit", lambda: settings_for(settings, migrated_db))
    assert cli.main(["seed"]) == 0
    assert cli.main(["seed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["added" in line for line in lines] == [True, True, False, False]
    engine = create_engine(migrated_db)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Media)) == len(WORKS)
    engine.dispose()


def test_it_refuses_production(
    settings: Settings, migrated_db: URL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = migrated_db.set(password="not-published")  # noqa: S106  never used to connect
    provider = {"AUTH_JWKS_URL": "http://localhost:1/", "AUTH_ISSUER": "us", "AUTH_AUDIENCES": "nexus"}
    changes = provider | {"NEXUS_ENV": "prod", "NEXUS_INTERNAL_SECRET": "own"}
    production = settings_for(settings, own, **changes)
    monkeypatch.setattr(cli, "settings_or_exit", lambda: production)
    assert cli.main(["seed"]) == 1
    assert "NEXUS_ENV is prod" in capsys.readouterr().err


def test_it_names_a_database_that_was_not_migrated(
    settings: Settings, fresh_db: URL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "settings_or_exit", lambda: settings_for(settings, fresh_db))
    assert cli.main(["seed"]) == 1
    assert "make migrate" in capsys.readouterr().err
