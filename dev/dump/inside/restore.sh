# shellcheck shell=bash
# restore BYTES ROWS REPLACE: puts the dump of so many bytes on the standard input in the place of what the database holds, in
# one transaction. It is committed if every table has the ROWS of the manifest, the dump is followed by the word `commit`
# (whoever feeds us is content with what was fed), and the standard input is still held open then. Read after session.sh.

bytes=$1 wanted=$2 replace=$3

#: An object o that is there by itself: no part of an extension, and nothing that goes with another one.
OURS="NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype IN ('e', 'a', 'i'))"

# What would be lost. The rows that a migration makes are no loss.
refuse_unless_empty() {
  local lost
  [[ $replace != yes ]] || return 0
  count_rows "CASE c.relname WHEN 'alembic_version' THEN 'false' WHEN 'users'
    THEN 'to_jsonb(t)->>''id'' IS DISTINCT FROM ''00000000-0000-0000-0000-000000000000''' ELSE 'true' END"
  lost=$(sed -nE '/: 0$/d; s/^ *"(.*)": (.*)$/\1 \2 rows/p' <<<"$ROWS")
  ask "SELECT count(*) || ' views, sequences or functions' FROM (
    SELECT tableoid AS class, oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm', 'f', 'S')
    UNION ALL SELECT tableoid, oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace) o
    WHERE $OURS HAVING count(*) > 0;"
  lost+=${lost:+${ANSWER:+$'\n'}}$ANSWER
  [[ -z $lost ]] || die "the database $DATABASE is not empty, it would lose ${lost//$'\n'/, }: nothing was changed. \
If that is meant: make backup, then add REPLACE=yes"
}

# What hangs on ours in another schema is not ours to drop, so there is no CASCADE: again and again what nothing hangs on, all
# tables at once since they may refer to each other, until nothing is left.
drop_everything() {
  ask "DO \$drop\$
    DECLARE command text; idle boolean; fault text;
    BEGIN
      LOOP
        idle := true; fault := NULL;
        FOR command IN SELECT format('DROP %s %s', kind, string_agg(name, ', ')) FROM (
            SELECT k.kind, k.grouped, c.oid::regclass::text AS name, c.tableoid AS class, c.oid
              FROM pg_class c JOIN (VALUES ('r', 'TABLE', 0), ('p', 'TABLE', 0), ('v', 'VIEW', 1), ('f', 'FOREIGN TABLE', 1),
                ('m', 'MATERIALIZED VIEW', 1), ('S', 'SEQUENCE', 1), ('c', 'TYPE', 1)) k (relkind, kind, grouped)
              ON c.relkind::text = k.relkind WHERE c.relnamespace = 'public'::regnamespace
            UNION ALL SELECT 'ROUTINE', 1, oid::regprocedure::text, tableoid, oid
              FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION ALL SELECT 'TYPE', 1, oid::regtype::text, tableoid, oid
              FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'r')
          ) o WHERE $OURS GROUP BY kind, grouped * oid::bigint
        LOOP
          BEGIN
            EXECUTE command;
            idle := false;
          EXCEPTION WHEN dependent_objects_still_exist THEN fault := SQLERRM;
          END;
        END LOOP;
        EXIT WHEN idle;
      END LOOP;
      IF fault IS NOT NULL THEN RAISE EXCEPTION '%', fault; END IF;
    END \$drop\$;"
}

# What follows the dump. Its end ends us, and with us the transaction.
watch_input() {
  local word
  if read -r word && [[ $word == commit ]]; then
    : >/tmp/content
    cat >/dev/null
  fi
  kill -TERM $$
}

put_in() {
  local status=0
  head -c "$bytes" | {
    pg_restore --schema public --no-owner --no-privileges --file - 2>/tmp/restore.err 1>&"$TO" || status=$?
    cat >/dev/null
    exit "$status"
  } || die "$(reason_of_failure): $FAILED"
  watch_input <&0 {TO}>&- {FROM}<&- &
  ask '' # and what the dump's own statements gave is out of the way
}

# pg_restore fails when psql has ended, and knows nothing of why.
reason_of_failure() {
  if grep -qE '(ERROR|FATAL|PANIC):|connection' /tmp/psql.err; then printf 'Postgres: '; reason /tmp/psql.err; else printf 'pg_restore: '; reason /tmp/restore.err; fi
}

use_database
open_session nexus-restore
take_migration_lock
refuse_unless_empty
table_list
tables=$ANSWER
FAILED='rolled back, the database is as it was'
if [[ -n $tables ]]; then lock_tables BEGIN "$tables" 'ACCESS EXCLUSIVE'; else ask 'BEGIN;'; fi
# Again, now that nobody can add anything.
refuse_unless_empty
drop_everything
ROWS=$wanted
poll {TO}>&- {FROM}<&- &
put_in
count_rows
[[ $ROWS == "$wanted" ]] || die "the tables do not hold the rows of the manifest: $FAILED"
# Without it the planner knows nothing of the new tables until autovacuum comes.
table_list
ask "ANALYZE $ANSWER;"
while [[ ! -e /tmp/content ]]; do sleep 0.1; done
FAILED='the answer to the commit is missing, so the database is as it was, or wholly restored. Run it again with REPLACE=yes'
ask 'COMMIT;'
