#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Finds out everything that has to be known of a machine with a GPU, by one command that ends in time and needs no
# network: builds, tests, compares bits, looks for memory errors and races, measures, trains, and writes it all down.
set -u
cd "$(dirname "$0")/.." || exit 1
here=$PWD

usage() {
  cat <<'END'
usage: tools/gpu_check.sh [--minutes N] [--output DIR] [--dry-run]

Wants a GPU with its driver, the CUDA toolkit, CMake and g++; takes libraries and Open MPI from offline_bundle/ where
that is there (tools/offline_bundle.sh), NCCL and cuBLAS from Python's packages where the toolkit has none.
Writes DIR/report.md, DIR/report.json and DIR/gpu_check.log, both reports anew after every step. A step that there is
no time for is skipped, and the report says so.

  --minutes N    end within N minutes (default 8)
  --output DIR   default build/gpu_check
  --dry-run      rehearse the steps on the emulated device (preset emulated), without GPU; not a result of any GPU

Exit code 0: every step that was run has passed; 1: a step failed, or there is no GPU; 2: wrong usage.
END
}

die() {
  echo "gpu_check: error: $1" >&2
  exit "${2:-1}"
}

minutes=8
output=build/gpu_check
rehearsal=false
while [ $# -gt 0 ]; do
  case "$1" in
    --minutes)
      minutes=${2:-}
      case "$minutes" in '' | *[!0-9]* | 0) usage >&2; die "--minutes takes a whole number from 1, got '$minutes'" 2 ;; esac
      shift
      ;;
    --output) output=${2:-}; [ -n "$output" ] || { usage >&2; die "--output takes a folder" 2; }; shift ;;
    --dry-run) rehearsal=true ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; die "unknown option '$1'" 2 ;;
  esac
  shift
done

begin=$(date +%s)
started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
deadline=$((begin + 60 * minutes - 10))  # stopping a step takes a moment
mkdir -p "$output" || exit 1
work=$(mktemp -d) || exit 1
steps=$work/steps
machine=$work/machine
log=$output/gpu_check.log
step_log=$work/log
step_count=0
: >"$machine"
: >"$log"
commit=$(git describe --always --dirty 2>/dev/null || echo "source without git")
. tools/scripts/gpu_report.sh
trap 'cat "$step_log" >>"$log" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# try SECONDS COMMAND...: runs it for that time and what is left of all at most. Sets code (of the command; 124: cut
# off; 125: no time to begin) and spent; its output is in $step_log, and its standard output in $work/stdout.
try() {
  budget=$1
  shift
  left=$((deadline - $(date +%s)))
  [ $left -ge 5 ] || { code=125 spent=0; return; }
  [ "$budget" -le $left ] || budget=$left
  cat "$step_log" >>"$log" 2>/dev/null
  printf '\n== %s\n' "$*" >"$step_log"
  before=$(date +%s)
  timeout -k 3 "$budget" "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
  code=$?
  cat "$work/stdout" "$work/stderr" >>"$step_log"
  [ $code -ne 137 ] || code=124
  spent=$(($(date +%s) - before))
}

# finish NAME DETAIL [FIGURES [TABLE]]: records what try() did.
finish() {
  case $code in
    0) record "$1" passed $spent "$2" "${3:-}" "${4:-}" ;;
    124) record "$1" "cut off" $spent "stopped after $budget s" "${3:-}" "${4:-}" ;;
    125) record "$1" skipped 0 "no time left" ;;
    *) record "$1" failed $spent "exit code $code${2:+; $2}" "${3:-}" "${4:-}" ;;
  esac
}
skip() { record "$1" skipped 0 "$2"; }

# json_output FILE: fills FILE with the standard output of a successful command if that is JSON; else FILE is empty.
printf 'file(READ "${FILE}" text)\nstring(JSON type TYPE "${text}")\n' >"$work/valid.cmake"
json_output() {
  : >"$1"
  [ $code -ne 0 ] || ! cmake -D "FILE=$work/stdout" -P "$work/valid.cmake" >/dev/null 2>&1 || cp "$work/stdout" "$1"
}

# ---- what this machine has

PATH=$PATH:/usr/local/cuda/bin:/usr/local/nvidia/bin
bundle=${LOCKSTEP_BUNDLE:-$here/offline_bundle}
[ ! -d "$bundle/usr/bin" ] || PATH=$PATH:$bundle/usr/bin
export PATH
fact() { printf '%s|%s\n' "$1" "${2:-not found}" >>"$machine"; }
first_line() { "$@" 2>/dev/null | head -n 1; }
query() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }

