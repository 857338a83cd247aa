"""The tree that these rules are about: a checkout, or the copy of it in the test image, where no git is."""

import ast
import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What makes up the product, in Python.
PRODUCT = ("services/", "shared/", "db/")


def _ignored_names() -> list[str]:
    """The patterns of .gitignore: names without a path, which is all that is understood here."""
    names = (ROOT / ".gitignore").read_text().split()
    assert not [name for name in names if "/" in name.rstrip("/") or name.startswith(("#", "!"))]
    return [".git/", *names]


@cache
def files() -> tuple[str, ...]:
    """Every file that is, or would be, under version control; paths from ROOT."""
    ignored = _ignored_names()

    def walk(folder: Path) -> Iterator[str]:
        for entry in os.scandir(folder):
            is_folder = entry.is_dir(follow_symlinks=False)
            # A pattern with a slash at its end is one for folders.
            names = (entry.name, f"{entry.name}/") if is_folder else (entry.name,)
            if any(fnmatch(name, pattern) for pattern in ignored for name in names):
                continue
            if is_folder:
                yield from walk(Path(entry.path))
            else:
                yield Path(entry.path).relative_to(ROOT).as_posix()

    return tuple(sorted(walk(ROOT)))


def below(*folders: str, suffix: str = "") -> list[str]:
    """The files below these folders; a rule about nothing would hold for ever, so there must be some."""
    found = [path for path in files() if path.startswith(folders) and path.endswith(suffix)]
    assert found, f"no {suffix} files below {folders}"
    return found


@cache
def text(path: str) -> str:
    # Not read_text(), which would hide the line ends of other systems.
    return (ROOT / path).read_bytes().decode()


def lines_with(pattern: str, paths: list[str]) -> list[str]:
    """`path:line: text` of every line in which the pattern is found."""
    regex = re.compile(pattern)
    return [
        f"{path}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(text(path).split("\n"), start=1)
        if regex.search(line)
    ]


@cache
def syntax(path: str) -> ast.Module:
    return ast.parse(text(path), path)


def _module(path: str) -> list[str]:
    return path.removeprefix("shared/").removesuffix(".py").removesuffix("/__init__").split("/")


def imports(path: str) -> set[str]:
    """Every module that a file imports, and every name out of one: `from nexus import worker` gives both."""
    found: set[str] = set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            own = _module(path)[: -node.level] if node.level else []
            source = ".".join([*own, *([node.module] if node.module else [])])
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return found


def imports_of(path: str, *packages: str) -> list[str]:
    """Those of a file's imports that are one of these packages or lie in one."""
    prefixes = tuple(f"{package}." for package in packages)
    return sorted(name for name in imports(path) if f"{name}.".startswith(prefixes))


def calls(path: str) -> Iterator[tuple[str, int]]:
    """What a file calls: the last part of the name, and the line."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr, node.lineno
            elif isinstance(node.func, ast.Name):
                yield node.func.id, node.lineno
