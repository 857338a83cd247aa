#!/usr/bin/env bash
# Which Python the host way uses. Source after lib.sh.

python_candidates() {
  if [[ -n ${PYTHON:-} ]]; then echo "$PYTHON"; else printf '%s\n' python3.13 python3.12 python3.11 python3; fi
}

# find_python WANTED: sets PYTHON_BIN to the first candidate that is new enough and can make virtual environments.
# If none can: PYTHON_FOUND is the version of one that lacks only venv, PYTHON_OLD of one that is too old.
# shellcheck disable=SC2034 # for the scripts that source this
find_python() {
  local candidate said
  PYTHON_BIN='' PYTHON_FOUND='' PYTHON_OLD=''
  for candidate in $(python_candidates); do
    have "$candidate" || continue
    # Debian keeps ensurepip in a package of its own; `venv` alone can be imported without it.
    said=$("$candidate" -S -c 'import sys
print("%d.%d" % sys.version_info[:2])
from importlib.util import find_spec
print(*(n for n in ("venv", "ensurepip") if not find_spec(n)))' 2>/dev/null) || continue
    if ! version_at_least "${said%%$'\n'*}" "$1"; then
      PYTHON_OLD=${PYTHON_OLD:-${said%%$'\n'*}}
    elif [[ $said == *$'\n'*[a-z]* ]]; then
      PYTHON_FOUND=${PYTHON_FOUND:-${said%%$'\n'*}}
    else
      PYTHON_BIN=$(command -v "$candidate")
      return 0
    fi
  done
  return 1
}
