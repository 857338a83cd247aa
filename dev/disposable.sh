# shellcheck shell=bash
# The disposable stack of compose.ci.yml: started for one command, removed whatever happens. Sourced, not run.

ci_compose() { docker compose -f compose.yml -f compose.ci.yml --profile test "$@"; }

remove_disposable_stack() {
  trap - EXIT
  ci_compose down --volumes --remove-orphans --timeout 10 2>&1 | sed -n '/rror/p' >&2
}

keep_evidence() {
  # For CI, which keeps this folder when it fails.
  [ -n "${NEXUS_CI_LOGS:-}" ] || return 0
  mkdir -p "$NEXUS_CI_LOGS"
  ci_compose config > "$NEXUS_CI_LOGS/config.yml"
  ci_compose ps --all > "$NEXUS_CI_LOGS/ps.txt"
  ci_compose logs --no-color > "$NEXUS_CI_LOGS/logs.txt" 2>&1
}

in_test_runner() {
  trap 'keep_evidence; remove_disposable_stack' EXIT
  trap 'exit 130' INT TERM
  # What an interrupted run may have left.
  ci_compose down --volumes --remove-orphans --timeout 10 > /dev/null 2>&1
  printf 'nexus: building images and starting the disposable stack (project nexus-ci)\n'
  ci_compose build --quiet
  ci_compose run --rm -T tests "$@"
}
