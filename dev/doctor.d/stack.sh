#!/usr/bin/env bash
# The images and containers of this project: are they of this code, do they run? Sourced by dev/doctor.
# shellcheck disable=SC2034,SC2154 # what one part sets another reads

# The sums of the code, as the Dockerfiles write them into sources.sha256, and the locks. An edit of a Dockerfile is not seen.

# sources_here LOCK
sources_here() {
  local sum='shasum -a 256'
  if have sha256sum; then sum=sha256sum; fi
  # shellcheck disable=SC2086 # words
  find services shared db -type f ! -name '*.pyc' -exec $sum {} + | LC_ALL=C sort -k 2
  cat requirements/base.txt "requirements/$1"
}

# sources_in IMAGE LOCK: of the image itself, in a container that sees nothing and goes.
sources_in() {
  bounded 20 docker run --rm --pull never --network none --read-only --cap-drop ALL --user 10001:10001 --workdir /app \
    --entrypoint cat "$1" sources.sha256 /requirements/base.txt "/requirements/$2" 2>/dev/null
}

# image_of SERVICE: prints the name of its image: its own, or Compose's for one that is built.
image_of() {
  local name
  name=$(awk -v service="$1" '
    /^[^ ]/ { part = $1 }
    part == "services:" && /^  [^ ]/ { here = ($1 == service ":") }
    here && /^    image: / { print $2; exit }' <<<"$CONFIG")
  printf '%s' "${name:-$PROJECT-$1}"
}

# tagged NAME: prints it with the tag that Docker takes it to have: without one, lists name every image of that name.
tagged() {
  case ${1##*/} in
    *[:@]*) printf '%s' "$1" ;;
    *) printf '%s:latest' "$1" ;;
  esac
}

# image_id NAME: sets REPLY to the id of the image that it names, empty if there is none; fails where Docker does not tell.
# Not inspect: that fails alike where there is no such image and where Docker does not answer.
image_id() { REPLY=$(bounded 5 docker image ls --quiet --no-trunc "$(tagged "$1")" 2>/dev/null); }

# check_image SERVICE IMAGE
check_image() {
  local inside status=0
  if ! image_id "$2"; then unchecked images "Docker does not tell whether there is an image $2"; return; fi
  if [[ -z $REPLY ]]; then unchecked images "there is no image $2 yet, make up builds it"; return; fi
  inside=$(sources_in "$2" "$1.txt") || status=$?
  if ((status == 124)); then
    unchecked images "the image $2 was not looked into within 20 s"
  elif [[ -z $inside ]]; then
    fault images "the image $2 cannot be looked into" 'docker run says why; then make up, which builds it anew'
  elif [[ $inside != "$(sources_here "$1.txt" 2>/dev/null)" ]]; then
    fault images "the image $2 was built from other code than this checkout has" 'make up, which builds it anew'
  fi
}

check_images() {
  local service before=$found
  if ((!docker_well)); then unchecked images 'Docker cannot be used'; return; fi
  if [[ -z $PROJECT ]]; then unchecked images 'their names are not known without Compose'; return; fi
  for service in api worker; do
    check_image "$service" "$(image_of "$service")"
  done
  if ((found == before)); then ok images 'api and worker are of this code'; fi
}

# alike IMAGE IMAGE: whether only their labels differ, as they do after every commit: the revision is one of them. 124 where
# Docker does not tell.
alike() {
  local field told format='{{json .RootFS.Layers}}'
  for field in Env User WorkingDir Entrypoint Cmd Healthcheck ExposedPorts Volumes StopSignal; do
    format+=" {{json .Config.$field}}"
  done
  told=$(bounded 5 docker image inspect --format "$format" "$1" "$2" 2>/dev/null) || return
  [[ $(sort -u <<<"$told" | wc -l) -eq 1 ]]
}

