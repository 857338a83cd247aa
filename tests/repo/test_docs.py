"""Texts for people: what they point to is there."""

import re
from posixpath import dirname, join, normpath

import pytest

from nexus.api import middleware, server
from nexus.config import Settings
from nexus.db import database, engine
from tests.repo.tree import below, files, text

PAGES = [path for path in files() if path.endswith(".md")]
_FENCE = re.compile(r"(?ms)^```.*?^```")


def links(page: str) -> list[str]:
    """The targets of a page's links and images that lie in this repository; code is left out."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text(page)))
    targets: list[str] = re.findall(r"\]\(\s*<?([^)>\s]+)", prose) + re.findall(
        r"(?m)^\[[^\]]+\]:\s*(\S+)", prose
    )
    return [target for target in targets if not re.match(r"[a-z][a-z+.-]*:", target)]


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"(?m)^#+ +(.+?)\s*#*$", _FENCE.sub("", text(page)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: str, target: str) -> bool:
    path, _, anchor = target.partition("#")
    place = normpath(join(dirname(page), path)) if path else page
    folders = {dirname(each) for each in files()}
    if place not in files():
        return bool(anchor) or not any(f"{folder}/".startswith(f"{place}/") for folder in folders)
    return bool(anchor) and place in PAGES and anchor not in anchors(place)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert [target for target in links(page) if broken(page, target)] == []


def test_the_bounds_of_the_api_are_the_ones_that_hold() -> None:
    rows = dict(re.findall(r"(?m)^\| ([^|]+?) \| ([^|]+?) \|", text("docs/api.md")))
    fields = Settings.model_fields
    pool, seconds = fields["API_POOL_SIZE"].default, fields["API_REQUEST_TIMEOUT_SECONDS"].default
    assert middleware.MAX_BODY_SIZE == server.MAX_HEAD == 64 * 1024
    wanted = {
        "request line and headers": "64 KiB",
        "the same, from the connection or their first byte to their end": f"{server.HEAD_TIMEOUT:g} s",
        "body": "64 KiB",
        "a request, with its body's arrival (`API_REQUEST_TIMEOUT_SECONDS`)": f"{seconds:g} s",
        "a statement, with its waits for locks": f"{database.STATEMENT_TIMEOUT // 1000} s",
        "connecting to Postgres": f"{engine.CONNECT_TIMEOUT} s",
        "a client that takes nothing of its answer": f"{server.READER_TIMEOUT // 1000} s",
        "connections to Postgres of each process (`API_POOL_SIZE`)": f"{pool} for reads, {pool} for writes",
    }
    assert {what: rows.get(what) for what in wanted} == wanted


@pytest.mark.parametrize("command", ["make up", "make test"])
def test_the_readme_names_the_two_commands(command: str) -> None:
    assert re.search(rf"(?m)^ *(\$ )?{command}\b", text("README.md"))


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_the_readme_says_where_to_read_on(name: str) -> None:
    assert name in links("README.md")


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_every_page_of_docs_is_linked_from_somewhere(page: str) -> None:
    others = [each for each in PAGES if each != page]
    reached = {
        normpath(join(dirname(each), link.partition("#")[0])) for each in others for link in links(each)
    }
    assert page in reached


def test_each_fault_of_the_table_has_a_drill() -> None:
    """A row of the API's table ends with the name of the test that does it."""
    page = text("docs/faults.md")
    table = page[page.index("## The API") : page.index("## The worker")]
    named = re.findall(r"\| `(test_\w+)` \|\n", table)
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| fault")]
    assert len(named) == len(rows) > 0
    drills = {
        name
        for path in below("tests/stack/", suffix=".py")
        if "pytest.mark.drill" in text(path)
        for name in re.findall(r"(?m)^def (test_\w+)\(", text(path))
    }
    assert set(named) - drills == set()
