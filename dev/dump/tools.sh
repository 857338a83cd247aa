# shellcheck shell=bash
# shellcheck disable=SC2034 # what one part sets another reads
# Runs a program of dev/dump/inside in a container of the service `backup`. Sourced after lib.sh, by scripts that call
# begin_work first. Whatever ends such a script, no container is left: it ends with its standard input, which is held here.

#: Exit code of a program of inside/ that has said why in one line.
SAID=70

# given_file FILE: sets REPLY to a name that means the same from the top folder, to which scripts change.
given_file() {
  REPLY=$1
  if [[ $1 == -* ]]; then REPLY=./$1; fi
  if [[ $1 == [!/]* && ! . -ef "$(dirname "${BASH_SOURCE[0]}")/../.." ]]; then REPLY=$PWD/$1; fi
}

# begin_work: $WORK is a folder until the end of the script, and the way out is `leave`, which calls tidy_up.
begin_work() {
  umask 077
  WORK=$(mktemp -d)
  mkdir "$WORK/tool"
  TOOL='' FEEDER='' WHY=''
  trap 'leave $?' EXIT
  # A second signal (make passes on what the whole group has had already) must not cut the tidying short.
  trap 'trap "" INT TERM HUP; exit 130' INT
  trap 'trap "" INT TERM HUP; exit 143' TERM HUP
}

leave() {
  local status=$1
  trap '' INT TERM HUP
  trap - EXIT
  if [[ -n $FEEDER ]]; then kill -TERM -- "-$FEEDER" 2>/dev/null || true; fi
  if [[ -n $TOOL ]]; then end_tool; fi
  tidy_up
  rm -rf -- "$WORK"
  exit "$status"
}

end_tool() {
  exec 5>&-
  end_group
  kill "$LISTENER" 2>/dev/null || true
  # Compose gives up at once and lets the container be.
  docker rm --force "$TOOL" >/dev/null 2>&1 || true
  # One that has ended by itself the engine is removing already; it is there for a moment longer.
  local tries=0
  while ((tries++ < 50)) && [[ -n $(docker ps --all --quiet --filter "name=$TOOL" 2>/dev/null) ]]; do sleep 0.1; done
}

# start_tool OUT PROGRAM [ARGUMENT...]: starts it; its output is added to the file OUT. fd 5 is its standard input, and the
# sign that we are alive.
start_tool() {
  local out=$1 program
  program=$(cat dev/dump/inside/session.sh "dev/dump/inside/$2.sh")
  shift 2
  TOOL=nexus-backup-$$-$RANDOM$RANDOM
  rm -f -- "$WORK/tool"/*
  mkfifo "$WORK/tool/in" "$WORK/tool/said" "$WORK/tool/hash"
  listen <"$WORK/tool/said" &
  LISTENER=$!
  set -m
  run_tool "$program" "$@" <"$WORK/tool/in" 2>"$WORK/tool/said" >>"$out" &
  GROUP=$!
  set +m
  exec 5>"$WORK/tool/in"
}

# Through cat, which says why when it cannot write.
run_tool() {
  docker compose --progress quiet run --rm -T --no-deps --name "$TOOL" backup -c "$1" nexus-tools "${@:2}" |
    LC_ALL=C cat 2>"$WORK/tool/unwritten"
}

# What a program of ours says is for people. What Compose and the engine say is kept for the case that nobody said why.
listen() {
  local line
  while IFS= read -r line; do
    case $line in
      'progress '*) say "${line#progress }" ;;
      'nexus: '*) printf '%s\n' "$line" >&2 ;;
      *[![:space:]]*) printf '%s\n' "$line" >"$WORK/tool/other" ;;
    esac
  done
}

# feed FILE OFFSET BYTES [WHAT]: this part of the file to the tool, SUM is its sha256. WHAT names the work in lines about the
# progress. In pieces, so that it ends soon when this script is no more.
feed() {
  set -m
  {
    sha256_of_input <"$WORK/tool/hash" >"$WORK/tool/sum" &
    pieces "$@" | tee "$WORK/tool/hash" >&5
    wait
  } 2>/dev/null &
  FEEDER=$!
  set +m
  if [[ -n ${4:-} ]]; then watch_feed "$3" "$4"; fi
  wait "$FEEDER" || true # the tool has ended early, or the file has: the sum tells
  FEEDER=
  SUM=$(cut -c 1-64 "$WORK/tool/sum")
}

PIECE=$((8 << 20))
pieces() {
  local file=$1 offset=$2 bytes=$3 fed size
  for ((fed = 0; fed < bytes; fed += size)); do
    size=$((bytes - fed < PIECE ? bytes - fed : PIECE))
    kill -0 $$ || return
    part "$file" "$((offset + fed))" "$size" || return
    printf '%s\n' "$((fed + size))" >"$WORK/tool/fed"
  done
}

# watch_feed BYTES WHAT: a line every five seconds.
watch_feed() {
  local fed last=$SECONDS
  while kill -0 "$FEEDER" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - last >= 5)); then
      last=$SECONDS
      fed=$(cat "$WORK/tool/fed" 2>/dev/null || printf 0)
      say "$2: $(megabytes "${fed:-0}") of $(megabytes "$1") MB ($((100 * ${fed:-0} / $1)) %)"
    fi
  done
}

megabytes() { printf '%d.%d' "$(($1 / 1000000))" "$(($1 / 100000 % 10))"; }

# finish_tool CONSEQUENCE: waits for its end. Unless it ends well, the script does, with one line. WHY is the reason, if known.
finish_tool() {
  local status=0
  wait "$GROUP" || status=$?
  GROUP=
  wait "$LISTENER"
  exec 5>&-
  [[ ! -s $WORK/tool/unwritten ]] || die "$(sed -n '1s/.*: //p' "$WORK/tool/unwritten"): $1"
  ((status)) || { TOOL=; return 0; }
  ((status != SAID)) || exit 1
  die "${WHY:-the tools of Postgres could not be run ($(cat "$WORK/tool/other" 2>/dev/null || printf 'exit code %d' "$status"))}: $1"
}
