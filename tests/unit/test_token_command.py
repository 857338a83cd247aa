"""`nexus token`: one line that the API accepts, and none where other people's data may be."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from nexus.auth import create_verifier
from nexus.config import Settings
from nexus.errors import UnauthenticatedError
from tests.checkout import REPO

#: As it lies in the image, and in the virtual environment of the host.
COMMAND = Path(sys.executable).with_name("nexus")
SECRET = "a-secret-of-these-tests"  # noqa: S105  of this file only
LOCAL = {
    "NEXUS_ENV": "local",
    "NEXUS_INTERNAL_SECRET": SECRET,
    # Nobody listens there: a token needs no peer.
    "DATABASE_URL": "postgresql+psycopg://nobody:known-to-nobody@localhost:1/nothing",
    "REDIS_URL": "redis://localhost:1/0",
    "CELERY_BROKER_URL": "redis://localhost:1/0",
    "CELERY_RESULT_BACKEND": "redis://localhost:1/0",
}
NO_PROVIDER = dict.fromkeys(("AUTH_JWKS_URL", "AUTH_ISSUER", "AUTH_AUDIENCES"), "")
PROVIDER = {
    "AUTH_JWKS_URL": "http://localhost:1/jwks",
    "AUTH_ISSUER": "https://id.example/",
    "AUTH_AUDIENCES": "reader",
}


def nexus_token(*arguments: str | bytes, **changes: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with the code that is tested."""
    environment = os.environ | LOCAL | NO_PROVIDER | {"PYTHONPATH": str(REPO / "shared")} | changes
    return subprocess.run(
        [COMMAND, "token", *arguments],
        env=environment,
        cwd="/",
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def printed(*arguments: str | bytes, **changes: str) -> str:
    """The token, which is all that it prints."""
    done = nexus_token(*arguments, **changes)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n")
    (token,) = done.stdout.splitlines()
    return token


def user_of(token: str, secret: str = SECRET) -> UUID:
    """Whom an API with this secret takes the bearer for."""
    verifier = create_verifier(Settings.model_validate(LOCAL | {"NEXUS_INTERNAL_SECRET": secret}))
    return asyncio.run(verifier.viewer(f"Bearer {token}".encode()))


def assert_complains(done: subprocess.CompletedProcess[str], about: str, code: int = 1) -> None:
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("nexus: ")
    assert about in line
    assert SECRET not in line


def test_the_same_name_is_the_same_user_and_another_name_another() -> None:
    default, reader, other = (
        user_of(printed(*name)) for name in ([], ["reader"], ["ada lovelace \N{WRITING HAND}"])
    )
    assert default == reader
    assert other != reader


def test_who_has_another_secret_gives_tokens_that_are_refused_here() -> None:
    token = printed(NEXUS_INTERNAL_SECRET="another-secret")  # noqa: S106
    assert user_of(token, "another-secret").version == 5
    with pytest.raises(UnauthenticatedError):
        user_of(token)


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_it_refuses_where_others_data_may_be(environment: str) -> None:
    assert_complains(nexus_token("ada", NEXUS_ENV=environment, **PROVIDER), environment)


def test_it_refuses_where_tokens_come_from_a_provider() -> None:
    assert_complains(nexus_token(**PROVIDER), "AUTH_JWKS_URL")


def test_a_wrong_setting_is_one_line_and_no_token() -> None:
    assert_complains(nexus_token(NEXUS_INTERNAL_SECRET=""), "NEXUS_INTERNAL_SECRET", code=78)


def test_one_name_too_many_is_a_matter_of_usage() -> None:
    done = nexus_token("ada", "lovelace")
    assert (done.returncode, done.stdout) == (2, "")
    assert "lovelace" in done.stderr


def test_a_name_that_is_no_text_is_refused_with_one_line() -> None:
    assert_complains(nexus_token(b"ad\xff"), "name")
