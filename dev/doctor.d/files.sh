#!/usr/bin/env bash
# Files of this machine: the checkout, and those that hold secrets. Sourced by dev/doctor.
# shellcheck disable=SC2034,SC2154 # what one part sets another reads

CONTAINER_ID=10001 # user and group of the processes in our containers

# check_checkout: can a build read what it copies?
check_checkout() {
  local path first='' files count=0 me
  me=$(id -un)
  while IFS= read -r path; do
    if [[ -r $path && (! -d $path || -x $path) ]]; then continue; fi
    count=$((count + 1))
    first=${first:-$path}
  done < <(find services shared db requirements Dockerfile.api Dockerfile.worker compose.yml 2>/dev/null)
  if ((count)); then
    files=$(plural "$count" file)
    fault checkout "$files of this checkout cannot be read by $me, the first is $first" "$(sudo_prefix)chown -R $me ."
  elif [[ ! -d services || ! -d shared || ! -d db || ! -d requirements ]]; then
    fault checkout 'services, shared, db or requirements is missing, so nothing can be built' 'git status, then git checkout what is gone'
  else
    ok checkout 'all that is built from can be read'
  fi
}

# owner_and_mode FILE: sets OWNER, GROUP, MODE (octal). GNU's and BSD's stat differ.
owner_and_mode() {
  local said
  said=$(stat -L -c '%u %g %a' -- "$1" 2>/dev/null || stat -L -f '%u %g %Lp' -- "$1")
  read -r OWNER GROUP MODE <<<"$said"
  MODE=$((8#$MODE))
}

containers_can_read() {
  ((OWNER == CONTAINER_ID)) && { ((MODE & 8#400)); return; }
  ((GROUP == CONTAINER_ID && MODE & 8#040))
}

secret_fault() { # secret_fault NAME FILE WHAT REMEDY
  fault secrets "the file of $1 ($2) $3" "$4"
}

# check_secret_file NAME FILE: the first thing that is wrong with it.
check_secret_file() {
  local sudo private
  sudo=$(sudo_prefix)
  private="${sudo}chgrp $CONTAINER_ID $2 && ${sudo}chmod 440 $2"
  if [[ ! -e $2 ]]; then
    secret_fault "$1" "$2" 'is not there' "make secrets writes it; or correct $1"
  elif [[ ! -f $2 ]]; then
    secret_fault "$1" "$2" 'is no file' "correct $1: it names the file that holds the secret"
  elif [[ ! -s $2 ]]; then
    secret_fault "$1" "$2" 'is empty' 'write the secret into it'
  else
    owner_and_mode "$2"
    if ((MODE & 8#007)); then
      secret_fault "$1" "$2" 'is open to every user of this machine' "$private"
    elif ! containers_can_read; then
      secret_fault "$1" "$2" "cannot be read by the containers (user and group $CONTAINER_ID)" "$private"
    elif [[ -r $2 ]] && grep -q $'\r$' "$2"; then
      secret_fault "$1" "$2" 'ends its line as Windows does' "${sudo}sed -i 's/\\r\$//' $2"
    fi
  fi
}

# check_authorities NAME FILE: it holds no secret, and may be open.
check_authorities() {
  if [[ ! -f $2 ]]; then
    secret_fault "$1" "$2" 'is not there, or no file' "correct $1: it names the certificates of who signs those of Postgres and Redis"
    return
  fi
  owner_and_mode "$2"
  if ! ((MODE & 8#004)) && ! containers_can_read; then
    secret_fault "$1" "$2" 'is closed to the containers' "$(sudo_prefix)chmod 444 $2"
  fi
}

# check_secret_files: every file that compose.yml hands to containers, by the settings that the shell or .env sets. Those of
# the processes on this machine (DATABASE_URL_FILE) are no container's.
check_secret_files() {
  local name before=$found count=0
  ((env_is_known)) || unchecked secrets 'those that .env names: it cannot be read'
  for name in $KNOWN; do
    if [[ $name != *_FILE && $name != EXTERNAL_CA ]] || ! grep -q "{$name:-/dev/null}" compose.yml 2>/dev/null; then continue; fi
    if ! setting "$name"; then
      unchecked secrets "only Compose can tell which file $name names in .env"
      continue
    fi
    if [[ -z $REPLY ]]; then continue; fi
    # As Compose takes it.
    if [[ $REPLY == \~/* ]]; then REPLY=$HOME${REPLY#\~}; fi
    if [[ $name == EXTERNAL_CA ]]; then check_authorities "$name" "$REPLY"; continue; fi
    count=$((count + 1))
    check_secret_file "$name" "$REPLY"
  done
  if ((found > before)); then return; fi
  if ((count == 0)); then
    ok secrets 'none is given as a file'
  else
    ok secrets "$(plural "$count" file), closed to others, open to the containers"
  fi
}
