"""What `make stack-file` refuses to write into a stack file."""

import pytest

from dev.swarm.stack_file import faults

#: As compose.yml gives it where all secrets are files and Postgres and Redis are outside.
GOOD = {
    "NEXUS_INTERNAL_SECRET": "",
    "NEXUS_INTERNAL_SECRET_FILE": "/run/secrets/internal_secret",
    "DATABASE_URL": "postgresql+psycopg://nexus@db.example:5432/nexus?sslmode=verify-full",
    "DATABASE_PASSWORD": "",
    "DATABASE_PASSWORD_FILE": "/run/secrets/postgres_password",
    "REDIS_URL": "redis://redis.example:6379/0",
    "REDIS_URL_FILE": "",
}
HELD = "holds a password that would stand in the stack file: give it as a file"
OUTSIDE = "runs outside of the swarm: set"


def said(**changes: str) -> list[str]:
    return list(faults(GOOD | changes))


def test_secrets_in_files_and_peers_outside_are_well() -> None:
    assert said() == []
    assert said(REDIS_URL="", REDIS_URL_FILE="/run/secrets/external_redis") == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("NEXUS_INTERNAL_SECRET", "hunter2", "NEXUS_INTERNAL_SECRET would stand in the stack file"),
        ("DATABASE_PASSWORD", "hunter2", "POSTGRES_PASSWORD would stand in the stack file"),
        ("DATABASE_URL", "postgresql+psycopg://u:hunter2@db/nexus", f"EXTERNAL_POSTGRES {HELD}"),
        ("DATABASE_URL", "postgresql+psycopg://u@db/nexus?password=hunter2", f"EXTERNAL_POSTGRES {HELD}"),
        ("REDIS_URL", "redis://:hunter2@redis.example/0", f"EXTERNAL_REDIS {HELD}"),
        ("REDIS_URL", "redis://redis.example/0?password=hunter2", f"EXTERNAL_REDIS {HELD}"),
        ("REDIS_URL", "redis://[hunter2/0", "EXTERNAL_REDIS is no URL"),
        ("DATABASE_URL", "postgresql+psycopg://postgres@postgres:5432/nexus", f"postgres {OUTSIDE}"),
        ("REDIS_URL", "redis://redis:6379/0", f"redis {OUTSIDE}"),
        ("REDIS_URL", "", f"redis {OUTSIDE}"),
    ],
)
def test_what_must_not_be_told_is_named(name: str, value: str, expected: str) -> None:
    (line,) = said(**{name: value})
    assert line.startswith(expected)
    assert "hunter2" not in line
