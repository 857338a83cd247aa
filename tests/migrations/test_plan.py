"""`migrator plan`: what it shows is what is done, and it does nothing."""

import re

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from nexus.db.migrations import revision_scripts
from nexus.db.steps import APPLICATION_NAME, COUNTED_SIZE, Extent, extent
from nexus.migrator.plan import GROWTH_PER_ROW, plan
from nexus.migrator.rehearsal import LOCK_MODES, RehearsedRevision, rehearse
from tests.migrations.conftest import REVISIONS, Migrator, downgrade, execute, read, s0_rows, schema, upgrade
from tests.migrations.holding import COMMIT, held_at

CHAIN = list(revision_scripts().walk_revisions())[::-1]
EVERY_WAY = pytest.mark.parametrize(
    ("revision", "up"), [(script.revision, up) for script in CHAIN for up in (True, False)]
)
#: Lasting schemas only: temporary ones come and go.
LASTING = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"


def rehearsed(url: URL, revision: str, *, up: bool) -> RehearsedRevision:
    place = [script.revision for script in CHAIN].index(revision)
    (found,) = rehearse(url, CHAIN[: place if up else place + 1], [CHAIN[place]], up=up)
    return found


def media_extent(url: URL) -> Extent:
    found = read(url, lambda connection: extent(connection, "media"))
    assert isinstance(found, Extent)
    return found


def test_it_shows_what_0002_does_to_this_database(s0_with_data: URL) -> None:
    done = Migrator(s0_with_data).run("plan", "0002")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    media = media_extent(s0_with_data)
    assert lines[0] == f"{s0_with_data.database} is at 0001; to come: up to 0002"
    assert f"    media: ACCESS EXCLUSIVE, nobody reads or writes; {media}" in lines
    assert "    users: SHARE ROW EXCLUSIVE, nobody writes; about 5 rows, 0.0 MB" in lines
    space = (media.size + 300 * GROWTH_PER_ROW) / 1e6
    assert f"  needs at most {space:.1f} MB of disk until its end, and about as much for WAL" in lines
    rewrite = lines.index("  4. write media anew with its new columns")
    assert lines[rewrite + 1] == "       ALTER TABLE media"
    assert "     writes media anew" in lines[rewrite:]


SPY = (
    "CREATE SCHEMA spy",
    "CREATE TABLE spy.seen (n serial, sql text)",
    """
    CREATE FUNCTION spy.see() RETURNS event_trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO spy.seen (sql) VALUES (current_query()); END $$
    """,
    "CREATE EVENT TRIGGER spying ON ddl_command_end EXECUTE FUNCTION spy.see()",
)


