"""dev/host-env gives processes on the host the same ports that Compose takes from .env."""

import subprocess
from pathlib import Path

import pytest

from tests.repo.tree import ROOT


def exported(tmp_path: Path, dotenv: str, **variables: str) -> dict[str, str]:
    """What a command is given in a checkout with this .env."""
    (tmp_path / "dev").mkdir()
    script = tmp_path / "dev/host-env"
    script.write_text((ROOT / "dev/host-env").read_text())
    (tmp_path / ".env").write_text(dotenv)
    done = subprocess.run(
        ["bash", str(script), "env", "-0"],
        env={"PATH": "/usr/bin:/bin"} | variables,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    return dict(each.split("=", 1) for each in done.stdout.rstrip("\0").split("\0"))


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_ports_are_those_of_dotenv_however_they_are_quoted(quote: str, tmp_path: Path) -> None:
    ports = {"API_PORT": "18000", "POSTGRES_PORT": "15432", "REDIS_PORT": "16379"}
    dotenv = "".join(f"{name}={quote}{port}{quote}  # ours\n" for name, port in ports.items())
    given = exported(tmp_path, dotenv)
    assert given["API_PORT"] == "18000"
    assert given["DATABASE_URL"].endswith("@localhost:15432/nexus_dev")
    for name in ("REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
        assert given[name] == "redis://localhost:16379/0"


def test_the_shell_wins_and_the_defaults_come_last(tmp_path: Path) -> None:
    given = exported(tmp_path, "POSTGRES_PORT=15432\n", POSTGRES_PORT="15999", REDIS_URL="redis://other/1")
    assert given["DATABASE_URL"].endswith("@localhost:15999/nexus_dev")
    assert given["REDIS_URL"] == "redis://other/1"
    assert given["CELERY_BROKER_URL"] == "redis://localhost:6379/0"
    assert given["API_PORT"] == "8000"
