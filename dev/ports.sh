#!/usr/bin/env bash
# What compose.yml takes of this machine, ports and memory, and who holds a port. Source after lib.sh.
# shellcheck disable=SC2034 # what one part sets another reads

# stack_facts: of a rendered configuration on stdin, `project NAME`, then for each service that is to run
# `port SERVICE TARGET PUBLISHED` and `memory SERVICE BYTES`.
stack_facts() {
  awk '
    function flush() { if (service && scale != 0) printf "%s", facts; service = facts = ""; scale = 1 }
    /^name: / { print "project", $2 }
    /^[^ ]/ { flush(); part = $1 }
    part == "services:" && /^  [^ ]/ { flush(); service = substr($1, 1, length($1) - 1) }
    service && /^    scale: / { scale = $2 + 0 }
    service && /^    mem_limit: / { gsub(/"/, "", $2); facts = facts "memory " service " " $2 "\n" }
    service && /^        target: / { target = $2 }
    service && /^        published: / { gsub(/"/, "", $2); facts = facts "port " service " " target " " $2 "\n" }
    END { flush() }'
}

# take_facts: sets FACTS to them, of CONFIG, and PROJECT to the project's name.
take_facts() {
  FACTS=$(stack_facts <<<"$CONFIG")
  PROJECT=$(awk '$1 == "project" { print $2; exit }' <<<"$FACTS")
}

# port_variable SERVICE: what sets the port that it is published on.
port_variable() {
  case $1 in
    api) printf API_PORT ;;
    postgres) printf POSTGRES_PORT ;;
    redis) printf REDIS_PORT ;;
    *) printf 'the port' ;;
  esac
}

# listening PORT: is somebody? One who does not even accept is there too.
listening() {
  local status=0
  # shellcheck disable=SC2016 # the inner shell's
  bounded 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0"' "$1" 2>/dev/null || status=$?
  ((status == 0 || status == 124))
}

# port_is_ours PROJECT PORT
port_is_ours() {
  [[ -n $(bounded 10 docker ps --quiet --filter "label=com.docker.compose.project=$1" --filter "publish=$2") ]]
}

# port_holder PORT: prints who listens there, as far as this user may know.
port_holder() {
  local found=''
  if have docker; then found=$(bounded 5 docker ps --filter "publish=$1" --format '{{.Names}}' 2>/dev/null | head -n 1); fi
  if [[ -n $found ]]; then printf 'the container %s' "$found"; return; fi
  if have ss; then
    found=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (pid \2)/p' | head -n 1)
  fi
  if [[ -z $found ]] && have lsof; then
    found=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN -Fpc 2>/dev/null |
      awk '/^p/ { pid = substr($0, 2) } /^c/ { print substr($0, 2) " (pid " pid ")"; exit }')
  fi
  printf '%s' "${found:-another program}"
}
