#!/usr/bin/env bash
# .env against .env.example: what is half written, misspelt, given twice, or would not arrive as it stands there. No value
# is ever printed: it may be a secret. Sourced by dev/doctor.
# shellcheck disable=SC2034,SC2154 # what one part sets another reads

env_faults=0

# What .env gives to each name, line by line, as Compose takes it.
TAKEN_NAMES=() TAKEN_VALUES=()
UNTOLD=$'\x1f' # in place of a value that only Compose could tell; no line holds it

# known_names: every name that .env.example documents, one a line.
known_names() { sed -n 's/^#\{0,1\}\([A-Z][A-Z0-9_]*\)=.*/\1/p' .env.example 2>/dev/null; }

is_known() {
  # COMPOSE_* is Compose's own.
  [[ $1 == COMPOSE_* || $KNOWN == *$'\n'"$1"$'\n'* ]]
}

# nearest NAME: prints the known name it may be meant for: at most a fifth of it wrong, or a part of a known one.
nearest() {
  awk -v wrong="$1" '
    function least(a, b, c) { if (b < a) a = b; return c < a ? c : a }
    function distance(a, b,    i, j, left, old, row) {
      for (j = 0; j <= length(b); j++) row[j] = j
      for (i = 1; i <= length(a); i++) {
        left = row[0]; row[0] = i
        for (j = 1; j <= length(b); j++) {
          old = row[j]
          row[j] = least(row[j] + 1, row[j - 1] + 1, left + (substr(a, i, 1) != substr(b, j, 1)))
          left = old
        }
      }
      return row[length(b)]
    }
    BEGIN { wrong = toupper(wrong); gsub(/[-. ]/, "_", wrong); best = 1 + int(length(wrong) / 5) + 0.5 }
    $0 == "" { next }
    { d = distance(wrong, $0); if (length(wrong) >= 5 && index($0, wrong)) d = d < 1 ? d : 1 }
    d < best { best = d; name = $0 }
    END { print name }' <<<"$KNOWN"
}

env_fault() { # env_fault MESSAGE REMEDY
  env_faults=$((env_faults + 1))
  fault env "$@"
}

