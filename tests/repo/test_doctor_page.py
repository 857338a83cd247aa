"""docs/doctor.md has every line that the doctor can say, and no other; its parts agree with each other."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache

import pytest

from nexus.doctor import CHECKS
from nexus.doctor.clock import LEEWAY, SKEW_WARNING
from tests.repo import composition
from tests.repo.tree import ROOT, below, syntax, text

SCRIPTS = ["dev/doctor", "dev/engine.sh", *below("dev/doctor.d/", suffix=".sh")]
#: What a message has from elsewhere: `$1`, `${version%%.*}`, `$(date +%Y)`.
EXPANSION = re.compile(r"\$\(\([^)]*\)\)|\$\([^)]*\)|\$\{[^}]*\}|\$[\w@]+|\\\$")
QUOTED = r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'"
#: How scripts say a fault, and the check it belongs to where the call does not name it.
CALLS = {
    rf"\b(fault|warning) ([a-z]+) (?:{QUOTED})": None,
    rf"\b(env_fault)()(?: )(?:{QUOTED})": "env",
    rf"\b(secret_fault) (\"\$1\") \"\$2\" (?:{QUOTED})": "secrets",
}


def pattern(literals: list[str]) -> str:
    """Matches a message of these fixed parts, with something between them."""
    return ".*".join(re.escape(part) for part in literals)


def of_scripts() -> Iterator[tuple[str, str, str]]:
    """Check, state and pattern of every line that the host's part can say."""
    for path in SCRIPTS:
        for call, check in CALLS.items():
            for kind, name, double, single in re.findall(call, text(path)):
                literals = [single] if single else EXPANSION.split(double)
                whole = pattern(literals)
                if check == "secrets":
                    whole = pattern(["the file of ", " (", ") "]) + whole
                yield check or name, "warning" if kind == "warning" else "fault", whole


def fixed_parts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return [str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values]
    return ["\0"]


def of_python() -> Iterator[tuple[str, str, str]]:
    """The same of `nexus doctor`."""
    for path in below("shared/nexus/doctor/", suffix=".py"):
        for node in ast.walk(syntax(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in {"fault", "warning"}:
                name, message = node.args[:2]
                assert isinstance(name, ast.Constant)
                yield str(name.value), node.func.id, pattern("".join(fixed_parts(message)).split("\0"))


@cache
def templates() -> list[tuple[str, str, str]]:
    # Those of no fixed part, or with $1 as check, are the functions that the calls go through.
    said = (*of_scripts(), *of_python())
    return [each for each in said if "$" not in each[0] and each[2].strip(".*")]


def rows(heading: str) -> list[list[str]]:
    section = text("docs/doctor.md").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]


def test_there_are_lines_on_both_sides() -> None:
    assert len(templates()) > 50
    assert len(rows("Every line")) > 50


@pytest.mark.parametrize(("check", "state", "message"), templates())
def test_every_line_that_can_be_said_is_documented(check: str, state: str, message: str) -> None:
    matching = [row for row in rows("Every line") if re.fullmatch(message, row[2])]
    assert [row[:2] for row in matching if row[:2] == [check, state]], f"{check}: {message}"


@pytest.mark.parametrize("row", rows("Every line"), ids=lambda row: row[2])
def test_every_documented_line_can_be_said(row: list[str]) -> None:
    check, state, line, remedy = row
    assert remedy
    said = [message for name, kind, message in templates() if (name, kind) == (check, state)]
    assert [message for message in said if re.fullmatch(message, line)]


def test_the_checks_are_those_of_the_page_in_their_order() -> None:
    listed = subprocess.run(["dev/doctor", "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = listed.stdout.split()
    assert [row[0] for row in rows("What it looks at")] == names
    assert set(CHECKS) <= set(names)
    assert {check for check, _, _ in templates()} == set(names)


def test_both_parts_bear_the_same_skew() -> None:
    bounds = dict(re.findall(r"(?m)^(CLOCK_\w+)=(\d+)", text("dev/doctor.d/machine.sh")))
    assert bounds == {"CLOCK_LEEWAY": str(LEEWAY), "CLOCK_WANTED": str(SKEW_WARNING)}
    assert f"tokens bear {LEEWAY} s" in text("docs/doctor.md")


@pytest.mark.parametrize("overlay", ["peers", "alone"])
def test_the_settings_of_every_process_are_tried(overlay: str) -> None:
    """One container stands for all: what api lacks of the others' settings is added to it."""
    services = composition.services("compose.yml")
    added = composition.services(f"dev/doctor.d/{overlay}.yml")["api"]["environment"]
    tried = services["api"]["environment"].keys() | added.keys()
    assert (
        services["worker"]["environment"].keys() | services["migrator"]["environment"].keys()
    ) - tried == set()
    assert all(value == f"${{{name}:-}}" for name, value in added.items())


#: How a question to Docker may begin. The containers it starts are removed by the engine.
QUESTIONS = (
    *("info ", "ps ", "stats --no-stream ", "inspect ", "exec ", "run --rm --pull never "),
    *("image ls ", "image inspect ", "network inspect ", "volume inspect ", "compose config"),
    'compose --project-directory . --file - --file "$overlay" config api',
    "compose --project-directory . --file - run --rm --no-deps ",
)


@pytest.mark.parametrize("script", [path for path in SCRIPTS if path != "dev/engine.sh"])
def test_the_doctor_only_asks_and_each_question_is_bounded(script: str) -> None:
    code = re.sub(r"(?m)^ *#.*$", "", text(script))
    asked = re.findall(r"\bbounded \S+ docker (.*)", code)
    assert [each for each in asked if not each.startswith(QUESTIONS)] == []
    # At the beginning of a command, and not behind `bounded`.
    assert re.findall(r"(?m)(?:^|[;&|]|\$\() *docker .*", code) == []
