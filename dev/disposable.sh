# shellcheck shell=bash
# The disposable stack of compose.ci.yml: started for one command, removed whatever happens. Sourced, not run.

# shellcheck source=dev/lib.sh
. dev/lib.sh

# The name is given here too: COMPOSE_PROJECT_NAME in somebody's shell or .env is stronger than `name:` in the file, and what
# follows removes volumes.
ci_compose() { docker compose --project-name nexus-ci -f compose.yml -f compose.ci.yml --profile test "$@"; }

remove_disposable_stack() {
  ci_compose down --volumes --remove-orphans --timeout 10 2>&1 | sed -n '/rror/p' >&2
}

# For CI, which keeps this folder when it fails. One for each verb, so that the drills do not overwrite the tests.
keep_evidence() {
  [[ -n ${NEXUS_CI_LOGS:-} ]] || return 0
  local folder=$NEXUS_CI_LOGS/${verb:-${0##*/}}
  mkdir -p "$folder" || return 0
  ci_compose config >"$folder/config.yml" 2>&1 || true
  ci_compose ps --all >"$folder/ps.txt" 2>&1 || true
  ci_compose logs --no-color --timestamps >"$folder/logs.txt" 2>&1 || true
  complain "configuration, state and logs of the failed run are in $folder"
}

# interrupt_group: what in_group started ends as on Ctrl-C, so that pytest runs its finalizers; after 20 s less politely.
interrupt_group() {
  local tries=0
  [[ -n ${GROUP:-} ]] || return 0
  kill -INT -- "-$GROUP" 2>/dev/null || true
  while ((tries++ < 100)) && kill -0 -- "-$GROUP" 2>/dev/null; do sleep 0.2; done
  end_group
}

# leave STATUS: the way out of every verb that uses the stack.
leave() {
  local status=$1
  trap '' INT TERM HUP
  trap - EXIT
  interrupt_group
  if [[ -n ${build_log:-} ]]; then rm -f -- "$build_log"; fi
  ((status == 0)) || keep_evidence
  remove_disposable_stack || status=1
  exit "$status"
}

# with_disposable_stack: from here to the end of the script.
with_disposable_stack() {
  trap 'leave $?' EXIT
  # A second signal (make passes on what the whole group has had already) must not cut the tidying short.
  trap 'trap "" INT TERM HUP; exit 130' INT
  trap 'trap "" INT TERM HUP; exit 143' TERM HUP
  # What a run that was killed the hard way left.
  in_group ci_compose down --volumes --remove-orphans --timeout 10 >/dev/null 2>&1 || true
}

# The build's many lines are shown only when it fails.
in_test_runner() {
  say 'building images and starting the disposable stack (project nexus-ci)'
  build_log=$(mktemp)
  in_group ci_compose build >"$build_log" 2>&1 || { cat "$build_log" >&2; return 1; }
  in_group ci_compose --progress quiet run --rm -T tests "$@"
}

# measure_in_test_runner FILE COMMAND...: the same, and what tests/stack/report.py writes for programs goes into the file.
measure_in_test_runner() {
  local file=$1 status=0 copy reader
  shift
  copy=$(mktemp)
  # Not a pipe: its left side would be a subshell, whose process group nobody could interrupt.
  exec 4> >(exec tee "$copy")
  reader=$!
  in_test_runner "$@" >&4 || status=$?
  exec 4>&-
  wait "$reader"
  # A selection that measured nothing leaves the figures of the last run.
  if grep -q '^findings.json: ' "$copy"; then
    mkdir -p "$(dirname "$file")"
    sed -n 's/^findings.json: //p' "$copy" >"$file"
  fi
  rm -f -- "$copy"
  return "$status"
}
