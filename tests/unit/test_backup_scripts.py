"""Parts of the scripts behind `make backup` and `make restore` that need no container."""

import os
import re
import subprocess
import tarfile
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from nexus.db.engine import connection_parameters
from nexus.db.guards import LOCK_KEY

ROOT = Path(__file__).parents[2]
SESSION = "dev/dump/inside/session.sh"


def bash(script: str, *arguments: str, **variables: str) -> bytes:
    """What a script gives that has the programs of the host, and of the container."""
    environment = {"PATH": os.environ["PATH"], "MIGRATOR_WAIT_SECONDS": "60", **variables}
    command = ["bash", "-c", f"set -euo pipefail\n{script}", "it", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE).stdout


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql+psycopg://postgres@postgres:5432/nexus_dev", "p@ss:w/rd%41#\\x41 '\""),
        (
            "postgresql+psycopg://us%40er:p%40ss%3Aw%2Frd%25\\x41@db.example:6432/na%20me?sslmode=require",
            "unused",
        ),
        ("postgresql+psycopg://db.example/nexus", ""),
        ("postgresql+psycopg://user:@[::1]/nexus?target_session_attrs=any", "given"),
    ],
)
def test_the_tools_connect_as_the_migrator_does(url: str, password: str) -> None:
    """Same server, user, database, options and password; the password not on the command line."""
    script = f'. {SESSION}; use_database; printf "%s\\n%s" "$URL" "$PGPASSWORD"'
    given, used = bash(script, DATABASE_URL=url, DATABASE_PASSWORD=password).decode().split("\n")
    wanted = make_url(url)
    libpq = psycopg.conninfo.conninfo_to_dict(given)
    assert "password" not in libpq
    assert used == (password if wanted.password is None else wanted.password)
    parameters = connection_parameters(wanted)
    for name in ("host", "user", "dbname", *wanted.query):
        assert libpq.get(name) == parameters[name]
    assert int(str(libpq.get("port", 5432))) == parameters["port"]


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql+psycopg://me@there/nexus\n")
    (tmp_path / "password").write_text("s3cret\n")
    files = {"DATABASE_URL_FILE": str(tmp_path / "url"), "DATABASE_PASSWORD_FILE": str(tmp_path / "password")}
    script = f'. {SESSION}; use_database; printf "%s %s" "$URL" "$PGPASSWORD"'
    assert bash(script, **files) == b"postgresql://me@there/nexus s3cret"


def test_the_lock_is_the_one_of_the_migrations() -> None:
    assert bash(f'. {SESSION}; printf "%s" "$LOCK_KEY"') == str(LOCK_KEY).encode()


def test_both_sides_agree_on_the_exit_code_of_who_has_said_why() -> None:
    found = [
        re.findall(r"(?m)^SAID=(\d+)$", (ROOT / path).read_text()) for path in (SESSION, "dev/dump/tools.sh")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 1


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 10**13, 2**63 - 1])
def test_a_dump_may_be_of_any_size(size: int, tmp_path: Path) -> None:
    """The head as everybody's tar reads it, and as we read it."""
    parts = ". dev/lib.sh; . dev/dump/file.sh"
    head = bash(f'{parts}; tar_header nexus.dump "$1" 1700000000', str(size))
    read = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
    assert (read.name, read.size, read.mtime, read.mode) == ("nexus.dump", size, 1700000000, 0o600)
    (tmp_path / "head").write_bytes(head)
    script = f'{parts}; number_at "$1" 124; printf "%s" "$REPLY"'
    assert bash(script, str(tmp_path / "head")) == str(size).encode()
