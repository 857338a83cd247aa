#!/usr/bin/env bash
# The official postgres image's contract, as far as Nexus uses it: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB,
# POSTGRES_INITDB_ARGS, PGDATA, /docker-entrypoint-initdb.d. As root it hands over to postgres; as postgres it needs
# no capability and writes to PGDATA's mount, /tmp and /var/run/postgresql only.
set -Eeuo pipefail
socket_folder=/var/run/postgresql

fail() { printf 'Error: %s\n' "$1" >&2; exit 1; }

# value NAME [DEFAULT]: $NAME, or what the file named by $NAME_FILE holds (secrets).
value() {
  local file_name=${1}_FILE
  if [[ -n ${!1:-} && -n ${!file_name:-} ]]; then fail "both $1 and $file_name are set"; fi
  if [[ -n ${!file_name:-} ]]; then
    cat -- "${!file_name}"
  else
    printf '%s' "${!1:-${2:-}}"
  fi
}

as_root_prepare() {
  mkdir -p "$PGDATA"
  chmod 00700 "$PGDATA" || :
  find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
  mkdir -p "$socket_folder"
  chmod 03775 "$socket_folder" || :
  chown postgres "$socket_folder"
}

# Where a cluster grows until it is whole. Beside PGDATA when it is a subfolder of the mount (a rename makes it count),
# inside PGDATA when it is the mount itself (then PG_VERSION, moved last, makes it count).
growing_folder() {
  local parent
  parent=$(dirname "$PGDATA")
  if [[ -w $parent && $(stat -c %d "$parent") == $(stat -c %d "$PGDATA") ]] && ! mountpoint -q "$PGDATA"; then
    printf '%s/.%s.growing' "$parent" "$(basename "$PGDATA")"
  else
    printf '%s/.growing' "$PGDATA"
  fi
}

make_cluster() {
  local folder=$1 user=$2 password=$3 args
  read -ra args <<<"${POSTGRES_INITDB_ARGS:-}"
  # The password goes through a pipe of bash: not on a command line, not on the disk.
  initdb --username="$user" --pwfile=<(printf '%s\n' "$password") --pgdata="$folder" "${args[@]}"
  printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$folder/pg_hba.conf"
}

sql() { psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password --host "$socket_folder" "$@"; }

run_init_file() {
  case $1 in
    *.sh) if [[ -x $1 ]]; then "$1"; else . "$1"; fi ;;
    *.sql) sql --dbname "$POSTGRES_DB" -f "$1" ;;
    *.sql.gz) gunzip -c "$1" | sql --dbname "$POSTGRES_DB" ;;
    *) printf '%s: ignoring %s\n' "$0" "$1" ;;
  esac
}

# First content, against a server that listens on the socket only, so that nobody takes it for the real one.
fill_cluster() {
  local folder=$1 file
  shift
  PGDATA=$folder pg_ctl -D "$folder" -o "-c listen_addresses='' -p ${PGPORT:-5432}" -w start
  trap 'PGDATA=$growing pg_ctl -D "$growing" -m immediate -w stop >/dev/null 2>&1 || :' EXIT
  if [[ $POSTGRES_DB != postgres ]]; then
    sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
  fi
  for file in /docker-entrypoint-initdb.d/*; do
    if [[ -e $file ]]; then printf '%s: running %s\n' "$0" "$file"; PGDATA=$folder run_init_file "$file"; fi
  done
  PGDATA=$folder pg_ctl -D "$folder" -m fast -w stop
  trap - EXIT
}

# From here on it is the cluster. PG_VERSION is what a start looks for: it comes last.
put_in_place() {
  local folder=$1
  if [[ $folder == "$PGDATA"/* ]]; then
    find "$folder" -mindepth 1 -maxdepth 1 \! -name PG_VERSION -exec mv -t "$PGDATA" '{}' +
    sync
    mv "$folder/PG_VERSION" "$PGDATA/"
    rmdir "$folder"
  else
    rmdir "$PGDATA"
    mv -T "$folder" "$PGDATA"
  fi
}

first_start() {
  local password
  password=$(value POSTGRES_PASSWORD)
  [[ -n $password || ${POSTGRES_HOST_AUTH_METHOD:-} == trust ]] ||
    fail 'the database is uninitialized and POSTGRES_PASSWORD is empty: set it to a non-empty value'
  growing=$(growing_folder)
  if [[ -e $growing ]]; then
    printf 'PostgreSQL: an earlier first start was interrupted; its half-made cluster is removed and made anew\n'
    rm -rf -- "$growing"
    # Only with the growing folder inside PGDATA can there be parts of it here, and none of it ever ran.
    if [[ $growing == "$PGDATA"/* ]]; then find "$PGDATA" -mindepth 1 -delete; fi
  fi
  [[ -z $(ls -A "$PGDATA") || $(ls -A "$PGDATA") == lost+found ]] ||
    fail "$PGDATA is not empty and holds no cluster: use an empty folder, or a subfolder of it"
  mkdir -m 700 -- "$growing"
  make_cluster "$growing" "$POSTGRES_USER" "$password"
  fill_cluster "$growing"
  put_in_place "$growing"
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

main() {
  [[ ${1:0:1} != - ]] || set -- postgres "$@"
  [[ $1 == postgres ]] || exec "$@"
  if [[ $(id -u) == 0 ]]; then
    as_root_prepare
    exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
  fi
  mkdir -p -m 700 "$PGDATA"
  if [[ ! -s $PGDATA/PG_VERSION ]]; then
    POSTGRES_USER=$(value POSTGRES_USER postgres)
    POSTGRES_DB=$(value POSTGRES_DB "$POSTGRES_USER")
    export POSTGRES_USER POSTGRES_DB
    first_start
  fi
  exec "$@"
}

main "$@"
