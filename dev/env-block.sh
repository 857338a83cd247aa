#!/usr/bin/env bash
# The marked block of .env that belongs to dev/base-images; every other byte of the file belongs to the user.

block_begin='# >>> nexus base images (written by dev/base-images, do not edit) >>>'
block_end='# <<< nexus base images <<<'

# env_value_outside_block FILE NAME: the last value that the user's own lines give NAME, without quotes.
env_value_outside_block() {
  local line value='' inside=
  [[ -r $1 ]] || return 0
  while IFS= read -r line || [[ -n $line ]]; do
    case $line in
      "$block_begin") inside=yes ;;
      "$block_end") inside= ;;
      *)
        if [[ -z $inside && $line =~ ^[[:space:]]*(export[[:space:]]+)?$2[[:space:]]*=[[:space:]]*(.*)$ ]]; then
          value=${BASH_REMATCH[2]}
        fi
        ;;
    esac
  done <"$1"
  value=${value%%[[:space:]]#*}
  value=${value//[\"\'$'\r']/}
  printf '%s' "${value%"${value##*[![:space:]]}"}"
}

# env_block FILE LINES: makes the block hold exactly LINES, or go if there are none. Nothing is written if nothing changes.
env_block() {
  local file=$1 lines=$2 new
  [[ -e $file || -n $lines ]] || return 0
  # A link is followed: the file behind it is the one to replace.
  if [[ -L $file ]]; then file=$(readlink -f "$file"); fi
  new=$(mktemp "$file.XXXXXX")
  # shellcheck disable=SC2064 # the name as it is now
  trap "rm -f -- '$new'" RETURN
  if [[ -e $file ]]; then
    cat "$file" >"$new.all" 2>/dev/null
  fi
  rm -f "$new.all"
  env_render "$file" "$lines" >"$new"
  if [[ -e $file ]] && cmp -s "$file" "$new"; then return 0; fi
  if [[ -e $file ]]; then chmod --reference="$file" "$new"; else chmod 644 "$new"; fi
  mv -f "$new" "$file"
}

# env_render FILE LINES: the file as it should be. The block stays where it is, or comes last.
env_render() {
  [[ -e $1 ]] || set -- /dev/null "$2"
  BLOCK=$2 awk -v begin="$block_begin" -v end="$block_end" '
    function block() { if (ENVIRON["BLOCK"] != "" && !done) { printf "%s\n%s%s\n", begin, ENVIRON["BLOCK"], end }; done = 1 }
    $0 == begin { inside = 1; next }
    inside && $0 == end { inside = 0; block(); next }
    !inside { print }
    END { block() }
  ' "$1"
}
