#!/usr/bin/env bash
# apt without touching the system: lists, cache and status of our own in a folder, everything else (proxies, CA,
# credentials, mirrors) as this machine has it. Needs no root. Source after lib.sh.

# apt_folder DIR [keep-sources]: writes DIR/apt.conf. It is read after the machine's own configuration (-c), so it can also
# empty hooks that would run on every private update.
apt_folder() {
  local dir=$1
  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
  : >"$dir/status"
  {
    printf 'Dir::State "%s";\nDir::State::Lists "%s";\nDir::State::Status "%s";\n' "$dir" "$dir/lists" "$dir/status"
    printf 'Dir::Cache "%s";\nDir::Cache::Archives "%s";\n' "$dir/cache" "$dir/cache/archives"
    printf 'Dir::Log "%s";\nDir::Etc::Preferences "/dev/null";\nDir::Etc::PreferencesParts "/dev/null";\n' "$dir"
    if [[ ${2:-} != keep-sources ]]; then
      printf 'Dir::Etc::SourceList "%s";\nDir::Etc::SourceParts "/dev/null";\n' "$dir/sources.list"
      # One list that cannot be fetched is a failure, not a warning.
      printf 'APT::Update::Error-Mode "any";\n'
    fi
    cat <<'CONF'
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
APT::Sandbox::User "root";
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
CONF
  } >"$dir/apt.conf"
}

# apt_in DIR ARGUMENTS...: apt-get with that folder.
apt_in() {
  local dir=$1
  shift
  LC_ALL=C apt-get -c "$dir/apt.conf" -q -y "$@"
}

# first_apt_error FILE: the line of apt's output that says why, for a one-line message.
first_apt_error() {
  local mark line
  for mark in E: Err: W:; do
    line=$(grep -m1 "^$mark" "$1" 2>/dev/null) && break
  done
  printf '%s' "${line:-no reason given}"
}

# configured_releases: this machine's package sources, as `address|release|component|origin|label`. Before the first
# `apt-get update` apt lists none of them, but knows what it would fetch: then component and origin are unknown.
# shellcheck disable=SC2016 # apt's own variables
configured_releases() {
  local known
  known=$(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(LABEL)' 'Created-By: Packages' 2>/dev/null) || true
  if [[ -n $known ]]; then
    printf '%s\n' "$known"
  else
    apt-get -o Debug::NoLocking=true update --print-uris 2>/dev/null | sed -n "s,^'\(.*\)/dists/\([^/]*\)/InRelease' .*,\1|\2|main||,p"
  fi
}

# foreign_mirror DIR: prints where Debian is to be had for a machine that names no mirror of it (Ubuntu): DEBIAN_MIRROR, else
# what the signed package debootstrap knows. This project holds no such address.
foreign_mirror() {
  if [[ -n ${DEBIAN_MIRROR:-} ]]; then printf '%s' "${DEBIAN_MIRROR%/}"; return; fi
  fetch_unpacked "$1" debootstrap || return 1
  sed -n 's/^DEF_MIRROR="\(.*\)"$/\1/p' "$1/unpacked/usr/sbin/debootstrap"
}

# debian_mirrors DIR: sets MIRROR, UPDATES (yes or empty), SECURITY (address or empty) from the machine's configuration.
# Where the origin is unknown, the address' last part has to do.
# shellcheck disable=SC2034 # for the scripts that source this
debian_mirrors() {
  local uri release component origin label
  MIRROR='' UPDATES='' SECURITY=''
  os_release
  if [[ $OS_ID != debian ]]; then
    MIRROR=$(foreign_mirror "$1") UPDATES=yes
    [[ -n $MIRROR ]]
    return
  fi
  while IFS='|' read -r uri release component origin label; do
    [[ $component == main ]] || continue
    case $origin:$label:$release:${uri%/} in
      Debian:Debian-Security:* | ::*-security:*/debian-security) SECURITY=${SECURITY:-${uri%/}} ;;
      Debian:Debian:*-updates:* | ::*-updates:*/debian) UPDATES=yes ;;
      Debian:Debian:*-backports* | ::*-backports*) ;;
      Debian:Debian:* | ::*:*/debian) MIRROR=${MIRROR:-${uri%/}} ;;
    esac
  done < <(configured_releases)
  [[ -n ${MIRROR:=${DEBIAN_MIRROR:-}} ]]
}

# debian_keyring DIR: sets KEYRING to the archive keys that this system trusts; Ubuntu has them as a signed package.
debian_keyring() {
  local dir=$1
  KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
  [[ -r $KEYRING ]] && return 0
  fetch_unpacked "$dir" debian-archive-keyring || return 1
  KEYRING=$dir/unpacked$KEYRING
  [[ -r $KEYRING ]]
}

# debian_source ADDRESS SUITE: one line of a private source list: only the package lists, no translations.
debian_source() { printf 'deb [signed-by=%s target=Packages] %s %s main\n' "$KEYRING" "$1" "$2"; }

# fetch_unpacked DIR PACKAGE: PACKAGE of this machine's own release into DIR/unpacked.
fetch_unpacked() {
  local dir=$1/own package=$2
  apt_folder "$dir" keep-sources
  apt_in "$dir" update >"$dir/log" 2>&1 || return 1
  (cd "$dir" && apt_in "$dir" download "$package" >"$dir/log" 2>&1) || return 1
  mkdir -p "$1/unpacked"
  dpkg-deb -x "$dir/$package"_*.deb "$1/unpacked"
}
