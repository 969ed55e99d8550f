#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The program from end to end, with real processes: cli_test.sh GROUP PROGRAM [MPIRUN]
# GROUP: usage | numbers | data | outputs | neighbours | streams | plan_readers | weights | threads | plan | plan_files | plan_verify |
# optimizer_options | groups | precision | schedules | plot | text | language | language_runs | language_refusals | language_plan | sample | convert | gpu_refusals |
# checkpoints | checkpoint_refusals | checkpoint_models | supervisor | diff | gpu_bench_kernels | gpu_profiling | gpu_doctor, and with MPIRUN: launch | preemption | kills | supervised_ranks | audits |
# reachable | stops | small_memory | no_threads | failing_ranks | ledgers | language_mpi | plan_verify_mpi | gpu_ranks | gpu_without_connections |
# gpu_training | gpu_bench | gpu_bench_train
# shellcheck disable=SC2034  # what the parts use
set -u

group=$1 mpirun=${3:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A copy of its own tells this test's processes from those of others.
lockstep=$work/lockstep
cp "$2" "$lockstep"
out=$work/out

here=$(dirname "${BASH_SOURCE[0]}")/cli
for part in support bad_input checkpoints failing_ranks faults files gpu language optimizers training planning sampling supervisor text; do
  # shellcheck source=/dev/null
  . "$here/$part.sh"
done

make_outputs
data=$work/data
make_data "$data"
# Were the outputs written at all, they would be found.
train=("$lockstep" train)
on_data=("${train[@]}" --data "$data")
outputs=(--ledger "$out/ledger" --metrics "$out/metrics" --save "$out/old")
bad=("${on_data[@]}" "${outputs[@]}")

"test_$group"
[ ! -e "$work/failures" ] || { echo "$(wc -l <"$work/failures") failures in group $group"; exit 1; }
echo "group $group passed"
