# shellcheck shell=bash
# Runs in the container of the service `backup` (bash 5, the programs of Postgres): the connection, a session of psql that is
# asked step by step, and who is in the way. Read together with one of the files beside it.
# shellcheck disable=SC2034,SC2317 # what one part sets another reads; patiently calls what is defined beside it
set -euo pipefail

#: Exit code of whoever has said why in one line.
SAID=70
#: Seconds that somebody else may be in the way; no fraction.
WAIT=${MIGRATOR_WAIT_SECONDS%.*}
#: Seconds between two lines about the progress.
PACE=5
#: nexus.db.guards.LOCK_KEY: a migration holds it.
LOCK_KEY=474148795763

# A write to a program that has ended fails, instead of ending us; no child inherits that.
trap : PIPE

progress() { printf 'progress %s\n' "$*" >&2; }
die() { printf 'nexus: %s\n' "$*" >&2; exit "$SAID"; }

# value NAME: $NAME, or what the file holds that ${NAME}_FILE names.
value() {
  local file=${1}_FILE
  if [[ -n ${!file:-} ]]; then printf '%s' "$(<"${!file}")"; else printf '%s' "${!1:-}"; fi
}

# use_database: the one place where the tools learn whom to talk to, which is what compose.yml tells the migrator. Sets URL, as
# libpq has it. The password goes into the environment: a command line can be read by everybody on the machine.
use_database() {
  local password
  URL=$(value DATABASE_URL)
  URL=postgresql://${URL#postgresql+psycopg://}
  password=$(value DATABASE_PASSWORD)
  if [[ $URL =~ ^(postgresql://[^:@/?]*):([^@/?]*)@(.*)$ ]]; then
    URL=${BASH_REMATCH[1]}@${BASH_REMATCH[3]}
    password=${BASH_REMATCH[2]//\\/\\\\}
    printf -v password '%b' "${password//%/\\x}"
  fi
  export PGPASSWORD=$password PGCONNECT_TIMEOUT=3
}

# reason FILE: what a program of Postgres said, in one line.
reason() {
  local said
  said=$(sed -nE '/(ERROR|FATAL|error):/{s/^(psql|pg_dump|pg_restore): (error: )?//;p;q}' "$1")
  [[ -n $said ]] || said=$(sed -nE '/./{s/^(psql|pg_dump|pg_restore): //;p;q}' "$1")
  printf '%s' "${said:-its session has ended}"
}

# open_session NAME: psql on a connection that stays, shown as NAME by Postgres.
open_session() {
  export PGAPPNAME="$1 $HOSTNAME"
  mkfifo /tmp/to /tmp/from
  psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 --set VERBOSITY=terse --dbname "$URL" \
    </tmp/to >/tmp/from 2>>/tmp/psql.err &
  exec {TO}>/tmp/to {FROM}</tmp/from
  FAILED='nothing was changed. Is Postgres up? See make ps; on a new machine: make infra-up'
  ask 'SELECT current_database();'
  DATABASE=$ANSWER FAILED='nothing was changed'
  # They stand above what the role or the database has set. The last: a session that is killed frees its locks at once.
  ask "SET statement_timeout = 0; SET lock_timeout = '1500ms'; SET idle_in_transaction_session_timeout = 0;
    SET client_connection_check_interval = '500ms';"
}

# ask SQL: ANSWER is what it gives, a line for each row. What goes wrong ends everything, with one line.
ask() {
  local line
  ANSWER=
  # Where this fails the answer is missing too.
  printf '%s\n\\echo @\n' "$1" 1>&"$TO" 2>/dev/null || true
  while IFS= read -r -u "$FROM" line; do
    [[ $line != @ ]] || return 0
    ANSWER+=${ANSWER:+$'\n'}$line
  done
  line=$(reason /tmp/psql.err)
  case $line in
    *'password authentication failed'*) FAILED='nothing was changed. POSTGRES_PASSWORD, or its file, is not the password that this database has' ;;
  esac
  die "Postgres: $line: $FAILED"
}

# blocked SQL: the same, but where somebody holds a lock for longer than lock_timeout, or a deadlock was ended, it says so.
blocked() {
  ask "\\set ON_ERROR_STOP 0
$1
\\echo :SQLSTATE
\\set ON_ERROR_STOP 1"
  case ${ANSWER##*$'\n'} in
    00000) return 1 ;;
    55P03 | 40P01) : >/tmp/psql.err ;;
    *) die "Postgres: $(reason /tmp/psql.err): $FAILED" ;;
  esac
}

#: Who a session is, as nexus.db.guards says it; never its statement.
WHO="format('%s (pid %s, user %s, %s, %s)', coalesce(nullif(a.application_name, ''), a.backend_type), a.pid,
  coalesce(a.usename, 'none'), coalesce(host(a.client_addr), 'local'), coalesce(a.state, 'at work'))"

