"""requirements/*.txt: complete, hashed, of one mind, each with what its image needs and nothing else."""

import re
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import nexus
from tests.repo.tree import text

LOCKS = ("base", "api", "worker", "test")
PROJECT = tomllib.loads(text("pyproject.toml"))["project"]
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


@pytest.mark.parametrize("lock", LOCKS)
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


def test_the_version_is_said_twice_and_is_the_same() -> None:
    assert PROJECT["version"] == nexus.__version__


def test_python_and_licence_are_as_promised() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert PROJECT["license"] in text("LICENSE").split("\n")[0]
