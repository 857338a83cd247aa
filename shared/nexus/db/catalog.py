"""The schema of a database as readable text, stable enough to compare and to review in a diff.

Alembic's own comparison sees neither a missing enum label nor a changed CHECK nor a lost index predicate, so
this reads Postgres's catalog. `db/schema/<revision>.txt` is this text for each revision.
"""

from sqlalchemy import Connection, text

# Every query gives lines under a heading; columns keep the table's order, the rest is sorted by name.
_QUERIES = {
    "type": """
        SELECT 'type ' || t.typname AS heading,
            string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) AS line
        FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
        WHERE t.typnamespace = 'public'::regnamespace
        GROUP BY t.typname ORDER BY t.typname
    """,
    "column": """
        SELECT 'table ' || c.relname AS heading,
            concat_ws(' ', 'column', a.attname, format_type(a.atttypid, a.atttypmod),
                CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                CASE a.attgenerated WHEN 's' THEN 'GENERATED AS' WHEN '' THEN
                    CASE WHEN d.oid IS NOT NULL THEN 'DEFAULT' END END,
                pg_get_expr(d.adbin, d.adrelid),
                CASE WHEN a.attidentity <> '' THEN 'IDENTITY' END) AS line
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
          AND c.relname <> 'alembic_version'
        ORDER BY c.relname, a.attnum
    """,
    "constraint": """
        SELECT 'table ' || c.relname AS heading,
            concat_ws(' ', 'constraint', k.conname, pg_get_constraintdef(k.oid),
                CASE WHEN NOT k.convalidated THEN 'INVALID' END) AS line
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.connamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'
          AND k.contype <> 'n'  -- Postgres 18 lists NOT NULL here too; the column says it
        ORDER BY c.relname, k.conname
    """,
    "index": """
        SELECT 'table ' || c.relname AS heading,
            concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid),
                CASE WHEN NOT i.indisvalid THEN 'INVALID' END) AS line
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'
        ORDER BY c.relname, x.relname
    """,
    "trigger": """
        SELECT 'table ' || c.relname AS heading, 'trigger ' || pg_get_triggerdef(t.oid) AS line
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal
        ORDER BY c.relname, t.tgname
    """,
    "other": """
        SELECT 'other' AS heading, line FROM (
            SELECT 'relation ' || relname || ' of kind ' || relkind::text AS line FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind NOT IN ('r', 'p', 'i', 'I', 't')
            UNION ALL
            SELECT 'function ' || oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace
            UNION ALL
            SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql'
        ) others ORDER BY line
    """,
}


def describe(connection: Connection) -> str:
    """The whole public schema, but alembic's own table."""
    sections: dict[str, list[str]] = {}
    for query in _QUERIES.values():
        for heading, line in connection.execute(text(query)):
            sections.setdefault(heading, []).append(f"  {line}\n")
    return "\n".join(f"{heading}\n{''.join(lines)}" for heading, lines in sorted(sections.items()))
