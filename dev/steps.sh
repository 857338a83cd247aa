# shellcheck shell=bash
# Several commands one after the other, also after one that failed, and a line for each at the end. Source after lib.sh.

results=()
failures=0
LIMIT= # seconds for all steps, and of these SPARE for what follows them; none if empty
SPARE=0

heading() { printf '\n=== %s (at %d s) ===\n' "$1" "$SECONDS"; }

# step TITLE COMMAND...: runs it with what is left of the time; its whole process group ends with it.
step() {
  local title=$1 start=$SECONDS status=0 left
  shift
  heading "$title: $*"
  if [[ -z $LIMIT ]]; then
    in_group "$@" || status=$?
  elif ((left = LIMIT - SPARE - SECONDS, left < 1)); then
    status=124
  else
    in_group timeout --kill-after=120 "$left" "$@" || status=$?
  fi
  case $status:${LIMIT:+limited} in
    0:*) ;;
    124:limited | 137:limited) complain "$title: no time left ($((LIMIT / 60)) minutes for everything)" ;;
    *) complain "$title: exit code $status" ;;
  esac
  result "$title" "$status" "$start"
}

result() {
  local word=ok
  if (($2)); then
    word="FAILED ($2)"
    failures=$((failures + 1))
  fi
  results+=("$(printf '%-12s %5d s  %s' "$1" "$((SECONDS - $3))" "$word")")
  (($2 == 0))
}

show_results() {
  printf '\n'
  printf '%s\n' "${results[@]}"
}
