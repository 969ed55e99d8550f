#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds one preset and runs its tests.
set -eu
cd "$(dirname "$0")/.."

usage() {
  cat <<'END'
usage: tools/test.sh [--no-install] [--parts PARTS] [PRESET] [-- OPTIONS FOR ctest]

  PRESET         ci (default: everything this machine has, warnings are errors), asan, tsan,
                 emulated (the CUDA path on an emulated GPU), or minimal (no MPI, no oneDNN, no CUDA);
                 tests/README.md says which tests each of them has
  --no-install   install nothing
  --parts PARTS  build and run only these, as "kernels;runtime": kernels, collectives, optimizers, runtime,
                 tools, program, scripts, package, fuzz, emulation, layers
  -- OPTIONS     passed to ctest: -- -R Tape -V
END
}

preset=ci
install=yes
parts=""
while [ $# -gt 0 ]; do
  case "$1" in
    ci | asan | tsan | minimal | emulated) preset=$1 ;;
    --no-install) install=no ;;
    --parts)
      [ -n "${2:-}" ] || { usage >&2; echo "test: error: --parts takes names of parts, as \"kernels;runtime\"" >&2; exit 2; }
      parts=$2
      shift
      ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) usage >&2; echo "test: error: '$1' is neither an option nor a preset with tests" >&2; exit 2 ;;
  esac
  shift
done

[ $install = no ] || tools/scripts/install_packages.sh --tests

# The thread sanitizer of g++ 12 cannot start where the kernel spreads addresses over more bits than it knows.
fixed_addresses=""
if [ $preset = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then
  fixed_addresses="setarch $(uname -m) -R"
fi

# The sanitizers also watch the CUDA path, on an emulated GPU, where CUDA's headers exist.
without_cuda=""
if [ $preset = asan ] || [ $preset = tsan ]; then
  if ! tools/scripts/has_cuda_headers.sh; then
    echo "no headers of CUDA were found: its path is left out of preset $preset"
    without_cuda="-DLOCKSTEP_CUDA=OFF"
  fi
fi

begin=$(date +%s)
built="" tested=""
finish() {  # CI puts these times into a table
  [ -z "${LOCKSTEP_TEST_TIMES:-}" ] || echo "$preset ${built:--} ${tested:--}" >>"$LOCKSTEP_TEST_TIMES"
}
trap finish EXIT

$fixed_addresses tools/scripts/configure_and_build.sh $preset $without_cuda ${parts:+"-DLOCKSTEP_TESTS=$parts"}
built=$(($(date +%s) - begin))
echo "+ ctest --preset $preset $*"
begin=$(date +%s)
result=0
$fixed_addresses ctest --preset $preset --parallel "$(nproc)" --no-tests=error "$@" </dev/null || result=$?
tested=$(($(date +%s) - begin))
echo "preset $preset: $built s to build, $tested s of tests"
exit $result
