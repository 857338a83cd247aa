"""The recipes of CONTRIBUTING fit the tree as it is. tests/host/test_recipes.py shows that they work."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, below, files, text

FOLDER = "docs/recipes/"
PATCHES = below(FOLDER)
#: In the order in which CONTRIBUTING shows them.
ORDER = [f"{FOLDER}{name}.patch" for name in ("route", "column", "setting", "task")]


def git_apply(tree: Path, patch: str, *options: str) -> str:
    """What git says against a patch; nothing, where it fits."""
    # git must not know of a repository around the tree: it would pass over whatever lies outside of that.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tree.parent)}
    # One line around each change must be as it was: two recipes may change neighbours.
    command = ["git", "apply", "-C1", *options, str(ROOT / patch)]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert bool(done.returncode) == bool(done.stderr)
    return done.stderr


def is_followed(tree: Path, patch: str) -> bool:
    """Whether the tree has it all already: that of somebody who follows a recipe keeps these rules too."""
    return git_apply(tree, patch, "--check", "--reverse") == ""


def touched(patch: str) -> set[str]:
    """The files that a patch changes or makes."""
    return set(re.findall(r"(?m)^\+\+\+ b/(.*)$", text(patch)))


def test_contributing_shows_every_recipe() -> None:
    assert sorted(ORDER) == PATCHES
    assert re.findall(rf"\(({FOLDER}[a-z]+\.patch)\)", text("CONTRIBUTING.md")) == ORDER


@pytest.mark.parametrize("patch", PATCHES)
def test_a_recipe_fits_the_tree(patch: str) -> None:
    assert is_followed(ROOT, patch) or git_apply(ROOT, patch, "--check") == ""


def test_all_of_them_fit_one_after_the_other(tmp_path: Path) -> None:
    tree = tmp_path / "nexus"
    for path in files():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tree / path)
    for patch in ORDER:
        assert is_followed(tree, patch) or git_apply(tree, patch) == ""
        assert is_followed(tree, patch)


@pytest.mark.parametrize("patch", PATCHES)
def test_a_recipe_brings_its_tests(patch: str) -> None:
    assert any(path.startswith("tests/") for path in touched(patch))


@pytest.mark.parametrize("patch", PATCHES)
def test_a_recipe_leaves_the_locks_to_whoever_makes_them(patch: str) -> None:
    """Their hashes change with each renewal, and no patch of them would fit for long."""
    assert not {path for path in touched(patch) if path.startswith("requirements/")}