gpu=$(query name)
capability=$(query compute_cap | tr -cd 0-9)
python=$(command -v python3)
if [ $rehearsal = true ]; then
  gpu="" preset=emulated
  fact gpu "none: emulated on the CPU"
else
  preset=cuda
  fact gpu "$gpu"
fi
fact "gpus" "$(nvidia-smi -L 2>/dev/null | grep -c .)"
fact "gpu memory" "$(query memory.total)"
fact driver "$(query driver_version)"
fact "CUDA compiler" "$(nvcc --version 2>/dev/null | sed -n 's/.*release \([^,]*\),.*/\1/p')"
fact CMake "$(first_line cmake --version)"
fact "host compiler" "$(first_line g++ --version)"
fact processor "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
fact system "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release), Linux $(uname -r)"
fact "offline bundle" "$([ ! -f "$bundle/manifest.txt" ] || echo "$bundle")"
fact compute-sanitizer "$(first_line compute-sanitizer --version)"
fact PyTorch "$([ -z "$python" ] || "$python" -c 'import torch; print(torch.__version__)' 2>/dev/null)"

if [ $rehearsal = false ] && [ -z "$gpu" ]; then
  code=1 spent=0
  : >"$step_log"
  record "find a GPU" failed 0 "no GPU was found: nvidia-smi $(command -v nvidia-smi >/dev/null && echo "names none" ||
    echo "is neither in PATH nor in /usr/local/nvidia/bin"), device files: $(ls /dev/nvidia[0-9]* 2>/dev/null | tr '\n' ' ' |
    grep . || echo none), nvcc: $(command -v nvcc || echo none). On a machine without GPU, rehearse with --dry-run"
  write_reports yes
  echo "gpu_check: error: no GPU was found on this machine; what was looked for is in $output/report.md" >&2
  exit 1
fi

program=build/$preset/lockstep
gpus=$(nvidia-smi -L 2>/dev/null | grep -c .)
[ "$gpus" -ge 1 ] || gpus=1
launch=""
[ "$gpus" -eq 1 ] || launch="tools/mpirun.sh -np $gpus"
data=/usr/share/datasets/fashion-mnist
[ -d $data ] || data=$bundle$data
[ -d "$data" ] || data=""

# ---- steps

configure() {
  set -- -DLOCKSTEP_TESTS=ON
  [ -z "$capability" ] || set -- "$@" "-DCMAKE_CUDA_ARCHITECTURES=$capability-real"
  try 60 cmake --preset $preset "$@"
  finish configure "preset $preset; $(grep -E '^  (MPI|CUDA|NCCL|GEMM)' "build/$preset/choices.txt" 2>/dev/null |
    sed 's/^  //; s/  */ /g' | tr '\n' ';')"
}

# The program comes first: where compiling takes long, there is something to measure before the tests are built.
build() {  # build NAME SECONDS TARGET
  try "$2" cmake --build "build/$preset" --target "$3"
  finish "build $1" ""
}

doctor() {
  try 20 "$program" doctor --json
  json_output "$work/doctor.json"
  found=$(sed -n 's/^ *"gpus": "\(.*\)",*$/\1/p' "$work/doctor.json")
  case "$found" in none* | *[Ee]mulated*) [ $rehearsal = true ] || code=1 ;; esac
  finish doctor "the program finds: $found" "$work/doctor.json"
}

# count TEXT: how many lines of ctest's listing have the text
count() { grep -c "$1" "$step_log"; }
device_tests() {
  which="-L gpu"
  # shellcheck disable=SC2086  # two words
  ctest --test-dir "build/$preset" -N $which 2>/dev/null | grep -q ' Test ' || which="-LE heavy"
  # shellcheck disable=SC2086
  try 120 ctest --test-dir "build/$preset" $which --parallel "$(nproc)" --timeout 100 --no-tests=error --output-on-failure
  passed=$(count '\.\.\. *Passed ') skipped=$(count '\*\*\*Skipped') failed=$(count '\*\*\*\(Failed\|Timeout\|Exception\|Not Run\)')
  printf '{"passed": %s, "skipped": %s, "failed": %s}\n' "$passed" "$skipped" "$failed" >"$work/tests.json"
  # A test that finds no GPU here has tested nothing.
  [ $code -ne 0 ] || [ "$which" != "-L gpu" ] || [ "$skipped" -eq 0 ] || [ $rehearsal = true ] || code=1
  finish "tests on the device" "ctest $which: $passed passed, $skipped skipped, $failed failed" "$work/tests.json"
}

