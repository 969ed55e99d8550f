#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs trainings under `lockstep run`, kills or stops ranks, launchers and supervisors at random moments, and compares
# ledger and weights with those of a run without faults: random_faults.sh PROGRAM MPIRUN [RUNS [FIRST_SEED]]
set -u
mpirun=$2 runs=${3:-10} seed=${4:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A copy of its own tells this test's processes from those of others.
lockstep=$work/lockstep
cp "$1" "$lockstep"
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/cli/support.sh"
make_data "$work/data"

training=(train --data "$work/data" --model mlp --batch 16 --virtual-ranks 4 --steps 60 --threads 1 --timeout 15)
"$lockstep" "${training[@]}" --ledger "$work/reference" --save "$work/reference_weights" >/dev/null || exit 1
failures=0 faults=0 repeated=0

processes_of_the_run() { find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$lockstep" 2>/dev/null | cut -d/ -f3; }
children_of() { cat "/proc/$1/task/$1/children" 2>/dev/null; }
lines() { wc -l 2>/dev/null <"$work/ledger" || echo 0; }

fail() {
  echo "FAILED: seed $1: $2"
  cat "$work/log"
  failures=$((failures + 1))
}

start() {  # start RANKS: sets `supervisor`
  setsid "$lockstep" run -np "$1" --launcher "$mpirun" --incidents "$work/incidents" --give-up-after 10 --backoff 0.1 -- \
    "${training[@]}" --ledger "$work/ledger" --save "$work/weights" --checkpoint-dir "$work/run" \
    --checkpoint-every $((1 + RANDOM % 6)) --keep 2 --resume auto --inject slow@step=0,ms=15,life=0 >"$work/log" 2>&1 </dev/null &
  supervisor=$!
}

expect_nothing_left() {  # expect_nothing_left SEED
  for _ in {1..50}; do [ -z "$(processes_of_the_run)" ] && break; sleep 0.1; done
  [ -z "$(processes_of_the_run)" ] || { fail "$1" "processes are left after 5 seconds"; processes_of_the_run | xargs -r kill -9; }
  [ ! -e "/dev/shm/lockstep_run_$supervisor" ] || fail "$1" "a folder is left in /dev/shm"
}

for ((run = seed; run < seed + runs; ++run)); do
  RANDOM=$run
  rm -rf "$work/run" "$work/ledger" "$work/weights" "$work/incidents"
  start $((1 + RANDOM % 4))
  for ((left = 3; left > 0; --left)); do
    before=$(lines)
    for _ in {1..400}; do
      kill -0 $supervisor 2>/dev/null || break
      [ "$(lines)" -ne "$before" ] && break
      sleep 0.05
    done
    sleep "$(printf '0.%03d' $((RANDOM % 900)))"
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
  cmp "$work/reference" "$work/ledger" || fail "$run" "expected the ledger of the run without faults"
  cmp "$work/reference_weights" "$work/weights" || fail "$run" "expected its weights"
  "$lockstep" checkpoint verify "$work/run" >"$work/log" 2>&1 || fail "$run" "expected whole checkpoints"
  most=$(grep -o '"repeated_steps":[0-9]*' "$work/incidents" 2>/dev/null | cut -d: -f2 | sort -n | tail -n 1)
  [ "${most:-0}" -le 1 ] || fail "$run" "$most steps were taken twice: $(cat "$work/incidents")"
  repeated=$((repeated > ${most:-0} ? repeated : ${most:-0}))
done
echo "$runs runs, $faults faults, at most $repeated steps taken twice after one, $failures failures"
[ $failures -eq 0 ]
