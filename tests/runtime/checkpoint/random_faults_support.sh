# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What random_kills.sh and random_faults.sh share, who source it with their arguments PROGRAM MPIRUN [RUNS [FIRST_SEED]]:
# a folder with data and what a training without faults writes there, and what one with faults is held to in the end.
# shellcheck disable=SC2034  # what the scripts use
mpirun=$2 runs=${3:-} seed=${4:-1} failures=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A copy of its own tells this test's processes from those of others.
lockstep=$work/lockstep
cp "$1" "$lockstep"
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/cli/support.sh"
make_data "$work/data"

training=(train --data "$work/data" --model mlp --batch 16 --virtual-ranks 4 --steps 60 --threads 1)
"$lockstep" "${training[@]}" --ledger "$work/reference" --save "$work/reference_weights" >/dev/null || exit 1

processes_of_the_run() { find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$lockstep" 2>/dev/null | cut -d/ -f3; }
lines() { wc -l 2>/dev/null <"$work/ledger" || echo 0; }
running() { kill -0 "$1" 2>/dev/null; }

fail() {  # fail SEED WHAT
  echo "FAILED: seed $1: $2"
  cat "$work/log"
  failures=$((failures + 1))
}

begin_run() {  # begin_run SEED
  RANDOM=$1
  rm -rf "$work/run" "$work/ledger" "$work/weights" "$work/incidents"
}

wait_for_a_moment() {  # wait_for_a_moment PROCESS: until it has taken a step, at most some seconds, and a moment longer
  local before moment=$((RANDOM % 900))
  before=$(lines)
  for _ in {1..400}; do
    running "$1" || break
    [ "$(lines)" -eq "$before" ] || break
    sleep 0.05
  done
  sleep "$(printf '0.%03d' $moment)"
}

expect_no_process() {  # expect_no_process SEED
  for _ in {1..50}; do [ -z "$(processes_of_the_run)" ] && return; sleep 0.1; done
  fail "$1" "processes are left after 5 seconds"
  processes_of_the_run | xargs -r kill -9
}

expect_end_of_reference() {  # expect_end_of_reference SEED
  cmp "$work/reference" "$work/ledger" || fail "$1" "expected the ledger of the run without faults"
  cmp "$work/reference_weights" "$work/weights" || fail "$1" "expected its weights"
  "$lockstep" checkpoint verify "$work/run" >"$work/log" 2>&1 || fail "$1" "expected whole checkpoints"
}
