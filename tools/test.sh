#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds one preset and runs its tests.
set -eu
cd "$(dirname "$0")/.."

usage() {
  cat <<'END'
usage: tools/test.sh [--no-install] [PRESET] [-- OPTIONS FOR ctest]

  PRESET         ci (default: everything this machine has, warnings are errors), asan, tsan,
                 emulated (the CUDA path on an emulated GPU), or minimal (no MPI, no oneDNN, no CUDA)
  --no-install   install nothing
  -- OPTIONS     passed to ctest: -- -R Tape -V
END
}

preset=ci
install=yes
while [ $# -gt 0 ]; do
  case "$1" in
    ci | asan | tsan | minimal | emulated) preset=$1 ;;
    --no-install) install=no ;;
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

# The sanitizers watch the CUDA path too, on an emulated GPU, where CUDA's headers are.
without_cuda=""
if [ $preset = asan ] || [ $preset = tsan ]; then
  if ! tools/scripts/has_cuda_headers.sh; then
    echo "no headers of CUDA were found: its path is left out of preset $preset"
    without_cuda="-DLOCKSTEP_CUDA=OFF"
  fi
fi

$fixed_addresses tools/scripts/configure_and_build.sh $preset $without_cuda
echo "+ ctest --preset $preset $*"
exec $fixed_addresses ctest --preset $preset --parallel "$(nproc)" --no-tests=error "$@" </dev/null
