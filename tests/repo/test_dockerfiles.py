"""Dockerfile.api and Dockerfile.worker: shared layers, dependencies before code, nobody's root."""

import json
import re
from functools import cache
from typing import NamedTuple

import pytest

from tests.repo.tree import text

FILES = ("Dockerfile.api", "Dockerfile.worker")
END_OF_HEAD = "# end of the shared head\n"
#: Images that run, by file and stage.
TARGETS = [("Dockerfile.api", "api"), ("Dockerfile.api", "test"), ("Dockerfile.worker", "worker")]


class Instruction(NamedTuple):
    word: str
    rest: str


@cache
def instructions(path: str) -> list[Instruction]:
    whole = re.sub(r"(?m)^\s*#.*\n", "", text(path))
    lines = re.sub(r"\\\n\s*", "", whole).split("\n")
    return [Instruction(*line.split(None, 1)) for line in lines if line.strip()]


def stages(path: str) -> dict[str, list[Instruction]]:
    """Each stage by name, with the instructions of the stages it is made from before its own."""
    found: dict[str, list[Instruction]] = {}
    name = ""
    for each in instructions(path):
        if each.word == "FROM":
            parent, _, name = each.rest.split()
            found[name] = [*found.get(parent, []), each]
        elif name:
            found[name].append(each)
    return found


def of(target: tuple[str, str], word: str) -> list[str]:
    path, stage = target
    return [each.rest for each in stages(path)[stage] if each.word == word]


def test_both_files_have_the_same_head() -> None:
    heads = [text(path).partition(END_OF_HEAD) for path in FILES]
    assert all(marker for _, marker, _ in heads)
    assert heads[0][0] == heads[1][0]
    assert "COPY services" in heads[0][0], "the product's code belongs to what is shared"


@pytest.mark.parametrize("path", FILES)
def test_the_python_base_is_a_build_argument(path: str) -> None:
    assert instructions(path)[0] == ("ARG", "PYTHON_IMAGE=python:3.12-slim")
    bases = {each.rest.split()[0] for each in instructions(path) if each.word == "FROM"}
    assert bases - stages(path).keys() == {"${PYTHON_IMAGE}"}


@pytest.mark.parametrize("target", TARGETS, ids="/".join)
class TestImage:
    def test_it_runs_as_a_numbered_user_who_is_not_root(self, target: tuple[str, str]) -> None:
        user = of(target, "USER")[-1]
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)

    def test_it_starts_without_a_shell(self, target: tuple[str, str]) -> None:
        commands = of(target, "CMD")[-1:] + of(target, "ENTRYPOINT")
        assert commands
        for command in commands:
            assert isinstance(json.loads(command), list)

    def test_only_the_lock_is_there_when_dependencies_are_installed(self, target: tuple[str, str]) -> None:
        chain = stages(target[0])[target[1]]
        installs = [place for place, each in enumerate(chain) if "pip " in each.rest and each.word == "RUN"]
        assert installs
        before = [each.rest for each in chain[: installs[-1]] if each.word in {"COPY", "ADD"}]
        assert [copy for copy in before if not re.search(r" requirements/\w+\.txt /", copy)] == []

    def test_it_installs_only_what_is_hashed_and_built(self, target: tuple[str, str]) -> None:
        for run in of(target, "RUN"):
            for command in re.findall(r"pip [^&]*\binstall\b[^&]*", run):
                assert {"--require-hashes", "--only-binary", "--no-compile"} <= set(command.split())
                assert "--mount=type=cache" in run, "or pip's cache ends up in the image"

    def test_it_says_what_it_is_and_only_at_its_end(self, target: tuple[str, str]) -> None:
        """A label before a step would make that step, and all after it, run again for each commit."""
        own = stages(target[0])[target[1]]
        last = max(place for place, each in enumerate(own) if each.word in {"RUN", "COPY", "ADD"})
        spoken = [place for place, each in enumerate(own) if "NEXUS_" in each.rest and each.word == "ARG"]
        (label,) = (place for place, each in enumerate(own) if each.word == "LABEL")
        assert last < min(spoken) < max(spoken) < label == len(own) - 1
        said = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', own[label].rest))
        assert said.pop("title").startswith("Nexus ")
        assert said == {
            "version": "$NEXUS_VERSION",
            "revision": "$NEXUS_REVISION",
            "source": "$NEXUS_SOURCE",
            "licenses": "MIT",
            "base.name": "$PYTHON_IMAGE",
        }


def test_the_products_images_hold_only_its_code() -> None:
    copied = {each.rest.split()[0] for each in stages("Dockerfile.api")["code"] if each.word == "COPY"}
    assert {source for source in copied if not source.startswith("-")} == {"services", "shared", "db"}
    for target in TARGETS:
        if target[1] != "test":
            assert [c for c in of(target, "COPY") if "requirements/" not in c] == ["--from=code /app /app"]
