#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Finds out everything that has to be known of a machine with a GPU, by one command that ends in time and needs no
# network: builds, tests, compares bits, looks for memory errors and races, measures, trains, and writes it all down.
set -u
cd "$(dirname "$0")/.." || exit 1
here=$PWD
. tools/scripts/gpu_steps.sh
. tools/scripts/gpu_report.sh

usage() {
  cat <<'END'
usage: tools/gpu_check.sh [--minutes N] [--output DIR] [--build DIR] [--data DIR] [--dry-run]

Wants a GPU with its driver, the CUDA toolkit, CMake and g++; takes libraries and Open MPI from offline_bundle/ where
that is there (tools/offline_bundle.sh), NCCL and cuBLAS from Python's packages where the toolkit has none.
Writes DIR/report.md, DIR/report.json and DIR/gpu_check.log, both reports anew after every step, and leaves ledgers,
metrics and figures in DIR/files. A step that takes longer than its share of the time is cut off, and the report says so.

  --minutes N    end within N minutes (default 9)
  --output DIR   write into this folder (default build/gpu_check)
  --build DIR    take what is built in this folder; nothing is built
  --data DIR     folder of the files of Fashion-MNIST (default: the system's, or the bundle's)
  --limits       print the steps and the seconds that each may take
  --dry-run      rehearse the steps on the emulated device (preset emulated): one GPU, whose products have bits of
                 their own, as on a machine with a GPU; not a result of any GPU

Exit code 0: every step that was run has passed; 1: a step failed or was cut off, or there is no GPU; 2: wrong usage.
END
}

die() {
  echo "gpu_check: error: $1" >&2
  exit "${2:-1}"
}

minutes=9
output=build/gpu_check
built=""
data=""
rehearsal=false
show_limits=false
folder() { [ -n "$2" ] || { usage >&2; die "$1 takes a folder" 2; }; }
while [ $# -gt 0 ]; do
  case "$1" in
    --minutes)
      minutes=${2:-}
      case "$minutes" in '' | *[!0-9]* | 0) usage >&2; die "--minutes takes a whole number from 1, got '$minutes'" 2 ;; esac
      shift
      ;;
    --output) folder "$1" "${2:-}"; output=$2; shift ;;
    --build) folder "$1" "${2:-}"; built=$2; shift ;;
    --data) folder "$1" "${2:-}"; data=$2; shift ;;
    --limits) show_limits=true ;;
    --dry-run) rehearsal=true ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; die "unknown option '$1'" 2 ;;
  esac
  shift
done
[ $show_limits = false ] || { print_limits; exit 0; }

begin=$(date +%s)
started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
deadline=$((begin + 60 * minutes - 5))  # stopping a step takes a moment
files=$output/files
steps=$output/steps
rm -rf "$files" "$steps"
mkdir -p "$files" "$steps" || exit 1
machine=$files/machine
log=$output/gpu_check.log
step_log=$files/step.log
step_count=0
: >"$machine"
: >"$log"
commit=$(git describe --always --dirty 2>/dev/null || echo "source without git")
trap 'cat "$step_log" >>"$log" 2>/dev/null; rm -f "$step_log"' EXIT
trap 'exit 1' INT TERM

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
gpus=$(nvidia-smi -L 2>/dev/null | grep -c .)
python=$(command -v python3)
preset=cuda
if [ $rehearsal = true ]; then
  gpu="none: emulated on the CPU" capability="" gpus=1 preset=emulated
  # A machine as it is lent: one GPU, whose products are not those of the CPU.
  export LOCKSTEP_EMULATED_DEVICES=1 LOCKSTEP_EMULATED_PRODUCTS=other_bits LOCKSTEP_TEST_FEW_CASES=1
fi
build=${built:-build/$preset}
program=$build/lockstep
if [ $rehearsal = true ]; then
  export LOCKSTEP_NCCL_LIBRARY="${LOCKSTEP_NCCL_LIBRARY:-$(realpath -m "$build")/tests/cuda_emulation/libnccl_emulated.so}"
fi
fact gpu "$gpu"
fact "gpus" "$gpus"
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