# patiently WHAT WHO_SQL COMMAND...: until COMMAND goes well, WAIT seconds at most; then WHO_SQL says who was in the way.
patiently() {
  # Not SECONDS: that may be a whole second further at once.
  local what=$1 who=$2 deadline=$((${EPOCHREALTIME/[.,]/} + WAIT * 1000000)) announced=
  shift 2
  until "$@"; do
    ask "$who"
    ANSWER=${ANSWER//$'\n'/; }
    ((${EPOCHREALTIME/[.,]/} < deadline)) ||
      die "$what for more than $WAIT s: ${ANSWER:-somebody who has just let go}. Nothing was changed; run it again when that has ended"
    if [[ -z $announced && -n $ANSWER ]]; then
      progress "waiting, at most $WAIT s: $what: $ANSWER"
      announced=yes
    fi
    sleep 0.5
  done
}

# take_migration_lock [_shared]: no migration, and no restore, runs from here on.
take_migration_lock() {
  try_migration_lock() { ask "SELECT pg_try_advisory_lock$1($LOCK_KEY);" && [[ $ANSWER == t ]]; }
  patiently 'a migration or a restore is at work' "SELECT $WHO FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (l.classid::bigint << 32) + l.objid::bigint = $LOCK_KEY;" try_migration_lock "${1:-}"
}

#: The tables that a backup holds: all of the schema public, but for those that belong to an extension.
TABLES="FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"
#: In the order in which the API writes to them, so that nobody who waits for us is waited for.
IN_ORDER="coalesce(array_position('{users,libraries,memberships,media}'::text[], c.relname::text), 99), c.relname"

# table_list: ANSWER is "public.users, public.libraries, …", empty if there is none.
table_list() { ask "SELECT string_agg(format('public.%I', c.relname), ', ' ORDER BY $IN_ORDER) $TABLES;"; }

# lock_tables BEGIN LIST MODE: in the transaction that BEGIN begins.
lock_tables() {
  try_tables() {
    ! blocked "$1; LOCK TABLE $2 IN $3 MODE;" || { ask 'ROLLBACK;'; return 1; }
  }
  patiently 'the tables are in use' "SELECT DISTINCT l.relation::regclass || ' is held by ' || $WHO
    FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
    WHERE l.granted AND l.pid <> pg_backend_pid() AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND ('$3' = 'ACCESS EXCLUSIVE' OR l.mode = 'AccessExclusiveLock');" try_tables "$1" "$2" "$3"
}

# count_rows [WHERE]: ROWS is a line for each table, as the manifest has it: `    "media": 12`. WHERE is an expression of SQL
# that gives the condition.
count_rows() {
  local name="'    \"' || replace(replace(c.relname, '\\', '\\\\'), '\"', '\\\"') || '\": '"
  ask "SELECT format('SELECT %L || count(*) FROM public.%I t WHERE %s', $name, c.relname, ${1:-"'true'"}) $TABLES \\gexec"
  ROWS=$(LC_ALL=C sort <<<"$ANSWER")
}

# rows_of TABLE: its rows in ROWS, empty if it is not there.
rows_of() { sed -n "s/^    \"$1\": //p" <<<"$ROWS"; }

# poll: every PACE seconds what the sessions of our name do, seen from another one. ROWS says how many rows are to come.
poll() {
  local what count rows
  while sleep "$PACE"; do
    while IFS='|' read -r what count; do
      rows=$(rows_of "$what")
      if [[ -z $count ]]; then
        progress "$what"
      elif ((${rows:-0} > 0)); then
        progress "$what: $count of $rows rows ($((100 * count / rows)) %)"
      fi
    done < <(psql --no-psqlrc --quiet --no-align --tuples-only --dbname "$URL" --command "
      SELECT coalesce(substring(a.query FROM '^COPY public\\.(\\S+)'), left(regexp_replace(a.query, '\\s+', ' ', 'g'), 90)),
        p.tuples_processed
      FROM pg_stat_activity a LEFT JOIN pg_stat_progress_copy p USING (pid)
      WHERE a.application_name = current_setting('application_name') AND a.pid <> pg_backend_pid() AND a.state = 'active'
    " 2>/dev/null) # why one cannot connect now is said by the session above
  done
}
