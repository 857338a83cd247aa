"""Backups and restores interrupted at every stage: the old state or the new, and nothing is left behind."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from nexus.db.engine import connection_parameters
from tests.host.databases import (
    Database,
    State,
    assert_nobody_is_left,
    containers,
    database,
    filled,
    many_media,
    members,
)
from tests.host.shims import stopping
from tests.host.support import Stack
from tests.migrations.conftest import autocommit
from tests.waiting import wait_until

# Without cached images the shared stack takes its time.
pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(300)]

KEY = 816
#: The session of a restore that `held_at` holds.
HELD = (
    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'nexus-restore%' "
    "AND wait_event = 'advisory' AND datname = current_database()"
)
#: Where a restore is held that should be met amid its rows: it does not get away if the machine stalls.
AFTER_THE_ROWS = "CREATE INDEX"
ROWS = 150_000

Process = subprocess.Popen[str]

#: Stages of a backup, and the command that stops there. Nobody reads what it dumps: it stays amid the rows.
STAGES = {
    "dumping": ("cat", "[ $# = 0 ]"),
    "reading back": ("tee", "true"),
    "written": ("sync", '[ -f "$1" ]'),
    "has its name": ("sync", '[ -d "$1" ]'),
}


def ctrl_c(process: Process) -> None:
    os.killpg(process.pid, signal.SIGINT)


def terminate(process: Process) -> None:
    process.terminate()


def kill(process: Process) -> None:
    process.kill()


def kill_client(process: Process) -> None:
    """The docker client and the compose plugin that it started, which outlives it."""
    mark = f"nexus-backup-{process.pid}-".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if any(word.startswith(mark) for word in words):
                os.kill(int(entry.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def large(stack: Stack) -> Iterator[Database]:
    """So that one can meet it while its rows are copied."""
    with filled(stack) as made:
        many_media(made.url, ROWS)
        yield made


@pytest.fixture(scope="module")
def small(stack: Stack) -> Iterator[Database]:
    with filled(stack) as made:
        yield made


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("harm", [ctrl_c, terminate, kill])
def test_a_backup_is_interrupted(
    large: Database, small: Database, tmp_path: Path, stage: str, harm: Callable[[Process], None]
) -> None:
    source = large if stage == "dumping" else small
    folder, places = tmp_path / "to", tmp_path / "places"
    folder.mkdir()
    process = source.start("dev/backup", str(folder / "x.tar"), PATH=stopping(places, *STAGES[stage]))
    wait_until(f"it is {stage}", (places / "reached").exists, seconds=60)
    if stage == "dumping":
        source.await_copy()
    harm(process)
    (places / "release").touch()
    out, err = process.communicate(timeout=60)
    ends: dict[Callable[[Process], None], int] = {ctrl_c: 130, terminate: 143, kill: -9}
    assert process.returncode == ends[harm], out + err
    assert_nobody_is_left(source)
    left = {path.name for path in folder.iterdir()}
    if stage == "has its name":
        assert "nexus.dump" in members(folder / "x.tar")
    else:
        assert "x.tar" not in left
    assert harm is kill or left <= {"x.tar"}
    # What could not be tidied up is, by the next one.
    small.backup(folder / "next.tar")
    assert {path.name for path in folder.iterdir()} == {"next.tar"} | ({"x.tar"} & left)


@contextlib.contextmanager
def held_at(target: Database, tag: str) -> Iterator[Callable[[], int]]:
    """A restore that comes to such a statement stays there until the block ends.

    Yields:
        what waits until one has come there, and gives the pid of its session in Postgres.
    """
    for statement in (
        "CREATE SCHEMA holding",
        f"""
        CREATE FUNCTION holding.at() RETURNS event_trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
        BEGIN
            IF tg_tag = '{tag}' AND current_setting('application_name') LIKE 'nexus-restore%%' THEN
                PERFORM pg_advisory_xact_lock_shared({KEY});
            END IF;
        END $$
        """,
        "CREATE EVENT TRIGGER held ON ddl_command_start EXECUTE FUNCTION holding.at()",
    ):
        autocommit(target.url, statement)
    holder = psycopg.connect(**connection_parameters(target.url), autocommit=True)
    holder.execute(f"SELECT pg_advisory_lock({KEY})")
    try:
        yield lambda: int(str(wait_until(f"it is at {tag}", lambda: target.ask(HELD), seconds=60)))
    finally:
        holder.close()
        wait_until("Postgres is back", lambda: _answers(target), seconds=60)
        autocommit(target.url, "DROP SCHEMA holding CASCADE")


def _answers(target: Database) -> bool:
    try:
        psycopg.connect(**connection_parameters(target.url)).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def target(stack: Stack) -> Iterator[Database]:
    with database(stack) as made:
        autocommit(made.url, "INSERT INTO users SELECT gen_random_uuid() FROM generate_series(1, 50)")
        yield made


@pytest.fixture(scope="module")
def file(small: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backup") / "small.tar"
    small.backup(path)
    return path


@pytest.fixture(scope="module")
def large_file(large: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backup") / "large.tar"
    large.backup(path)
    return path


def assert_unharmed(target: Database, before: State, process: Process, *, said: bool) -> None:
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0, out
    if said:
        assert process.returncode == 1
        assert len(err.splitlines()) == 1, err
        assert err.startswith("nexus: ")
        assert "the database is as it was" in err
    assert_nobody_is_left(target)
    assert target.state() == before


@pytest.mark.parametrize("tag", ["DROP TABLE", "CREATE TABLE", "ALTER TABLE"])
@pytest.mark.parametrize("harm", [ctrl_c, terminate, kill, kill_client])
def test_a_restore_is_interrupted(
    target: Database, file: Path, tag: str, harm: Callable[[Process], None]
) -> None:
    before = target.state()
    with held_at(target, tag) as held:
        process = target.start("dev/restore", str(file), REPLACE="yes")
        held()
        harm(process)
        # One that tidies up has done so when it ends, and does not need the statement to go on.
        if harm in (ctrl_c, terminate):
            process.wait(timeout=60)
            assert containers(target.stack) == []
    assert_unharmed(target, before, process, said=harm is kill_client)


@pytest.mark.parametrize("harm", [ctrl_c, terminate, kill, kill_client])
def test_a_restore_is_interrupted_amid_the_rows(
    target: Database, large_file: Path, harm: Callable[[Process], None]
) -> None:
    before = target.state()
    with held_at(target, AFTER_THE_ROWS):
        process = target.start("dev/restore", str(large_file), REPLACE="yes")
        target.await_copy(or_else=HELD)
        harm(process)
        if harm in (ctrl_c, terminate):
            process.wait(timeout=60)
    assert_unharmed(target, before, process, said=harm is kill_client)


def test_the_file_changes_after_it_was_verified(
    target: Database, small: Database, file: Path, tmp_path: Path
) -> None:
    """The second time its dump is read it is another; in what makes no difference to pg_restore."""
    copy = tmp_path / "x.tar"
    shutil.copyfile(file, copy)
    before = target.state()
    second = '[ "$2" = +513 ] && { [ -e "$PLACES/first" ] || { : >"$PLACES/first"; false; }; }'
    shimmed = stopping(tmp_path, "tail", second)
    process = target.start("dev/restore", str(copy), REPLACE="yes", PATH=shimmed)
    wait_until("it has been verified", (tmp_path / "reached").exists, seconds=60)
    content = copy.read_bytes()
    place = content.index(small.name.encode())
    copy.write_bytes(content[:place] + b"X" + content[place + 1 :])
    (tmp_path / "release").touch()
    assert_unharmed(target, before, process, said=True)


def test_nothing_is_committed_before_the_checksum_is_known(
    target: Database, file: Path, tmp_path: Path
) -> None:
    """All is in, and Postgres waits; the third checksum of a restore is that of what was put in."""
    before = target.state()
    third = 'echo >>"$PLACES/times"; [ "$(wc -l <"$PLACES/times")" = 3 ]'
    shimmed = stopping(tmp_path, "sha256sum", third)
    process = target.start("dev/restore", str(file), REPLACE="yes", PATH=shimmed)
    ready = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'nexus-restore%' "
        "AND state = 'idle in transaction' AND query LIKE 'ANALYZE%'"
    )
    wait_until("all is in", lambda: target.ask(ready), seconds=60)
    kill(process)
    (tmp_path / "release").touch()
    assert_unharmed(target, before, process, said=False)


@pytest.mark.parametrize("tag", ["DROP TABLE", "ALTER TABLE"])
@pytest.mark.parametrize("harm", ["container", "session", "server"])
def test_its_container_or_postgres_is_killed(target: Database, file: Path, tag: str, harm: str) -> None:
    before = target.state()
    with held_at(target, tag) as held:
        process = target.start("dev/restore", str(file), REPLACE="yes")
        harm_outside(target.stack, harm, held())
    assert_unharmed(target, before, process, said=True)


def test_postgres_is_killed_amid_the_rows(target: Database, large_file: Path) -> None:
    before = target.state()
    with held_at(target, AFTER_THE_ROWS):
        process = target.start("dev/restore", str(large_file), REPLACE="yes")
        target.await_copy(or_else=HELD)
        harm_outside(target.stack, "server", 0)
    assert_unharmed(target, before, process, said=True)


def harm_outside(stack: Stack, harm: str, pid: int) -> None:
    if harm == "container":
        (container,) = containers(stack)
        stack.run("docker", "kill", container)
    elif harm == "session":
        stack.shell("postgres", f"kill -9 {pid}")
    else:
        stack.compose("kill", "postgres")
        stack.compose("start", "postgres")


def test_after_all_of_it_a_restore_goes_well(target: Database, small: Database, file: Path) -> None:
    target.restore(file, REPLACE="yes")
    assert target.state() == small.state()
