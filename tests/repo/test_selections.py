"""Each test is selected by one verb, make test, test-long, drill or soak; none falls between them."""

import ast
import re
import shlex
from functools import cache
from itertools import combinations

import pytest
from _pytest.mark.expression import Expression

from tests.repo import composition
from tests.repo.tree import below, syntax, text

#: The markers by which verbs select. `docker` says what a container without the engine's socket leaves out.
MARKERS = ("host", "drill", "soak", "long")
EVERY_SET = [set(some) for size in range(len(MARKERS) + 1) for some in combinations(MARKERS, size)]
TESTS = [path for path in below("tests/", suffix=".py") if re.search(r"/test_\w+\.py$", path)]


def lines_of(script: str, which: str) -> list[list[str]]:
    """The commands of a script that run pytest."""
    lines = [line.strip().replace("$which", which) for line in text(script).splitlines()]
    return [shlex.split(line) for line in lines if re.search(r"\bpytest -", line) and line[0] != "#"]


def expressions(verb: str) -> list[str]:
    """What a verb hands to `pytest -m`: for the test-runner, and for the host where it has a part there."""
    script, which = {"test": ("test", "not long"), "test-long": ("test", "long")}.get(verb, (verb, ""))
    return [line[line.index("-m") + 1] for line in lines_of(f"dev/{script}", which)]


def matches(expression: str, marks: set[str]) -> bool:
    def has(name: str, /, **_: object) -> bool:
        return name in marks

    return Expression.compile(expression).evaluate(has)


VERBS = {verb: expressions(verb) for verb in ("test", "test-long", "drill", "soak")}


def test_both_parts_of_both_verbs_are_found() -> None:
    assert {verb: len(found) for verb, found in VERBS.items()} == {
        "test": 2, "test-long": 2, "drill": 1, "soak": 1
    }  # fmt: skip
    assert "@dev/test long" in text("Makefile")


@pytest.mark.parametrize("marks", EVERY_SET, ids=lambda marks: " ".join(sorted(marks)) or "none")
def test_whatever_the_marks_of_a_test_a_verb_selects_it(marks: set[str]) -> None:
    selecting = [verb for verb, found in VERBS.items() for each in found if matches(each, marks)]
    assert selecting
    # Drills and soaks are so whether they take long or not. Who has two of these three marks is run by each.
    if len(marks - {"long"}) <= 1:
        assert len(selecting) == 1


@cache
def marks_of(path: str) -> set[str]:
    """Every mark that a file gives to any of its tests."""
    return {
        node.attr
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pytest.mark"
    }


def marks_of_all(path: str) -> set[str]:
    """The marks that each test of a file has, given by its `pytestmark`."""
    given = [
        node.value
        for node in syntax(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    return {
        node.attr
        for each in given
        for node in ast.walk(each)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pytest.mark"
    }


@pytest.mark.parametrize("path", TESTS)
def test_a_room_decides_what_its_tests_need(path: str) -> None:
    """On the host only tests/host is collected, and only tests/stack is given a socket."""
    assert ("host" in marks_of_all(path)) == ("host" in marks_of(path)) == path.startswith("tests/host/")
    assert ("docker" in marks_of_all(path)) == ("docker" in marks_of(path)) == path.startswith("tests/stack/")
    assert not {"drill", "soak"} & marks_of(path) or path.startswith("tests/stack/")
    assert not {"drill", "soak"} <= marks_of(path)


@pytest.mark.parametrize("file", ["compose.yml", "compose.ci.yml"])
def test_the_test_service_runs_what_make_test_runs_in_it(file: str) -> None:
    """In compose.yml without what needs the Docker socket; every drill and soak does."""
    *command, selected = composition.services(file)["tests"]["command"]
    _, *made, wanted, rest = lines_of("dev/test", "not long")[0]
    assert (command, rest) == (made, "$@")
    for marks in EVERY_SET:
        every = marks | ({"docker"} if {"drill", "soak"} & marks else set[str]())
        assert matches(selected, every) == matches(wanted, marks), every
        assert file == "compose.ci.yml" or not matches(selected, marks | {"docker"})
