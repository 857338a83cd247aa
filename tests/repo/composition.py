"""The two compose files as they are written: what they read from outside, what comes out of both together."""

import re
from typing import Any

import yaml

from tests.repo.tree import text

#: `${NAME}`, `${NAME:-default}` and their kind, with defaults that may hold others. `$$` is a dollar for the
#: container and interpolates nothing.
_NAME = re.compile(r"\$\{(\w+)(:?[-?+])?")


class _Reset:
    """`!reset`: what the first file says here is dropped."""


class _Loader(yaml.SafeLoader):
    """Compose's YAML: YAML and two tags."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("!reset", lambda *_: _Reset())
_Loader.add_constructor("!override", _mapping)


def scalars(path: str) -> list[str]:
    """Every text in a file, comments left out."""
    tokens = yaml.scan(text(path), Loader=_Loader)
    return [token.value.replace("$$", "") for token in tokens if isinstance(token, yaml.ScalarToken)]


def variables(value: object) -> dict[str, set[str]]:
    """Each variable that is interpolated in a value, however deep, with its defaults."""
    found: dict[str, set[str]] = {}
    text = _flat(value)
    for start in _NAME.finditer(text):
        name, operator = start.groups()
        if operator == ":+":  # what stands in its place; without it, nothing
            found.setdefault(name, set())
            continue
        default = text[start.end() : _end(text, start.end())]
        wanted = operator in {":-", "-"}
        found.setdefault(name, set()).add(default if wanted else f"no default ({operator})")
    return found


def _end(text: str, start: int) -> int:
    """Where the brace that was opened before `start` is closed."""
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise AssertionError(f"a brace is not closed: {text[start:]}")


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(map(_flat, value.values()))
    if isinstance(value, list):
        return "\n".join(map(_flat, value))
    return str(value).replace("$$", "")


def _merged(first: Any, second: Any) -> Any:
    """Compose's way to put one file on top of another: mappings merge, lists add up, the rest is replaced."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [*first, *(key for key in second if key not in first)]
        merged = {key: _merged(first.get(key), second[key]) if key in second else first[key] for key in keys}
        return {key: value for key, value in merged.items() if not isinstance(value, _Reset)}
    if isinstance(first, list) and isinstance(second, list):
        return first + second
    return second


def top_level(key: str, *paths: str) -> dict[str, dict[str, Any]]:
    """What stands under a key of these files, merged in their order."""
    whole: Any = {}
    for path in paths:
        whole = _merged(whole, yaml.load(text(path), Loader=_Loader))  # noqa: S506  a SafeLoader
    found: dict[str, dict[str, Any]] = whole[key]
    return found


def services(*paths: str) -> dict[str, dict[str, Any]]:
    """The services of these files."""
    return top_level("services", *paths)