def test_its_statements_are_those_that_postgres_gets(s0_with_data: URL) -> None:
    expected = [
        " ".join(statement.sql.split())
        for each in rehearsed(s0_with_data, "0002", up=True).steps
        for statement in each.statements
    ]
    engine = create_engine(s0_with_data, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in SPY:
            connection.exec_driver_sql(statement)
        upgrade(s0_with_data, "0002")
        seen = connection.execute(text("SELECT sql FROM spy.seen ORDER BY n"))
        commands = [" ".join(row[0].split()) for row in seen]
    # Event triggers see commands that change the schema, and no others.
    assert commands == [sql for sql in expected if not re.match("SELECT|INSERT|LOCK", sql)]


def test_its_locks_are_those_that_are_taken(s0_with_data: URL) -> None:
    expected = rehearsed(s0_with_data, "0002", up=True).locks
    # Nobody else sees the new table yet, nor who has locked it.
    assert expected.pop("media_file") == "AccessExclusiveLock"
    held = text("""
        SELECT c.relname, array_agg(l.mode) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.pid = :pid AND l.granted AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
          AND c.relname <> 'alembic_version'
        GROUP BY c.relname
    """)
    with held_at(COMMIT, s0_with_data) as waiting:
        process = Migrator(s0_with_data).start("upgrade", "0002")
        pid = waiting()
        taken = read(s0_with_data, lambda c: {row[0]: row[1] for row in c.execute(held, {"pid": pid})})
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert isinstance(taken, dict)
    assert {table: max(modes, key=LOCK_MODES.index) for table, modes in taken.items()} == expected


@EVERY_WAY
def test_what_a_revision_says_it_rewrites_is_what_postgres_rewrites(
    revision: str, up: bool, fresh_db: URL
) -> None:
    for each in rehearsed(fresh_db, revision, up=up).steps:
        assert each.rewritten == ([each.announced] if each.announced else []), each.name


@EVERY_WAY
def test_a_revision_locks_first_whatever_it_keeps_from_others(revision: str, up: bool, fresh_db: URL) -> None:
    """An attempt that has to wait then has done nothing yet, and no two sessions can wait for each other."""
    found = rehearsed(fresh_db, revision, up=up)
    first = {table for statement in found.steps[0].statements for table in statement.locks}
    sql = " ".join(statement.sql for each in found.steps for statement in each.statements)
    new = set(re.findall(r"CREATE TABLE (\w+)", sql))
    from_share = LOCK_MODES[LOCK_MODES.index("ShareLock") :]
    assert {table for table, mode in found.locks.items() if mode in from_share} - new <= first


@EVERY_WAY
def test_every_statement_is_part_of_a_step_whose_name_postgres_can_show(
    revision: str, up: bool, fresh_db: URL
) -> None:
    for each in rehearsed(fresh_db, revision, up=up).steps:
        assert each.statements, each.name
        assert len(f"{APPLICATION_NAME}: {each.name}".encode()) <= 63


def everything(url: URL) -> tuple[str, object]:
    """The catalog text, and every relation and type that lasts."""
    query = text(f"""
        SELECT n.nspname, o.name, o.id FROM pg_namespace n JOIN (
            SELECT relnamespace AS namespace, relname AS name, relfilenode AS id FROM pg_class
            UNION ALL SELECT typnamespace, typname, oid FROM pg_type
        ) o ON o.namespace = n.oid
        WHERE {LASTING} ORDER BY 1, 2, 3
    """)
    return schema(url), read(url, lambda connection: [tuple(row) for row in connection.execute(query)])


def test_it_changes_nothing(s0_with_data: URL) -> None:
    before, rows = everything(s0_with_data), s0_rows(s0_with_data)
    for target in ("head", "base", "-1", "+1", "0002"):
        plan(s0_with_data, target)
    assert everything(s0_with_data) == before
    assert s0_rows(s0_with_data) == rows


def test_it_does_not_wait_for_those_who_use_the_tables(s0_with_data: URL) -> None:
    engine = create_engine(s0_with_data, poolclass=NullPool)
    with engine.begin() as writer:
        writer.execute(text("LOCK TABLE media, users IN ROW EXCLUSIVE MODE"))
        assert "to come: up to 0002" in plan(s0_with_data, "head")


def test_several_revisions_are_shown_in_the_order_in_which_they_come(migrated_db: URL) -> None:
    name, head = migrated_db.database, REVISIONS[-1]
    assert plan(migrated_db, "head") == f"{name} is at {head}: nothing to do\n"
    down = plan(migrated_db, "base")
    ways = ", ".join(f"down from {each}" for each in reversed(REVISIONS))
    assert down.startswith(f"{name} is at {head}; to come: {ways}\n")
    assert down.index("\ndown from 0002: Slice 1") < down.index("\ndown from 0001: Slice 0")
    assert plan(migrated_db, "-1") == plan(migrated_db, REVISIONS[-2])
    downgrade(migrated_db, "base")
    ways = ", ".join(f"up to {each}" for each in REVISIONS)
    assert plan(migrated_db, "head").startswith(f"{name} is at base; to come: {ways}\n")


@pytest.mark.parametrize(
    ("target", "message"),
    [("-99", "no 99 revisions that way"), ("+1", "no 1 revisions that way"), ("0815", "0815")],
)
def test_a_target_that_is_not_there_is_named(target: str, message: str, migrated_db: URL) -> None:
    done = Migrator(migrated_db).run("plan", target)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert message in line


def test_a_table_too_large_to_count_is_estimated(s0_db: URL) -> None:
    rows = "SELECT 'pdf', repeat('x', 400) FROM generate_series(1, 30000)"
    execute(s0_db, f"INSERT INTO media (kind, title) {rows}")
    execute(s0_db, "ANALYZE media")
    found = media_extent(s0_db)
    assert found.size > COUNTED_SIZE
    assert 0.9 < found.rows / 30_000 < 1.1
