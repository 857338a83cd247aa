"""`make backup` and `make restore`: every row, one snapshot, older revisions, other users, who may be about.

Each test has databases of its own in the Postgres of the shared stack; the tools are told so by POSTGRES_DB.
"""

import hashlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from nexus.db.engine import connection_parameters
from nexus.migrator.check import differences, written_catalog
from tests.host.databases import (
    Database,
    Writers,
    assert_nobody_is_left,
    complaint,
    database,
    filled,
    many_media,
    members,
)
from tests.host.shims import stopping
from tests.host.support import Stack
from tests.migrations.conftest import autocommit, upgrade
from tests.waiting import wait_until

# Without cached images the shared stack takes its time.
pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def source(stack: Stack) -> Iterator[Database]:
    with filled(stack) as made:
        yield made


@pytest.fixture
def empty(stack: Stack) -> Iterator[Database]:
    with database(stack, None) as made:
        yield made


@pytest.fixture
def target(stack: Stack) -> Iterator[Database]:
    """Migrated, and no rows but those that the migrations make."""
    with database(stack) as made:
        yield made


def rows_of(manifest: bytes) -> dict[str, int]:
    found: dict[str, int] = json.loads(manifest)["rows"]
    return found


def test_every_row_compares_equal(source: Database, empty: Database, tmp_path: Path) -> None:
    file = tmp_path / "a backup.tar"
    before = source.state()
    said = source.backup(file)
    restored = empty.restore(file)
    assert (said.stderr, restored.stderr) == ("", "")
    assert source.state() == before
    assert empty.state() == before
    assert {table for table, (count, _) in before.rows.items() if count == 0} == set()
    assert differences(empty.url) == []
    assert_nobody_is_left(source)


def test_the_file_says_what_it_holds(source: Database, tmp_path: Path) -> None:
    source.backup(tmp_path / "it.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["it.tar"]
    assert (tmp_path / "it.tar").stat().st_mode & 0o777 == 0o600
    found = members(tmp_path / "it.tar")
    assert list(found) == ["nexus.dump", "manifest.json", "manifest.sha256"]
    dump, manifest = found["nexus.dump"], json.loads(found["manifest.json"])
    assert dump.startswith(b"PGDMP")
    assert manifest["dump_sha256"] == hashlib.sha256(dump).hexdigest()
    assert manifest["dump_bytes"] == len(dump)
    assert manifest["revision"] == "0002"
    assert manifest["rows"] == {table: count for table, (count, _) in source.state().rows.items()}
    assert str(source.ask("SHOW server_version")).startswith(manifest["postgres_version"])
    line = f"{hashlib.sha256(found['manifest.json']).hexdigest()}  manifest.json\n"
    assert found["manifest.sha256"].decode() == line


def test_the_default_name_tells_time_and_revision(source: Database) -> None:
    folder = source.stack.directory / "backups"
    said = source.make("backup")
    (file,) = folder.glob("nexus-????????T??????Z-0002.tar")
    assert f"nexus: backups/{file.name}: revision 0002, " in said.stdout
    assert "read back whole" in said.stdout
    assert [path.name for path in folder.iterdir()] == [file.name]
    assert folder.stat().st_mode & 0o777 == 0o700
    result = source.make("restore", check=False)
    assert f"which backup? make restore FILE=backups/{file.name}" in result.stderr
    file.unlink()


def test_a_file_that_is_there_stays(source: Database, tmp_path: Path) -> None:
    there = tmp_path / "there.tar"
    there.write_text("somebody's")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there.tar", "link", "."):
        line = complaint(source.backup(tmp_path / name, check=False))
        assert line == f"{tmp_path / name} is there already and stays as it is: name another FILE"
    assert there.read_text() == "somebody's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there.tar"]


def test_a_folder_that_is_not_there(source: Database, tmp_path: Path) -> None:
    line = complaint(source.backup(tmp_path / "no" / "x.tar", check=False))
    assert line == f"there is no folder {tmp_path}/no: make it, or name a FILE elsewhere"


