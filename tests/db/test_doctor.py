"""`nexus doctor` and its peers: each fault of Postgres, its schema, its clock, and of Redis."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from nexus import doctor
from nexus.config import Settings
from nexus.db.migrations import alembic_config
from nexus.doctor import bounds
from nexus.doctor.clock import skew
from nexus.doctor.findings import Finding
from nexus.doctor.postgres import check_postgres
from nexus.doctor.redis import check_redis
from nexus.health import Part, postgres_probe
from tests.checkout import REPO, free_ports
from tests.conftest import settings_for, stranger
from tests.host.authority import Authority

#: As it lies in the image, and in the virtual environment of the host.
COMMAND = Path(sys.executable).with_name("nexus")
WRONG = "not-the-one"
NOT_ASKED = Finding("schema", "unknown", "not checked: Postgres does not answer")
NOT_TOLD = Finding("schema", "unknown", "not checked: Postgres does not tell it")


def postgres(settings: Settings, url: URL) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_postgres(settings_for(settings, url))}


def execute(url: URL, *statements: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def assert_fault(finding: Finding, *parts: str) -> None:
    assert finding.state == "fault", finding
    assert finding.remedy
    assert [part for part in parts if part not in f"{finding.message}: {finding.remedy}"] == []


# --- Postgres --------------------------------------------------------------------------------------------


def test_a_database_that_is_well(settings: Settings, migrated_db: URL) -> None:
    found = postgres(settings, migrated_db)
    assert {name: finding.state for name, finding in found.items()} == {
        "postgres": "ok", "schema": "ok", "clock": "ok"
    }  # fmt: skip


def test_it_changes_nothing(settings: Settings, fresh_db: URL) -> None:
    """Not by luck: its connection could not."""
    execute(
        fresh_db,
        "CREATE SEQUENCE written",
        "CREATE VIEW alembic_version AS SELECT nextval('written')::text AS version_num",
    )
    found = postgres(settings, fresh_db)
    assert found["postgres"].state == "fault"
    engine = create_engine(fresh_db, poolclass=NullPool)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT is_called FROM written")).scalar_one() is False


def test_nobody_listens(settings: Settings) -> None:
    (port,) = free_ports(1)
    found = postgres(settings, settings.database_url.set(host="127.0.0.1", port=port))
    assert_fault(found["postgres"], "Postgres at 127.0.0.1 refused the connection", "make ps")
    assert found["schema"] == NOT_ASKED


def test_a_wrong_password(settings: Settings) -> None:
    found = postgres(settings, settings.database_url.set(password=WRONG))
    assert_fault(found["postgres"], "refused our password", "POSTGRES_PASSWORD")
    assert WRONG not in str(found)


def test_no_such_database(settings: Settings) -> None:
    found = postgres(settings, settings.database_url.set(database=f"nexus_none_{uuid4().hex[:8]}"))
    assert_fault(found["postgres"], "has no such user or database", "POSTGRES_DB")


def test_no_connection_left(settings: Settings, migrated_db: URL) -> None:
    execute(migrated_db, f"ALTER DATABASE {migrated_db.database} CONNECTION LIMIT 0")
    with stranger(settings, migrated_db) as url:
        found = postgres(settings, url)
    assert_fault(found["postgres"], "has no connection left", "pg_stat_activity")


def readiness(url: URL) -> Part:
    """What /ready says of Postgres."""
    return asyncio.run(postgres_probe(url, "0002", 5)())[0]


NO_RIGHTS = "does not give our user the rights it needs"


def test_a_user_that_may_read_nothing(settings: Settings, migrated_db: URL) -> None:
    with stranger(settings, migrated_db) as url:
        found = postgres(settings, url)
        assert readiness(url).detail == NO_RIGHTS
    assert_fault(found["postgres"], NO_RIGHTS, "GRANT")
    assert found["schema"] == NOT_TOLD


def test_a_user_that_may_not_connect(settings: Settings, migrated_db: URL) -> None:
    execute(migrated_db, f"REVOKE CONNECT ON DATABASE {migrated_db.database} FROM public")
    with stranger(settings, migrated_db) as url:
        found = postgres(settings, url)
    assert_fault(found["postgres"], NO_RIGHTS, "GRANT CONNECT")


def test_a_query_that_takes_too_long(
    settings: Settings, migrated_db: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus.doctor.postgres.STATEMENT_TIMEOUT", 200)
    execute(migrated_db, f"ALTER DATABASE {migrated_db.database} SET statement_timeout = 200")
    engine = create_engine(migrated_db, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE alembic_version"))
        found = postgres(settings, migrated_db)
        ready = readiness(migrated_db)
    assert_fault(found["postgres"], "did not finish our query in time", "pg_stat_activity")
    assert found["schema"] == NOT_TOLD
    assert ready.detail == "did not finish our query in time"


def test_another_error_is_an_answer_too(settings: Settings, fresh_db: URL) -> None:
    execute(fresh_db, "CREATE TABLE alembic_version (version integer)")
    found = postgres(settings, fresh_db)
    assert_fault(found["postgres"], "answered with an error (SQLSTATE 42703)", "make logs")
    assert readiness(fresh_db).detail == "answered with an error (SQLSTATE 42703)"


def test_a_machine_that_is_not_admitted(settings: Settings) -> None:
    """No pg_hba.conf lets another machine replicate unless somebody has written that into it."""
    url = settings.database_url.update_query_dict({"replication": "true"})
    assert_fault(postgres(settings, url)["postgres"], "does not admit this machine", "pg_hba.conf")
    assert readiness(url).detail == "does not admit this machine"


@contextmanager
def tls_peer(context: ssl.SSLContext | None) -> Iterator[int]:
    """The port of what begins TLS as Postgres does, or says that it has none. Nobody gets any further."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(8)
                connection.sendall(b"S" if context else b"N")
                if context:
                    with context.wrap_socket(connection, server_side=True) as tls:
                        tls.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener], daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("host", "trusted", "said"),
    [
        (None, "ca.pem", "does not speak TLS, which sslmode demands"),
        ("127.0.0.1", "gone.pem", "cannot be verified: the file of sslrootcert cannot be read"),
        ("127.0.0.1", "another.pem", "has a certificate that we do not trust"),
        ("127.0.0.1", "other/ca.pem", "has a certificate that we do not trust"),
        ("db.example", "ca.pem", "has a certificate of another host"),
    ],
    ids=["none", "no CA", "another CA", "a CA made anew", "another host"],
)
def test_tls_that_fails(
    settings: Settings, tmp_path: Path, host: str | None, trusted: str, said: str
) -> None:
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    other.certify("another").rename(tmp_path / "another.pem")
    with tls_peer(authority.context(host) if host else None) as port:
        query = {"sslmode": "verify-full", "sslrootcert": str(tmp_path / trusted)}
        url = settings.database_url.set(host="127.0.0.1", port=port).update_query_dict(query)
        found = postgres(settings, url)
        assert readiness(url).detail == said
    assert_fault(found["postgres"], f"Postgres at 127.0.0.1 {said}", "ssl")
    assert "make logs" not in found["postgres"].remedy
    assert str(tmp_path) not in str(found)
    assert found["schema"] == NOT_ASKED


