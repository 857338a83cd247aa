"""A database that went up and came down again is, to pg_dump, the one it was: its schema byte by byte."""

import pytest
from sqlalchemy.engine import URL

from tests.migrations.conftest import downgrade, fill, upgrade
from tests.stack.stack import Stack

pytestmark = pytest.mark.docker


@pytest.fixture
def s0(fresh_db: URL) -> URL:
    """A database at 0001, with rows."""
    upgrade(fresh_db, "0001")
    fill(fresh_db)
    return fresh_db


def dump(stack: Stack, url: URL, *options: str) -> str:
    code, output = stack.execute("postgres", "pg_dump", "-U", "postgres", *options, str(url.database))
    assert code == 0, output
    # Newer releases begin and end with a key that is random each time.
    keys = ("\\restrict", "\\unrestrict")
    return "\n".join(line for line in output.splitlines() if not line.startswith(keys))


def test_the_schema_is_dumped_as_before(stack: Stack, s0: URL) -> None:
    before = dump(stack, s0, "--schema-only")
    assert "CREATE TABLE public.media (" in before
    upgrade(s0, "0002")
    assert dump(stack, s0, "--schema-only") != before
    downgrade(s0, "0001")
    assert dump(stack, s0, "--schema-only") == before


def test_the_schema_of_an_upgrade_is_the_same_every_time(stack: Stack, s0: URL, migrated_db: URL) -> None:
    """With rows and without, the first time and after a way back."""
    fresh = dump(stack, migrated_db, "--schema-only")
    for _ in range(2):
        upgrade(s0, "0002")
        assert dump(stack, s0, "--schema-only") == fresh
        downgrade(s0, "0001")


def test_the_rows_are_dumped_as_before(stack: Stack, s0: URL) -> None:
    def rows() -> list[str]:
        # A rewrite may change the order of rows, and nothing else.
        return sorted(dump(stack, s0, "--data-only", "--inserts").splitlines())

    before = rows()
    assert sum(line.startswith("INSERT INTO public.media ") for line in before) == 300
    upgrade(s0, "0002")
    downgrade(s0, "0001")
    assert rows() == before
