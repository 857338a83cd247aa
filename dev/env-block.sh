#!/usr/bin/env bash
# The marked block of .env that belongs to dev/base-images; every other byte of the file belongs to the user.
# Source after lib.sh.

block_begin='# >>> nexus base images: written by dev/base-images >>>'
block_end='# <<< nexus base images <<<'
# Follows the first line if the user's last line had no line end and got one from us, to be taken back with the block.
block_joined='# (the line end above is ours)'
# A line of ours; a line that somebody else put between the marks does not look like this and stays.
block_line='^(PYTHON|POSTGRES|REDIS)_IMAGE=nexus-standin/[^[:space:]]+$'

# read_env FILE: sets ENV_BEFORE and ENV_AFTER (the user's bytes on both sides of the block) and ENV_OLD_BLOCK.
read_env() {
  local line end inside=''
  ENV_BEFORE='' ENV_AFTER='' ENV_OLD_BLOCK=''
  [[ -r $1 ]] || return 0
  while end=$'\n'; IFS= read -r line || { end=''; [[ -n $line ]]; }; do
    if [[ $line == "$block_begin" ]]; then
      inside=yes
    elif [[ -n $inside && ($line =~ $block_line || $line == "$block_joined") ]]; then
      :
    elif [[ -n $inside && $line == "$block_end" ]]; then
      inside=''
    else
      if [[ -n $ENV_OLD_BLOCK ]]; then ENV_AFTER+=$line$end; else ENV_BEFORE+=$line$end; fi
      continue
    fi
    ENV_OLD_BLOCK+=$line$end
  done <"$1"
}

# user_value NAME: the last value that the user's own lines give NAME, without quotes and comment.
user_value() {
  local line value=''
  while IFS= read -r line; do
    if [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?$1[[:space:]]*=[[:space:]]*(.*)$ ]]; then value=${BASH_REMATCH[2]}; fi
  done <<<"$ENV_BEFORE"$'\n'"$ENV_AFTER"
  value=${value%%[[:space:]]#*}
  value=${value//[\"\'$'\r']/}
  REPLY=${value%"${value##*[![:space:]]}"}
}

# env_block FILE LINES: makes the block hold exactly LINES, or go if there are none. Nothing is written if nothing changes.
env_block() {
  local file=$1 lines=$2 block='' joined=''
  read_env "$file"
  if [[ $ENV_OLD_BLOCK == *"$block_joined"* ]]; then joined=yes; fi
  if [[ -n $lines ]]; then
    if [[ -n $ENV_BEFORE && $ENV_BEFORE != *$'\n' ]]; then joined=yes ENV_BEFORE+=$'\n'; fi
    block=$block_begin$'\n'${joined:+$block_joined$'\n'}$lines$block_end$'\n'
  elif [[ -n $joined && -z $ENV_AFTER ]]; then
    ENV_BEFORE=${ENV_BEFORE%$'\n'}
  fi
  [[ $block != "$ENV_OLD_BLOCK" ]] || return 0
  write_env "$file" "$ENV_BEFORE$block$ENV_AFTER"
}

# Replaced at one stroke, with the mode that it had. A file that held nothing but the block goes with it.
write_env() {
  local file=$1 new
  # A link is followed: the file behind it is the one to replace.
  if [[ -L $file ]]; then file=$(readlink -f "$file"); fi
  if [[ -z $2 ]]; then rm -f -- "$file"; return; fi
  new=$file.nexus.$$
  if [[ -e $file ]]; then cp -p -- "$file" "$new"; fi
  if ! { printf '%s' "$2" >"$new" && mv -f -- "$new" "$file"; }; then
    rm -f -- "$new"
    die ".env cannot be written: make $file and its folder writable"
  fi
}
