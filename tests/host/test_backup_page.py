"""docs/backup.md: its commands are typed in as they stand, and its messages are those of the scripts."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import PORT_VARIABLES, REPO, checkout_copy
from tests.host.databases import Database, State
from tests.host.support import Stack, clean_environment, run, stack_of

pytestmark = [pytest.mark.host, pytest.mark.timeout(600)]

PAGE = (REPO / "docs/backup.md").read_text()
SCRIPTS = ("dev/backup", "dev/restore", *(f"dev/dump/{name}.sh" for name in ("file", "tools")))
INSIDE = tuple(f"dev/dump/inside/{name}.sh" for name in ("session", "dump", "inspect", "restore"))


def commands(heading: str) -> list[str]:
    """The lines of a section that are typed in."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"(?m)^    (.*)$", section)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stack]:
    """A stack that is what it is by its .env alone, as that of somebody who follows the page."""
    with stack_of(checkout_copy(tmp_path / "nexus")) as stack:
        lines = {PORT_VARIABLES[name]: str(port) for name, port in stack.ports.items()}
        lines |= {"COMPOSE_PROJECT_NAME": stack.project}
        lines |= {name: value for name, value in clean_environment().items() if name.endswith("_IMAGE")}
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (stack.directory / ".env").write_text(text)
        yield stack


def typed(stack: Stack, command: str) -> str:
    """As in a shell of somebody who has set nothing; the page's places are below the test's folder."""
    top = stack.directory.parent
    command = command.replace("/srv/nexus", str(stack.directory)).replace(
        "/srv/backups", str(top / "backups")
    )
    names = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    done = run("sh", "-c", command, cwd=stack.directory, env=environment, timeout=500)
    return done.stdout + done.stderr


def state(stack: Stack) -> State:
    return Database(stack, "nexus_dev", password="postgres").state()  # noqa: S106


@pytest.mark.long
def test_every_command_of_the_page(own: Stack) -> None:
    (own.directory.parent / "backups").mkdir()
    typed(own, "make up")
    typed(own, "make seed")
    before = state(own)
    for command in commands("Backup"):
        schedule = "17 3 * * * "
        said = typed(own, command.removeprefix(schedule))
        assert not command.startswith(schedule) or said == ""
    assert len(list((own.directory / "backups").iterdir())) == 2
    manifest, listed = (typed(own, command) for command in commands("Look into it"))
    assert '"revision": "0002"' in manifest
    assert "TABLE DATA public fragments" in listed
    own.sql("DELETE FROM media WHERE kind = 'epub'")
    for command in commands("Restore"):
        typed(own, command)
    assert state(own) == before
    # A machine on which nothing of it is.
    own.run("make", "reset", NEXUS_RESET="yes")
    shutil.rmtree(own.directory / "backups")
    for command in commands("On a new machine"):
        typed(own, command)
    assert state(own) == before
    own.await_ready()


def test_its_commands_are_all_typed() -> None:
    typed_in = {
        command
        for heading in ("Backup", "Look into it", "Restore", "On a new machine")
        for command in commands(heading)
    }
    others = {line for line in re.findall(r"(?m)^    (.*)$", PAGE) if not line.startswith("nexus: ")}
    assert others == typed_in
    assert len(typed_in) == 10


def documented() -> list[list[str]]:
    """The fixed parts of each message in the table."""
    table = PAGE.split("\n## What it says\n")[1].split("\n## ")[0]
    cells = re.findall(r"(?m)^\| (`.*?) \| ", table)
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    return [[part for part in re.split(r"…| 60 s", message) if part.strip(" :,")] for message in messages]


def complaints() -> list[str]:
    """What the scripts give to `die`, those aside that are only what a program of Postgres said."""
    texts = [(REPO / path).read_text().replace("\\\n", "") for path in (*SCRIPTS, *INSIDE)]
    found = [
        first or second
        for text in texts
        for first, second in re.findall(r"\bdie (?:\"(.*?[^\\])\"(?=$|[ ;}\n])|'([^']*)')", text)
    ]
    found += re.findall(r'WHY="(.*)"', texts[1])
    return [text for text in found if re.search(r"[a-z]+ [a-z]+ [a-z]+", re.sub(r"\$\(.*?\)", "", text))]


def test_each_message_of_the_page_is_one_of_the_scripts() -> None:
    texts = "\n".join((REPO / path).read_text() for path in (*SCRIPTS, *INSIDE))
    rows = documented()
    assert len(rows) > 25
    assert [part for row in rows for part in row if part.strip() not in texts] == []


def test_each_message_of_the_scripts_is_on_the_page() -> None:
    found = complaints()
    assert len(found) > 20
    rows = documented()
    assert [
        text for text in found if not any(row and all(part.strip() in text for part in row) for row in rows)
    ] == []