if [ -z "$gpu" ]; then
  : >"$step_log"
  record "find a GPU" failed 0 "no GPU was found: nvidia-smi $(command -v nvidia-smi >/dev/null && echo "names none" ||
    echo "is neither in PATH nor in /usr/local/nvidia/bin"), device files: $(ls /dev/nvidia[0-9]* 2>/dev/null | tr '\n' ' ' |
    grep . || echo none), nvcc: $(command -v nvcc || echo none). On a machine without GPU, rehearse with --dry-run"
  write_reports yes
  die "no GPU was found on this machine; what was looked for is in $output/report.md"
fi
[ -z "$built" ] || [ -x "$program" ] || die "--build: there is no program $program" 2

for folder in "$data" /usr/share/datasets/fashion-mnist "$bundle/usr/share/datasets/fashion-mnist"; do
  [ -n "$data" ] || [ ! -d "$folder" ] || data=$folder
done

# ---- steps

configure() {
  set -- "-DLOCKSTEP_TESTS=kernels;collectives;optimizers;runtime"
  [ -z "$capability" ] || set -- "$@" "-DCMAKE_CUDA_ARCHITECTURES=$capability-real"
  begin_step configure
  try cmake --preset $preset "$@"
  finish configure "preset $preset; $(grep -E '^  (MPI|CUDA|NCCL|GEMM)' "$build/choices.txt" 2>/dev/null |
    sed 's/^  //; s/  */ /g' | tr '\n' ';')"
}

# The program comes first: where compiling takes long, there is something to measure before the tests are built.
build() {  # build STEP NAME TARGET...
  begin_step "$1"
  name=$2
  shift 2
  try cmake --build "$build" --target "$@"
  finish "build $name" ""
}

doctor() {
  begin_step doctor
  try "$program" doctor --json
  json_output "$files/doctor.json"
  found=$(sed -n 's/^ *"gpus": "\(.*\)",*$/\1/p' "$files/doctor.json")
  case "$found" in none* | *[Ee]mulated*) [ $rehearsal = true ] || code=1 ;; esac
  finish doctor "the program finds: $found" "$files/doctor.json"
}

# collectives STEP NAME TRANSPORT RANKS: ranks share a GPU only where data is staged.
collectives() {
  begin_step "$1"
  launch=""
  [ "$4" -eq 1 ] || launch="tools/mpirun.sh -np $4"
  sizes=""
  [ $rehearsal = false ] || sizes="-b 4096 -e 16384"
  # shellcheck disable=SC2086  # nothing, or several words
  try $launch "$program" bench collectives --device cuda --transport "$3" $sizes --json
  json_output "$files/$1.json"
  rows_table "$files/$1.json" >"$files/table"
  wrong=$(grep -c '"note": ".*, [1-9][0-9]* wrong' "$files/$1.json")
  [ $code -ne 0 ] || [ "$wrong" -eq 0 ] || code=1
  detail="$4 ranks on $gpus GPUs, $wrong rows with wrong elements"
  without_speed_in_a_rehearsal "$files/$1.json"
  finish "$2" "$detail" "$files/$1.json" "$files/table"
}

# ledger NAME RANKS OPTION...: one run of the comparison of bits. Sets code.
ledger() {
  run=$1 ranks=$2
  shift 2
  set -- "$program" train --model mlp --data "$data" --batch 64 --virtual-ranks 2 --steps $bit_steps \
    --ledger "$files/$run.ledger" --metrics "$files/$run.jsonl" "$@"
  [ "$ranks" -eq 1 ] || set -- tools/mpirun.sh -np "$ranks" "$@"
  try "$@"
}
bit_runs() {
  ledger once 1 --device cuda
  [ $code -ne 0 ] || ledger again 1 --device cuda
  [ $code -ne 0 ] || ledger recorded 1 --device cuda --transport nccl --graph
  # shellcheck disable=SC2086  # nothing, or two words
  [ $code -ne 0 ] || ledger two_ranks 2 --device cuda $shared
  [ $code -ne 0 ] || ledger cpu 1 --device cpu
}
losses() { sed -n 's/.*"loss": *\([-+0-9.e]*\).*/\1/p' "$files/$1.jsonl" >"$files/$1.loss"; }
bits() {
  name="same bits"
  bit_steps=25
  [ $rehearsal = false ] || bit_steps=4
  [ -n "$data" ] || { skip "$name" "no Fashion-MNIST files (the bundle has them)"; return; }
  begin_step bits
  bit_runs
  [ $code -eq 0 ] || { finish "$name" "in run '$run'"; return; }
  same() { cmp -s "$files/once.ledger" "$files/$1.ledger" && echo true || echo false; }
  equal=$(awk 'NR == FNR { line[FNR] = $0; next } FNR > 1 && line[FNR] == $0 { n++ } END { print n + 0 }' \
    "$files/once.ledger" "$files/cpu.ledger")
  losses once
  losses cpu
  furthest=$(paste "$files/once.loss" "$files/cpu.loss" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > m) m = d }
    END { printf "%.3g", m }')
  again=$(same again) recorded=$(same recorded) two=$(same two_ranks)
  printf '{"repeats": %s, "recorded_by_nccl_equals": %s, "two_ranks_equal_one": %s, "steps_equal_to_cpu": %s, "steps": %s,
    "largest_loss_difference_to_cpu": %s}\n' "$again" "$recorded" "$two" "$equal" $bit_steps "$furthest" >"$files/bits.json"
  # A GPU sums products in an order of its own, so a whole step need not have the bits of the CPU. Tests on the device
  # check that everything else has them.
  [ "$again$recorded$two" = truetruetrue ] || code=1
  finish "$name" "GPU again: $again, one rank of NCCL, recorded: $recorded, two ranks as one: $two, $equal of $bit_steps \
steps as on the CPU, losses within $furthest" "$files/bits.json"
}

