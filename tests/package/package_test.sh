#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What users of the library do, outside of its source: install a build and use it, take the source into a project of their
# own, configure in ways that are refused.
# usage: package_test.sh installed|subproject|refusals SOURCE BUILD
set -eu
group=$1 source=$2 build=$3
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "package_test: $*" >&2
  exit 1
}
# Runs a command and shows what it said only when it fails.
quietly() {
  "$@" >"$work/log" 2>&1 </dev/null || { cat "$work/log" >&2; fail "failed: $*"; }
}
cached() {  # a value of the build's cache
  sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"
}
CXX=$(cached CMAKE_CXX_COMPILER)
export CXX

# A user's program is short, and made of few types of ours.
count_lines_and_types() {
  lines=$(sed '/^\/\//d; /^$/d' "$1" | wc -l)
  types=$(sed 's/"[^"]*"//g; s/\/\/.*//' "$1" | grep -oE '\b[A-Z][A-Za-z]+\b' | grep -vx Net | sort -u | wc -l)
  [ "$lines" -le 40 ] || fail "$1 has $lines lines, 40 is the limit"
  [ "$types" -le 12 ] || fail "$1 needs $types types of ours, 12 is the limit"
}

# Headers are there with all that they include.
check_headers() {
  include=$work/prefix/include/lockstep
  find "$include" -name '*.h' -exec sed -n 's/^ *# *include "\(.*\)".*/\1/p' {} + | sort -u >"$work/included"
  [ -s "$work/included" ] || fail "no header was installed"
  while read -r header; do
    [ -f "$include/$header" ] || fail "installed headers include \"$header\", which was not installed"
  done <"$work/included"
}

check_completion() {
  cat >"$work/complete.bash" <<'END'
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_lockstep
echo "${COMPREPLY[*]}"
END
  check() {  # check EXPECTED WORDS...
    expected=$1
    shift
    found=$(bash "$work/complete.bash" "$work/prefix/share/bash-completion/completions/lockstep" lockstep "$@")
    [ "$found" = "$expected" ] || fail "completion of 'lockstep $*' is '$found', expected '$expected'"
  }
  check train tr
  check '--optimizer-option' train --optimizer-
  check adamw train --optimizer adamw
  check 'bf16 bf16-stochastic' train --precision bf
  check 'cpu cuda' plan --device c
  check 'mlp cnn gpt-nano gpt-mini gpt2-124m llama-nano' eval --model ''
  check '' plan --model m
  check collectives bench co
  check '--largest-bytes' bench collectives --l
  check '' train --data /usr
}

# Runs a program on ranks of mpirun and on threads; rank 0's ledger is one file, whatever their number.
check_ranks() {
  program=$1
  name=$(basename "$program")
  for ranks in $([ -z "$mpirun" ] || echo "1 4") threads; do
    mkdir "$work/$name.$ranks"
    cd "$work/$name.$ranks"
    if [ "$ranks" = threads ]; then
      "$program" --ranks 3 >output 2>&1 </dev/null || { cat output >&2; fail "$name fails on thread ranks"; }
    else
      "$mpirun" -np "$ranks" "$program" >output 2>&1 </dev/null || { cat output >&2; fail "$name fails on $ranks ranks"; }
    fi
    [ "$(wc -l <"$name.ledger")" -gt 10 ] || fail "$name wrote no ledger on $ranks ranks"
  done
  for ledger in "$work/$name".*/"$name.ledger"; do
    cmp "$ledger" "$work/$name.threads/$name.ledger" || fail "ranks decide bits: $ledger differs"
  done
  cd "$work"
}

column() {  # column WORD FILE: the numbers that follow a word, one a line
  sed -n "s/.*$1 \([0-9.e+-]*\).*/\1/p" "$2"
}

