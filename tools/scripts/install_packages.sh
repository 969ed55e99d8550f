#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building and running Lockstep needs and this machine lacks. --tests: also what its tests need.
set -eu

packages="g++ cmake ninja-build libopenmpi-dev openmpi-bin libdnnl-dev libeigen3-dev libcli11-dev libfmt-dev
  nlohmann-json3-dev libxxhash-dev libre2-dev libtomlplusplus-dev libutf8proc-dev zlib1g-dev dataset-fashion-mnist"
test_packages="libgtest-dev libgmock-dev clang-format patchelf pkg-config python3-venv"

usage() {
  echo "usage: tools/scripts/install_packages.sh [--tests]"
  echo "Installs missing Debian packages with apt-get; --tests adds what the tests need."
}

die() {
  echo "install_packages: error: $1" >&2
  exit "${2:-1}"
}

for option in "$@"; do
  case "$option" in
    --tests) packages="$packages $test_packages" ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; die "unknown option '$option'" 2 ;;
  esac
done

# Elsewhere the names differ: the user installs, and CMake says which library is missing.
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  missing=""
  for command in g++ cmake ninja; do command -v "$command" >/dev/null || missing="$missing $command"; done
  [ -z "$missing" ] && exit 0
  die "this is no Debian-like system, so nothing can be installed here, and these commands are missing:$missing.
  Install by hand what these Debian packages hold: $(echo $packages)"
fi

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=""
for package in $packages; do is_installed "$package" || missing="$missing $package"; done
[ -z "$missing" ] && exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  # Nobody can type a password without a terminal.
  if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root="sudo"
  else
    die "these packages are missing, and installing them takes root or sudo:$missing
  Ask an administrator to run: apt-get install --no-install-recommends$missing"
  fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null && return
  tail -n 20 "$log" >&2
  die "apt-get $1 failed (its last lines are above); missing packages:$missing"
}
echo "Installing packages:$missing"
apt update
apt install -y --no-install-recommends $missing
