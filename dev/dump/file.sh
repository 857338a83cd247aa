# shellcheck shell=bash
# The file of a backup: a tar of nexus.dump (pg_dump's custom format), manifest.json and manifest.sha256, in this order, so
# that the dump is written in one go and the rest when it is known. Sourced after lib.sh, with tools.sh.
# shellcheck disable=SC2034 # what one part sets another reads

FORMAT_VERSION=1
#: Where the dump begins.
DUMP_AT=512

# nothing COUNT: so many bytes of value 0.
nothing() {
  local blanks
  printf -v blanks '%*s' "$1" ''
  printf '%b' "${blanks// /\\0}"
}

padding() { nothing "$(((512 - $1 % 512) % 512))"; }

# tar_number N: a field of 12 bytes: octal digits, from 8 GiB on the binary form that tar has for it.
tar_number() {
  local shift bytes=
  if (($1 < 8 << 30)); then
    printf '%011o\0' "$1"
  else
    for ((shift = 56; shift >= 0; shift -= 8)); do printf -v bytes '%s\\0%03o' "$bytes" "$(($1 >> shift & 255))"; done
    printf '\200\0\0\0%b' "$bytes"
  fi
}

# tar_fields NAME SIZE TIME CHECKSUM: a header of 512 bytes, as POSIX has it (ustar).
tar_fields() {
  printf '%s' "$1"
  nothing "$((100 - ${#1}))"
  printf '0000600\0000000000\0000000000\000'
  tar_number "$2"
  tar_number "$3"
  printf '%s0' "$4"
  nothing 100
  printf 'ustar\00000'
  nothing 247
}

tar_header() {
  local sum
  sum=$(tar_fields "$1" "$2" "$3" '        ' | od -An -v -tu1 | awk '{ for (i = 1; i <= NF; i++) sum += $i } END { print sum }')
  # Six digits, then a byte 0 and a blank: bash cannot hold that byte in a variable.
  tar_fields "$1" "$2" "$3" "$(printf '%06o' "$sum")@ " | tr @ '\0'
}

# after_dump BYTES TIME MANIFEST: everything that follows the dump.
after_dump() {
  local sum
  sum="$(printf '%s\n' "$3" | sha256_of_input | cut -c 1-64)  manifest.json"
  padding "$1"
  tar_header manifest.json "$((${#3} + 1))" "$2"
  printf '%s\n' "$3"
  padding "$((${#3} + 1))"
  tar_header manifest.sha256 "$((${#sum} + 1))" "$2"
  printf '%s\n' "$sum"
  padding "$((${#sum} + 1))"
  nothing 1024
}

sha256_of_input() { if have sha256sum; then sha256sum; else shasum -a 256; fi; }

# part FILE OFFSET BYTES. That tail is cut short by head is no failure.
part() (
  set +o pipefail
  tail -c "+$(($2 + 1))" "$1" | head -c "$3"
)

# text_at FILE OFFSET BYTES: without the bytes 0 at its end.
text_at() { part "$@" | LC_ALL=C tr -d '\0'; }

