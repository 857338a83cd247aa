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

# The official binary is built with protected mode off: inside a container the network decides who gets in. Here it is the
# first argument, which a configuration file or a later argument overrides.
if [ "$1" = redis-server ]; then
  shift
  case ${1:-} in
    '' | -*) set -- --protected-mode no "$@" ;;
    # A configuration file has to stay first: what it says itself must win, so ask it.
    *) grep -qs '^[[:space:]]*protected-mode' "$1" || set -- "$@" --protected-mode no ;;
  esac
  set -- redis-server "$@"
fi
exec "$@"
