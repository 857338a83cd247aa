#!/usr/bin/env bash
# The official postgres image's contract, as far as Nexus uses it: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB (each also
# as ..._FILE), POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD, PGDATA, /docker-entrypoint-initdb.d. As root it hands over
# to postgres; as postgres it needs no capability and writes to PGDATA's mount, /tmp and /var/run/postgresql only.
# Better than the official one in one point: a first start that is killed half-way leaves no cluster that counts as one.
set -Eeuo pipefail
socket_folder=/var/run/postgresql
growing=

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

prepare_as_root() {
  mkdir -p "$PGDATA" "$socket_folder"
  chmod 00700 "$PGDATA"
  find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
  chown postgres "$socket_folder"
  chmod 03775 "$socket_folder"
}

# Where a cluster grows until it is whole: beside PGDATA when that is a subfolder of the mount (a rename makes it count),
# else inside PGDATA (PG_VERSION, moved last, makes it count).
growing_folder() {
  local parent
  parent=$(dirname "$PGDATA")
  if [[ -w $parent ]] && ! mountpoint -q "$PGDATA"; then
    printf '%s/.%s.growing' "$parent" "$(basename "$PGDATA")"
  else
    printf '%s/.growing' "$PGDATA"
  fi
}

clear_interrupted() {
  [[ -e $growing ]] || return 0
  printf 'PostgreSQL: an earlier first start was interrupted: its half-made cluster is removed and made anew\n'
  rm -rf -- "$growing"
  # With the growing folder inside, parts of it may have been moved here already; no server ever ran on them.
  if [[ $growing == "$PGDATA"/* ]]; then
    find "$PGDATA" -mindepth 1 -maxdepth 1 \! -name lost+found -exec rm -rf -- '{}' +
  fi
}

make_cluster() {
  local -a args
  read -ra args <<<"${POSTGRES_INITDB_ARGS:-}"
  mkdir -m 700 -- "$growing"
  # The password goes through a pipe of bash: not on a command line, not on the disk.
  # In the background, because only a waiting bash hears a signal at once.
  initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$1") --pgdata="$growing" ${args[@]+"${args[@]}"} &
  wait "$!"
  printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$growing/pg_hba.conf"
}

# Init scripts of the official image may call this by its name there.
docker_process_sql() {
  PGHOST=$socket_folder PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"
}

run_init_file() {
  printf '%s: running %s\n' "$0" "$1"
  case $1 in
    *.sh)
      # shellcheck disable=SC1090 # as the official image does: without the mark of a program it is sourced
      if [[ -x $1 ]]; then "$1"; else set +u && . "$1" && set -u; fi
      ;;
    *.sql) docker_process_sql -f "$1" ;;
    *.sql.gz) gunzip -c "$1" | docker_process_sql ;;
    *) printf '%s: ignoring %s\n' "$0" "$1" ;;
  esac
}

# First content, against a server that listens on the socket only, so that nobody takes it for the real one.
fill_cluster() {
  local file wanted=$POSTGRES_DB
  pg_ctl -D "$growing" -o "-c listen_addresses='' -c unix_socket_directories=$socket_folder -p ${PGPORT:-5432}" -w start
  if [[ $wanted != postgres ]]; then
    POSTGRES_DB=postgres docker_process_sql --set db="$wanted" <<<'CREATE DATABASE :"db";'
  fi
  for file in /docker-entrypoint-initdb.d/*; do
    if [[ -e $file ]]; then PGDATA=$growing run_init_file "$file"; fi
  done
  pg_ctl -D "$growing" -m fast -w stop
}

# Stopped in the middle: at once, and without a server left over. The half-made cluster is the next start's affair.
end_early() {
  kill "$!" 2>/dev/null || :
  pg_ctl -D "$growing" -m immediate -w stop >/dev/null 2>&1 || :
}

# From here on it is the cluster.
put_in_place() {
  if [[ $growing == "$PGDATA"/* ]]; then
    find "$growing" -mindepth 1 -maxdepth 1 \! -name PG_VERSION -exec mv -t "$PGDATA" '{}' +
    sync
    mv "$growing/PG_VERSION" "$PGDATA/"
    rmdir "$growing"
  else
    sync
    mv -T "$growing" "$PGDATA"
  fi
}

first_start() {
  local password
  password=$(value POSTGRES_PASSWORD)
  [[ -n $password || ${POSTGRES_HOST_AUTH_METHOD:-} == trust ]] ||
    fail 'Database is uninitialized and superuser password is not specified: set POSTGRES_PASSWORD to a non-empty value.'
  POSTGRES_USER=$(value POSTGRES_USER postgres)
  POSTGRES_DB=$(value POSTGRES_DB "$POSTGRES_USER")
  export POSTGRES_USER POSTGRES_DB
  growing=$(growing_folder)
  clear_interrupted
  [[ -z $(find "$PGDATA" -mindepth 1 -maxdepth 1 \! -name lost+found) ]] ||
    fail "$PGDATA holds something, but no cluster: use an empty folder, or a subfolder of this one."
  trap end_early EXIT
  trap 'exit 130' INT TERM
  make_cluster "$password"
  fill_cluster
  trap - EXIT INT TERM
  put_in_place
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

# Questions that need no cluster.
only_asks() {
  local argument
  for argument in "$@"; do
    case $argument in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac
  done
  return 1
}

main() {
  if [[ ${1:0:1} == - ]]; then set -- postgres "$@"; fi
  if [[ $1 == postgres ]] && ! only_asks "$@"; then
    if [[ $(id -u) == 0 ]]; then
      prepare_as_root
      exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
    fi
    mkdir -p "$PGDATA" && chmod 00700 "$PGDATA"
    if [[ ! -s $PGDATA/PG_VERSION ]]; then first_start; fi
  fi
  exec "$@"
}

main "$@"
