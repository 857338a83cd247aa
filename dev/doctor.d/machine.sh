#!/usr/bin/env bash
# What the machine has to give: ports, disk, memory, the time. Sourced by dev/doctor.
# shellcheck disable=SC2034,SC2154 # what one part sets another reads

DISK_NEEDED=1024   # MB where Docker keeps its images: what `make up` insists on
DISK_WANTED=4096   # MB; stand-ins and a build from nothing take that
DATA_NEEDED=512    # MB for the data volume: a migration may write a table anew
DATA_WANTED=2048   # MB
CLOCK_LEEWAY=60    # seconds: nexus/auth/tokens.py refuses what differs by more
CLOCK_WANTED=10    # seconds
EARLIEST=1735689600 # 2025-01-01; a clock before that was never set
NEARLY=90          # per cent of its memory limit

restart_remedy() {
  local remedy
  remedy=$(start_remedy)
  printf '%s' "${remedy/start/restart}"
}

# measure: `CONTAINER PER CENT` of the memory limit for each that runs, and `all` where none is missing for want of an answer.
measure() {
  local ids
  ids=$(bounded 5 docker ps --quiet --filter "label=com.docker.compose.project=$PROJECT" 2>/dev/null) || return
  if [[ -n $ids ]]; then
    # shellcheck disable=SC2086 # one word per container
    bounded 10 docker stats --no-stream --format '{{.Name}} {{.MemPerc}}' $ids 2>/dev/null || return
  fi
  echo all
}

# look_at_engine: sets what `docker info` says, and begins to measure the containers, which takes two seconds.
look_at_engine() {
  local said
  ENGINE_ROOT='' ENGINE_MEMORY='' ENGINE_TIME='' HOST_TIME=''
  exec 7</dev/null
  if ((!docker_well)); then return; fi
  if ! said=$(bounded 10 docker info --format '{{.DockerRootDir}}|{{.MemTotal}}|{{.SystemTime}}' 2>/dev/null) ||
    ! HOST_TIME=$(date +%s) || ! bounded 10 docker ps --quiet >/dev/null 2>&1; then
    docker_well=0
    fault docker "Docker answers, but not 'docker info' and 'docker ps' within 10 s" "wait if it is busy; else $(restart_remedy)"
    return
  fi
  IFS='|' read -r ENGINE_ROOT ENGINE_MEMORY ENGINE_TIME <<<"$said"
  if [[ -n $PROJECT ]]; then exec 7< <(measure); fi
}

# wanted_ports: `SERVICE PORT` for each; where Compose cannot say it, from the shell, .env and the defaults.
wanted_ports() {
  local service variable default
  if [[ -n $FACTS ]]; then awk '$1 == "port" { print $2, $4 }' <<<"$FACTS"; return; fi
  for service in api postgres redis; do
    variable=$(port_variable "$service")
    setting "$variable"
    default=$(sed -n "s/^$variable=//p" .env.example)
    printf '%s %s\n' "$service" "${REPLY:-$default}"
  done
}

