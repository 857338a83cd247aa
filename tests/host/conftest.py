"""Fixtures of the tests that need the compose command itself. Without Docker they fail; none is skipped."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import REPO, checkout_copy
from tests.host.support import Stack, clean_environment, run, stack_of

#: Everything that has a meaning in a URL, in a shell or in YAML, but for the $ that compose itself reads.
AWKWARD_PASSWORD = "p@ss:w/rd%41#"  # noqa: S105  a test's own

#: What the host way, or another project, may have left in the shell. None of it may reach the stack.
FOREIGN_URLS = {
    "DATABASE_URL": "postgresql+psycopg://somebody:else@db.example.invalid:5999/theirs",
    "REDIS_URL": "redis://redis.example.invalid:6999/7",
    "CELERY_BROKER_URL": "amqp://broker.example.invalid//",
    "CELERY_RESULT_BACKEND": "redis://results.example.invalid/9",
}


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Whoever runs in the background of a script ignores Ctrl-C, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy without .env, only to be read and rendered."""
    return checkout_copy(tmp_path_factory.mktemp("checkout") / "nexus")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack as the most awkward of persons has it; who changes it, changes it back.

    A clone made under umask 077, .env.example copied to .env, a password that no URL could hold, and a shell
    full of somebody else's URLs.
    """
    directory = checkout_copy(tmp_path_factory.mktemp("stack") / "nexus", umask=0o077)
    shutil.copyfile(directory / ".env.example", directory / ".env")
    with (directory / ".env").open("a") as dotenv:
        dotenv.write(f"POSTGRES_PASSWORD='{AWKWARD_PASSWORD}'\n")
    with stack_of(directory, **FOREIGN_URLS) as stack:
        stack.up()
        yield stack


@pytest.fixture(scope="session")
def supply_python() -> str:
    """The interpreter of the tools in dev/supply, whose environment is made the first time."""
    run("dev/venv", "supply", cwd=REPO, env=clean_environment(), timeout=500)
    return str(REPO / ".venv-supply/bin/python")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the test's own, to be broken."""
    return checkout_copy(tmp_path / "nexus")
