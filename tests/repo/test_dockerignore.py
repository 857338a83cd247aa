""".dockerignore: an allow-list, so that nothing reaches an image by accident."""

import re

import pytest

from tests.repo.tree import files, text

PATTERNS = [line for line in text(".dockerignore").split("\n") if line and not line.startswith("#")]


def _regex(pattern: str) -> str:
    """Docker's patterns: `**` is any number of folders, `*` part of a name; a match takes all below along."""
    parts = re.split(r"(\*\*/?|\*)", pattern)
    ways = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return "".join(ways.get(part, re.escape(part)) for part in parts) + "(?:/.*)?"


def let_through(path: str) -> bool:
    """The last pattern that matches decides."""
    verdict = True
    for pattern in PATTERNS:
        if re.fullmatch(_regex(pattern.removeprefix("!")), path):
            verdict = pattern.startswith("!")
    return verdict


def test_it_begins_with_nothing_and_then_takes_things_back() -> None:
    assert PATTERNS[0] == "**"
    # After that only what Python leaves behind may be left out again.
    assert {pattern for pattern in PATTERNS[1:] if not pattern.startswith("!")} <= {
        "**/__pycache__",
        "**/*.pyc",
    }


@pytest.mark.parametrize("path", files())
def test_every_file_of_the_repository_reaches_the_test_image(path: str) -> None:
    assert let_through(path)


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_it_takes_back_only_what_is_there(pattern: str) -> None:
    if pattern.startswith("!"):
        assert any(re.fullmatch(_regex(pattern[1:]), path) for path in files())


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".env.local", ".git/config", ".venv/pyvenv.cfg", ".bench/stack.json", ".cache/x", "id_rsa"),
        "backups/nexus-20261125T093000Z-0002.tar",
        *("shared/nexus/__pycache__/config.cpython-312.pyc", "shared/nexus/config.pyc"),
    ],
)
def test_nothing_private_and_no_junk_reaches_an_image(path: str) -> None:
    assert not let_through(path)