def test_a_silent_server_is_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the connection, and says nothing; so does a proxy whose server is gone."""
    monkeypatch.setattr("nexus.doctor.postgres.PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        found = postgres(settings, settings.database_url.set(host=host, port=port))
    assert_fault(found["postgres"], "does not answer within 1 s")
    assert found["schema"] == NOT_ASKED


# --- the schema ------------------------------------------------------------------------------------------


def test_never_migrated(settings: Settings, fresh_db: URL) -> None:
    assert_fault(postgres(settings, fresh_db)["schema"], "the database was never migrated", "make migrate")


def test_behind(settings: Settings, fresh_db: URL) -> None:
    command.upgrade(alembic_config(fresh_db, wait_seconds=10), "0001")
    found = postgres(settings, fresh_db)["schema"]
    assert_fault(found, "the database is behind: 0001, wanted 0002", "make migrate")


def test_ahead(settings: Settings, migrated_db: URL) -> None:
    execute(migrated_db, "UPDATE alembic_version SET version_num = '0099'")
    found = postgres(settings, migrated_db)["schema"]
    assert_fault(found, "the database is at 0099, which this Nexus does not know; its newest is 0002")
    assert found.remedy == "run the version of Nexus that the database belongs to"


def test_changed_by_hand(settings: Settings, migrated_db: URL) -> None:
    execute(migrated_db, "ALTER TABLE media ADD COLUMN by_hand integer")
    found = postgres(settings, migrated_db)["schema"]
    assert_fault(found, "is not that of revision 0002: 1 lines differ", "column by_hand integer")
    assert "migrator check" in found.remedy


# --- clocks ----------------------------------------------------------------------------------------------


def test_a_postgres_whose_clock_is_wrong(settings: Settings, migrated_db: URL) -> None:
    """It says what this function says, as soon as that is found before its own."""
    execute(
        migrated_db,
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
        "AS $$ SELECT pg_catalog.now() - interval '90 s' $$",
        f"ALTER DATABASE {migrated_db.database} SET search_path = public, pg_catalog",
    )
    found = postgres(settings, migrated_db)["clock"]
    assert_fault(found, "the clock of Postgres is 90 s behind this machine's, and tokens may differ", "NTP")


@pytest.mark.parametrize(
    ("ahead", "state"),
    [(0, "ok"), (-9.4, "ok"), (10, "warning"), (-59.4, "warning"), (60, "fault"), (-1e9, "fault")],
)
def test_how_far_clocks_may_differ(ahead: float, state: str) -> None:
    found = skew("Postgres", ahead)
    assert (found.name, found.state) == ("clock", state)


# --- Redis -----------------------------------------------------------------------------------------------


def broker(settings: Settings, url: str) -> list[Finding]:
    changes = dict.fromkeys(("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"), url)
    return list(check_redis(Settings.model_validate(settings.model_dump() | changes)))


def test_a_redis_that_is_well_is_asked_once(settings: Settings) -> None:
    (found,) = broker(settings, settings.REDIS_URL.get_secret_value())
    assert (found.name, found.state) == ("redis", "ok")
    assert "CELERY_BROKER_URL" in found.message


def test_a_redis_that_is_away_is_named_by_its_setting(settings: Settings) -> None:
    (port,) = free_ports(1)
    changes = {"CELERY_RESULT_BACKEND": f"redis://:hidden@127.0.0.1:{port}/0"}
    queue, results = check_redis(Settings.model_validate(settings.model_dump() | changes))
    assert {queue.state, results.state} == {"ok", "fault"}
    bad = queue if queue.state == "fault" else results
    assert_fault(bad, "Redis at 127.0.0.1 (CELERY_RESULT_BACKEND) does not answer", "make ps")
    assert "hidden" not in str(bad)


# --- the command -----------------------------------------------------------------------------------------


def nexus_doctor(*arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(REPO / "shared")} | changes
    return subprocess.run(
        [COMMAND, "doctor", *arguments], env=environment, cwd="/", capture_output=True, text=True, check=False
    )


def test_refused_settings_are_what_it_tells(settings: Settings) -> None:
    secret = settings.NEXUS_INTERNAL_SECRET.get_secret_value()
    done = nexus_doctor(NEXUS_ENV="production", LOG_LEVEL="LOUD", NEXUS_INTERNAL_SECRET=f"{secret}\n")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    faults = [line.split()[:4] for line in lines if line.startswith("fault")]
    assert [name for _, check, _, name in faults if check == "settings"] == [
        "NEXUS_ENV:", "NEXUS_INTERNAL_SECRET:", "LOG_LEVEL:"
    ]  # fmt: skip
    assert [line.split()[:2] for line in lines[3:]] == [["unknown", name] for name in doctor.CHECKS[1:]]
    assert secret not in done.stdout


def test_it_asks_only_what_it_is_asked() -> None:
    done = nexus_doctor(
        "--lines",
        "--only",
        "redis",
        "--only",
        "provider",
        DATABASE_URL="postgresql+psycopg://x@127.0.0.1:1/x",
    )
    assert [line.split(doctor.SEPARATOR)[:2] for line in done.stdout.splitlines()] == [
        ["ok", "redis"],
        ["ok", "provider"],
    ]
    assert done.returncode == 0


def test_a_check_that_there_is_not_is_a_matter_of_usage() -> None:
    done = nexus_doctor("--only", "weather")
    assert (done.returncode, done.stdout) == (2, "")


def test_what_it_waits_for_is_bounded() -> None:
    left, right = socket.socketpair()
    with left, right, pytest.raises(TimeoutError), bounds.bounded(0.05):
        left.recv(1)
