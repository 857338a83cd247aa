"""The Makefile is a table of contents: every verb is there, says what it does, and is what texts call it."""

import re
from functools import cache
from typing import NamedTuple

import pytest

from tests.repo.tree import files, text

#: The specification's targets, and ours.
VERBS = {
    "infra-up", "infra-down", "infra-logs", "worker", "dev-api", "migrate", "migrate-down", "test",
    "test-ci", "up", "down", "reset", "logs", "seed", "lint", "help", "watch", "types", "secrets",
    "stack-file", "lock", "drill", "soak", "schema", "bench", "bench-stack", "bench-api",
    "bench-migration", "test-long", "verify", "audit", "licences", "sbom", "pictures", "doctor",
    "backup", "restore",
}  # fmt: skip


class Target(NamedTuple):
    needs: set[str]
    sentence: str
    recipe: list[str]


@cache
def targets() -> dict[str, Target]:
    found: dict[str, Target] = {}
    last: Target | None = None
    for line in text("Makefile").split("\n"):
        if line.startswith("\t") and last:
            last.recipe.append(line.strip())
        elif head := re.fullmatch(r"([a-z][a-z-]*):(?!=)([^#]*)(?:## (.*))?", line):
            last = found[head[1]] = Target(set(head[2].split()), head[3] or "", [])
    return found


def phony() -> set[str]:
    return set(" ".join(re.findall(r"(?m)^\.PHONY:(.*)$", text("Makefile"))).split())


def test_every_verb_is_there() -> None:
    assert VERBS - targets().keys() == set()


def test_every_target_is_phony_and_nothing_else_is() -> None:
    assert phony() == targets().keys()


def test_every_verb_says_in_a_sentence_what_it_does() -> None:
    # The others are what the verbs stand on: prerequisites, or called by a recipe.
    inner = set().union(*(target.needs for target in targets().values()))
    assert [name for name in inner if name not in targets()] == []
    silent = {name for name, target in targets().items() if not target.sentence}
    assert silent - inner == set()
    assert [t.sentence for t in targets().values() if t.sentence and not t.sentence.endswith(".")] == []


def test_every_verb_that_needs_docker_looks_for_it_first() -> None:
    def needs(name: str) -> set[str]:
        return targets()[name].needs.union(*(needs(each) for each in targets()[name].needs))

    calling = {
        name for name, target in targets().items() if re.search("docker compose", " ".join(target.recipe))
    }
    assert calling
    assert {name for name in calling if "docker" not in needs(name)} == set()


def mentions(path: str) -> set[str]:
    """The `make x` of a text that are commands: in backticks or quotes, or in a code block."""
    content = text(path)
    if path.endswith(".md"):
        fenced = re.findall(r"(?ms)^```[a-z]*\n(.*?)^```", content)
        prose = re.sub(r"(?ms)^```.*?^```", "", content)
        code = "\n".join(fenced + re.findall(r"(?m)^ {4}(.*)$", prose) + re.findall(r"`([^`\n]+)`", prose))
        return set(re.findall(r"(?m)^[^#\n]*?\bmake ([a-z][a-z-]*)", code))
    return set(re.findall(r"[`'\"]make ([a-z][a-z-]*)", content))


@pytest.mark.parametrize(
    "path", [path for path in files() if not path.startswith(("requirements/", "tests/"))]
)
def test_every_make_verb_that_a_file_names_exists(path: str) -> None:
    assert mentions(path) - targets().keys() == set()
