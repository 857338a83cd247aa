#!/usr/bin/env bash
# What only a process beside Postgres and Redis can tell: `nexus doctor` of the api image. Sourced by dev/doctor.
# shellcheck disable=SC2034,SC2154 # what one part sets another reads

INSIDE='settings postgres schema redis provider'
INSIDE_LIMIT=60 # seconds; its own bounds are below that

# nexus_doctor_anew ARGUMENTS...: in a container of its own, with the settings of now. Of what Compose rendered, only api is
# taken, without what would build, pull or start anything.
nexus_doctor_anew() {
  local overlay=dev/doctor.d/alone.yml status=0
  bounded 5 docker network inspect "${PROJECT}_peers" >/dev/null 2>&1 || status=$?
  # From elsewhere Postgres and Redis would seem to be away.
  if ((status == 124)); then return "$status"; fi
  if ((status == 0)); then overlay=dev/doctor.d/peers.yml; fi
  NEXUS_DOCTOR_IMAGE=$(image_of api) bounded 15 docker compose --project-directory . --file - --file "$overlay" config api 2>/dev/null <<<"$CONFIG" |
    COMPOSE_IGNORE_ORPHANS=true bounded "$INSIDE_LIMIT" docker compose --project-directory . --file - run --rm --no-deps -T api nexus doctor --lines "$@" 2>&1
}

# nexus_doctor_there CONTAINER ARGUMENTS...: in the api that runs.
nexus_doctor_there() {
  local container=$1
  shift
  bounded "$INSIDE_LIMIT" docker exec "$container" nexus doctor --lines "$@" 2>&1 </dev/null
}

# take_lines: findings from lines of `nexus doctor` on stdin; sets SAID to the last line that is none.
take_lines() {
  local state name message remedy
  while IFS=$'\x1f' read -r state name message remedy; do
    case $state in
      ok | warning | fault | unknown)
        ANSWERED+=" $name "
        finding "$state" "$name" "$message" "$remedy" ;;
      '') ;;
      *) SAID=$state ;;
    esac
  done
}

# unanswered NAMES REASON: a line for each that nothing was said about.
unanswered() {
  local name
  for name in $1; do
    [[ $ANSWERED == *" $name "* ]] || unchecked "$name" "$2"
  done
}

# away: words `--away SERVICE` for what does not run.
away() {
  local service
  for service in postgres redis; do
    runs "$service" || printf -- '--away %s ' "$service"
  done
}

# ask_inside: the api that runs, where it has the images and settings of now; else a container that has them, since what the
# next start would meet is to be known too. What that one cannot tell, the running api may.
ask_inside() {
  local api lines refused=$'fault\x1fsettings\x1f'
  api=$(container_of api)
  if [[ -n $api && $stack_settled == 1 ]]; then
    take_lines < <(nexus_doctor_there "$api")
    return
  fi
  # shellcheck disable=SC2046 # words
  lines=$(nexus_doctor_anew $(away))
  if [[ -n $api && ($lines == *"$refused"* || $lines != *$'\x1f'*) ]]; then
    take_lines < <(grep "$refused" <<<"$lines")
    take_lines < <(nexus_doctor_there "$api" --only postgres --only schema --only redis --only provider --only clock)
  else
    take_lines <<<"$lines"
  fi
}

check_inside() {
  ANSWERED='' SAID=''
  if ((!docker_well)); then unanswered "$INSIDE" 'Docker cannot be used'; return; fi
  if [[ -z $PROJECT ]]; then unanswered "$INSIDE" 'Compose cannot be used'; return; fi
  if ! image_id "$(image_of api)"; then unanswered "$INSIDE" 'Docker does not tell whether there is an image of api'; return; fi
  if [[ -z $REPLY ]]; then
    unanswered "$INSIDE" 'there is no image of api yet, make up builds it'
    return
  fi
  ask_inside
  unanswered "$INSIDE" "the api image gave no answer${SAID:+ ($(redact "$SAID"))}"
}
