#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Configures and builds one preset into build/PRESET and prints what it is built with.
# usage: tools/scripts/configure_and_build.sh PRESET [OPTION FOR cmake...]
set -eu
preset=$1
shift
cd "$(dirname "$0")/../.."
bundle=${LOCKSTEP_BUNDLE:-offline_bundle}
command -v ninja >/dev/null || [ ! -x "$bundle/usr/bin/ninja" ] || export PATH="$PATH:$(cd "$bundle/usr/bin" && pwd)"
mkdir -p "build/$preset"
log="build/$preset/configure.log"

if ! cmake --preset "$preset" "$@" >"$log" 2>&1 </dev/null; then
  cat "$log" >&2
  echo "configure_and_build: error: configuring preset '$preset' failed (see above)" >&2
  exit 1
fi
grep -i 'warning' -A 3 "$log" || true
cat "build/$preset/choices.txt"
cmake --build --preset "$preset" </dev/null
