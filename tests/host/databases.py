"""Databases of a test's own in the Postgres of a stack, for `make backup` and `make restore`."""

import re
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from nexus.db.engine import connection_parameters
from tests.host.conftest import AWKWARD_PASSWORD
from tests.host.support import Result, Stack
from tests.migrations.conftest import autocommit, read, schema, upgrade
from tests.waiting import wait_until

#: Whatever COPY, a shell or a line-wise reader could take for something else.
AWKWARD = (
    "",
    "\\N",
    "\\.",
    "a\\tb\\\\c",
    "tab\there, line\nend, \r\n, \x0b\x1f\x7f",
    "\n\\.\n\nCOPY public.users (id) FROM stdin;\n\\.\n",
    "日本語 “quotes” 'and' \"more\" 🏛 \u202e \ufeff \U0010ffff",
    "$1 $$ `id` ; -- '' %s {} \x01",
    "long " * 200_000,
)


class State(NamedTuple):
    """All that a database holds in `public`: its catalog, each table's rows and their hash."""

    catalog: str
    rows: dict[str, tuple[int, str]]


@dataclass
class Database:
    stack: Stack
    name: str
    user: str = "postgres"
    password: str = AWKWARD_PASSWORD

    @property
    def url(self) -> URL:
        return URL.create(
            "postgresql+psycopg",
            self.user,
            self.password,
            "127.0.0.1",
            self.stack.ports["postgres"],
            self.name,
        )

    @property
    def variables(self) -> dict[str, str]:
        password = {"POSTGRES_PASSWORD": self.password} if self.user != "postgres" else {}
        return {"POSTGRES_DB": self.name, "POSTGRES_USER": self.user, **password}

    def run(self, *command: str, check: bool = True, **variables: str) -> Result:
        return self.stack.run(*command, check=check, **(self.variables | variables))

    def make(self, *arguments: str, check: bool = True, **variables: str) -> Result:
        return self.run("make", *arguments, check=check, **variables)

    def backup(self, target: Path | str, *, check: bool = True, **variables: str) -> Result:
        return self.run("dev/backup", str(target), check=check, **variables)

    def restore(self, file: Path | str, *, check: bool = True, **variables: str) -> Result:
        return self.run("dev/restore", str(file), check=check, **variables)

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        """In a process group of its own, as a terminal does it."""
        return subprocess.Popen(
            command,
            cwd=self.stack.directory,
            env=self.stack.environment | self.variables | variables,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def state(self) -> State:
        found = read(self.url, _hashes)
        assert isinstance(found, dict)
        return State(schema(self.url), found)

    def ask(self, statement: str) -> object:
        return read(self.url, lambda connection: connection.execute(text(statement)).scalar())

    def await_copy(self, or_else: str = "SELECT 0") -> None:
        """Return when the tools are amid the rows, or the other statement finds something."""
        copying = (
            "SELECT count(*) FROM pg_stat_progress_copy "
            "WHERE tuples_processed > 0 AND datname = current_database()"
        )
        wait_until("rows are copied", lambda: self.ask(copying) or self.ask(or_else), seconds=60, pause=0.01)


def _hashes(connection: Connection) -> dict[str, tuple[int, str]]:
    tables = connection.execute(
        text(
            "SELECT oid::regclass::text FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
    ).scalars()
    one = "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")) FROM public.{} t"
    return {table: tuple(connection.execute(text(one.format(table))).one()) for table in tables}


@contextmanager
def database(stack: Stack, revision: str | None = "head") -> Iterator[Database]:
    """A database at a revision; without one it is empty."""
    made = Database(stack, f"backup_{uuid4().hex[:8]}")
    server = made.url.set(database="postgres")
    autocommit(server, f"CREATE DATABASE {made.name}")
    try:
        if revision:
            upgrade(made.url, revision)
        yield made
    finally:
        autocommit(server, f"DROP DATABASE {made.name} WITH (FORCE)")


def fill_awkwardly(url: URL) -> None:
    """Rows in every table of 0001; each nullable column once with a value and once without."""

    def insert(connection: Connection) -> None:
        with connection.begin():
            user = connection.execute(text("INSERT INTO users DEFAULT VALUES RETURNING id")).scalar_one()
            library = connection.execute(
                text(
                    "INSERT INTO libraries (owner_user_id, name) VALUES (:user, E'a\\tb\\\\n“') RETURNING id"
                ),
                {"user": user},
            ).scalar_one()
            media = [_insert_media(connection, number, value) for number, value in enumerate(AWKWARD)]
            ids = {"user": user, "library": library}
            connection.execute(text("INSERT INTO memberships VALUES (:library, :user, 'admin')"), ids)
            many = [ids | {"media": each} for each in media]
            connection.execute(text("INSERT INTO library_media VALUES (:library, :media)"), many)

    read(url, insert)


