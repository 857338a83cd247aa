"""dev/base-images: which image is chosen, and that `.env` keeps every byte that is not ours."""

import os
from pathlib import Path

import pytest

from tests.checkout import IMAGE_VARIABLES, checkout_copy
from tests.host.support import Result, clean_environment, run

pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

OFFICIAL = ("python:3.12-slim", "postgres:15.8", "redis:7.2-alpine")

#: An engine with the stand-ins where $REACH is "nothing", with the official images once $STATE exists, which
#: a pull brings about where $REACH is "registry". The same on every machine, whatever it holds and reaches.
DOCKER = """#!/bin/sh
REAL=$(PATH=${PATH#*:} command -v docker)
case "$1 $2" in
  "image inspect")
    [ ! -e "$STATE" ] || printf '%s\n' OFFICIAL
    [ "$REACH" != nothing ] || for each; do case $each in nexus-standin/*) echo "$each" ;; esac; done
    exit 0 ;;
  "pull "*) [ "$REACH" = registry ] && : > "$STATE"; exit ;;
esac
exec "$REAL" "$@"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER.replace("OFFICIAL", " ".join(OFFICIAL)))
    (folder / "docker").chmod(0o755)
    return checkout_copy(tmp_path / "nexus")


def base_images(
    directory: Path, *, present: bool = False, reach: str = "nothing", **variables: str
) -> Result:
    state = directory.parent / "state"
    state.unlink(missing_ok=True)
    if present:
        state.touch()
    env = {name: value for name, value in clean_environment().items() if name not in IMAGE_VARIABLES}
    env |= {
        "STATE": str(state),
        "REACH": reach,
        "PATH": f"{directory.parent / 'bin'}:{os.environ['PATH']}",
    }
    return run("dev/base-images", cwd=directory, env=env | variables)


@pytest.mark.parametrize(
    "mine",
    [b"", b"API_PORT=8001\n", b"# no line end\nAPI_PORT=8001", b"A=1\r\nB='$x'\r\n", b"\xff not utf-8\n\n\n"],
)
def test_every_byte_of_env_but_the_block_stays(mine: bytes, directory: Path) -> None:
    dotenv = directory / ".env"
    dotenv.write_bytes(mine)
    dotenv.chmod(0o640)
    base_images(directory)
    written = dotenv.read_bytes()
    assert written.startswith(mine)
    assert written.count(b"_IMAGE=nexus-standin/") == 3
    assert dotenv.stat().st_mode & 0o777 == 0o640
    assert base_images(directory).stdout == ""
    assert dotenv.read_bytes() == written
    base_images(directory, present=True)
    assert (dotenv.read_bytes() if dotenv.exists() else b"") == mine


def test_with_the_official_images_nothing_of_it_runs(directory: Path) -> None:
    result = base_images(directory, present=True)
    assert (result.stdout, result.stderr) == ("", "")
    assert not (directory / ".env").exists()


def test_with_a_registry_in_reach_they_are_pulled(directory: Path) -> None:
    result = base_images(directory, reach="registry")
    assert "stand-in" not in result.stdout + result.stderr
    assert not (directory / ".env").exists()


@pytest.mark.parametrize("where", ["shell", "dotenv"])
def test_an_image_of_ones_own_is_left_alone(where: str, directory: Path) -> None:
    line = "POSTGRES_IMAGE=registry.example/postgres:15\n"
    if where == "dotenv":
        (directory / ".env").write_text(line)
        base_images(directory)
    else:
        base_images(directory, POSTGRES_IMAGE="registry.example/postgres:15")
    chosen = (directory / ".env").read_text()
    assert "POSTGRES_IMAGE=nexus-standin" not in chosen
    assert chosen.count("_IMAGE=nexus-standin/") == 2
