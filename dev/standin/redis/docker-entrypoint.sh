#!/bin/sh
# The official redis image's contract: `-` or `*.conf` first means redis-server; as root the user is changed.
set -e

if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
  set -- redis-server "$@"
fi

if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
  find . \! -user redis -exec chown redis:redis '{}' +
  exec setpriv --reuid=redis --regid=redis --clear-groups -- "$0" "$@"
fi

# Files that redis writes are its own only, unless a mask was set on purpose.
if [ "$(umask)" = 0022 ]; then umask 0077; fi

# The official binary is built with protected mode off: inside a container the network decides who gets in. Said first, so
# that later arguments win; a configuration file (or `-`, standard input) has to stay in front, and wins as well.
if [ "$1" = redis-server ]; then
  shift
  case ${1:-} in
    -v | --version | -h | --help | --test-memory | --check-system) ;;
    '' | -?*) set -- --protected-mode no "$@" ;;
    -) shift && set -- - --protected-mode no "$@" ;;
    *)
      file=$1
      shift
      if grep -qs '^[[:space:]]*protected-mode' "$file"; then set -- "$file" "$@"; else set -- "$file" --protected-mode no "$@"; fi
      ;;
  esac
  set -- redis-server "$@"
fi
exec "$@"