# Sizes of fused Adam, as rows of the benchmark name them, and their numbers of parameters.
sweep="1M 1048576
16M 16777216
64M 67108864
256M 268435456"
[ $rehearsal = false ] || sweep="1K 1024
4K 4096"
adam() {
  begin_step adam
  separator="["
  detail="" ended=0
  : >"$files/adam.rows"
  while read -r size elements; do
    try "$program" bench kernels --device cuda --json --elements "$elements" --rows "optimizer/adam/$size"
    json_output "$files/rows"
    [ -s "$files/rows" ] || { [ $code -ne 0 ] || code=1; ended=$code; break; }
    { echo "$separator{\"elements\": $elements, \"rows\":"; cat "$files/rows"; echo "}"; } >>"$files/adam.json"
    cat "$files/rows" >>"$files/adam.rows"
    detail="$detail${detail:+; }$size: $(row_value "optimizer/adam/$size" value "$files/rows") GB/s, $(row_value \
      "optimizer/adam/$size" share_of_roof "$files/rows") of its roof"
    separator=", "
  done <<END
$sweep
END
  [ ! -s "$files/adam.json" ] || echo "]" >>"$files/adam.json"
  code=$ended
  rows_table "$files/adam.rows" >"$files/table"
  without_speed_in_a_rehearsal "$files/adam.json"
  finish "fused Adam against copy" "$detail" "$files/adam.json" "$files/table"
}

torch() {
  echo "$sweep" | while read -r size elements; do
    awk -v elements="$elements" -v ours="$(row_value "optimizer/adam/$size" value "$files/adam.rows")" '
      $1 == "\"elements\":" { right = ($2 + 0 == elements) }
      $1 == "\"name\":" { adamw = /adamw/ }
      right && adamw && $1 == "\"value\":" { value = $2 + 0 }
      END { if (ours > 0 && value > 0) printf "%s %.3f ", size, (32 / ours) / (28 / value) }' size="$size" "$files/torch.json"
  done
}

torch() {
  name="PyTorch's fused AdamW"
  [ $rehearsal = false ] || { skip "$name" "no GPU"; return; }
  [ -n "$python" ] || { skip "$name" "no python3"; return; }
  begin_step torch
  # shellcheck disable=SC2046  # several words
  try "$python" tools/scripts/torch_adamw.py $(echo "$sweep" | sed 's/.* //')
  [ $code -ne 77 ] || { skip "$name" "$(tail -n 1 "$step_log")"; return; }
  json_output "$files/torch.json"
  rows_table "$files/torch.json" >"$files/table"
  finish "$name" "time of ours / time of torch: $(compare_with_torch "$files/adam.rows" "$files/torch.json")" "$files/torch.json" "$files/table"
}

# The speed of an emulated device is no figure.
without_speed_in_a_rehearsal() {
  [ $rehearsal = false ] || { rm -f "$1"; : >"$files/table"; detail="ran; no figures"; }
}