# check_name NUMBER NAME
check_name() {
  local meant
  if is_known "$2"; then
    if [[ $SEEN == *" $2:"* ]]; then
      meant=${SEEN##*" $2:"}
      warning env "$2 stands in .env twice (lines ${meant%% *} and $1), the second counts" 'remove one of them'
    fi
    SEEN+=" $2:$1 "
    return
  fi
  meant=$(nearest "$2")
  if [[ -n $meant ]]; then
    env_fault "line $1 of .env sets $2, which nothing reads: did you mean $meant?" "correct the name; .env.example has them all"
  elif [[ $2 =~ ^[A-Z][A-Z0-9_]*$ && ${#2} -le 40 ]]; then
    warning env "line $1 of .env sets $2, which nothing of Nexus reads" 'remove it, unless it is yours'
  else
    # It may be the second half of a secret.
    warning env "line $1 of .env sets a name that nothing of Nexus reads" 'remove it, unless it is yours'
  fi
}

# exported NAME: does Compose find it in the environment? A variable of this script is not there.
exported() { [[ $(declare -p "$1" 2>/dev/null) =~ ^declare\ -[A-Za-z]*x[A-Za-z]*\ [A-Za-z0-9_]+= ]]; }

# taken NAME: sets REPLY to what Compose finds under it, in the environment, else in the lines so far. Fails if there is none.
taken() {
  local i
  REPLY=''
  if exported "$1"; then REPLY=${!1}; return; fi
  for ((i = ${#TAKEN_NAMES[@]} - 1; i >= 0; i--)); do
    if [[ ${TAKEN_NAMES[i]} == "$1" ]]; then REPLY=${TAKEN_VALUES[i]}; return; fi
  done
  return 1
}

# expand_one NAME OPERATOR WORD: sets REPLY to what Compose makes of ${NAME OPERATOR WORD}; fails as expand does.
expand_one() {
  local there=yes
  taken "$1" || there=''
  if [[ $REPLY == "$UNTOLD" ]]; then return 2; fi
  case $2 in
    '' | '?') [[ -n $there ]] || return 1 ;;
    ':?') [[ -n $REPLY ]] || return 1 ;;
    -) [[ -n $there ]] || REPLY=$3 ;;
    :-) REPLY=${REPLY:-$3} ;;
    +) REPLY=${there:+$3} ;;
    :+) REPLY=${REPLY:+$3} ;;
  esac
}

# expand TEXT: sets REPLY to what Compose makes of it. 1: a $ in it does not begin a variable that is set or has a default;
# 2: it is one that only Compose can tell, such as a variable in the default of another.
expand() {
  local rest=$1 before='' name='([A-Za-z_][A-Za-z0-9_]*)' bare braced nested
  bare="^$name" braced="^\\{$name((:?[-?+])([^{}\$]*))?\\}" nested="^\\{$name:?[-?+]"
  while [[ $rest == *'$'* ]]; do
    before+=${rest%%'$'*} rest=${rest#*'$'}
    if [[ ! $rest =~ $bare && ! $rest =~ $braced ]]; then
      if [[ $rest =~ $nested ]]; then return 2; else return 1; fi
    fi
    rest=${rest#"${BASH_REMATCH[0]}"}
    expand_one "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]-}" "${BASH_REMATCH[4]-}" || return
    before+=$REPLY
  done
  REPLY=$before$rest
}

# inner_value NUMBER NAME VALUE: sets REPLY to it without quotes and comment; fails, and says why, where they are amiss.
inner_value() {
  local number=$1 name=$2 value=$3 quote=${3:0:1} after=${3:1}
  if [[ $quote != [\'\"] ]]; then
    value=${value%%[[:space:]]#*}
    REPLY=${value%"${value##*[![:space:]]}"}
    [[ $REPLY == *[\'\"] ]] || return 0
    env_fault "line $number of .env: the value of $name ends with a quote that nothing opens" 'remove it, or put the value into the other kind of quotes'
    return 1
  fi
  # What a backslash keeps from its meaning is no matter here.
  if [[ $quote == '"' ]]; then after=${after//\\[\"\$]/}; fi
  if [[ $after != *"$quote"* ]]; then
    env_fault "line $number of .env: the quote before the value of $name is not closed" "put another $quote at its end"
    return 1
  fi
  value=${after%%"$quote"*}
  after=${after#*"$quote"}
  if [[ $after =~ ^[[:space:]]*[^[:space:]#] ]]; then
    env_fault "line $number of .env: something follows the closing quote of $name" "remove it, or quote the value with the other kind of quotes"
    return 1
  fi
  REPLY=$value
}

# check_value NUMBER NAME VALUE: would Compose read what was meant? What it makes of it is kept.
check_value() {
  # shellcheck disable=SC2016 # characters, no variable
  local value=$UNTOLD status=0 after=${3#[\'\"]} marks='["${}:?+-]'
  VALUES+=$3$'\n'$after$'\n'${after%[\'\"]}$'\n'
  if inner_value "$@"; then
    if [[ $3 != "'"* ]]; then expand "$REPLY" || status=$?; fi
    if ((status == 0)) && [[ $3 != '"'*\\* ]]; then value=$REPLY; fi
    ((status != 1)) ||
      env_fault "line $1 of .env: $2 holds a \$ outside of single quotes, and Compose replaces what follows it" 'put the value into single quotes'
  fi
  # Of an untold one each part may be a secret.
  # shellcheck disable=SC2295 # a pattern
  if [[ $value == "$UNTOLD" ]]; then VALUES+=${3//$marks/$'\n'}$'\n'; else VALUES+=$value$'\n'; fi
  TAKEN_NAMES+=("$2") TAKEN_VALUES+=("$value")
}

# redact TEXT: prints it without any value of .env or of a setting in the shell; programs quote what they cannot read.
redact() {
  local text=$1 value name
  while IFS= read -r value; do
    if ((${#value} >= 3)); then text=${text//"$value"/…}; fi
  done <<<"$VALUES"
  for name in $KNOWN; do
    value=${!name:-}
    if ((${#value} >= 3)); then text=${text//"$value"/…}; fi
  done
  printf '%s' "$text"
}

# check_line NUMBER LINE
check_line() {
  local name value line=$2
  line=${line#"${line%%[![:space:]]*}"}
  if [[ -z $line || $line == '#'* ]]; then return; fi
  if [[ $line =~ ^export[[:space:]]+(.*)$ ]]; then line=${BASH_REMATCH[1]}; fi
  name=${line%%=*}
  name=${name%"${name##*[![:space:]]}"}
  if [[ $line != *=* ]]; then
    # The rest of a secret may stand here: only what is a name of ours is shown.
    is_known "$name" || name='it'
    env_fault "line $1 of .env is half written: there is no = after $name" 'complete the line, or remove it'
  elif [[ ! $name =~ ^[A-Za-z_][A-Za-z0-9_.-]*$ ]]; then
    env_fault "line $1 of .env does not begin with a name and =" 'correct the line, or remove it'
  else
    check_name "$1" "$name"
    value=${line#*=}
    check_value "$1" "$name" "${value#"${value%%[![:space:]]*}"}"
  fi
}

# check_dotenv_mode: in staging and prod nobody else may read it.
check_dotenv_mode() {
  local mode
  if ! setting NEXUS_ENV; then
    # What is amiss with its line is said already.
    ((env_faults)) || unchecked env 'who may read .env: only Compose can tell what NEXUS_ENV is'
    return
  fi
  [[ $REPLY == staging || $REPLY == prod ]] || return 0
  mode=$(ls -ldL .env)
  [[ ${mode:7:1} != r ]] || env_fault ".env can be read by every user of this machine (NEXUS_ENV is $REPLY)" 'chmod 600 .env'
}

# setting NAME: sets REPLY to what the shell says, else .env, else nothing. Fails where only Compose could tell.
setting() {
  taken "$1" || return 0
  [[ $REPLY != "$UNTOLD" ]] || { REPLY=''; return 1; }
}

check_dotenv() {
  local line number=0 before=$found
  SEEN='' VALUES=''
  KNOWN=$'\n'$(known_names)$'\n'
  TAKEN_NAMES=() TAKEN_VALUES=() env_is_known=0
  if [[ ! -e .env ]]; then
    if [[ -L .env ]]; then env_fault '.env is a link to nothing' 'remove it, or make what it points to'; return; fi
    env_is_known=1
    ok env 'there is no .env: everything has its default'
    return
  fi
  if [[ ! -f .env || ! -r .env ]]; then env_fault '.env is no file that you can read' 'ls -l .env, then chown or chmod it'; return; fi
  if [[ -z ${KNOWN//$'\n'/} ]]; then unchecked env 'there is no .env.example to compare with'; return; fi
  env_is_known=1
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    if ((number == 1)); then line=${line#$'\xef\xbb\xbf'}; fi
    check_line "$number" "${line%$'\r'}"
  done <.env
  check_dotenv_mode
  if ((found == before)); then ok env '.env is well formed, and names nothing unknown'; fi
}