# number_at FILE OFFSET: sets REPLY to the number in a header; empty if there is none.
number_at() {
  local bytes byte digits
  REPLY=
  read -ra bytes < <(part "$1" "$2" 12 | od -An -v -tu1 | tr '\n' ' ') || true
  if [[ ${bytes[0]:-} == 128 && ${bytes[4]:-0} -lt 128 ]]; then
    REPLY=0
    for byte in "${bytes[@]:4}"; do REPLY=$((REPLY << 8 | byte)); done
  else
    digits=$(text_at "$1" "$2" 12)
    if [[ $digits =~ ^[0-7]{11}$ ]]; then REPLY=$((8#$digits)); fi
  fi
}

# manifest_value KEY: of MANIFEST, empty if it is not there.
manifest_value() { sed -nE "s/^  \"$1\": \"?([^\",]*)\"?,?\$/\\1/p" <<<"$MANIFEST"; }

# open_file FILE: looks at all of it but the dump. Sets DUMP_BYTES, MANIFEST and what stands in it: REVISION, ROWS (a line for
# each table), DUMP_SHA256, PRODUCT_VERSION, POSTGRES_VERSION, CREATED_AT.
open_file() {
  local file=$1 size time at length
  size=$(($(wc -c <"$file")))
  ((size)) || die "$file is empty: take another backup"
  [[ $(text_at "$file" 0 100) == nexus.dump && $(text_at "$file" 257 5) == ustar ]] ||
    die "$file is no backup of Nexus: name a file that 'make backup' has written"
  number_at "$file" 124
  DUMP_BYTES=$REPLY
  number_at "$file" 136
  time=$REPLY
  [[ -n $DUMP_BYTES && -n $time ]] || damaged "$file" 'its head cannot be read'
  at=$((DUMP_AT + DUMP_BYTES + (512 - DUMP_BYTES % 512) % 512))
  ((size > at + 512)) || truncated "$file" "$size" "more than $((at + 512))"
  number_at "$file" "$((at + 124))"
  length=$REPLY
  if [[ $(text_at "$file" "$at" 100) != manifest.json || -z $length ]] || ((length > 1 << 20)); then
    damaged "$file" 'its manifest is not where it should be'
  fi
  ((size >= at + 512 + length)) || truncated "$file" "$size" "more than $((at + 512 + length))"
  MANIFEST=$(text_at "$file" "$((at + 512))" "$length")
  check_rest "$file" "$size" "$time"
  read_manifest "$file"
}

damaged() { die "$1 is damaged, $2: take another backup, or another copy of this one"; }
truncated() { die "$1 is truncated, it has $2 bytes of $3: take another backup, or another copy of this one"; }

# check_rest FILE SIZE TIME: nothing but the dump may differ from what we would write.
check_rest() {
  local file=$1 rest=$WORK/rest version
  after_dump "$DUMP_BYTES" "$3" "$MANIFEST" >"$rest"
  local wanted=$((DUMP_AT + DUMP_BYTES + $(wc -c <"$rest")))
  version=$(manifest_value format_version)
  # A later format may have other parts; only this line is promised.
  [[ $version == "$FORMAT_VERSION" || ! $version =~ ^[0-9]+$ ]] ||
    die "$file has format $version, this Nexus reads $FORMAT_VERSION: restore it with Nexus $(manifest_value product_version), which made it"
  (($2 >= wanted)) || truncated "$file" "$2" "$wanted"
  tar_header nexus.dump "$DUMP_BYTES" "$3" | cmp -s - <(part "$file" 0 512) || damaged "$file" 'its head is not as written'
  cmp -s "$rest" <(tail -c "+$((DUMP_AT + DUMP_BYTES + 1))" "$file") || damaged "$file" 'its manifest is not as written'
}

read_manifest() {
  REVISION=$(manifest_value revision)
  DUMP_SHA256=$(manifest_value dump_sha256)
  PRODUCT_VERSION=$(manifest_value product_version)
  POSTGRES_VERSION=$(manifest_value postgres_version)
  CREATED_AT=$(manifest_value created_at)
  ROWS=$(sed -nE 's/^(    ".*": [0-9]+),?$/\1/p' <<<"$MANIFEST")
  [[ $(manifest_value format_version) == "$FORMAT_VERSION" && $(manifest_value dump_bytes) == "$DUMP_BYTES" &&
    $REVISION =~ ^[A-Za-z0-9_]+$ && $DUMP_SHA256 =~ ^[0-9a-f]{64}$ && -n $ROWS ]] ||
    damaged "$1" 'its manifest says too little'
}

# make_manifest: from the same variables.
make_manifest() {
  MANIFEST=$(
    printf '{\n  "format": "nexus-backup",\n  "format_version": %d,\n' "$FORMAT_VERSION"
    printf '  "%s": "%s",\n' created_at "$CREATED_AT" product_version "$PRODUCT_VERSION" revision "$REVISION" \
      postgres_version "$POSTGRES_VERSION" dump nexus.dump
    printf '  "dump_bytes": %d,\n  "dump_sha256": "%s",\n' "$DUMP_BYTES" "$DUMP_SHA256"
    printf '  "rows": {\n%s\n  }\n}' "${ROWS//$'\n'/,$'\n'}"
  )
}

# summary: "1234 rows in 8 tables"
summary() { awk '{ rows += $NF } END { printf "%d rows in %d tables", rows, NR }' <<<"$ROWS"; }

# inspect_dump FILE WHAT: reads the dump with pg_restore. Sets FOUND_POSTGRES, FOUND_REVISION, FOUND_ROWS, and SUM.
inspect_dump() {
  rm -f -- "$WORK/facts"
  start_tool "$WORK/facts" inspect
  feed "$1" "$DUMP_AT" "$DUMP_BYTES" "$2"
  exec 5>&-
  finish_tool 'nothing was changed'
  FACTS=$(<"$WORK/facts")
  UNREADABLE=$(sed -n 's/^unreadable //p' <<<"$FACTS")
  FOUND_POSTGRES=$(sed -n 's/^postgres //p' <<<"$FACTS")
  FOUND_REVISION=$(sed -n 's/^revision //p' <<<"$FACTS")
  FOUND_ROWS=$(sed -n '/^    "/p' <<<"$FACTS")
}