def test_a_file_is_named_from_where_one_stands(source: Database, tmp_path: Path) -> None:
    script = 'cd "$1" && "$2/dev/backup" -x.tar && "$2/dev/restore" ./-x.tar'
    command = ("bash", "-euc", script, "it", str(tmp_path), str(source.stack.directory))
    result = source.run(*command, REPLACE="yes")
    assert "restored: revision 0002" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["-x.tar"]


def test_no_room_for_the_backup(source: Database, tmp_path: Path) -> None:
    """A limit for the size of files, which the kernel holds as it does the size of a disk."""
    many_media(source.url, 20_000)
    script = "trap '' XFSZ; ulimit -f 256; exec dev/backup \"$1\""
    command = ("bash", "-c", script, "it", str(tmp_path / "x.tar"))
    line = complaint(source.run(*command, check=False))
    assert line.startswith("File too large: ")
    assert f"{tmp_path} cannot be written to, nothing is left of this backup: make room there" in line
    assert list(tmp_path.iterdir()) == []
    assert_nobody_is_left(source)


def test_nothing_to_back_up(empty: Database, tmp_path: Path) -> None:
    line = complaint(empty.backup(tmp_path / "x.tar", check=False))
    assert line.startswith(f"the database {empty.name} is empty, there is nothing to back up. ")
    autocommit(empty.url, "CREATE TABLE theirs (id integer)")
    line = complaint(empty.backup(tmp_path / "x.tar", check=False))
    assert line.startswith("the database has no revision, so it is none of Nexus or was never migrated: ")
    assert list(tmp_path.iterdir()) == []


def test_postgres_that_does_not_let_us_in(source: Database, tmp_path: Path) -> None:
    line = complaint(source.backup(tmp_path / "x.tar", check=False, POSTGRES_PASSWORD="wrong"))  # noqa: S106
    assert "password authentication failed" in line
    assert line.endswith("POSTGRES_PASSWORD, or its file, is not the password that this database has")
    assert list(tmp_path.iterdir()) == []


def test_a_database_with_rows_is_refused(source: Database, target: Database, tmp_path: Path) -> None:
    source.backup(tmp_path / "x.tar")
    autocommit(target.url, "INSERT INTO users DEFAULT VALUES")
    autocommit(target.url, "CREATE VIEW mine AS SELECT 1")
    before = target.state()
    line = complaint(target.restore(tmp_path / "x.tar", check=False))
    assert line == (
        f"the database {target.name} is not empty, "
        "it would lose users 1 rows, 1 views, sequences or functions: nothing was changed. "
        "If that is meant: make backup, then add REPLACE=yes"
    )
    line = complaint(target.restore(tmp_path / "x.tar", check=False, REPLACE="YES"))
    assert line == "REPLACE=YES means nothing: REPLACE=yes, or leave it out"
    assert target.state() == before
    assert target.restore(tmp_path / "x.tar", REPLACE="yes").stderr == ""
    assert target.state() == source.state()


def test_a_database_that_was_only_migrated_is_empty(
    source: Database, target: Database, tmp_path: Path
) -> None:
    source.backup(tmp_path / "x.tar")
    target.restore(tmp_path / "x.tar")
    assert target.state() == source.state()


def test_a_backup_of_0001_is_restored_and_migrates_up(stack: Stack, target: Database, tmp_path: Path) -> None:
    """Onto a database at 0002, of whose types and tables nothing stays."""
    autocommit(target.url, "INSERT INTO users DEFAULT VALUES")
    with filled(stack, "0001") as old:
        old.backup(tmp_path / "x.tar")
        before = old.state()
        said = target.restore(tmp_path / "x.tar", REPLACE="yes").stdout
        assert "this Nexus wants revision 0002, its API does not serve 0001. Next: make migrate" in said
        assert target.state() == before
        assert before.catalog == written_catalog("0001")
        upgrade(old.url)
        upgrade(target.url)
        assert target.state() == old.state()
    assert differences(target.url) == []


