# shellcheck shell=bash
# inspect: what a dump on the standard input holds, in lines: `postgres VERSION`, `revision ID`, and for each table as the
# manifest has it `    "media": 12`. Or `unreadable REASON`. Read after session.sh; needs no database.

# In the text that pg_restore makes of a dump a row is one line, whatever is in it.
# shellcheck disable=SC2016 # a program of awk
count='
  function json(name,    at, sign, text) {
    for (at = 1; at <= length(name); at++) {
      sign = substr(name, at, 1)
      text = text (sign == "\\" || sign == "\"" ? "\\" : "") sign
    }
    return text
  }
  # As Postgres writes an identifier: plain, or in quotes with each quote in it twice.
  function identifier(text,    at, name) {
    if (substr(text, 1, 1) != "\"") { match(text, /^[^ (]+/); return substr(text, 1, RLENGTH) }
    for (at = 2; at <= length(text); at++)
      if (substr(text, at, 1) != "\"") name = name substr(text, at, 1)
      else if (substr(text, at + 1, 1) == "\"") { name = name "\""; at++ }
      else return name
  }
  inside && $0 == "\\." { inside = 0; next }
  inside { rows[table]++; if (table == "alembic_version") revision = $0; next }
  /^COPY public\..* FROM stdin;$/ { inside = 1; table = identifier(substr($0, 13)); rows[table] += 0 }
  /^-- Dumped from database version / { postgres = $6 }
  END {
    print "postgres " postgres; print "revision " revision
    for (table in rows) print "    \"" json(table) "\": " rows[table]
  }'

if pg_restore --data-only --file - 2>/tmp/inspect.err | LC_ALL=C awk -F '[ ]' "$count" >/tmp/facts; then
  LC_ALL=C sort /tmp/facts
else
  printf 'unreadable %s\n' "$(reason /tmp/inspect.err)"
fi
cat >/dev/null # whoever feeds us counts on every byte being taken
