"""What every test may use: the settings of this container, databases of its own, the internal header.

No test touches the database that DATABASE_URL names: it only says where the server is. Each run makes a
migrated template database and clones of it, and drops them at the end.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import hypothesis.configuration
import pytest
from alembic import command
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from nexus.config import Settings, load_settings
from nexus.db.migrations import alembic_config

RUN = uuid4().hex[:8]

# The root of the test-runner is read-only. No deadline: timed assertions are no tests.
hypothesis.configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "nexus-hypothesis")
hypothesis.settings.register_profile("nexus", deadline=None, database=None)
hypothesis.settings.load_profile("nexus")


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings()


def settings_for(settings: Settings, url: URL, **changes: object) -> Settings:
    """A copy of the settings that uses another database."""
    rendered = url.render_as_string(hide_password=False)
    return Settings.model_validate(settings.model_dump() | {"DATABASE_URL": rendered} | changes)


def on_database(broker: str, number: int) -> str:
    """The URL of another database of the same Redis."""
    return urlsplit(broker)._replace(path=f"/{number}").geturl()


@pytest.fixture(scope="session")
def own_broker(settings: Settings, worker_id: str) -> str:
    """A database of Redis in which no worker is but those of the test that runs.

    Each process of pytest has one of the upper eight; the stack, and whatever does not care, use lower ones.
    """
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    return on_database(settings.CELERY_BROKER_URL.get_secret_value(), 8 + number)


@contextmanager
def server(settings: Settings) -> Iterator[Connection]:
    """A connection to the maintenance database, in autocommit."""
    url = settings.database_url.set(database="postgres")
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@contextmanager
def scratch_database(settings: Settings, template: str = "template1") -> Iterator[URL]:
    name = f"nexus_test_{RUN}_{uuid4().hex[:8]}"
    with server(settings) as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        try:
            yield settings.database_url.set(database=name)
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def stranger(settings: Settings, database: URL) -> Iterator[URL]:
    """The database for a role that owns nothing and was given no right."""
    role = f"nexus_stranger_{uuid4().hex[:8]}"
    with server(settings) as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'"))
        try:
            yield database.set(username=role, password=role)
        finally:
            connection.execute(text(f"DROP ROLE {role}"))


@pytest.fixture(scope="session")
def template_url(settings: Settings) -> Iterator[URL]:
    """A database at the newest revision, to be cloned. Nothing may stay connected to it."""
    with scratch_database(settings) as url:
        command.upgrade(alembic_config(url, wait_seconds=10), "head")
        yield url


@pytest.fixture
def fresh_db(settings: Settings) -> Iterator[URL]:
    """An empty database."""
    with scratch_database(settings) as url:
        yield url


@pytest.fixture
def migrated_db(settings: Settings, template_url: URL) -> Iterator[URL]:
    """A database of the test's own at the newest revision."""
    with scratch_database(settings, template=str(template_url.database)) as url:
        yield url


@pytest.fixture(scope="session")
def shared_engine(settings: Settings, template_url: URL) -> Iterator[Engine]:
    with scratch_database(settings, template=str(template_url.database)) as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def db_session(shared_engine: Engine) -> Iterator[Session]:
    """A session whose work is undone after the test, its commits and rollbacks included."""
    with shared_engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        outer.rollback()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def api_url() -> str:
    """Where the API of the running stack answers."""
    return os.environ["NEXUS_API_URL"]


def auth_headers() -> dict[str, str]:
    """What a request to the API of the running stack must carry."""
    return {"X-Nexus-Internal": os.environ["NEXUS_API_SECRET"]}


def pytest_unconfigure(config: pytest.Config) -> None:
    """The very last line says what was not selected for want of a Docker socket, and how to run it."""
    if "not docker" in str(config.option.markexpr) and not config.option.collectonly:
        print(  # noqa: T201
            "Not run here, since this container has no Docker socket: tests/stack and tests/host. "
            "On the host: make test (and make test-long, make drill)."
        )
