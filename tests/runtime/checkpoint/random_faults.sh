#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs trainings under `lockstep run`, kills or stops ranks, launchers and supervisors at random moments, and compares
# ledger and weights with those of a run without faults: random_faults.sh PROGRAM MPIRUN [RUNS [FIRST_SEED]]
# shellcheck disable=SC2154  # variables of random_faults_support.sh
set -u
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/random_faults_support.sh"
runs=${runs:-10} faults=0 repeated=0

children_of() { cat "/proc/$1/task/$1/children" 2>/dev/null; }

start() {  # start RANKS: sets `supervisor`
  setsid "$lockstep" run -np "$1" --launcher "$mpirun" --incidents "$work/incidents" --give-up-after 10 --backoff 0.1 -- \
    "${training[@]}" --timeout 15 --ledger "$work/ledger" --save "$work/weights" --checkpoint-dir "$work/run" \
    --checkpoint-every $((1 + RANDOM % 6)) --keep 2 --resume auto --inject slow@step=0,ms=15,life=0 >"$work/log" 2>&1 </dev/null &
  supervisor=$!
}

expect_nothing_left() {  # expect_nothing_left SEED
  expect_no_process "$1"
  [ ! -e "/dev/shm/lockstep_run_$supervisor" ] || fail "$1" "a folder is left in /dev/shm"
}

for ((run = seed; run < seed + runs; ++run)); do
  begin_run "$run"
  start $((1 + RANDOM % 4))
  for ((left = 3; left > 0; --left)); do
    wait_for_a_moment $supervisor
    keeper=$(children_of $supervisor | tr -d ' ')
    [ -n "$keeper" ] || continue
    launcher=$(children_of "$keeper" | cut -d' ' -f1)
    read -ra ranks <<<"$(children_of "${launcher:-0}")"
    case $((RANDOM % 4)) in
    0) kill -9 "${launcher:-none}" 2>/dev/null && faults=$((faults + 1)) ;;
    1) [ ${#ranks[@]} -eq 0 ] || { kill -STOP "${ranks[RANDOM % ${#ranks[@]}]}" 2>/dev/null && faults=$((faults + 1)); } ;;
    2) [ ${#ranks[@]} -eq 0 ] || { kill -9 "${ranks[RANDOM % ${#ranks[@]}]}" 2>/dev/null && faults=$((faults + 1)); } ;;
    3)
      kill -9 $supervisor && faults=$((faults + 1))
      wait $supervisor 2>/dev/null
      expect_nothing_left "$run"
      start $((1 + RANDOM % 4))
      ;;
    esac
  done
  wait $supervisor || fail "$run" "the run ended with exit code $?"
  expect_nothing_left "$run"
  expect_end_of_reference "$run"
  most=$(grep -o '"repeated_steps":[0-9]*' "$work/incidents" 2>/dev/null | cut -d: -f2 | sort -n | tail -n 1)
  [ "${most:-0}" -le 1 ] || fail "$run" "$most steps were taken twice: $(cat "$work/incidents")"
  repeated=$((repeated > ${most:-0} ? repeated : ${most:-0}))
done
echo "$runs runs, $faults faults, at most $repeated steps taken twice after one, $failures failures"
[ "$failures" -eq 0 ]
