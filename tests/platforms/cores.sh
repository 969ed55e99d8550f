#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Training where a container allows two cores of a machine that says it has 64, with and without a quota of time, beside
# training without the pretence. Every rank must take as many threads as it does there, whatever the machine says; rates
# are printed as medians of interleaved rounds, and judged by whoever reads them. Needs root.
# usage: tests/platforms/cores.sh PROGRAM [ROUNDS]
set -u
[ $# -gt 0 ] || { echo "usage: tests/platforms/cores.sh PROGRAM [ROUNDS]" >&2; exit 2; }
program=$1 rounds=${2:-5}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
group=""
finish() {
  [ -z "$group" ] || rmdir "$group"
  rm -rf "$work"
}
trap finish EXIT
# shellcheck source=/dev/null
. "$root/tests/tools/cli/support.sh"
make_data "$work/data"

# The same two cores everywhere.
cores=$(taskset -cp $$ | sed 's/.*: //; s/\([0-9]*\)[-,]\([0-9]*\).*/\1,\2/')
allowed=(taskset -c "$cores")
echo 0-63 >"$work/cpus"
pretending=(unshare --mount sh -c "for file in online possible present; do
  mount --bind $work/cpus /sys/devices/system/cpu/\$file; done; exec \"\$@\"" sh)
"${pretending[@]}" true 2>/dev/null || { echo "cores.sh: error: this takes root and the right to mount" >&2; exit 1; }

# A control group with two cores' worth of time, of either version.
settings=plain\ pretended
for folder in /sys/fs/cgroup/cpu /sys/fs/cgroup; do
  mkdir "$folder/lockstep.$$" 2>/dev/null || continue
  group=$folder/lockstep.$$
  if echo 200000 2>/dev/null >"$group/cpu.cfs_quota_us" || echo 200000 100000 2>/dev/null >"$group/cpu.max"; then
    settings="$settings quota"
    break
  fi
  rmdir "$group"
  group=""
done
case $settings in *quota) ;; *) echo "without a quota: no control group of processors can be made here" ;; esac

in_setting() {  # in_setting NAME COMMAND...
  local setting=$1
  shift
  case $setting in
    plain) "${allowed[@]}" "$@" ;;
    pretended) "${pretending[@]}" "${allowed[@]}" "$@" ;;
    quota) "${pretending[@]}" sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "${allowed[@]}" "$@" ;;
  esac
}

threads_of() { sed -n 's/^cores .*, \([0-9]*\) for each rank.*/\1/p'; }
failures=0
training=(train --data "$work/data" --model mlp --batch 128 --virtual-ranks 8)
declare -A runs=(
  [1_rank]="$program" [8_thread_ranks]="$program"
  [1_of_mpirun]="$root/tools/mpirun.sh -np 1 $program" [8_of_mpirun]="$root/tools/mpirun.sh -np 8 $program")
declare -A options=([1_rank]="--steps 400" [8_thread_ranks]="--steps 200 --ranks 8" [1_of_mpirun]="--steps 400" [8_of_mpirun]="--steps 100")
for run in 1_rank 1_of_mpirun 8_of_mpirun; do
  # shellcheck disable=SC2086  # words of a command
  expected=$(in_setting plain ${runs[$run]} doctor | threads_of)
  for setting in $settings; do
    # shellcheck disable=SC2086
    found=$(in_setting $setting ${runs[$run]} doctor | threads_of)
    [ -n "$found" ] && [ "$found" = "$expected" ] || {
      echo "WRONG: $run, $setting: ${found:-no} threads for each rank, expected $expected"
      failures=$((failures + 1))
    }
  done
done

for ((round = 0; round < rounds; ++round)); do
  for run in "${!runs[@]}"; do
    for setting in $settings; do
      # shellcheck disable=SC2086
      in_setting $setting timeout 300 ${runs[$run]} "${training[@]}" ${options[$run]} 2>"$work/said" </dev/null |
        sed -n 's/.*images_per_second=\([0-9]*\).*/\1/p' >>"$work/$run.$setting" || cat "$work/said"
    done
  done
done
median() { sort -n "$1" | awk '{ value[NR] = $1 } END { print NR ? value[int((NR + 1) / 2)] : 0 }'; }
printf '%-16s' "images/s"
for setting in $settings; do printf '%12s' "$setting"; done
echo
for run in 1_rank 1_of_mpirun 8_thread_ranks 8_of_mpirun; do
  printf '%-16s' "$run"
  for setting in $settings; do printf '%12s' "$(median "$work/$run.$setting")"; done
  echo
done
[ $failures -eq 0 ]
