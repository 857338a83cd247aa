"""Every shell script and Dockerfile passes its linter, and `make lint` forgets none of them.

A missing tool fails these tests: they run in the test image, which has them.
"""

import re
import subprocess

import pytest

from tests.repo.tree import ROOT, files, text

SHEBANG = re.compile(r"#!.*[/ ](ba)?sh\s")


def is_script(path: str) -> bool:
    return path.endswith(".sh") or SHEBANG.match(text(path)) is not None


SCRIPTS = [path for path in files() if is_script(path)]
# Fed to `sh` while a stand-in is assembled: no shebang, no suffix.
PARTS = [path for path in files() if re.fullmatch(r"dev/standin/\w+/(before|after)", path)]
DOCKERFILES = [path for path in files() if path.split("/")[-1].startswith("Dockerfile")]


def lint(*command: str) -> None:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_there_is_something_to_check() -> None:
    assert {".ci/run", "dev/lint", "services/api/healthcheck"} <= set(SCRIPTS)
    assert PARTS
    assert {"Dockerfile.api", "Dockerfile.worker"} <= set(DOCKERFILES)


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell_script(script: str) -> None:
    lint("shellcheck", "--external-sources", script)


@pytest.mark.parametrize("part", PARTS)
def test_shell_part(part: str) -> None:
    lint("shellcheck", "--shell=sh", part)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_dockerfile(dockerfile: str) -> None:
    lint("hadolint", dockerfile)


def test_every_ignored_rule_of_hadolint_is_explained() -> None:
    """A rule that is switched off has a reason in the comment above it."""
    lines = text(".hadolint.yaml").splitlines()
    rules = [number for number, line in enumerate(lines) if re.match(r"\s*- *(DL|SC)\d+", line)]
    assert rules
    for number in rules:
        assert lines[number - 1].lstrip().startswith("#"), lines[number]


def test_make_lint_forgets_none() -> None:
    listed = subprocess.run(["dev/lint", "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert sorted(listed.stdout.split()) == sorted({*SCRIPTS, *PARTS, *DOCKERFILES})
