# shellcheck shell=bash
# dump: a custom-format dump of one snapshot on the standard output, as long as somebody holds the standard input open.
# Read after session.sh.

use_database
open_session nexus-backup
# While a migration is at work there is no moment at which to look. Later ones wait for our locks on the tables; the lock of
# the migrations is let go, so that a migrator that finds nothing to do, as at each `up`, does not wait for us.
take_migration_lock _shared
table_list
[[ -n $ANSWER ]] || die "the database $DATABASE is empty, there is nothing to back up. To make its tables: make migrate"
# First the locks, then the snapshot: an older one would see a table that is written anew meanwhile as empty.
lock_tables 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY' "$ANSWER" 'ACCESS SHARE'
ask 'SELECT pg_export_snapshot();'
snapshot=$ANSWER
ask "SELECT pg_advisory_unlock_shared($LOCK_KEY);"
count_rows

# Whoever wanted this is gone: then so are we.
{ cat >/dev/null; kill -TERM $$; } <&0 &
poll {TO}>&- {FROM}<&- &
pg_dump --dbname "$URL" --format custom --schema public --no-owner --no-privileges --snapshot "$snapshot" 2>/tmp/dump.err ||
  die "pg_dump: $(reason /tmp/dump.err): no backup was written"