def test_tables_views_and_functions_of_others_come_along(
    source: Database, target: Database, tmp_path: Path
) -> None:
    odd = 'we"ird\\ (name) FROM stdin;'
    for statement in (
        f'CREATE TABLE "{odd.replace(chr(34), chr(34) * 2)}" (id serial PRIMARY KEY, "a b" text)',
        f'INSERT INTO "{odd.replace(chr(34), chr(34) * 2)}" ("a b") VALUES (\'x\'), (NULL)',
        "CREATE VIEW titles AS SELECT title FROM media",
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM titles",
        "CREATE DOMAIN short AS text CHECK (length(VALUE) < 5)",
        "CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT 2 * n'",
        "CREATE SEQUENCE counting START 42",
    ):
        autocommit(source.url, statement)
    source.backup(tmp_path / "x.tar")
    assert rows_of(members(tmp_path / "x.tar")["manifest.json"])[odd] == 2
    # Twice: the second time all of it is in the way.
    for _ in range(2):
        target.restore(tmp_path / "x.tar", REPLACE="yes")
        assert target.state() == source.state()
        assert target.ask("SELECT twice(21) + nextval('counting')") == 84


def test_what_is_not_in_public_stays(source: Database, target: Database, tmp_path: Path) -> None:
    source.backup(tmp_path / "x.tar")
    autocommit(target.url, "CREATE EXTENSION pg_trgm")
    autocommit(target.url, "CREATE SCHEMA theirs")
    autocommit(target.url, "CREATE TABLE theirs.kept AS SELECT 1 AS n")
    target.restore(tmp_path / "x.tar")
    assert target.ask("SELECT n FROM theirs.kept WHERE similarity('a', 'a') = 1") == 1


def test_what_hangs_on_our_tables_elsewhere_is_not_ours_to_drop(
    source: Database, target: Database, tmp_path: Path
) -> None:
    source.backup(tmp_path / "x.tar")
    autocommit(target.url, "CREATE SCHEMA theirs")
    autocommit(target.url, "CREATE VIEW theirs.titles AS SELECT title FROM public.media")
    before = target.state()
    line = complaint(target.restore(tmp_path / "x.tar", check=False))
    assert "because other objects depend on" in line
    assert line.endswith("rolled back, the database is as it was")
    assert target.state() == before


def test_another_user_owns_what_is_restored(source: Database, empty: Database, tmp_path: Path) -> None:
    """No superuser: the owner of the database, with a password of its own."""
    password = "an'other % p@ss/w:rd?"  # noqa: S105  a test's own
    role = f"role_{empty.name}"
    before = source.state()
    source.backup(tmp_path / "x.tar")
    doubled = password.replace("'", "''").replace("%", "%%")
    autocommit(empty.url, f"CREATE ROLE {role} LOGIN PASSWORD '{doubled}'")
    try:
        autocommit(empty.url, f"ALTER DATABASE {empty.name} OWNER TO {role}")
        other = Database(empty.stack, empty.name, role, password)
        other.restore(tmp_path / "x.tar")
        assert other.state() == before
        assert other.ask("SELECT tableowner FROM pg_tables WHERE tablename = 'media'") == role
        other.backup(tmp_path / "y.tar")
        other.restore(tmp_path / "y.tar", REPLACE="yes")
        assert other.state() == before
    finally:
        autocommit(empty.url, f"REASSIGN OWNED BY {role} TO postgres")
        autocommit(empty.url, f"DROP OWNED BY {role}")
        autocommit(empty.url, f"DROP ROLE {role}")


def test_one_snapshot_while_others_write(source: Database, empty: Database, tmp_path: Path) -> None:
    with Writers(source) as writers:
        wait_until("they write", lambda: writers.written > 50, seconds=30)
        before = writers.written
        source.backup(tmp_path / "x.tar")
        assert writers.written > before
    empty.restore(tmp_path / "x.tar")
    manifest = rows_of(members(tmp_path / "x.tar")["manifest.json"])
    assert manifest == {table: count for table, (count, _) in empty.state().rows.items()}
    fragments = empty.ask("SELECT count(*) FROM fragments WHERE idx > 0")
    assert fragments == empty.ask("SELECT 2 * count(*) FROM media WHERE title = 'twice'")
    assert int(str(source.ask("SELECT count(*) FROM media"))) > manifest["media"] > before


