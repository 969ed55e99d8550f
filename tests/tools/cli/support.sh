# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Running the program, what is expected of it, and small data sets.
# shellcheck disable=SC2154,SC2059  # variables of cli_test.sh; bytes are printed as formats

# Under a sanitizer, which looks at what code does and not at what comes out.
few_cases() { [ -n "${LOCKSTEP_TEST_FEW_CASES:-}" ]; }

complain() {
  echo "FAILED: $*" | tee -a "$work/failures"  # a file, for pipes run their parts as processes
  echo "  command: ${command:0:1000}"
  echo "  exit code $code, standard error:"
  head -c 4000 "$work/stderr" | sed 's/^/    /'
}

expect_nobody_left() {
  for _ in {1..50}; do
    [ -z "$(find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$work/*" 2>/dev/null)" ] && return
    sleep 0.1
  done
  complain "processes of the program are left after 5 seconds"
}

# The folder of outputs, with one file in it from before.
make_outputs() {
  rm -rf "$out"
  mkdir "$out"
  echo "old content" >"$out/old"
}

expect_untouched_outputs() {
  local files
  files=$(cd "$out" && echo *)
  if [ "$files" != old ]; then
    complain "expected no new file, got: $files"
  elif ! echo "old content" | cmp -s - "$out/old"; then
    complain "expected the old file to be whole"
  else
    return
  fi
  make_outputs
}

run() {  # run COMMAND...: sets `code`, fills $work/stdout and $work/stderr
  command=$*
  timeout -k 5 60 "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
  code=$?
  expect_nobody_left
}

# expect_error CODE PATTERN COMMAND...: one message, like PATTERN, over all ranks; this exit code, where `any` stands for
# what mpirun makes of it; nothing new in $out, and what was there is whole.
expect_error() {
  local expected=$1 pattern=$2
  shift 2
  run "$@"
  if [ "$expected" = any ]; then
    # From 124 on the command was stopped by `timeout` or by a signal.
    { [ $code -ne 0 ] && [ $code -lt 124 ]; } || complain "expected a failure"
  else
    [ $code -eq "$expected" ] || complain "expected exit code $expected"
  fi
  local message
  message=$(grep -a '^lockstep: error:' "$work/stderr")
  [ "$(grep -ac 'lockstep: error:' "$work/stderr")" -eq 1 ] || complain "expected one message"
  ! grep -aq 'lockstep: error:' "$work/stdout" || complain "expected no message on standard output"
  # shellcheck disable=SC2053  # a pattern is meant
  [[ $message == $pattern ]] || complain "expected a message like $pattern"
  [[ $message != *'[internal]'* ]] || complain "the message blames the program"
  expect_untouched_outputs
}

expect_success() {  # expect_success COMMAND...
  run "$@"
  [ $code -eq 0 ] || complain "expected success"
  [ ! -s "$work/stderr" ] || complain "expected nothing on standard error"
}

expect_same() {  # expect_same FILE FILE
  cmp "$1" "$2" || complain "expected the same bytes"
}

expect_output() {  # expect_output TIMES PATTERN: so many lines of standard output match
  local times
  times=$(grep -Ec "$2" "$work/stdout")
  [ "$times" -eq "$1" ] || complain "expected $1 lines like '$2' on standard output, got $times: $(tail -n 3 "$work/stdout")"
}

idx() {  # idx SIZE...: the header of an IDX file, then standard input, compressed
  {
    printf '\x0\x0\x8'"\\x$#"
    local size
    for size in "$@"; do
      printf "\\x$(printf %x $((size >> 24 & 255)))\\x$(printf %x $((size >> 16 & 255)))"
      printf "\\x$(printf %x $((size >> 8 & 255)))\\x$(printf %x $((size & 255)))"
    done
    cat
  } | gzip -n
}

noise() {  # noise COUNT: so many bytes, always the same
  LC_ALL=C awk -v n="$1" 'BEGIN { for (x = 1; n > 0; --n) { x = x * 16807 % 2147483647; printf "%c", 1 + x % 255 } }'
}
labels() { seq 1 "$1" | tr -d '\n' | head -c "$1" | tr 0-9 '\000-\011' | idx "$1"; }  # 0 to 9
images() { noise $(($1 * 784)) | idx "$1" 28 28; }

make_data() {  # make_data FOLDER
  mkdir -p "$1"
  images 600 >"$1/train-images-idx3-ubyte.gz"
  labels 600 >"$1/train-labels-idx1-ubyte.gz"
  images 100 >"$1/t10k-images-idx3-ubyte.gz"
  labels 100 >"$1/t10k-labels-idx1-ubyte.gz"
}
