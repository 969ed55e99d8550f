#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Kills ranks and launchers at random moments, goes on with another number of ranks, and compares ledger and weights with
# those of a run that is never killed: random_kills.sh PROGRAM MPIRUN [RUNS [FIRST_SEED]]
set -u
mpirun=$2 runs=${3:-20} seed=${4:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A copy of its own tells this test's processes from those of others.
lockstep=$work/lockstep
cp "$1" "$lockstep"
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/cli/support.sh"
make_data "$work/data"

steps=60 failures=0 kills=0
training=("$lockstep" train --data "$work/data" --model mlp --batch 16 --virtual-ranks 4 --steps $steps --threads 1)
"${training[@]}" --ledger "$work/reference" --save "$work/reference_weights" >/dev/null || exit 1
shared_before=$(find /dev/shm -maxdepth 1 -name 'lockstep*' 2>/dev/null | wc -l)

ranks_of_the_run() { find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$lockstep" 2>/dev/null | cut -d/ -f3; }

fail() {
  echo "FAILED: seed $1: $2"
  cat "$work/log"
  failures=$((failures + 1))
}

for ((run = seed; run < seed + runs; ++run)); do
  RANDOM=$run
  rm -rf "$work/run" "$work/ledger" "$work/weights"
  for life in 1 2 3 4; do
    ranks=$((1 + RANDOM % 4)) delay=$((RANDOM % 900)) victim=$((RANDOM % 3))
    resumed=("${training[@]}" --ledger "$work/ledger" --save "$work/weights" --checkpoint-dir "$work/run"
      --checkpoint-every $((1 + RANDOM % 6)) --keep 2 --resume auto --inject slow@step=0,ms=15)
    setsid "$mpirun" -np $ranks "${resumed[@]}" >"$work/log" 2>&1 </dev/null &
    launcher=$!
    [ $life -lt 4 ] || break
    lines=$(wc -l 2>/dev/null <"$work/ledger" || echo 0)
    for _ in {1..200}; do
      kill -0 $launcher 2>/dev/null || break
      [ "$(wc -l 2>/dev/null <"$work/ledger" || echo 0)" -ne "$lines" ] && break
      sleep 0.05
    done
    sleep "$(printf '0.%03d' $delay)"
    if [ $victim -eq 0 ]; then
      kill -9 $launcher 2>/dev/null && kills=$((kills + 1))
    else
      mapfile -t processes < <(ranks_of_the_run)
      [ ${#processes[@]} -eq 0 ] || { kill -9 "${processes[RANDOM % ${#processes[@]}]}" 2>/dev/null && kills=$((kills + 1)); }
    fi
    wait $launcher 2>/dev/null
    for _ in {1..50}; do [ -z "$(ranks_of_the_run)" ] && break; sleep 0.1; done
    [ -z "$(ranks_of_the_run)" ] || { fail "$run" "ranks are left after 5 seconds"; ranks_of_the_run | xargs -r kill -9; }
  done
  wait $launcher || fail "$run" "the last life ended with exit code $?"
  cmp "$work/reference" "$work/ledger" || fail "$run" "expected the ledger of the run that was never killed"
  cmp "$work/reference_weights" "$work/weights" || fail "$run" "expected its weights"
  "$lockstep" checkpoint verify "$work/run" >"$work/log" 2>&1 || fail "$run" "expected whole checkpoints"
  [ -z "$(find "$work/run" -mindepth 1 -maxdepth 1 ! -name 'step_????????' ! -name latest)" ] || fail "$run" "expected nothing else in the folder"
done
[ "$(find /dev/shm -maxdepth 1 -name 'lockstep*' 2>/dev/null | wc -l)" -le "$shared_before" ] || fail all "expected nothing to be left in /dev/shm"
echo "$runs runs, $kills kills, $failures failures"
[ $failures -eq 0 ]
