"""The chain of revisions as it is written. What it does to a database is tests/migrations' affair."""

import ast
import re

import pytest
from alembic.script import ScriptDirectory

from nexus.db.migrations import alembic_config
from nexus.db.models import Base
from tests.repo.tree import below, syntax, text

FOLDER = "db/alembic/versions/"
FILES = below(FOLDER, suffix=".py")
REVISIONS = [path.removeprefix(FOLDER)[:4] for path in FILES]


def test_the_revisions_are_numbered_without_a_gap_and_form_one_chain() -> None:
    wanted = [f"{number:04}" for number in range(1, len(FILES) + 1)]
    assert wanted == REVISIONS
    script = ScriptDirectory.from_config(alembic_config())
    assert script.get_heads() == [wanted[-1]]
    chain = [(revision.revision, revision.down_revision) for revision in script.walk_revisions()]
    assert chain[::-1] == list(zip(wanted, [None, *wanted], strict=False))


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_named_after_its_revision(path: str) -> None:
    name = re.fullmatch(r"(\d{4})_[a-z0-9_]+\.py", path.removeprefix(FOLDER))
    assert name
    assert re.search(rf'(?m)^revision = "{name[1]}"$', text(path))
    assert re.search(rf"(?m)^Revision ID: {name[1]}$", text(path))


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
@pytest.mark.parametrize("path", FILES)
def test_every_revision_goes_up_and_down(path: str, direction: str) -> None:
    functions = {node.name: node for node in syntax(path).body if isinstance(node, ast.FunctionDef)}
    calls = [node for node in ast.walk(functions[direction]) if isinstance(node, ast.Call)]
    assert any(ast.unparse(call.func).startswith(("op.", "_")) for call in calls)


@pytest.mark.parametrize("path", FILES)
def test_a_type_is_created_in_a_guarded_block_only(path: str) -> None:
    guarded = (
        r"DO \$\$\s+BEGIN\s+CREATE TYPE [^;]+;\s+EXCEPTION\s+WHEN duplicate_object THEN NULL;\s+END \$\$;"
    )
    code = text(path)
    assert len(re.findall("(?i)CREATE TYPE", code)) == len(re.findall(guarded, code))
    # Alembic's own types are created behind our back, unguarded.
    assert not re.search(r"(?i)CREATE TYPE IF|\bEnum\(", code)


def test_0002_creates_its_types_so() -> None:
    code = text(f"{FOLDER}0002_slice1_ingestion_framework.py")
    assert "DO $$" in code
    for name in ("processing_status", "failure_stage"):
        assert re.search(rf'_create_enum\("{name}"|CREATE TYPE {name} ', code)


def test_the_catalog_of_every_revision_is_written_down() -> None:
    written = [path.removeprefix("db/schema/") for path in below("db/schema/")]
    assert written == [f"{revision}.txt" for revision in REVISIONS]


def test_the_newest_catalog_has_the_tables_of_the_models() -> None:
    tables = set(re.findall(r"(?m)^table (\w+)$", text(f"db/schema/{REVISIONS[-1]}.txt")))
    assert tables == set(Base.metadata.tables)
