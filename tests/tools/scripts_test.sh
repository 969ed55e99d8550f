#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The scripts for machines with GPUs and without network: scripts_test.sh GROUP [BUILD], GROUP being
#   usage     options that cannot be meant; no step of gpu_check.sh takes the time of another
#   steps     what gpu_check.sh makes of steps that go well, fail, differ, find no GPU or do not end, with a program that
#             answers at once
#   rehearsal gpu_check.sh itself on the build in the folder BUILD, with one emulated GPU whose products have other bits
#   reports   the reports of gpu_check.sh: valid whatever a log holds, and on a machine without GPU
#   mpirun    what tools/mpirun.sh tells the mpirun of Open MPI 5
#   novels    text to train on comes out of a Debian package (exit code 77: it cannot be fetched here)
#   bundle    a bundle is filled, keeps its limit, and its Open MPI works from anywhere (exit code 77: cannot be filled here)
set -u
group=$1
build=${2:-}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

expect() {  # expect WHAT COMMAND...
  local what=$1
  shift
  "$@" && return
  echo "FAILED: $what"
  failures=$((failures + 1))
}
expect_code() {  # expect_code CODE PATTERN COMMAND...: exit code and what is said
  local code=$1 pattern=$2
  shift 2
  "$@" >"$work/said" 2>&1 </dev/null
  local got=$?
  expect "$*: expected exit code $code, got $got: $(cat "$work/said")" [ $got -eq "$code" ]
  expect "$*: expected '$pattern', got: $(cat "$work/said")" grep -q -e "$pattern" "$work/said"
}
json() {  # json FILE KEY...: one value of a JSON file; fails when the file is no JSON
  local file=$1
  shift
  printf 'file(READ "%s" text)\nstring(JSON value GET "${text}" %s)\nmessage("${value}")\n' "$file" "$*" >"$work/json.cmake"
  cmake -P "$work/json.cmake" 2>&1
}

usage() {
  for script in gpu_check offline_bundle; do
    expect_code 0 "^usage: tools/$script.sh" "$root/tools/$script.sh" --help
    expect_code 2 "unknown option '--nonsense'" "$root/tools/$script.sh" --nonsense
  done
  expect_code 2 "got '0'" "$root/tools/gpu_check.sh" --minutes 0
  expect_code 2 "got 'few'" "$root/tools/gpu_check.sh" --minutes few
  for option in --output --build --data; do
    expect_code 2 "$option takes a folder" "$root/tools/gpu_check.sh" $option
  done
  expect_code 2 "there is no program" "$root/tools/gpu_check.sh" --dry-run --build "$work" --output "$work/check"
  # What begins last begins in time, whatever the others do: 9 minutes less what looking at the machine takes.
  local sum
  sum=$("$root/tools/gpu_check.sh" --limits | awk '{ if ($1 == "all") all = $2; else sum += $2 } END { print sum == all ? sum : -1 }')
  expect "limits of all steps are within 9 minutes: $sum" [ "$sum" -gt 400 -a "$sum" -le 520 ]
  expect_code 2 "no folder given" "$root/tools/offline_bundle.sh"
  expect_code 2 "got 'x'" "$root/tools/offline_bundle.sh" --limit x "$work/bundle"
  expect_code 2 "more than one folder" "$root/tools/offline_bundle.sh" "$work/a" "$work/b"
  expect_code 1 "exists; name a new folder" "$root/tools/offline_bundle.sh" "$work"
}

