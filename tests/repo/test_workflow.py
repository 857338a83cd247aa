"""The hosted CI: valid, safe, nothing but make targets that everybody has. No test here reaches GitHub."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.repo.tree import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
CI = ROOT / ".github/workflows/ci.yml"

# The specification, §9, word for word.
SPECIFIED_ENVIRONMENT = {
    "NEXUS_ENV": "test",
    "NEXUS_INTERNAL_SECRET": "test-secret-for-ci",
    "DATABASE_URL": "postgresql+psycopg://postgres:postgres@localhost:5432/nexus_test",
    "REDIS_URL": "redis://localhost:6379/0",
    "CELERY_BROKER_URL": "redis://localhost:6379/0",
    "CELERY_RESULT_BACKEND": "redis://localhost:6379/0",
}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def workflow() -> dict[Any, Any]:
    """YAML 1.1 reads the key `on` as the truth value."""
    document = yaml.safe_load(CI.read_text())
    assert isinstance(document, dict)
    return document


def job() -> dict[str, Any]:
    (only,) = workflow()["jobs"].values()
    assert isinstance(only, dict)
    return only


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.dependabot", [ROOT / ".github/dependabot.yml"]),
    ],
)
def test_valid_against_the_public_schema(schema: str, files: list[Path]) -> None:
    assert files
    result = run("check-jsonschema", "--builtin-schema", schema, *map(str, files))
    assert result.returncode == 0, result.stdout


def test_the_security_linter_finds_nothing() -> None:
    result = run(
        "zizmor", "--offline", "--no-progress", "--persona", "auditor", "--format", "json", ".github"
    )
    assert result.returncode == 0, result.stdout or result.stderr
    assert json.loads(result.stdout) == []


def test_every_command_is_one_make_target() -> None:
    commands = [step["run"] for step in job()["steps"] if "run" in step]
    assert all(command.startswith("make ") for command in commands)
    assert {command.split()[1] for command in commands} <= make_targets(), commands
    assert {"make lint", "make types", "make test-ci", "make drill"} <= set(commands)


def steps_of(script: str) -> list[str]:
    return re.findall(r"^ *step .*?(make .*?)(?: #.*| \|\|.*)?$", (ROOT / script).read_text(), re.MULTILINE)


def test_verify_takes_the_same_steps() -> None:
    """`test` and `test-ci` differ only in how much they print."""
    there = [step["run"] for step in job()["steps"] if "run" in step]
    assert ["make base-images", *steps_of("dev/verify")] == [
        command.replace("test-ci", "test") for command in there
    ]


def test_ci_run_verifies_on_a_bare_machine() -> None:
    assert steps_of(".ci/run") == ["make base-images", "make verify"]


def test_actions_are_pinned_to_a_commit_and_say_which_release() -> None:
    uses = re.findall(r"uses: *(.*)", CI.read_text())
    assert uses
    for line in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_the_token_may_only_read_and_is_not_kept() -> None:
    assert workflow()["permissions"] == {"contents": "read"}
    assert "permissions" not in job()
    (checkout,) = (step for step in job()["steps"] if step.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"] == {"persist-credentials": False}


def test_it_ends_by_itself_and_does_not_pile_up() -> None:
    assert 0 < job()["timeout-minutes"] <= 60
    assert workflow()["concurrency"]["group"]


def test_both_kinds_of_machine() -> None:
    runners = [entry["runner"] for entry in job()["strategy"]["matrix"]["include"]]
    assert runners == ["ubuntu-24.04", "ubuntu-24.04-arm"]


def test_the_specified_environment_is_explicit() -> None:
    environment = job()["env"]
    assert {name: environment.get(name) for name in SPECIFIED_ENVIRONMENT} == SPECIFIED_ENVIRONMENT


def test_what_a_failed_run_leaves_is_kept() -> None:
    """Where the disposable stack writes it is what is uploaded, hidden folder or not."""
    last = job()["steps"][-1]
    assert last["uses"].startswith("actions/upload-artifact@")
    assert "failure()" in last["if"]
    assert "cancelled()" in last["if"]
    assert last["with"]["path"].rstrip("/") == job()["env"]["NEXUS_CI_LOGS"]
    assert last["with"]["include-hidden-files"] is True
    evidence = (ROOT / "dev/disposable.sh").read_text()
    for command in ("ci_compose config", "ci_compose ps --all", "ci_compose logs"):
        assert command in evidence