check_ports() {
  local service port variable holder taken='' before=$found
  while read -r service port; do
    variable=$(port_variable "$service")
    if [[ ! $port =~ ^[0-9]{1,5}$ ]] || ((10#$port < 1 || 10#$port > 65535)); then
      fault ports "$variable is no port" "set it to a number from 1 to 65535 in .env"
    elif [[ $taken == *" $port:"* ]]; then
      service=${taken##*" $port:"}
      fault ports "${service%% *} and $variable are both $port" 'choose another for one of them in .env'
    elif ! listening "$port"; then
      :
    elif ((docker_well)) && [[ -z $PROJECT ]]; then
      unchecked ports "somebody listens on $port, and whether it is this stack is not known without Compose's configuration"
    elif ! { ((docker_well)) && port_is_ours "$PROJECT" "$port"; }; then
      holder=$(port_holder "$port")
      fault ports "port $port of 127.0.0.1 is taken by $holder" "stop it, or choose another with $variable=… in .env"
    fi
    taken+=" $port:$variable "
  done < <(wanted_ports)
  if ((found == before)); then ok ports "$(wanted_ports | awk '{ printf "%s%s", (NR > 1 ? ", " : ""), $2 }') are free or ours"; fi
}

# disk_finding MEGABYTES NEEDED WANTED WHERE REMEDY
disk_finding() {
  if (($1 < $2)); then
    fault disk "only $1 MB free $4, $2 needed" "$5"
  elif (($1 < $3)); then
    warning disk "$1 MB free $4, less than $3" "$5"
  else
    ok disk "$1 MB free $4"
  fi
}

check_disk() {
  local free
  if ((!docker_well)); then unchecked disk 'Docker cannot be used'; return; fi
  free=$(free_megabytes "$ENGINE_ROOT")
  if [[ -n $free ]]; then
    disk_finding "$free" "$DISK_NEEDED" "$DISK_WANTED" "where Docker keeps its images ($ENGINE_ROOT)" 'docker system df shows what takes it, docker system prune removes what nothing uses'
  else
    unchecked disk "the folder of Docker's images ($ENGINE_ROOT) is not visible from here"
  fi
  check_data_disk
}

# check_data_disk: as the running Postgres sees it; when it is down, as root may see the volume.
check_data_disk() {
  local container folder free=''
  if [[ -z $PROJECT ]] || ! grep -q '^memory postgres ' <<<"$FACTS"; then return; fi
  container=$(bounded 5 docker ps --quiet --filter "label=com.docker.compose.project=$PROJECT" --filter label=com.docker.compose.service=postgres --filter label=com.docker.compose.oneoff=False 2>/dev/null | head -n 1)
  if [[ -n $container ]]; then
    free=$(bounded 10 docker exec "$container" df -Pk /var/lib/postgresql/data 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }')
  elif folder=$(bounded 5 docker volume inspect --format '{{.Mountpoint}}' "${PROJECT}_postgres-data" 2>/dev/null); then
    free=$(free_megabytes "$folder")
  fi
  if [[ -n $free ]]; then
    disk_finding "$free" "$DATA_NEEDED" "$DATA_WANTED" 'for the data volume' 'free some space on that disk, or give it a larger one'
  else
    unchecked disk 'the data volume is not visible while Postgres is down'
  fi
}

check_memory() {
  local sum machine name share measured='' before=$found
  if ((!docker_well)); then unchecked memory 'Docker cannot be used'; return; fi
  if [[ -z $FACTS || ! $ENGINE_MEMORY =~ ^[0-9]+$ ]]; then unchecked memory 'the limits are not known without Compose'; return; fi
  # In awk: two services of a machine with much memory are more than bash 3.2 on 32 bits could add.
  sum=$(awk '$1 == "memory" { sum += $3 } END { printf "%d", sum / 1048576 }' <<<"$FACTS")
  machine=$((ENGINE_MEMORY / 1048576))
  if ((sum > machine)); then
    warning memory "the services may use $sum MB together, and this machine has $machine MB" 'give it more memory, or lower API_WORKERS and WORKER_CONCURRENCY and watch docker stats'
  fi
  while read -r name share; do
    if [[ $name == all ]]; then measured=yes; fi
    share=${share%%[.%]*}
    if [[ $share =~ ^[0-9]+$ ]] && ((share >= NEARLY)); then
      warning memory "$name uses $share % of its memory limit, and is ended when it needs more" 'find out why (docker stats), or raise its mem_limit in compose.yml'
    fi
  done <&7
  if [[ -z $measured ]]; then unchecked memory 'Docker does not tell what the containers use'; fi
  if ((found == before)); then ok memory "the services may use $sum MB together, and this machine has $machine MB"; fi
}

# epoch TIME: prints the seconds of an RFC 3339 time, nothing if no `date` here reads it.
epoch() {
  date -d "$1" +%s 2>/dev/null || date -ju -f %Y-%m-%dT%H:%M:%S "${1%%.*}" +%s 2>/dev/null
}

check_clock() {
  local now engine differ remedy='restart Docker (its virtual machine slept), and let both take the time from the network (NTP)'
  now=${HOST_TIME:-$(date +%s)}
  if ((now < EARLIEST)); then
    fault clock "this machine's clock says $(date +%Y-%m-%d)" 'set it, and let it take the time from the network (NTP)'
  fi
  if ((!docker_well)); then unchecked clock "Docker's clock: Docker cannot be used"; return; fi
  engine=$(epoch "$ENGINE_TIME")
  if [[ -z $engine ]]; then unchecked clock "Docker's clock: it says no time that is understood here"; return; fi
  differ=$((engine > now ? engine - now : now - engine))
  if ((differ >= CLOCK_LEEWAY)); then
    fault clock "Docker's clock differs from this machine's by $differ s, and tokens may differ by $CLOCK_LEEWAY s" "$remedy"
  elif ((differ >= CLOCK_WANTED)); then
    warning clock "Docker's clock differs from this machine's by $differ s" "$remedy"
  else
    ok clock "Docker's clock agrees with this machine's to $differ s"
  fi
}