reports() {
  output=$work/output steps=$work/steps machine=$work/machine step_log=$work/log rehearsal=false
  commit=abc started=now begin=$(date +%s) step_count=0
  mkdir "$output"
  # shellcheck source=/dev/null
  . "$root/tools/scripts/gpu_report.sh"
  echo 'gpu|A "GPU" of \ slashes' >"$machine"
  printf 'a "quoted" \\ line\twith a tab\n\001 control, \303\244 and \377 bytes\nlast $(date) line\n' >"$step_log"
  printf '[{"name": "optimizer/adam", "value": 2.5}]' >"$work/figures"
  record first passed 3 "all | well" "$work/figures" >/dev/null
  expect "a check that is not over is incomplete" [ "$(json "$output/report.json" result)" = incomplete ]
  record second failed 4 'broke "there"' >/dev/null
  write_reports yes
  expect "a failed step fails the whole" [ "$(json "$output/report.json" result)" = failed ]
  expect "the machine is told" [ "$(json "$output/report.json" machine gpu)" = 'A "GPU" of \ slashes' ]
  expect "figures stay JSON" [ "$(json "$output/report.json" steps 0 figures 0 value)" = 2.5 ]
  expect "text comes back" [ "$(json "$output/report.json" steps 1 detail)" = 'broke "there"' ]
  local tail
  tail=$(json "$output/report.json" steps 1 log_tail)
  expect "the log's end is in: $tail" grep -q 'a "quoted" \\ line' <<<"$tail"
  expect "the log's last line is in: $tail" grep -q 'last $(date) line' <<<"$tail"
  expect "the table of steps has four columns" grep -q '^| first | passed | 3 | all / well |$' "$output/report.md"
  expect "the log's end is in the text" grep -q '^    last $(date) line$' "$output/report.md"

  # Equal sizes are compared: the largest of ours was cut off, and PyTorch has one more.
  sweep=$(printf '1M 1000\n16M 16000\n64M 64000')
  printf '"name": "optimizer/adam/%s",\n"value": %s,\n' 1M 64 16M 128 >"$work/ours"
  for size in 1000 16000 64000; do
    printf '"elements": %s,\n"name": "torch/copy",\n"value": 7,\n"name": "torch/adamw",\n"value": %s,\n' $size $((size * 28 / 1000))
  done >"$work/torch"
  local ratios
  ratios=$(compare_with_torch "$work/ours" "$work/torch")
  expect "ratios of equal sizes, got $ratios" [ "$ratios" = "1M 0.500 16M 4.000 " ]

  if command -v nvidia-smi >/dev/null; then
    echo "a machine without GPU is not tested: this one has nvidia-smi"
    return
  fi
  expect_code 1 "no GPU was found" "$root/tools/gpu_check.sh" --output "$work/without"
  expect "it is said what was looked for" grep -q "nvidia-smi is neither in PATH" <<<"$(json "$work/without/report.json" steps 0 detail)"
  expect "the report is finished" [ "$(json "$work/without/report.json" finished)" = ON ]
  expect "it is no rehearsal" [ "$(json "$work/without/report.json" rehearsal_on_an_emulated_device)" = OFF ]
}

mpirun() {
  mkdir "$work/bin"
  printf '#!/bin/sh\necho "policy=$PRTE_MCA_rmaps_default_mapping_policy ranks=$*"\n' >"$work/bin/mpirun"
  chmod +x "$work/bin/mpirun"
  local here=(env -u SLURM_JOB_ID -u PBS_JOBID -u LSB_JOBID -u JOB_ID PATH="$work/bin:$PATH" taskset -c "$(taskset -cp $$ | sed 's/.*: *\([0-9]*\).*/\1/')"
    "$root/tools/mpirun.sh")
  expect_code 0 '^policy= ranks=-np 1 program' "${here[@]}" -np 1 program
  expect_code 0 '^policy=:oversubscribe ranks=' "${here[@]}" -np 2 program
  expect_code 0 '^policy=:oversubscribe ranks=' "${here[@]}" -np 1 program : -n 1 program
  expect_code 0 '^policy=:oversubscribe ranks=' "${here[@]}" --map-by ppr:1:node program
  expect_code 0 '^policy=:oversubscribe ranks=' env SLURM_JOB_ID=1 PATH="$work/bin:$PATH" "$root/tools/mpirun.sh" -np 1 program
  expect_code 0 '^policy=:oversubscribe ranks=' "${here[@]}" -H here -np 1 program
  expect_code 0 '^policy=slot ranks=' env PRTE_MCA_rmaps_default_mapping_policy=slot "${here[@]}" -np 2 program
}

# stand_in FILE: a program from standard input.
stand_in() {
  mkdir -p "$(dirname "$1")"
  { echo '#!/bin/sh'; cat; } >"$1"
  chmod +x "$1"
}

# A build whose program and tests answer at once. FAULT has words for what goes wrong.
make_stand_ins() {
  stand_in "$work/build/lockstep" <<'END'
log=$(dirname "$0")/calls
echo "$OMPI_COMM_WORLD_SIZE $*" >>"$log"
case "$*" in
  doctor*) echo '{'; echo '  "gpus": "Emulated GPU"'; echo '}' ;;
  "bench collectives"*)
    case "$FAULT" in *wrong*) wrong=3 ;; *) wrong=0 ;; esac
    echo '[ {"name": "all_reduce", "value": 1,'
    echo "   \"note\": \"1 us, $wrong wrong, roof\"}"; echo ']' ;;
  "bench kernels"*)
    case "$FAULT" in *hang*) sleep 100 ;; esac
    size=${*##*optimizer/adam/}
    printf '[\n  {\n    "name": "optimizer/adam/%s",\n    "value": 2\n  }\n]\n' "$size" ;;
  train*)
    for word in "$@"; do case "$last" in --ledger) ledger=$word ;; --metrics) metrics=$word ;; esac; last=$word; done
    [ -z "${ledger:-}" ] || { printf 'header\nstep\n' >"$ledger"; echo '{"loss": 0.5}' >"$metrics"; }
    case "$FAULT,${OMPI_COMM_WORLD_SIZE:-1}" in *other_bits*,2) echo other >>"$ledger" ;; esac
    echo test_accuracy=0.5 images_per_second=1 steps=1 ranks=1 ;;
