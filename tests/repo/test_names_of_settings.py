""".env.example, Settings and the compose files speak of the same variables with the same defaults."""

import ast
import re

import pytest
from pydantic_core import PydanticUndefined

from nexus.config import Settings
from tests.repo import composition
from tests.repo.tree import PRODUCT, below, imports, syntax, text

FILES = {"local": ("compose.yml",), "ci": ("compose.yml", "compose.ci.yml")}
#: Services that run our code, with what each has beyond Settings.
OURS = {
    "api": set[str](),
    "worker": set[str](),
    "migrator": set[str](),
    "tests": {"HOME", "NEXUS_API_URL", "NEXUS_API_SECRET"},
}
REQUIRED = {name for name, field in Settings.model_fields.items() if field.is_required()}


def env_example() -> dict[str, tuple[str, bool]]:
    """Name to value, and whether the line is a comment."""
    lines = re.findall(r"(?m)^(#?)([A-Z][A-Z0-9_]*)=(.*)$", text(".env.example"))
    assert len(lines) == len({name for _, name, _ in lines}), "a name stands twice in .env.example"
    return {name: (value, bool(mark)) for mark, name, value in lines}


def interpolated() -> dict[str, set[str]]:
    return composition.variables([composition.scalars("compose.yml"), composition.scalars("compose.ci.yml")])


def test_env_example_names_every_variable_and_no_other() -> None:
    assert set(env_example()) == set(Settings.model_fields) | set(interpolated())


def test_every_default_of_compose_is_the_one_in_env_example() -> None:
    # In compose.yml a file's name is asked for twice: where it is here, and whether there is one.
    nothing = {"", "/dev/null"}
    found = {name: {""} if defaults <= nothing else defaults for name, defaults in interpolated().items()}
    wanted = {name: env_example()[name][0] for name in found}
    # Built of other variables: shown with their own defaults, and in .env.example not at all.
    assert found.pop("EXTERNAL_POSTGRES") == {
        "postgresql+psycopg://${POSTGRES_USER:-postgres}@postgres:5432/${POSTGRES_DB:-nexus_dev}"
    }
    assert wanted.pop("EXTERNAL_POSTGRES") == ""
    assert found == {name: {value} for name, value in wanted.items()}


def test_every_default_of_settings_is_the_one_in_env_example() -> None:
    defaults = {
        name: field.default for name, field in Settings.model_fields.items() if not field.is_required()
    }
    assert PydanticUndefined not in defaults.values()
    written = {name: env_example()[name] for name in defaults}
    wanted = {name: ("", True) if value is None else (str(value), False) for name, value in defaults.items()}
    assert {n: (v.removesuffix(".0"), c) for n, (v, c) in wanted.items()} == written


def test_env_example_as_it_stands_is_a_valid_env(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)
    active = {name: value for name, (value, commented) in env_example().items() if not commented}
    assert active.keys() >= REQUIRED
    Settings(_env_file=".env.example")


def test_compose_never_reads_the_urls_of_the_host() -> None:
    # AUTH_JWKS_URL is nobody's in particular: the provider has one address for host and containers.
    forbidden = r"_URL$|^CELERY_|^DATABASE_"
    assert [name for name in interpolated() if re.search(forbidden, name)] == ["AUTH_JWKS_URL"]


def test_compose_interpolates_with_braces_only() -> None:
    # $NAME would be read too, and no rule of this file would see it.
    bare = re.compile(r"\$\w")
    values = composition.scalars("compose.yml") + composition.scalars("compose.ci.yml")
    assert [value for value in values if bare.search(value)] == []


@pytest.mark.parametrize("variant", FILES)
@pytest.mark.parametrize("service", OURS)
def test_a_service_has_every_required_setting_and_no_unknown_one(service: str, variant: str) -> None:
    environment = composition.services(*FILES[variant])[service]["environment"]
    assert REQUIRED - set(environment) == set()
    assert set(environment) - set(Settings.model_fields) == OURS[service]


def test_nothing_of_a_developers_env_leaks_into_the_disposable_stack() -> None:
    read = composition.variables(composition.services(*FILES["ci"]))
    images, labels = {"PYTHON_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE"}, {"NEXUS_REVISION", "NEXUS_SOURCE"}
    assert set(read) == images | labels | {"DOCKER_SOCKET"}
    files = {name: each["file"] for name, each in composition.top_level("secrets", *FILES["ci"]).items()}
    assert set(files.values()) == {"/dev/null"}


@pytest.mark.parametrize("path", below(*PRODUCT, suffix=".py"))
def test_only_the_settings_read_the_environment(path: str) -> None:
    if path == "shared/nexus/config.py":
        return
    readers = {"environ", "environb", "getenv", "getenvb"}
    taken = {name for name in imports(path) if name in {f"os.{reader}" for reader in readers}}
    used = {node.attr for node in ast.walk(syntax(path)) if isinstance(node, ast.Attribute)} & readers
    assert taken | used == set()
