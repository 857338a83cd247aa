#!/usr/bin/env bash
# Docker Engine and its Compose plugin: are they there, may we use them, are they new enough? Source after lib.sh, in a
# script that sets `here` and has `fault CHECK MESSAGE REMEDY` and `unchecked CHECK MESSAGE`. What is missing is fetched or
# installed where may_fetch and may_change_system allow it.
# shellcheck disable=SC2034,SC2154 # for, and from, the scripts that source this

ENGINE_WANTED=20.10
COMPOSE_WANTED=2.24.4
ANSWER_LIMIT=10 # seconds for the version of either
: "${AGAIN:=run this again}" # how remedies name what could help itself

# --- the Engine ------------------------------------------------------------------------------------------------------

engine_remedy() {
  if on_debian_kind; then
    printf '%sapt-get install docker.io, or %s with NEXUS_INSTALL=yes' "$(sudo_prefix)" "$AGAIN"
  else
    printf 'install Docker Engine %s or newer (docs.docker.com/engine/install)' "$ENGINE_WANTED"
  fi
}

start_remedy() {
  if [[ -n ${DOCKER_HOST:-} ]]; then
    printf 'check DOCKER_HOST (%s)' "$DOCKER_HOST"
  elif [[ -d /run/systemd/system ]]; then
    printf '%ssystemctl start docker' "$(sudo_prefix)"
  else
    printf '%sservice docker start' "$(sudo_prefix)"
  fi
}

group_remedy() {
  local user
  user=$(id -un)
  # In the group already, but this session began before that.
  if have getent && getent group docker | grep -qE "[:,]$user(,|\$)"; then
    printf 'log out and in again (you are in the docker group, this session is not yet), or: newgrp docker'
  else
    printf '%susermod -aG docker %s, then log in again (the docker group equals root on this machine)' "$(sudo_prefix)" "$user"
  fi
}

# engine_version: sets REPLY to the server's version; on failure to what docker said.
engine_version() {
  local status=0
  REPLY=$(bounded "$ANSWER_LIMIT" docker version --format '{{.Server.Version}}' 2>&1) || status=$?
  ((status != 124)) || REPLY="nothing within $ANSWER_LIMIT s"
  return "$status"
}

install_engine() {
  on_debian_kind && may_change_system "$1 Install the distribution's Docker Engine (docker.io) now?" && "$here/install-engine"
}

# check_engine: sets ENGINE_VERSION where the engine answers, ENGINE_SILENT where it says nothing at all.
check_engine() {
  local version status=0
  ENGINE_SILENT=''
  if ! have docker && ! install_engine 'Docker is not installed.'; then
    fault docker 'Docker is not installed' "$(engine_remedy)"
    return
  fi
  hash -r
  engine_version || status=$?
  if ((status == 0)); then
    version=$REPLY ENGINE_VERSION=$REPLY
    version_at_least "$version" "$ENGINE_WANTED" ||
      fault docker "Docker Engine $version is too old, $ENGINE_WANTED or newer is needed" \
        'upgrade it, or the system that it came with'
    return
  fi
  if ((status == 124)); then ENGINE_SILENT=yes; fi
  case $REPLY in
    *'permission denied'*) fault docker "you may not use Docker's socket" "$(group_remedy)" ;;
    *'annot connect'* | *'connection refused'* | *'no such file'* | *'failed to connect'* | *'docker daemon'*) engine_not_there ;;
    *) fault docker "Docker does not answer (${REPLY##*$'\n'})" "$(start_remedy)" ;;
  esac
}

# A client alone may be all there is.
engine_not_there() {
  if [[ -n ${DOCKER_HOST:-} ]] || have dockerd || [[ -x /usr/sbin/dockerd ]] || ! on_debian_kind; then
    fault docker 'Docker Engine is not running' "$(start_remedy)"
  elif install_engine 'Docker Engine is not installed, only its client.' && engine_version; then
    return 0
  else
    fault docker 'Docker Engine is not installed, only its client' "$(engine_remedy)"
  fi
}

# --- Compose ---------------------------------------------------------------------------------------------------------

# compose_version: sets REPLY to the plugin's version, empty if there is none; 124 if it does not answer. Without the docker
# client the plugin itself is asked, so that one run names everything that is missing.
compose_version() {
  local file said status=0
  REPLY=
  if have docker; then
    said=$(bounded "$ANSWER_LIMIT" docker compose version --short 2>/dev/null) || status=$?
    ((status != 124)) || return "$status"
    numeric_version "$said"
    return 0
  fi
  for file in "${DOCKER_CONFIG:-$HOME/.docker}" /usr/local/lib/docker /usr/local/libexec/docker /usr/lib/docker /usr/libexec/docker; do
    if [[ -x $file/cli-plugins/docker-compose ]]; then
      numeric_version "$("$file/cli-plugins/docker-compose" version --short 2>/dev/null || true)"
      return 0
    fi
  done
}

# compose_remedy: what to do where it could not be fetched, or must not be.
compose_remedy() {
  local without=
  if on_debian_kind && ! may_fetch; then
    [[ ${NEXUS_INSTALL:-} != no ]] || without=' without NEXUS_INSTALL=no'
    printf '%s%s (the signed package is unpacked into your home), or install the plugin yourself' "$AGAIN" "$without"
  elif [[ $OS_ID == ubuntu ]]; then
    printf '%sapt-get install docker-compose-v2' "$(sudo_prefix)"
  else
    printf 'install the Compose plugin %s or newer (docs.docker.com/compose/install)' "$COMPOSE_WANTED"
  fi
}

compose_fault() {
  local version=$1 why=${2:-}
  if [[ -n $version ]]; then
    fault compose "Compose $version is too old, $COMPOSE_WANTED or newer is needed$why" "$(compose_remedy)"
  elif have docker-compose; then
    fault compose "only Compose v1 (docker-compose) is there, the plugin $COMPOSE_WANTED or newer is needed$why" "$(compose_remedy)"
  else
    fault compose "Docker's Compose plugin is missing$why" "$(compose_remedy)"
  fi
}

# check_compose: sets COMPOSE_VERSION to that of the plugin that it found.
check_compose() {
  local version said own=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins/docker-compose
  # A machine that is busy is no reason to fetch another.
  compose_version || { unchecked compose "Compose says nothing within $ANSWER_LIMIT s"; return; }
  version=$REPLY COMPOSE_VERSION=$REPLY
  version_at_least "$version" "$COMPOSE_WANTED" && return
  if ! may_fetch || ! on_debian_kind; then
    compose_fault "$version"
  elif [[ -e $own && ${NEXUS_INSTALL:-} != yes ]]; then
    # Somebody put that one there: replaced only when asked for.
    fault compose "$own is ${version:-broken}, $COMPOSE_WANTED or newer is needed" 'remove it, or NEXUS_INSTALL=yes replaces it'
  else
    say "fetching the Compose plugin from the distribution's signed packages into $own"
    said=$("$here/install-compose" 2>&1) || { compose_fault "$version" " (${said#nexus: })"; return; }
    compose_version || return 0
    version_at_least "$REPLY" "$COMPOSE_WANTED" || compose_fault "$REPLY"
  fi
}
