"""requirements/*.txt: complete, hashed, of one mind, each with what its image needs and nothing else."""

import re
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import nexus
from tests.repo.tree import files, text

LOCKS = ("base", "api", "worker", "test")
DOCUMENT = tomllib.loads(text("pyproject.toml"))
PROJECT = DOCUMENT["project"]
#: The tools that look at the product from outside; in no image.
SUPPLY = "supply"
#: The extras that each lock is compiled from, beside what every process needs.
EXTRAS = {"base": [], "api": ["api", "migrator"], "worker": ["worker"], "test": ["test"]}

#: All that a lock may hold. An address, a path or an option of pip is nothing of that.
_PIN = r"[a-z0-9.-]+(\[[a-z0-9,-]+\])?==[\w.]+( ; [^@/\\]+)?"
_LOCK = re.compile(rf"(#[ \w.:]*\n)*({_PIN}( \\\n    --hash=sha256:[0-9a-f]{{64}})+\n)+")


@cache
def pins(lock: str) -> dict[str, str]:
    """Name to everything that is said about it: version, marker, hashes."""
    entries = re.findall(r"(?m)^([a-z0-9.-]+)\S*(==(?:.*\\\n)*.*)\n", text(f"requirements/{lock}.txt"))
    assert entries
    return {canonicalize_name(name): rest for name, rest in entries}


def version(lock: str, name: str) -> str:
    return pins(lock)[canonicalize_name(name)].split()[0].removeprefix("==")


def declared(extra: str) -> list[Requirement]:
    return [Requirement(line) for line in PROJECT["optional-dependencies"][extra]]


@pytest.mark.parametrize("lock", [*LOCKS, SUPPLY])
def test_a_lock_holds_pins_with_hashes_and_nothing_else(lock: str) -> None:
    content = text(f"requirements/{lock}.txt")
    match = _LOCK.match(content)
    understood = match.end() if match else 0
    assert content[understood : understood + 200] == ""


@pytest.mark.parametrize("lock", ["base", "api", "worker"])
def test_an_image_runs_what_the_tests_ran(lock: str) -> None:
    assert {name: pins("test").get(name) for name in pins(lock)} == pins(lock)


@pytest.mark.parametrize("lock", ["api", "worker"])
def test_the_shared_layer_is_part_of_every_image(lock: str) -> None:
    assert pins("base").items() <= pins(lock).items()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_of_pyproject_is_locked_within_its_bounds(lock: str) -> None:
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    wanted += [each for extra in EXTRAS[lock] for each in declared(extra) if each.name != "nexus"]
    assert [str(each) for each in wanted if not each.specifier.contains(version(lock, each.name))] == []


def test_every_tool_is_locked_within_its_bounds_and_is_in_no_other_lock() -> None:
    tools = [Requirement(line) for line in DOCUMENT["dependency-groups"][SUPPLY]]
    assert [str(each) for each in tools if not each.specifier.contains(version(SUPPLY, each.name))] == []
    for lock in LOCKS:
        assert {canonicalize_name(each.name) for each in tools} & pins(lock).keys() == set()


def test_a_package_has_one_version_in_the_whole_repository() -> None:
    both = pins(SUPPLY).keys() & pins("test").keys()
    assert both
    assert {name: version(SUPPLY, name) for name in both} == {name: version("test", name) for name in both}


def test_every_lock_is_known_here() -> None:
    listed = {path for path in files() if path.startswith("requirements/") and path.endswith(".txt")}
    assert listed == {f"requirements/{lock}.txt" for lock in (*LOCKS, SUPPLY)}


def test_the_tests_have_every_extra_of_the_product() -> None:
    own = next(each for each in declared("test") if each.name == "nexus")
    assert own.extras == {"api", "migrator", "worker"}


@pytest.mark.parametrize(
    ("lock", "absent"),
    [
        ("base", {"celery", "kombu", "fastapi", "starlette", "alembic", "pytest"}),
        ("api", {"celery", "kombu", "billiard", "pytest", "docker"}),
        ("worker", {"fastapi", "starlette", "gunicorn", "uvicorn", "uvicorn-worker", "alembic", "pytest"}),
    ],
)
def test_an_image_does_not_carry_the_others_libraries(lock: str, absent: set[str]) -> None:
    assert pins("test").keys() >= absent, "the rule would hold by a slip of the pen"
    assert pins(lock).keys() & absent == set()


def test_the_version_is_said_more_than_once_and_is_the_same() -> None:
    assert PROJECT["version"] == nexus.__version__
    for path in ("Dockerfile.api", "Dockerfile.worker"):
        assert re.findall(r"(?m)^ARG NEXUS_VERSION=(.*)$", text(path)) == [PROJECT["version"]]


def test_python_and_licence_are_as_promised() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert PROJECT["license"] in text("LICENSE").split("\n")[0]
