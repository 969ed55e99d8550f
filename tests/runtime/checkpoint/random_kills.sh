#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Kills ranks and launchers at random moments, goes on with another number of ranks, and compares ledger and weights with
# those of a run that is never killed: random_kills.sh PROGRAM MPIRUN [RUNS [FIRST_SEED]]
# shellcheck disable=SC2154  # variables of random_faults_support.sh
set -u
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/random_faults_support.sh"
runs=${runs:-20} kills=0
shared_before=$(find /dev/shm -maxdepth 1 -name 'lockstep*' 2>/dev/null | wc -l)

for ((run = seed; run < seed + runs; ++run)); do
  begin_run "$run"
  for life in 1 2 3 4; do
    ranks=$((1 + RANDOM % 4)) victim=$((RANDOM % 3))
    setsid "$mpirun" -np $ranks "$lockstep" "${training[@]}" --ledger "$work/ledger" --save "$work/weights" \
      --checkpoint-dir "$work/run" --checkpoint-every $((1 + RANDOM % 6)) --keep 2 --resume auto \
      --inject slow@step=0,ms=15 >"$work/log" 2>&1 </dev/null &
    launcher=$!
    [ $life -lt 4 ] || break
    wait_for_a_moment $launcher
    if [ $victim -eq 0 ]; then
      kill -9 $launcher 2>/dev/null && kills=$((kills + 1))
    else
      mapfile -t processes < <(processes_of_the_run)
      [ ${#processes[@]} -eq 0 ] || { kill -9 "${processes[RANDOM % ${#processes[@]}]}" 2>/dev/null && kills=$((kills + 1)); }
    fi
    wait $launcher 2>/dev/null
    expect_no_process "$run"
  done
  wait "$launcher" || fail "$run" "the last life ended with exit code $?"
  expect_end_of_reference "$run"
  [ -z "$(find "$work/run" -mindepth 1 -maxdepth 1 ! -name 'step_????????' ! -name latest)" ] || fail "$run" "expected nothing else in the folder"
done
[ "$(find /dev/shm -maxdepth 1 -name 'lockstep*' 2>/dev/null | wc -l)" -le "$shared_before" ] || fail all "expected nothing to be left in /dev/shm"
echo "$runs runs, $kills kills, $failures failures"
[ "$failures" -eq 0 ]