device_code() {
  try 60 ctest --test-dir "build/$preset" -R 'kernels\.device_code' --no-tests=error --output-on-failure
  finish "device code" "vector width, registers, spills, rounding"
}

# sweep NAME SECONDS COMMAND...: benchmark rows for several sizes; COMMAND gets each size appended.
sweep_sizes="1048576 16777216 67108864 268435456"
[ $rehearsal = false ] || sweep_sizes="4096"
adam() {
  : >"$work/table"
  separator="["
  all=0
  for elements in $sweep_sizes; do
    try 25 "$program" bench kernels --device cuda --json --elements "$elements"
    all=$((all + spent))
    [ $code -eq 0 ] || break
    rows=$work/rows_$elements
    json_output "$rows"
    [ -s "$rows" ] || { code=1; break; }
    { echo "$separator{\"elements\": $elements, \"rows\":"; cat "$rows"; echo "}"; } >>"$work/adam.json"
    { printf '\n%s parameters\n\n' "$elements"; rows_table "$rows"; } >>"$work/table"
    separator=", "
  done
  [ ! -s "$work/adam.json" ] || echo "]" >>"$work/adam.json"
  largest=$(find "$work" -name 'rows_*' -size +0 | sort -t_ -k2 -n | tail -n 1)
  detail=""
  [ -z "$largest" ] || detail="adam $(row_value optimizer/adam value "$largest") GB/s, $(row_value optimizer/adam \
    share_of_roof "$largest") of its roof, copy $(row_value memory/copy value "$largest") GB/s, ${largest##*_} parameters"
  # Measurements from before the time was over stay.
  [ -z "$largest" ] || [ $code -ne 125 ] || { code=0; detail="$detail; no time for larger ones"; }
  spent=$all
  without_speed_in_a_rehearsal
  finish "fused Adam against copy" "$detail" "$work/adam.json" "$work/table"
}

# The speed of an emulated device is no figure.
without_speed_in_a_rehearsal() {
  [ $rehearsal = false ] || { rm -f "$work/adam.json" "$work/collectives.json"; : >"$work/table"; detail="ran; no figures"; }
}

torch() {
  [ $rehearsal = false ] || { skip "PyTorch's fused AdamW" "no GPU"; return; }
  [ -n "$python" ] || { skip "PyTorch's fused AdamW" "no python3"; return; }
  try 60 "$python" tools/scripts/torch_adamw.py $sweep_sizes
  [ $code -ne 77 ] || { skip "PyTorch's fused AdamW" "$(tail -n 1 "$step_log")"; return; }
  json_output "$work/torch.json"
  rows_table "$work/torch.json" >"$work/table"
  if [ -n "$largest" ] && [ $code -eq 0 ]; then
    # Time is what counts: ours also clears the gradient, so it moves 32 bytes a parameter and not 28.
    detail=$(awk -v ours="$(row_value optimizer/adam value "$largest")" -v bytes="$(row_value optimizer/adam bytes "$largest")" \
      '$1 == "\"name\":" { adamw = /adamw/ } adamw && $1 == "\"value\":" { value = $2 + 0 }
       adamw && $1 == "\"bytes\":" { theirs = $2 + 0 }
       END { if (ours > 0 && value > 0) printf "time of ours / time of torch: %.3f", (bytes / ours) / (theirs / value) }' "$work/torch.json")
  fi
  finish "PyTorch's fused AdamW" "$detail" "$work/torch.json" "$work/table"
}

train() {  # train MODEL EPOCHS
  [ -n "$data" ] || { skip "train $1" "no Fashion-MNIST files (the bundle has them)"; return; }
  set -- "$1" --epochs "$2"
  [ $rehearsal = false ] || set -- "$1" --steps 2 --batch 8 --transport staged
  model=$1
  shift
  # shellcheck disable=SC2086  # nothing, or several words
  try 60 $launch "$program" train --device cuda --model "$model" --data "$data" "$@"
  sed -n 's/^test_accuracy=\([^ ]*\) images_per_second=\([^ ]*\) .*/{"test_accuracy": \1, "images_per_second": \2}/p' \
    "$step_log" >"$work/train.json"
  detail=$(grep '^test_accuracy=' "$step_log")
  [ $rehearsal = false ] || { rm "$work/train.json"; detail="ran; no figures"; }
  finish "train $model" "$detail" "$work/train.json"
}

# ledger NAME DEVICE RANKS: one run of the comparison of bits. Sets code.
staged=""
[ $rehearsal = false ] || staged="--transport staged"
ledger() {
  [ "$2" = cuda ] && transport=$staged || transport=""
  set -- "$@" "$program" train --device "$2" --model mlp --data "$data" --steps 25 --batch 64 --virtual-ranks 2 \
    --ledger "$work/$1.ledger" --metrics "$work/$1.jsonl"
  ranks=$3
  shift 3
  # shellcheck disable=SC2086  # nothing, or two words
  set -- "$@" $transport
  [ "$ranks" -eq 1 ] || set -- tools/mpirun.sh -np "$ranks" "$@"
  try 30 "$@"
}
bits() {
  name="same bits"
  [ -n "$data" ] || { skip "$name" "no Fashion-MNIST files (the bundle has them)"; return; }
  all=0
  for run in "once cuda 1" "again cuda 1" "two_ranks cuda 2" "cpu cpu 1"; do
    # shellcheck disable=SC2086  # three words
    ledger $run
    all=$((all + spent))
    [ $code -eq 0 ] || { spent=$all; finish "$name" "in run '$run'"; return; }
  done
  spent=$all
  same() { cmp -s "$work/once.ledger" "$work/$1.ledger" && echo true || echo false; }
  equal=$(awk 'NR == FNR { line[FNR] = $0; next } FNR > 1 && line[FNR] == $0 { n++ } END { print n + 0 }' \
    "$work/once.ledger" "$work/cpu.ledger")
  losses() { sed -n 's/.*"loss": *\([-+0-9.e]*\).*/\1/p' "$work/$1.jsonl"; }
  losses once >"$work/once.loss"
  losses cpu >"$work/cpu.loss"
  furthest=$(paste "$work/once.loss" "$work/cpu.loss" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > m) m = d }
    END { printf "%.3g", m }')
  printf '{"repeats": %s, "two_ranks_equal_one": %s, "steps_equal_to_cpu": %s, "steps": 25, "largest_loss_difference_to_cpu": %s}\n' \
    "$(same again)" "$(same two_ranks)" "$equal" "$furthest" >"$work/bits.json"
  # A GPU sums products in an order of its own, so a whole step need not have the bits of the CPU. Tests on the device
  # check that everything else has them.
  [ "$(same again)$(same two_ranks)" = truetrue ] || code=1
  finish "$name" "GPU again: $(same again), two ranks as one: $(same two_ranks), $equal of 25 steps as on the CPU, losses \
within $furthest" "$work/bits.json"
}

