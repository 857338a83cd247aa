"""The picture of the schema is up to date, and shows what the models say. The stack's is in tests/host."""

import re
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKeyConstraint

from dev.pictures import schema
from nexus.db.models import Base
from tests.repo.tree import below, text

NEWEST = max(below("db/schema/", suffix=".txt"))
PICTURE = schema.diagram(text(NEWEST))


def test_the_picture_in_architecture_is_the_one_that_would_be_drawn() -> None:
    wanted = f"```mermaid\n{PICTURE}\n```\n"
    assert text("ARCHITECTURE.md").count(wanted) == 1, "make pictures"
    assert f"Revision {NEWEST[-8:-4]}; [{NEWEST}]({NEWEST})" in text("ARCHITECTURE.md")


def boxes() -> dict[str, dict[str, tuple[set[str], bool]]]:
    """From the picture: table to column to its keys and whether it may be null."""
    found = {}
    for name, inside in re.findall(r"(?ms)^    (\w+) \{\n(.*?)^    \}", PICTURE):
        columns = re.findall(r'(?m)^        \w+ (\w+) ?((?:PK|FK|, )*)( "or null")?$', inside)
        assert len(columns) == inside.count("\n")
        found[name] = {column: (set(re.findall("PK|FK", keys)), bool(null)) for column, keys, null in columns}
    return found


def test_every_table_and_column_of_the_models_is_shown() -> None:
    def keys(column: Column[Any]) -> set[str]:
        return ({"PK"} if column.primary_key else set()) | ({"FK"} if column.foreign_keys else set())

    tables = Base.metadata.tables.values()
    assert boxes() == {t.name: {c.name: (keys(c), bool(c.nullable)) for c in t.columns} for t in tables}


def test_every_reference_of_the_models_is_shown_as_what_it_is() -> None:
    wanted = set()
    for table in Base.metadata.tables.values():
        for key in table.constraints:
            if isinstance(key, ForeignKeyConstraint):
                (column,) = key.columns
                alone = [each.name for each in table.primary_key] == [column.name]
                line = "--" if key.ondelete == "CASCADE" else ".."
                end = "o|" if alone else "o{"
                wanted.add(f"    {key.referred_table.name} ||{line}{end} {table.name} : {column.name}")
    assert wanted
    assert set(re.findall(r"(?m)^    \w+ [|o].*$", PICTURE)) == wanted


def test_a_reference_that_may_be_null_leads_to_one_or_none() -> None:
    key = "constraint c FOREIGN KEY (parent_id) REFERENCES parent(id)"
    written = f"table child\n  column parent_id uuid\n  {key}\n\ntable parent\n  column id uuid\n"
    assert "    parent |o..o{ child : parent_id\n" in schema.diagram(written)


@pytest.mark.parametrize(
    "line",
    [
        "constraint c EXCLUDE USING gist (x WITH =)",
        "constraint c FOREIGN KEY (a, b) REFERENCES t(a, b)",
        "constraint c FOREIGN KEY (a) REFERENCES t(id) ON DELETE SET NULL",
        *("trigger of c DISABLED", "child of other", "UNLOGGED", "column x text GENERATED AS lower(y)"),
    ],
)
def test_what_it_cannot_show_is_not_left_out_in_silence(line: str) -> None:
    with pytest.raises(ValueError, match="table t: the picture does not know how to show: "):
        schema.diagram(f"table t\n  {line}\n")
