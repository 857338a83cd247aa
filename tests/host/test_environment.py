"""Neither a copied .env.example nor a foreign shell changes what the stack is told."""

from pathlib import Path
from typing import Any

import pytest

from tests.checkout import IMAGE_VARIABLES
from tests.host.conftest import AWKWARD_PASSWORD, FOREIGN_URLS
from tests.host.support import (
    CI_FILES,
    Rendered,
    Stack,
    documented_variables,
    rendered,
)

# Without cached images the shared stack takes its time.
pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

TOLD = ("migrator", "api", "worker", "tests")
#: What compose.ci.yml does take from outside: which images to build on, what to label ours with, and where
#: the engine listens.
FROM_OUTSIDE = {
    **dict.fromkeys(IMAGE_VARIABLES, "elsewhere.example.invalid/image:1"),
    **dict.fromkeys(("NEXUS_REVISION", "NEXUS_SOURCE"), "of-somewhere-else"),
    "DOCKER_SOCKET": "/elsewhere.sock",
}


def _environments(config: Rendered) -> dict[str, Any]:
    return {name: config["services"][name]["environment"] for name in TOLD}


def _hostile(value: str) -> str:
    """Another value of the same kind, so that compose itself has nothing to refuse."""
    if value.isdigit():
        return str(int(value) + 1)
    return "9s" if value == "3s" else f"hostile-{value}"


def test_env_example_states_the_defaults(checkout: Path, copy: Path) -> None:
    (copy / ".env").write_text((copy / ".env.example").read_text())
    with_file, without = (rendered(path, "--profile", "test") for path in (copy, checkout))
    assert _environments(with_file) == _environments(without)
    for name, service in with_file["services"].items():
        assert service.get("ports") == without["services"][name].get("ports")
        assert service.get("healthcheck") == without["services"][name].get("healthcheck")


def test_foreign_urls_do_not_reach_the_stack(checkout: Path) -> None:
    plain = rendered(checkout, "--profile", "test")
    assert rendered(checkout, "--profile", "test", **FOREIGN_URLS) == plain


def test_nothing_leaks_into_the_disposable_stack(copy: Path) -> None:
    variables = {name: _hostile(value) for name, value in documented_variables().items()} | FROM_OUTSIDE
    arguments = (*CI_FILES, "--profile", "test")
    plain = rendered(copy, *arguments, **FROM_OUTSIDE)
    assert rendered(copy, *arguments, **variables) == plain
    lines = (f"{name}={value}\n" for name, value in variables.items() if name not in FROM_OUTSIDE)
    (copy / ".env").write_text("".join(lines))
    assert rendered(copy, *arguments, **FROM_OUTSIDE) == plain


@pytest.mark.parametrize("name", FROM_OUTSIDE)
def test_disposable_stack_takes_its_images_and_the_socket_from_outside(checkout: Path, name: str) -> None:
    config = rendered(checkout, *CI_FILES, "--profile", "test", **{name: FROM_OUTSIDE[name]})
    assert FROM_OUTSIDE[name] in str(config["services"])


def test_stack_starts_that_way_and_is_ready(stack: Stack) -> None:
    """The fixture has the copied .env, foreign URLs, an awkward password, and files for their owner only."""
    assert (stack.directory / "shared/nexus/config.py").stat().st_mode & 0o777 == 0o600
    answer = stack.await_ready()
    assert {name: part["status"] for name, part in answer.json()["data"]["checks"].items()} == {
        "postgres": "ok", "redis": "ok", "schema": "ok"
    }  # fmt: skip


def test_every_process_got_the_awkward_password(stack: Stack) -> None:
    for service in ("api", "worker"):
        assert stack.shell(service, 'printf %s "$DATABASE_PASSWORD"') == AWKWARD_PASSWORD
