"""What `down`, a wrong password and `make reset` do to the data. On stacks without api and worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import checkout_copy
from tests.host.support import Stack, stack_of

# Without cached images the shared stack takes its time.
pytestmark = [pytest.mark.host, pytest.mark.long, pytest.mark.timeout(300)]

USER = "8d2b1c3a-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout_copy(tmp_path_factory.mktemp("data") / "nexus")


@pytest.fixture
def stack(directory: Path) -> Iterator[Stack]:
    with stack_of(directory, HEALTH_INTERVAL="1s") as stack:
        yield stack


def test_down_keeps_the_data_and_a_wrong_password_says_what_to_do(stack: Stack) -> None:
    stack.migrator("upgrade")
    stack.sql(f"INSERT INTO users (id) VALUES ('{USER}')")
    stack.down()
    result = stack.migrator("upgrade", check=False, POSTGRES_PASSWORD="another")  # noqa: S106
    assert result.returncode == 3
    lines = (result.stdout + result.stderr).strip().splitlines()
    (line,) = [line for line in lines if "waiting for Postgres" not in line]
    assert "POSTGRES_PASSWORD differs from the one the data volume was made with" in line
    assert "Set the old one" in line
    assert "make reset" in line
    # Postgres itself came up again, on the volume it had before.
    assert stack.sql(f"SELECT id FROM users WHERE id = '{USER}'") == USER


def test_reset_wants_a_yes(stack: Stack) -> None:
    stack.compose("up", "--detach", "--wait", "postgres")
    stack.sql("CREATE TABLE kept ()")
    result = stack.run("dev/reset", check=False)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "nothing was removed" in line
    assert "NEXUS_RESET=yes" in line
    assert stack.sql("SELECT to_regclass('kept')") == "kept"
    assert len(stack.volumes()) == 1
    stack.run("make", "reset", NEXUS_RESET="yes")
    assert stack.volumes() == []
