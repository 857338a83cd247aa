#!/usr/bin/env bash
# Shared by the scripts of this folder: messages, versions, consent, tidy temporary folders.

# Every message has one form, so that people and tests can find it: "nexus: ...".
say() { printf 'nexus: %s\n' "$*"; }
complain() { printf 'nexus: %s\n' "$*" >&2; }
die() { complain "$@"; exit 1; }

# compose_config ARGUMENT...: what Compose makes of compose.yml and .env, secrets too; whoever calls it does not print it.
compose_config() {
  docker compose config "$@" ||
    die 'Compose refuses compose.yml with these variables and says why above: correct them in .env; .env.example explains each'
}

# plural COUNT NOUN: "1 file", "2 files".
plural() { printf '%s %s%s' "$1" "$2" "$( (($1 == 1)) || printf s)"; }

# have NAME: is there such a command?
have() { command -v "$1" >/dev/null 2>&1; }

# numeric_version TEXT: sets REPLY to its leading dotted number
# ("v2.30.3-desktop.1" -> 2.30.3, "2.26.1-4" -> 2.26.1), empty if it has none. No fork: called on the fast path.
numeric_version() {
  REPLY=
  [[ ${1:-} =~ ^[[:space:]]*v?([0-9]+(\.[0-9]+)*) ]] && REPLY=${BASH_REMATCH[1]}
  return 0
}

# version_at_least HAVE WANT
version_at_least() {
  local i
  local -a have_parts want_parts
  numeric_version "$1"
  [[ -n $REPLY ]] || return 1
  IFS=. read -ra have_parts <<<"$REPLY"
  numeric_version "$2"
  IFS=. read -ra want_parts <<<"$REPLY"
  for i in 0 1 2; do
    ((10#${have_parts[i]:-0} > 10#${want_parts[i]:-0})) && return 0
    ((10#${have_parts[i]:-0} < 10#${want_parts[i]:-0})) && return 1
  done
  return 0
}

# os_release: sets OS_ID and OS_CODENAME; both empty where there is no such file (macOS).
os_release() {
  local line
  OS_ID='' OS_CODENAME=''
  [[ -r ${NEXUS_OS_RELEASE:-/etc/os-release} ]] || return 0
  while IFS= read -r line; do
    case $line in
      ID=*) OS_ID=${line#ID=} OS_ID=${OS_ID//\"/} ;;
      VERSION_CODENAME=*) OS_CODENAME=${line#VERSION_CODENAME=} OS_CODENAME=${OS_CODENAME//\"/} ;;
    esac
  done <"${NEXUS_OS_RELEASE:-/etc/os-release}"
}

# on_debian_kind: may this machine be helped with packages (Debian or Ubuntu, apt there)?
on_debian_kind() {
  os_release
  [[ $OS_ID == debian || $OS_ID == ubuntu ]] && have apt-get
}

# may_fetch: things that stay in the user's home or the checkout need no question, only no veto.
may_fetch() { [[ ${NEXUS_INSTALL:-} != no ]]; }

# may_change_system QUESTION: changes of the system need a yes, at the terminal or in advance.
may_change_system() {
  local answer=
  case ${NEXUS_INSTALL:-} in
    yes) return 0 ;;
    no) return 1 ;;
  esac
  [[ -t 0 && -t 2 ]] || return 1
  printf 'nexus: %s [y/N] ' "$1" >&2
  read -r answer || return 1
  [[ $answer == [yY] || $answer == [yY][eE][sS] ]]
}

# as_root COMMAND...: sudo only where it is needed and there.
as_root() {
  if ((EUID == 0)); then "$@"; elif have sudo; then sudo "$@"; else return 127; fi
}

# sudo_prefix: what a remedy that changes the system starts with for this user.
sudo_prefix() { if ((EUID != 0)); then printf 'sudo '; fi; }

# sha256 FILE...: one line per file. macOS names the tool differently.
sha256() { if have sha256sum; then sha256sum -- "$@"; else shasum -a 256 -- "$@"; fi; }

# in_group COMMAND...: runs it in a process group of its own and waits for it. A signal to this script is then acted upon
# at once, and end_group (from its trap) ends all that was started there, however deep.
in_group() {
  local status=0
  set -m
  "$@" </dev/null &
  GROUP=$!
  set +m
  wait "$GROUP" || status=$?
  GROUP=
  return "$status"
}

end_group() {
  [[ -n ${GROUP:-} ]] || return 0
  kill -TERM -- "-$GROUP" 2>/dev/null || true
  wait "$GROUP" 2>/dev/null || true
}

# bounded SECONDS COMMAND...: its output and exit code; 124 if it had to be ended, with all that it started. That has a group
# of its own, which Ctrl-C does not reach: it is ended here, at once. (macOS has no timeout.)
bounded() (
  local limit=$1 status=0 pid='' tries=0
  shift
  # By the signal and not by exit, so that the scripts that wait for it end too.
  trap 'trap - INT; [[ -z $pid ]] || kill -TERM -- "-$pid" 2>/dev/null; sh -c "kill -INT \$PPID"; exit 130' INT
  set -m
  if have timeout; then
    timeout -k 2 "$limit" "$@" <&0 &
    pid=$!
    set +m
    wait "$pid" 2>/dev/null || status=$?
    ((status != 137)) || status=124
    return "$status"
  fi
  "$@" <&0 &
  pid=$!
  set +m
  while kill -0 "$pid" 2>/dev/null; do
    ((tries++ < limit * 10)) || { kill -KILL -- "-$pid" 2>/dev/null || true; status=124; break; }
    sleep 0.1
  done
  if ((status)); then wait "$pid" 2>/dev/null || true; else wait "$pid" || status=$?; fi
  return "$status"
)

# free_megabytes FOLDER: prints what is free there; nothing if the folder is not visible from here (another machine,
# macOS' own): then nobody can say.
free_megabytes() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1024) }'; }

# require_disk MEGABYTES: is so much free where Docker keeps its images?
require_disk() {
  local folder free
  folder=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null) || return 0
  free=$(free_megabytes "$folder") || return 0
  [[ -z $free ]] || ((free >= $1)) ||
    die "only $free MB free where Docker keeps its images ($folder), $1 needed: docker system prune, or free some space"
}