installed() {
  mpirun=""
  grep -q '^  MPI *MPI' "$build/choices.txt" && mpirun=$source/tools/mpirun.sh
  quietly cmake --install "$build" --prefix "$work/prefix"
  check_headers
  check_completion
  "$work/prefix/bin/lockstep" --version | grep -q '^lockstep ' || fail "the installed program does not run"
  count_lines_and_types "$here/classifier.cpp"
  count_lines_and_types "$here/regression.cpp"

  mkdir "$work/user"
  cp "$here/CMakeLists.txt" "$here/classifier.cpp" "$here/regression.cpp" "$work/user"
  quietly cmake -S "$work/user" -B "$work/user/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix"
  quietly cmake --build "$work/user/build"
  check_ranks "$work/user/build/classifier"
  column correct "$work/classifier.threads/output" | awk 'NR <= 5 { first += $1 } { last[NR % 5] = $1 }
    END { for (i in last) sum += last[i]; exit !(NR > 10 && sum > 1.5 * first) }' ||
    { cat "$work/classifier.threads/output" >&2; fail "the classifier did not learn"; }

  # The other program is built as by a make file, with pkg-config.
  flags=$(PKG_CONFIG_PATH=$(find "$work/prefix" -name pkgconfig) pkg-config --cflags --libs lockstep)
  # shellcheck disable=SC2086
  quietly "$CXX" "$work/user/regression.cpp" -o "$work/user/regression" $flags
  check_ranks "$work/user/regression"
  column loss "$work/regression.threads/output" | awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(last < first / 4) }' ||
    { cat "$work/regression.threads/output" >&2; fail "the regression did not learn"; }
}

# All libraries once more would take minutes: one file is compiled, which shows that the target brings its folders.
subproject() {
  mkdir "$work/user"
  cp "$here/CMakeLists.txt" "$here/classifier.cpp" "$work/user"
  quietly cmake -S "$work/user" -B "$work/user/build" -G Ninja -DLOCKSTEP_SOURCE="$source" -DCMAKE_CXX_STANDARD=17
  quietly cmake --build "$work/user/build" --target CMakeFiles/classifier.dir/classifier.cpp.o
  cd "$work/user/build"
  grep -qx 'CMAKE_BUILD_TYPE:STRING=' CMakeCache.txt || fail "the build type of the project around was changed"
  grep -q 'LOCKSTEP_CUDA:STRING=OFF' CMakeCache.txt || fail "CUDA was looked for without being asked for"
  [ ! -e CTestTestfile.cmake ] || fail "tests were added to the project around"
  ninja -t targets all >targets
  grep -q '^liblockstep_runtime.a\|/liblockstep_runtime.a' targets || fail "the libraries are no part of the project"
  ! grep -q 'lockstep_tools' targets || fail "the program is built in the project around"
}

refused() {  # refused TEXT OPTION...
  text=$1
  shift
  rm -rf "$work/refused"
  if cmake -S "$source" -B "$work/refused" "$@" >"$work/log" 2>&1; then fail "accepted: cmake $*"; fi
  tr -s ' \n' ' ' <"$work/log" | grep -q "$text" || { cat "$work/log" >&2; fail "no '$text' for cmake $*"; }
}

refusals() {
  refused 'cannot be built with -ffast-math.*CMAKE_CXX_FLAGS' -G Ninja -DCMAKE_CXX_FLAGS=-ffast-math
  refused 'cannot be built with -Ofast.*CMAKE_CXX_FLAGS_RELEASE' -G Ninja -DCMAKE_CXX_FLAGS_RELEASE=-Ofast
  refused "Lockstep's libraries are static" -G Ninja -DBUILD_SHARED_LIBS=ON
  refused "'Ninja Multi-Config' builds several build types" -G 'Ninja Multi-Config'
  clang=$(command -v clang++ || true)
  if [ -n "$clang" ] && [ "$("$clang" -dumpversion | cut -d . -f 1)" -lt 16 ]; then
    refused 'lacks parts of C++20' -G Ninja -DCMAKE_CXX_COMPILER="$clang"
  fi
}

case $group in
  installed | subproject | refusals) $group ;;
  *) fail "'$group' is no group" ;;
esac