esac
END
  stand_in "$work/build/tests/kernels/kernels_test" <<'END'
echo "$*" >"$(dirname "$0")/filter"
echo '[       OK ] A (1 ms)'
END
  stand_in "$work/bin/ctest" <<'END'
case "$*" in
  *-N*) echo '  Test #1: kernels.A'; echo '  Test #2: kernels.Matmul.B' ;;
  *) echo '1/2 Test #1: kernels.A ....   Passed  0.1 sec'
     case "$FAULT" in *skipped*) echo '2/2 Test #2: kernels.B ....***Skipped  0.1 sec' ;; esac ;;
esac
END
  stand_in "$work/bin/compute-sanitizer" <<'END'
[ "$1" != --version ] || { echo stand-in; exit; }
tool=$2
shift 4
"$@" || exit
case "$FAULT,$tool" in
  *finding*,memcheck) echo '========= Invalid __global__ read of size 4'; sleep 100 ;;
  *slow*,racecheck) sleep 100 ;;
esac
echo '========= ERROR SUMMARY: 0 errors'
END
  stand_in "$work/bin/mpirun" <<'END'
while [ "${1#-}" != "$1" ]; do shift 2; done
OMPI_COMM_WORLD_SIZE=2 exec "$@"
END
  mkdir "$work/data"
}

# result_of STEP: what the report says of it.
result_of() {
  sed -n "s/^.*{\"name\": \"$1\", \"result\": \"\([^\"]*\)\".*/\1/p" "$work/check/report.json"
}
expect_result() { expect "step '$1' has $2, got '$(result_of "$1")'" [ "$(result_of "$1")" = "$2" ]; }

# check CODE MINUTES FAULT: gpu_check.sh with the stand-ins.
check() {
  rm -f "$work/build/calls"
  FAULT=$3 PATH=$work/bin:$PATH expect_code "$1" "report.md" "$root/tools/gpu_check.sh" --dry-run --minutes "$2" \
    --build "$work/build" --data "$work/data" --output "$work/check"
  expect "the report is whole" [ "$(json "$work/check/report.json" finished)" = ON ]
}

steps() {
  make_stand_ins
  check 0 9 none
  # These steps in this order, and nothing that takes time and needs no GPU.
  local all
  all=$(sed -n 's/^.*{"name": "\([^"]*\)", "result": "\([^"]*\)".*/\1: \2/p' "$work/check/report.json" | tr '\n' ';')
  expect "the steps are as expected: $all" [ "$all" = "doctor: passed;collectives by NCCL: passed;collectives through \
the host: passed;same bits: passed;fused Adam against copy: passed;PyTorch's fused AdamW: skipped;train mlp: passed;train cnn: \
passed;tests on the device: passed;compute-sanitizer memcheck: passed;compute-sanitizer racecheck: passed;" ]
  # One GPU: NCCL for one rank, memory of the host for two.
  expect "one rank by NCCL" grep -q '^ bench collectives --device cuda --transport nccl' "$work/build/calls"
  expect "two ranks through the host" grep -q '^2 bench collectives --device cuda --transport staged' "$work/build/calls"
  expect "two ranks train through the host" grep -q '^2 train .*--device cuda --transport staged' "$work/build/calls"
  expect "racecheck leaves products out" grep -q 'A:Matmul.B:-Matmul' "$work/build/tests/kernels/filter"
  expect "each size of Adam is one row" [ "$(grep -Ec '^ bench kernels .*--elements (1024 --rows optimizer/adam/1K|4096 --rows optimizer/adam/4K)$' \
    "$work/build/calls")" = 2 ]
  expect "ledgers are in the folder" [ -s "$work/check/files/two_ranks.ledger" ]

  # A tool that found nothing while it ran is a note; what hangs takes no time from what comes behind it.
  check 0 4 slow
  expect_result "compute-sanitizer racecheck" partly
  check 1 4 "wrong other_bits skipped finding hang"
  expect_result "collectives by NCCL" failed
  expect_result "same bits" failed
  expect_result "fused Adam against copy" "cut off"
  expect_result "train cnn" passed
  expect_result "tests on the device" failed
  expect "the skipped test is named" grep -q 'must not be skipped.*kernels.B' "$work/check/report.md"
  expect_result "compute-sanitizer memcheck" "cut off"
  expect_result "compute-sanitizer racecheck" passed
}