train() {  # train MODEL EPOCHS
  [ -n "$data" ] || { skip "train $1" "no Fashion-MNIST files (the bundle has them)"; return; }
  begin_step "$1"
  model=$1
  set -- --epochs "$2"
  [ $rehearsal = false ] || set -- --steps 2 --batch 8
  set -- "$program" train --device cuda --model "$model" --data "$data" "$@"
  [ "$gpus" -eq 1 ] || set -- tools/mpirun.sh -np "$gpus" "$@"
  try "$@"
  sed -n 's/^test_accuracy=\([^ ]*\) images_per_second=\([^ ]*\) .*/{"test_accuracy": \1, "images_per_second": \2}/p' \
    "$step_log" >"$files/$model.json"
  detail=$(grep '^test_accuracy=' "$step_log")
  without_speed_in_a_rehearsal "$files/$model.json"
  finish "train $model" "$detail" "$files/$model.json"
}

# count TEXT: how many lines of ctest's listing have the text
count() { grep -c "$1" "$step_log"; }
# Tests labelled `emulated` only say something about the emulation.
device_tests() {
  begin_step tests
  try ctest --test-dir "$build" -L gpu -LE emulated --parallel "$(nproc)" --timeout 100 --no-tests=error --output-on-failure
  passed=$(count '\.\.\. *Passed ') skipped=$(count '\*\*\*Skipped') failed=$(count '\*\*\*\(Failed\|Timeout\|Exception\|Not Run\)')
  printf '{"passed": %s, "skipped": %s, "failed": %s}\n' "$passed" "$skipped" "$failed" >"$files/tests.json"
  detail="$passed passed, $skipped skipped, $failed failed"
  # A test that finds no GPU here has tested nothing.
  if [ $code -eq 0 ] && [ "$skipped" -ne 0 ]; then
    code=1
    detail="$detail; tests of a GPU must not be skipped on a machine that has one: $(sed -n 's/.*: \([^ ]*\) \.*\*\*\*Skipped.*/\1/p' \
      "$step_log" | head -n 5 | tr '\n' ' ')"
  fi
  finish "tests on the device" "$detail" "$files/tests.json"
}

# sanitizer TOOL [FILTER]: FILTER are tests of kernels to leave out. A tool that was cut off has found nothing so far,
# which is a note and no failure.
sanitizer() {
  name="compute-sanitizer $1"
  command -v compute-sanitizer >/dev/null || { skip "$name" "compute-sanitizer is not installed"; return; }
  begin_step "$1"
  filter=$(ctest --test-dir "$build" -N -L gpu -LE emulated 2>/dev/null | sed -n 's/^ *Test *#[0-9]*: kernels\.//p' | tr '\n' ':')
  try compute-sanitizer --tool "$1" --error-exitcode 99 "$build/tests/kernels/kernels_test" \
    --gtest_filter="${filter:-*}${2:+-$2}"
  if grep -q 'Device not supported' "$step_log"; then
    skip "$name" "compute-sanitizer says: Device not supported"
    return
  fi
  detail=$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$step_log" | sed 's/^=* *//' | tail -n 1)
  if [ $code -eq 124 ] && ! grep -Eq '^=+ (Invalid|Error|ERROR|Program hit)|\[  FAILED' "$step_log"; then
    record "$name" partly $spent "no finding in $(count '\[       OK') tests; stopped after its $seconds s"
    return
  fi
  finish "$name" "$detail"
}

# Two ranks on one GPU send gradients through memory of the host; NCCL wants a GPU for each.
shared=""
[ "$gpus" -gt 1 ] || shared="--transport staged"
code=0
if [ -z "$built" ]; then
  configure
  [ $code -ne 0 ] || build program "the program" lockstep
fi
if [ $code -eq 0 ]; then
  doctor
  collectives nccl "collectives by NCCL" nccl "$gpus"
  collectives staged "collectives through the host" staged 2
  bits
  adam
  torch
  train mlp 5
  train cnn 3
  code=0
  [ -n "$built" ] || build tests_built "the tests" all
  if [ $code -eq 0 ]; then
    device_tests
    sanitizer memcheck
    # Products are a library's, and take the tool longest.
    sanitizer racecheck 'Matmul.*:Conv2d*'
  fi
fi
rm -f "$files/stdout" "$files/table" "$files/rows" "$files/adam.rows"
write_reports yes
echo "$(overall yes) after $(($(date +%s) - begin)) s: $output/report.md, $output/report.json"
[ "$(overall yes)" != failed ]
