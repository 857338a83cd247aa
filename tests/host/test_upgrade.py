"""docs/upgrade.md with data: from a version at revision 0001 to this one, and both ways back."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2
import pytest

from tests.checkout import REPO, checkout_copy
from tests.host.support import Stack, stack_of
from tests.migrations.conftest import FILL, S0_COLUMNS

pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(600)]

#: What the new version has and the old one had not.
ADDED = ("db/alembic/versions/0002_slice1_ingestion_framework.py", "db/schema/0002.txt")


@dataclass(frozen=True)
class Installation:
    """A checkout that somebody runs, and changes the version of."""

    stack: Stack

    def check_out_old(self) -> None:
        """The version before revision 0002 was written."""
        for name in ADDED:
            (self.stack.directory / name).unlink(missing_ok=True)

    def check_out_new(self) -> None:
        for name in ADDED:
            shutil.copyfile(REPO / name, self.stack.directory / name)

    def make(self, *arguments: str) -> str:
        return self.stack.run("make", *arguments).stdout

    def revision(self) -> str:
        return str(re.findall(r"revision (\d+), wanted \d+", self.stack.await_ready().text)[0])

    def is_served(self) -> bool:
        """Requests that read and write, of somebody; the rows are as they were afterwards."""
        token = self.stack.compose("exec", "-T", "api", "nexus", "token", "alice").stdout.strip()
        headers = {"X-Nexus-Internal": "local-dev-secret", "Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{self.stack.ports['api']}"
        with httpx2.Client(base_url=url, headers=headers, timeout=20, trust_env=False) as http:
            default = http.get("/me").json()["data"]["default_library_id"]
            made = http.post("/libraries", json={"name": "for a moment"})
            answers = (
                http.get(f"/libraries/{default}/media"),
                made,
                http.delete(f"/libraries/{made.json()['data']['id']}"),
            )
        return [answer.status_code for answer in answers] == [200, 201, 204]

    def rows(self) -> str:
        """Every row of S0's tables, every column, without the system user of 0002."""
        found = []
        for table, columns in S0_COLUMNS.items():
            where = "WHERE id::text NOT LIKE '00000000-0000-0000-0000-%'" if table == "users" else ""
            found.append(self.stack.sql(f"SELECT {columns} FROM {table} {where} ORDER BY 1, 2"))
        return "\n".join(found)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The old version, running, with data and somebody who uses it."""
    directory = checkout_copy(tmp_path_factory.mktemp("upgrade") / "nexus")
    with stack_of(directory) as stack:
        installation = Installation(stack)
        installation.check_out_old()
        installation.make("up")
        assert installation.revision() == "0001"
        for statement in FILL.strip().rstrip(";").split(";\n"):
            stack.sql(statement.replace('"', '\\"').replace("$", "\\$"))
        assert installation.is_served()
        yield installation


def test_there_and_both_ways_back(old: Installation) -> None:
    rows, stack = old.rows(), old.stack

    old.make("doctor")
    old.make("backup", "FILE=before.backup")
    old.check_out_new()
    stack.compose("build", "--quiet")
    planned = stack.compose("run", "--rm", "-T", "migrator", "plan").stdout
    assert "0002" in planned
    assert old.revision() == "0001"
    stack.compose("run", "--rm", "-T", "--no-deps", "migrator", "upgrade")
    assert old.is_served(), "the old version does not live with the new schema"
    old.make("up")
    assert (old.revision(), old.rows() == rows, old.is_served()) == ("0002", True, True)

    # Back, with what was written since.
    stack.compose("stop", "api", "worker")
    stack.compose("run", "--rm", "-T", "migrator", "downgrade", "0001")
    old.check_out_old()
    old.make("up")
    assert (old.revision(), old.rows() == rows, old.is_served()) == ("0001", True, True)

    # There again, and back to what the backup knows.
    old.check_out_new()
    old.make("up")
    stack.sql("DELETE FROM fragments")
    old.check_out_old()
    old.make("restore", "FILE=before.backup", "REPLACE=yes")
    old.make("up")
    assert (old.revision(), old.rows() == rows, old.is_served()) == ("0001", True, True)


def test_the_page_names_what_the_test_does() -> None:
    page = (REPO / "docs/upgrade.md").read_text()
    commands = re.findall(r"(?m)^ {7}(\S.*)$", page)
    assert commands == [
        "make doctor",
        "make backup",
        "git checkout v1.2.3",
        "docker compose build",
        "docker compose run --rm migrator plan",
        "docker compose run --rm --no-deps migrator upgrade",
        "make up",
        "docker compose stop api worker",
        "docker compose run --rm migrator downgrade 0001",
        "git checkout v1.1.0",
        "make up",
        "git checkout v1.1.0",
        "make restore FILE=backups/… REPLACE=yes",
        "make up",
    ]