collectives() {
  # shellcheck disable=SC2086  # nothing, or several words
  try 40 ${launch:-tools/mpirun.sh -np 2} "$program" bench collectives --device cuda --json
  json_output "$work/collectives.json"
  rows_table "$work/collectives.json" >"$work/table"
  detail="$gpus GPUs, ${launch:-two ranks on one GPU}"
  without_speed_in_a_rehearsal
  finish collectives "$detail" "$work/collectives.json" "$work/table"
}

sanitizer() {  # sanitizer TOOL
  name="compute-sanitizer $1"
  [ $rehearsal = false ] || { skip "$name" "no GPU"; return; }
  command -v compute-sanitizer >/dev/null || { skip "$name" "compute-sanitizer is not installed"; return; }
  filter=$(ctest --test-dir "build/$preset" -N -L gpu 2>/dev/null | sed -n 's/^ *Test *#[0-9]*: kernels\.//p' | tr '\n' ':')
  filter=${filter:-*}
  try 90 compute-sanitizer --tool "$1" --error-exitcode 99 "build/$preset/tests/kernels/kernels_test" --gtest_filter="$filter"
  if grep -q 'Device not supported' "$step_log"; then
    skip "$name" "compute-sanitizer says: Device not supported"
    return
  fi
  finish "$name" "$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$step_log" | sed 's/^=* *//' | tail -n 1)"
}

largest=""
tests_built=no
configure
[ $code -ne 0 ] || build "the program" $((minutes * 36)) lockstep
if [ $code -eq 0 ]; then
  doctor
  build "the tests" $((minutes * 24)) all
  [ $code -ne 0 ] || tests_built=yes
  [ $tests_built = no ] || device_tests
  adam
  torch
  train mlp 5
  if [ $rehearsal = true ]; then skip "train cnn" "its test images take minutes on an emulated device"; else train cnn 3; fi
  bits
  if [ $tests_built = yes ]; then
    sanitizer memcheck
    sanitizer racecheck
    [ $rehearsal = true ] || device_code
  fi
  collectives
fi
write_reports yes
echo "$(overall yes) after $(($(date +%s) - begin)) s: $output/report.md, $output/report.json"
[ "$(overall yes)" != failed ]