rehearsal() {
  # shellcheck source=/dev/null
  . "$root/tests/tools/cli/support.sh"
  make_data "$work/data"
  stand_in "$work/bin/compute-sanitizer" <<'END'
[ "$1" != --version ] || { echo stand-in; exit; }
shift 4
"$@" && echo '========= ERROR SUMMARY: 0 errors'
END
  # An emulated device on two cores takes longer than a GPU.
  PATH=$work/bin:$PATH expect_code 0 "incomplete after" "$root/tools/gpu_check.sh" --dry-run --minutes 45 --build "$build" \
    --data "$work/data" --output "$work/check"
  cat "$work/check/report.md"
  for step in doctor "collectives by NCCL" "collectives through the host" "same bits" "fused Adam against copy" \
    "train mlp" "train cnn" "tests on the device" "compute-sanitizer memcheck" "compute-sanitizer racecheck"; do
    expect_result "$step" passed
  done
  expect_result "PyTorch's fused AdamW" skipped
  expect "products have other bits than on the CPU" [ "$(json "$work/check/files/bits.json" steps_equal_to_cpu)" = 0 ]
}

novels() {
  expect_code 0 "^usage: tools/scripts/fetch_novels.sh" "$root/tools/scripts/fetch_novels.sh" --help
  expect_code 2 "expected one folder" "$root/tools/scripts/fetch_novels.sh"
  printf 'no file of R' >"$work/bad.rdb"
  g++ -std=c++20 -O1 -Wall -Wextra -Werror "$root/tools/scripts/rdb_texts.cpp" -lz -o "$work/rdb_texts" || exit 1
  expect_code 1 "bad.rdb': a blob" "$work/rdb_texts" "$work/bad.rdb" "$work/a.txt"
  (cd "$work" && apt-get -q download r-cran-janeaustenr >/dev/null 2>&1) || {
    echo "no novels can be fetched here: apt-get cannot download r-cran-janeaustenr"
    [ $failures -eq 0 ] || exit 1
    exit 77
  }
  expect_code 0 "4025029 bytes of text in 6 novels" "$root/tools/scripts/fetch_novels.sh" "$work/novels"
  expect "six files and nothing else" [ "$(find "$work/novels" -mindepth 1 | wc -l)" -eq 6 ]
  expect "each under its name" grep -q '^PRIDE AND PREJUDICE' "$work/novels/pride_and_prejudice.txt"
  expect_code 0 "are in .* already" "$root/tools/scripts/fetch_novels.sh" "$work/novels"
}

bundle() {
  command -v dpkg-query >/dev/null && command -v patchelf >/dev/null || {
    echo "no bundle can be filled here: that takes Debian's packages and patchelf"
    exit 77
  }
  expect_code 1 "raise the limit of 5" "$root/tools/offline_bundle.sh" --limit 5 "$work/small"
  expect "nothing is left of it" [ ! -e "$work/small" ]
  "$root/tools/offline_bundle.sh" "$work/filled" || exit 1
  expect "it keeps its limit" [ "$(du -sk --apparent-size "$work/filled" | cut -f 1)" -le $((60 * 1024)) ]
  expect "no link leads nowhere: $(find "$work/filled" -xtype l)" [ -z "$(find "$work/filled" -xtype l)" ]
  mkdir "$work/elsewhere"
  mv "$work/filled" "$work/elsewhere/bundle"
  local bundle=$work/elsewhere/bundle
  outside() {  # libraries that a program of the bundle takes from the system
    find "$bundle/usr" -type f \( -name '*.so*' -o -path '*/bin/*' \) -exec ldd {} + | awk '$2 == "=>" { print $3 }' |
      grep -v "^$bundle" | sort -u | xargs -n 1 basename | tr '\n' ' '
  }
  expect "only the compiler's libraries come from outside: $(outside)" \
    [ -z "$(outside | tr ' ' '\n' | grep -Ev '^(libc|libm|libgcc_s|libstdc\+\+|libgomp|libatomic|libdl|libpthread|librt)\.|^$')" ]
  LOCKSTEP_BUNDLE=$bundle expect_code 0 'rank 1 by .*elsewhere/bundle' "$root/tools/mpirun.sh" -np 2 \
    sh -c 'echo rank $OMPI_COMM_WORLD_RANK by $OPAL_PREFIX, $(command -v mpirun)'
}

$group
echo "$failures failures in group $group"
[ $failures -eq 0 ]