def _insert_media(connection: Connection, number: int, value: str) -> object:
    values = {"value": value, "url": value if number % 2 else None, "number": number}
    found: object = connection.execute(
        text(
            "INSERT INTO media (kind, title, canonical_source_url) VALUES ('epub', :value, :url) RETURNING id"
        ),
        values,
    ).scalar_one()
    connection.execute(
        text(
            "INSERT INTO fragments (media_id, idx, canonical_text, html_sanitized) "
            "VALUES (:media, -:number, :value, :value)"
        ),
        values | {"media": found},
    )
    return found


#: The columns of 0002, filled for some rows.
MORE = """
    UPDATE media SET failure_stage = 'embed', last_error_message = title, processing_attempts = 7,
        failed_at = now(), processing_status = 'failed', file_sha256 = md5(id::text), provider = E'\\\\N'
        WHERE char_length(title) < 20;
    INSERT INTO media_file SELECT id, title, 'text/plain; "x"', 9223372036854775807 FROM media;
"""


@contextmanager
def filled(stack: Stack, revision: str = "head") -> Iterator[Database]:
    """A database as one that has been used: made at 0001, filled, then migrated."""
    with database(stack, "0001") as made:
        fill_awkwardly(made.url)
        if revision != "0001":
            upgrade(made.url, revision)
            for statement in MORE.strip().split(";\n"):
                autocommit(made.url, statement)
        yield made


def many_media(url: URL, count: int) -> None:
    """Such as do not get small when compressed."""
    autocommit(
        url,
        "INSERT INTO media (kind, title, created_by_user_id) "
        "SELECT 'epub', md5(n::text) || md5((-n)::text), '00000000-0000-0000-0000-000000000000' "
        f"FROM generate_series(1, {count}) n",
    )


def complaint(result: Result) -> str:
    """The one line on standard error with which it ended."""
    assert result.returncode == 1, result
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("nexus: ")
    return lines[0].removeprefix("nexus: ")


def containers(stack: Stack) -> list[str]:
    """Containers of the tools that are there, in whatever state."""
    listed = stack.run(
        *("docker", "ps", "--all", "--quiet"),
        *("--filter", f"label=com.docker.compose.project={stack.project}"),
        *("--filter", "label=com.docker.compose.service=backup"),
    )
    return listed.stdout.split()


def assert_nobody_is_left(database: Database) -> None:
    """No container of the tools, no session of them in Postgres."""
    sessions = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name ~ '^nexus-(backup|restore) '"
    wait_until("no container of the tools is left", lambda: not containers(database.stack), seconds=30)
    wait_until("no session of the tools is left", lambda: database.ask(sessions), seconds=30)


def members(file: Path) -> dict[str, bytes]:
    """As everybody's tar reads it."""
    with tarfile.open(file, "r:") as archive:
        return {
            member.name: taken.read()
            for member in archive
            if (taken := archive.extractfile(member)) is not None
        }


#: Puts a backup together as the product does, from a dump and a manifest.
_ASSEMBLE = """
set -euo pipefail
. dev/lib.sh; . dev/dump/tools.sh; . dev/dump/file.sh
bytes=$(($(wc -c <"$1")))
{ tar_header nexus.dump "$bytes" 1700000000; cat "$1"; after_dump "$bytes" 1700000000 "$(cat "$2")"; } >"$3"
"""


def forged(file: Path, directory: Path, dump: bytes, manifest: str) -> Path:
    """A backup with checksums that are right, whatever else is not."""
    (directory / "dump").write_bytes(dump)
    (directory / "manifest").write_text(manifest)
    subprocess.run(
        ["bash", "-c", _ASSEMBLE, "forge", directory / "dump", directory / "manifest", file],
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return file


def changed(manifest: str, key: str, value: str) -> str:
    """The manifest with another value, written as JSON."""
    new, count = re.subn(rf'(?m)^( *"{key}": )(.*?)(,?)$', rf"\g<1>{value}\g<3>", manifest)
    assert count == 1
    return new


class Writers:
    """Sessions that add a medium with two fragments in each transaction, until they are told to end."""

    def __init__(self, source: Database) -> None:
        self._parameters = connection_parameters(source.url)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(3)]
        self.written = 0

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        with psycopg.connect(**self._parameters) as connection:
            while not self._ended.is_set():
                connection.execute(
                    """
                    WITH made AS (INSERT INTO media (kind, title, created_by_user_id)
                        VALUES ('pdf', 'twice', '00000000-0000-0000-0000-000000000000') RETURNING id)
                    INSERT INTO fragments (media_id, idx, canonical_text, html_sanitized)
                    SELECT id, idx, '', '' FROM made, generate_series(1, 2) idx
                    """
                )
                connection.commit()
                self.written += 1
