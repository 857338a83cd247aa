"""The schema of a database as readable text, stable enough to compare and to review in a diff.

Alembic's own comparison sees neither a missing enum label nor a changed CHECK nor a lost index predicate, so
this reads Postgres's catalog. `db/schema/<revision>.txt` is this text for each revision.
"""

import re

from sqlalchemy import Connection, text

# Every query gives lines under a heading; columns keep the table's order, the rest is sorted by name.
_QUERIES = {
    "type": """
        SELECT 'type ' || t.typname AS heading,
            string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) AS line
        FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
        WHERE t.typnamespace = CAST(:schema AS regnamespace)
        GROUP BY t.typname ORDER BY t.typname
    """,
    "column": """
        SELECT 'table ' || c.relname AS heading,
            concat_ws(' ', 'column', a.attname, format_type(a.atttypid, a.atttypmod),
                CASE WHEN a.attnotnull THEN 'NOT NULL' END,
                CASE a.attgenerated WHEN 's' THEN 'GENERATED AS' WHEN '' THEN
                    CASE WHEN d.oid IS NOT NULL THEN 'DEFAULT' END END,
                pg_get_expr(d.adbin, d.adrelid),
                CASE WHEN a.attcollation <> t.typcollation
                     THEN 'COLLATE ' || a.attcollation::regcollation::text END,
                CASE WHEN a.attidentity <> '' THEN 'IDENTITY' END) AS line
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relkind IN ('r', 'p')
          AND c.relname <> 'alembic_version'
        ORDER BY c.relname, a.attnum
    """,
    "constraint": """
        SELECT 'table ' || c.relname AS heading,
            concat_ws(' ', 'constraint', k.conname, pg_get_constraintdef(k.oid),
                CASE WHEN NOT k.convalidated THEN 'INVALID' END) AS line
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.connamespace = CAST(:schema AS regnamespace) AND c.relname <> 'alembic_version'
          AND k.contype <> 'n'  -- Postgres 18 lists NOT NULL here too; the column says it
        ORDER BY c.relname, k.conname
    """,
    "index": """
        SELECT 'table ' || c.relname AS heading,
            concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid),
                CASE WHEN NOT i.indisvalid THEN 'INVALID' END) AS line
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
        WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relname <> 'alembic_version'
        ORDER BY c.relname, x.relname
    """,
    "trigger": """
        SELECT 'table ' || c.relname AS heading,
            concat_ws(' ', CASE WHEN t.tgisinternal THEN 'trigger of ' || k.conname
                                ELSE 'trigger ' || pg_get_triggerdef(t.oid) END,
                CASE t.tgenabled WHEN 'D' THEN 'DISABLED' WHEN 'R' THEN 'REPLICA' WHEN 'A' THEN 'ALWAYS' END
            ) AS line
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint
        WHERE c.relnamespace = CAST(:schema AS regnamespace) AND NOT (t.tgisinternal AND t.tgenabled = 'O')
        ORDER BY c.relname, t.tgname
    """,
    "behaviour": """
        SELECT 'table ' || c.relname AS heading, unnest(array_remove(ARRAY[
            CASE WHEN c.relpersistence = 'u' THEN 'UNLOGGED' END,
            CASE WHEN c.relrowsecurity THEN 'ROW LEVEL SECURITY' END,
            CASE WHEN c.relforcerowsecurity THEN 'FORCE ROW LEVEL SECURITY' END,
            CASE WHEN c.relreplident <> 'd' THEN 'REPLICA IDENTITY ' || c.relreplident::text END,
            CASE WHEN c.relispartition OR c.relkind = 'p' THEN 'partition' END,
            'WITH ' || array_to_string(c.reloptions, ', '),
            'COMMENT ' || obj_description(c.oid, 'pg_class')
        ], NULL)) AS line
        FROM pg_class c
        WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relkind IN ('r', 'p')
          AND c.relname <> 'alembic_version'
        UNION ALL
        SELECT 'table ' || inhrelid::regclass, 'child of ' || inhparent::regclass FROM pg_inherits
        JOIN pg_class c ON c.oid = inhrelid
        WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relkind IN ('r', 'p')
        UNION ALL
        SELECT 'table ' || tablename,
            concat_ws(' ', 'policy', policyname, permissive, cmd, roles::text, qual, with_check)
        FROM pg_policies WHERE schemaname = CAST(:schema AS name)
        UNION ALL
        SELECT 'table ' || tablename, definition FROM pg_rules WHERE schemaname = CAST(:schema AS name)
        UNION ALL
        SELECT 'table ' || stxrelid::regclass, 'statistics ' || pg_get_statisticsobjdef(oid)
        FROM pg_statistic_ext WHERE stxnamespace = CAST(:schema AS regnamespace)
        ORDER BY heading, line
    """,
    "other": """
        SELECT 'other' AS heading, line FROM (
            SELECT 'relation ' || relname || ' of kind ' || relkind::text AS line FROM pg_class
            WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind NOT IN ('r', 'p', 'i', 'I', 't')
            UNION ALL
            SELECT 'domain ' || typname || ' ' || format_type(typbasetype, typtypmod) FROM pg_type
            WHERE typnamespace = CAST(:schema AS regnamespace) AND typtype = 'd'
            UNION ALL
            SELECT 'function ' || oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = CAST(:schema AS regnamespace)
            UNION ALL
            SELECT 'extension ' || extname FROM pg_extension WHERE extname <> 'plpgsql'
            UNION ALL
            SELECT 'event trigger ' || evtname FROM pg_event_trigger
        ) others ORDER BY line
    """,
}


def describe(connection: Connection, schema: str = "public") -> str:
    """One schema whole, but alembic's own table. Owners and grants are the deployment's and not part of it.

    Whatever schema it is, the text calls it public, so that two can be compared.
    """
    # Postgres writes pg_temp for the temporary schema of the session, whatever that is called.
    schema_name = re.compile(rf"\b({re.escape(schema)}|pg_temp)\.")
    sections: dict[str, list[str]] = {}
    for query in _QUERIES.values():
        for heading, line in connection.execute(text(query), {"schema": schema}):
            sections.setdefault(heading, []).append(f"  {schema_name.sub('public.', line)}\n")
    return "\n".join(f"{heading}\n{''.join(lines)}" for heading, lines in sorted(sections.items()))