def test_a_migrator_with_nothing_to_do_does_not_wait_for_a_backup(source: Database, tmp_path: Path) -> None:
    """So `make up` goes well meanwhile. The backup is held amid the rows: nobody reads what it dumps."""
    many_media(source.url, 100_000)
    held = stopping(tmp_path / "places", "cat", "[ $# = 0 ]")
    process = source.start("dev/backup", str(tmp_path / "x.tar"), PATH=held)
    source.await_copy()
    try:
        upgrade(source.url)
        assert source.ask("SELECT count(*) FROM pg_stat_progress_copy WHERE datname = current_database()")
    finally:
        (tmp_path / "places" / "release").touch()
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), out


def test_a_migration_at_work_is_waited_for_and_named(
    source: Database, target: Database, tmp_path: Path
) -> None:
    source.backup(tmp_path / "x.tar")
    before = target.state()
    parameters = connection_parameters(target.url, application_name="nexus-migrator: a step")
    with psycopg.connect(**parameters, autocommit=True) as migration:
        migration.execute(f"SELECT pg_advisory_lock({int.from_bytes(b'nexus')})")
        for result in (
            target.restore(tmp_path / "x.tar", check=False, MIGRATOR_WAIT_SECONDS="3.5"),
            target.backup(tmp_path / "y.tar", check=False, MIGRATOR_WAIT_SECONDS="3"),
        ):
            line = complaint(result)
            assert line.startswith(
                "a migration or a restore is at work for more than 3 s: nexus-migrator: a step (pid "
            )
            assert line.endswith("Nothing was changed; run it again when that has ended")
            assert "waiting, at most 3 s" in result.stdout
    assert target.state() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_tables_in_use_are_waited_for_and_their_user_named(
    source: Database, target: Database, tmp_path: Path
) -> None:
    source.backup(tmp_path / "x.tar")
    before = target.state()
    with psycopg.connect(**connection_parameters(target.url, application_name="reader")) as reader:
        reader.execute("SELECT count(*) FROM media")
        line = complaint(target.restore(tmp_path / "x.tar", check=False, MIGRATOR_WAIT_SECONDS="3"))
        assert line.startswith("the tables are in use for more than 3 s: media is held by reader (pid ")
        assert "idle in transaction" in line
    assert target.state() == before
    target.restore(tmp_path / "x.tar")
    assert target.state() == source.state()


def test_the_stack_may_stay_up_while_it_is_restored(stack: Stack, tmp_path: Path) -> None:
    """The API answers all the time, and serves what was restored without a restart."""
    own = Database(stack, "nexus_dev")
    stack.run("make", "seed")
    own.backup(tmp_path / "x.tar")
    before = own.state()
    autocommit(own.url, "DELETE FROM fragments")
    token = stack.compose("exec", "-T", "api", "nexus", "token", "restored").stdout.strip()
    headers = {"X-Nexus-Internal": "local-dev-secret", "Authorization": f"Bearer {token}"}
    statuses: set[int] = set()
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            statuses.add(stack.get("/libraries", **headers).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        own.restore(tmp_path / "x.tar", REPLACE="yes")
    finally:
        ended.set()
        asking.join()
    assert statuses <= {200, 503}
    assert 200 in statuses
    # What a process found while the tables were locked is good for a second.
    stack.await_ready()
    assert own.state().rows["fragments"] == before.rows["fragments"]
    url = f"http://127.0.0.1:{stack.ports['api']}"
    # Enough that each process reads and writes over the connections that it had before.
    with httpx2.Client(base_url=url, headers=headers, timeout=20, trust_env=False) as http:
        for number in range(16):
            (default, *_) = http.get("/libraries").json()["data"]
            assert http.get(f"/libraries/{default['id']}/media").status_code == 200
            assert http.post("/libraries", json={"name": f"after {number}"}).status_code == 201


def test_what_the_backup_of_another_user_has_written_stays(source: Database, tmp_path: Path) -> None:
    """Whether that one still runs cannot be asked; of one's own, what was killed goes."""

    def partial() -> Path:
        ended = subprocess.Popen(["true"])
        ended.wait()
        return tmp_path / f".nexus-backup.{socket.gethostname()}.{ended.pid}.partial"

    own, other = partial(), partial()
    for file in (own, other):
        file.touch()
    os.chown(other, 65534, -1)
    source.backup(tmp_path / "x.tar")
    assert {file.name for file in tmp_path.iterdir()} == {"x.tar", other.name}
