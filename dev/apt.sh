#!/usr/bin/env bash
# apt without touching the system: lists, cache and status of our own in a folder, everything else (proxies, CA,
# credentials, mirrors) as this machine has it. Needs no root. Source after lib.sh.

# The archive's own addresses: used only on a machine that names no Debian mirror of its own (Ubuntu).
DEBIAN_DEFAULT=http://deb.debian.org/debian
SECURITY_DEFAULT=http://deb.debian.org/debian-security

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
  local line
  line=$(grep -m1 -E '^(E|W|Err)[:]' "$1" 2>/dev/null || tail -n 1 "$1" 2>/dev/null) || true
  printf '%s' "${line:-no reason given}"
}

# debian_mirrors: sets MIRROR, UPDATES (yes or empty), SECURITY (address or empty) from the machine's configuration.
# Origin is known to apt once lists were fetched; before that the address' last part has to do.
debian_mirrors() {
  local uri release component origin label
  MIRROR='' UPDATES='' SECURITY=''
  os_release
  if [[ $OS_ID != debian ]]; then
    MIRROR=$DEBIAN_DEFAULT UPDATES=yes SECURITY=$SECURITY_DEFAULT
    return 0
  fi
  while IFS='|' read -r uri release component origin label; do
    [[ $component == main ]] || continue
    case $origin:$label:$release:${uri%/} in
      Debian:Debian-Security:* | *\)::*-security:*/debian-security) SECURITY=${SECURITY:-${uri%/}} ;;
      Debian:Debian:*-updates:* | *\)::*-updates:*/debian) UPDATES=yes ;;
      Debian:Debian:*-backports*) ;;
      Debian:Debian:* | *\)::*:*/debian) MIRROR=${MIRROR:-${uri%/}} ;;
    esac
  done < <(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(LABEL)' \
    'Created-By: Packages' 2>/dev/null)
  MIRROR=${MIRROR:-$DEBIAN_DEFAULT}
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
