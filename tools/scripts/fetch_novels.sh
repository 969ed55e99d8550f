#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches six novels by Jane Austen as text files, to train a first language model on. They come out of a Debian package
# (r-cran-janeaustenr), which is neither installed nor needs R; root is not needed either.
set -eu

usage() {
  cat <<'END'
usage: tools/scripts/fetch_novels.sh DIR

Writes emma.txt, mansfield_park.txt, northanger_abbey.txt, persuasion.txt, pride_and_prejudice.txt and
sense_and_sensibility.txt into DIR, 4.0 MB of text in the public domain. What is there already is not fetched again.
Needs apt-get and dpkg-deb (Debian and its kin), a network or a cache of apt, g++ and zlib.
END
}

die() {
  echo "fetch_novels: error: $1" >&2
  exit "${2:-1}"
}

case "${1:-}" in
  --help | -h) usage; exit 0 ;;
  '' | -*) usage >&2; die "expected one folder, got '${1:-nothing}'" 2 ;;
esac
[ $# -eq 1 ] || { usage >&2; die "expected one folder, got $#" 2; }
here=$(cd "$(dirname "$0")" && pwd)
package=r-cran-janeaustenr
names="emma mansfield_park northanger_abbey persuasion pride_and_prejudice sense_and_sensibility"  # their order in the package

missing=""
for name in $names; do [ -s "$1/$name.txt" ] || missing="$missing $name"; done
[ -n "$missing" ] || { echo "the novels are in $1 already"; exit 0; }

for command in apt-get dpkg-deb g++; do
  command -v $command >/dev/null || die "$command is not there; the novels come out of a Debian package. Any other text will do, too"
done
mkdir -p "$1"
work=$(mktemp -d "$1/fetching.XXXXXX")
trap 'rm -rf "$work"' EXIT

# As root, apt-get would complain that its own user cannot write here.
(cd "$work" && apt-get -q -o APT::Sandbox::User=root download $package >log 2>&1) || {
  tail -n 5 "$work/log" >&2
  die "apt-get could not download $package (its last lines are above); is there a network, and was \`apt-get update\` run?"
}
dpkg-deb -x "$work"/$package*.deb "$work/package"
g++ -std=c++20 -O1 "$here/rdb_texts.cpp" -lz -o "$work/rdb_texts"
set --  "$1"
for name in $names; do set -- "$@" "$work/$name.txt"; done
directory=$1
shift
"$work/rdb_texts" "$work/package/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb" "$@"
mv "$@" "$directory/"
echo "$directory: $(cat "$directory"/*.txt | wc -c) bytes of text in 6 novels"
