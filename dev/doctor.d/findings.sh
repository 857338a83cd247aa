#!/usr/bin/env bash
# The lines of dev/doctor, for people as they come, for machines at the end. Sourced by dev/doctor.
# shellcheck disable=SC2034,SC2154 # what one part sets another reads

found=0 faults=0 warnings=0 open_questions=0 JSON=''

# printable TEXT: sets REPLY to it without anything that could move a terminal's cursor, or end a line.
printable() { REPLY=${1//[[:cntrl:]]/ }; }

# json_string TEXT: sets REPLY to a JSON string. What is no ASCII is shown as ?, since nobody knows its encoding.
json_string() {
  local LC_ALL=C
  printable "${1//…/...}"
  REPLY=${REPLY//\\/\\\\}
  REPLY=${REPLY//\"/\\\"}
  REPLY=\"${REPLY//[^ -~]/?}\"
}

# finding STATE CHECK MESSAGE REMEDY
finding() {
  local field item=''
  found=$((found + 1))
  case $1 in
    fault) faults=$((faults + 1)) ;;
    warning) warnings=$((warnings + 1)) ;;
    unknown) open_questions=$((open_questions + 1)) ;;
  esac
  if [[ -z $json ]]; then
    # Two sentences where the first one asks something.
    case $3 in
      *'?') printable "$3${4:+ $4}" ;;
      *) printable "$3${4:+: $4}" ;;
    esac
    printf '%-8s %-10s %s\n' "$1" "$2" "$REPLY"
    return
  fi
  for field in "state:$1" "name:$2" "message:$3" "remedy:$4"; do
    json_string "${field#*:}"
    item+="${item:+, }\"${field%%:*}\": $REPLY"
  done
  JSON+="${JSON:+, }{$item}"
}

ok() { finding ok "$1" "$2" ''; }
warning() { finding warning "$@"; }
fault() { finding fault "$@"; }
unchecked() { finding unknown "$1" "not checked: $2" ''; }

# conclude: the last line, and the exit code.
conclude() {
  local state=ok
  if ((warnings)); then state=warning; fi
  if ((faults)); then state=fault; fi
  if [[ -n $json ]]; then
    printf '{"state": "%s", "checks": [%s]}\n' "$state" "$JSON"
  else
    say "$(plural "$faults" fault), $(plural "$warnings" warning), $open_questions not checked$( ((!faults)) || printf '; begin with the first fault')"
  fi
  ((faults == 0))
}