# look_at_containers: sets CONTAINERS to a line for each of this project's services:
# service|state|health|exit code|killed for want of memory|restarts|image id|settings|image name|container id
look_at_containers() {
  local ids label='index .Config.Labels "com.docker.compose'
  CONTAINERS=''
  ids=$(bounded 10 docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT" --filter label=com.docker.compose.oneoff=False 2>/dev/null) || return 1
  [[ -n $ids ]] || return 0
  # .ID and not .Id: for a name that it does not know docker takes the raw answer, where a missing health is an error.
  # shellcheck disable=SC2086 # one word per container
  CONTAINERS=$(bounded 10 docker inspect --format "{{$label.service\"}}|{{.State.Status}}|{{if .State.Health}}{{.State.Health.Status}}{{end}}|{{.State.ExitCode}}|{{.State.OOMKilled}}|{{.RestartCount}}|{{.Image}}|{{$label.config-hash\"}}|{{.Config.Image}}|{{.ID}}" $ids 2>/dev/null | sort) && [[ -n $CONTAINERS ]]
}

# runs SERVICE
runs() { [[ $'\n'$CONTAINERS == *$'\n'"$1|running|"* ]]; }

# container_of SERVICE: prints the id of one that runs, and is not about to end again.
container_of() {
  awk -F '|' -v service="$1" '$1 == service && $2 == "running" && $3 != "starting" { print $10; exit }' <<<"$CONTAINERS"
}

# container_finding SERVICE STATE HEALTH EXIT KILLED RESTARTS
container_finding() {
  local look="docker compose logs --tail 20 $1"
  case $1:$2:$3:$4 in
    migrator:exited::0 | migrator:running:* | *:running:healthy:* | *:running::*)
      ;;
    *:restarting:* | *:running:starting:*)
      if (($6)); then
        fault stack "$1 ends and is started again, $6 times so far" "$look says why"
      else
        warning stack "$1 is starting" 'wait some seconds, and ask again'
      fi ;;
    *:running:unhealthy:*) fault stack "$1 runs and is unhealthy" "$look says why" ;;
    *:paused:*) fault stack "$1 is paused" "docker compose unpause $1" ;;
    *:created:*) fault stack "$1 was never started" 'mend what the other lines name; then make up' ;;
    *)
      if [[ $5 == true ]]; then
        fault stack "$1 was ended for want of memory" "make up; then find out why ($look), or raise its mem_limit in compose.yml"
      else
        fault stack "$1 has ended (exit code $4) while others run" "$look says why; make up starts it"
      fi ;;
  esac
}

check_stack() {
  local service state health code killed restarts before=$found running
  CONTAINERS='' stack_runs=0 stack_settled=0
  if ((!docker_well)); then unchecked stack 'Docker cannot be used'; return; fi
  if [[ -z $PROJECT ]]; then unchecked stack 'its name is not known without Compose'; return; fi
  if ! look_at_containers; then unchecked stack 'Docker does not describe its containers'; return; fi
  running=$(awk -F '|' '$2 != "exited" && $2 != "created" && $2 != "dead" { printf "%s%s", (n++ ? ", " : ""), $1 }' <<<"$CONTAINERS")
  if [[ -z $running ]]; then
    ok stack "it is down: nothing of the project $PROJECT runs; make up starts it"
    return
  fi
  stack_runs=1
  while IFS='|' read -r service state health code killed restarts _; do
    container_finding "$service" "$state" "$health" "$code" "$killed" "$restarts"
  done <<<"$CONTAINERS"
  check_absent
  if ((found == before)); then stack_settled=1; ok stack "$running: running and well"; fi
}

# check_absent: `make infra-up` starts Postgres and Redis alone; but where api is, all have to be.
check_absent() {
  local service
  [[ $'\n'$CONTAINERS == *$'\n''api|'* || $'\n'$CONTAINERS == *$'\n''worker|'* ]] || return 0
  while read -r service; do
    [[ $'\n'$CONTAINERS == *$'\n'"$service|"* ]] || fault stack "there is no $service while others run" 'make up'
  done < <(awk '$1 == "memory" { print $2 }' <<<"$FACTS")
}

# is_of_now IMAGE NAME: is the image that a container has the one of that name now, or as good as it? 124 where Docker does not
# tell.
is_of_now() {
  image_id "$2" || return 124
  [[ $REPLY == "$1" ]] || alike "$1" "$REPLY"
}

check_containers() {
  local service state image settings name status before=$found wanted
  if ((!stack_runs)); then unchecked containers 'none runs'; return; fi
  if ! wanted=$(bounded 15 docker compose config --hash '*' 2>/dev/null); then
    unchecked containers 'Compose does not tell the settings of now'
    return
  fi
  while IFS='|' read -r service state _ _ _ _ image settings name _; do
    if [[ $state != running ]]; then continue; fi
    status=0
    is_of_now "$image" "$name" || status=$?
    if ((status == 124)); then
      unchecked containers "Docker does not tell what $name is now"
    elif ((status)); then
      fault containers "$service runs from an older image than $name is now" 'make up, which replaces the container'
    elif [[ $'\n'$wanted$'\n' != *$'\n'"$service $settings"$'\n'* ]]; then
      warning containers "$service runs with other settings than compose.yml and .env have now" 'make up, which takes them over'
    fi
  done <<<"$CONTAINERS"
  if ((found > before)); then stack_settled=0; else ok containers 'they run from the images and settings of now'; fi
}
