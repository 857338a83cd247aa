"""The house: its rooms are where the design says, and none of them becomes a hall."""

import ast
import re

import pytest

from tests.repo.tree import PRODUCT, ROOT, below, files, lines_with, syntax, text

#: The design card's names, and what every project has.
TOP = (
    *("services", "shared", "db", "compose.yml", "compose.ci.yml", "Dockerfile.api", "Dockerfile.worker"),
    *("Makefile", ".github", "LICENSE", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", ".env.example"),
    *("pyproject.toml", "requirements", "dev", "docs", "tests", "bench", ".ci", ".devcontainer"),
)
#: Long for a reason: made by programs, or other people's books.
LONG = ("requirements/", "shared/nexus/seed/data/", "docs/recipes/")


@pytest.mark.parametrize("name", TOP)
def test_a_room_of_the_design_is_there_and_not_empty(name: str) -> None:
    assert any(path == name or path.startswith(f"{name}/") for path in files())
    assert [path for path in files() if path == name and not text(path).strip()] == []


@pytest.mark.parametrize("path", [path for path in files() if not path.startswith(LONG)])
def test_no_file_is_longer_than_400_lines(path: str) -> None:
    assert text(path).count("\n") <= 400


@pytest.mark.parametrize("path", below(*PRODUCT, "bench/", "tests/", suffix=".py"))
def test_no_function_is_longer_than_60_lines(path: str) -> None:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = {
        node.name: (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(syntax(path))
        if isinstance(node, functions)
    }
    assert {name: length for name, length in lengths.items() if length > 60} == {}


@pytest.mark.parametrize("path", [path for path in files() if not path.startswith("shared/nexus/seed/data/")])
def test_a_text_is_tidy(path: str) -> None:
    content = text(path)
    # A patch may end with a blank line of what it changes.
    ends = content.endswith("\n") and (path.endswith(".patch") or not content.endswith("\n\n"))
    assert content == "" or ends
    assert lines_with(r"[ \t\r]$", [path]) == []


@pytest.mark.parametrize("path", files())
def test_a_program_is_executable_and_names_its_interpreter(path: str) -> None:
    executable = bool((ROOT / path).stat().st_mode & 0o100)
    first = text(path).split("\n", 1)[0]
    if executable:
        assert first in {"#!/usr/bin/env bash", "#!/bin/bash", "#!/bin/sh"}
    elif first.startswith("#!"):
        # Read by others: `. dev/lib.sh`, `sh /v/in/assemble`, COPY --chmod.
        assert path.endswith(".sh") or path.startswith("dev/standin/")


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their names alone: the second one would not be collected."""
    names = [path.rsplit("/", 1)[-1] for path in files() if re.search(r"^tests/.*/test_\w+\.py$", path)]
    assert sorted(names) == sorted(set(names))


def test_no_command_is_run_in_a_container_by_a_way_that_loses_output() -> None:
    """tests/stack/execution.py says how `exec_run` and `exec_start` lose it."""
    assert lines_with(r"\.exec_(run|start)\(", below("tests/", "bench/", "dev/", suffix=".py")) == []
