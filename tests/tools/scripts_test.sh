#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The scripts for machines with GPUs and without network: scripts_test.sh GROUP, GROUP being
#   usage     options that cannot be meant
#   reports   the reports of gpu_check.sh: valid whatever a log holds, and on a machine without GPU
#   mpirun    what tools/mpirun.sh tells the mpirun of Open MPI 5
#   novels    text to train on comes out of a Debian package (exit code 77: it cannot be fetched here)
#   bundle    a bundle is filled, keeps its limit, and its Open MPI works from anywhere (exit code 77: cannot be filled here)
set -u
group=$1
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
  expect_code 2 "takes a folder" "$root/tools/gpu_check.sh" --output
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
