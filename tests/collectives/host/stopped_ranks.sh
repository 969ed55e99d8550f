#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A rank that is stopped (SIGSTOP) at any moment from exec to exit: the others end within --timeout plus 2 s and name
# what they waited for. stopped_ranks.sh PROGRAM MPIRUN [MOMENTS [SEED [SECONDS]]]: SECONDS instead of those 2, for machines
# on which other programs run.
set -u

program=$1 mpirun=$2 moments=${3:-4} seed=${4:-1} grace=${5:-2}
ranks=3 timeout=2 steps=60
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=/dev/null
. "$here/../../tools/cli/support.sh"
lockstep=$work/lockstep
cp "$program" "$lockstep"
make_data "$work/data"

pids() { find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$lockstep" 2>/dev/null | cut -d/ -f3; }
rank_of() { tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p'; }
now() { date +%s%N; }
# The process of a rank, as soon as it has begun; nothing when it has not after a while.
pid_of() {
  local candidate
  for _ in {1..300}; do
    for candidate in $(pids); do [ "$(rank_of "$candidate")" = "$1" ] && echo "$candidate" && return; done
    kill -0 $job 2>/dev/null || return
  done
}

start() {
  "$mpirun" -np $ranks "$lockstep" train --data "$work/data" --steps $steps --batch 30 --threads 1 --virtual-ranks $ranks \
    --timeout $timeout --save "$work/weights" --ledger "$work/ledger" >"$work/stdout" 2>"$work/stderr" </dev/null &
  job=$!
}

# How long an undisturbed run takes decides between which moments it is stopped.
start
pid_of 0 >/dev/null
begin=$(now)
wait $job || { cat "$work/stderr"; exit 1; }
whole=$((($(now) - begin) / 1000000))
echo "an undisturbed run takes $whole ms"

RANDOM=$seed
failures=0 named=0 over=0 launchers=0
for ((i = 0; i < moments; ++i)); do
  # The moments are spread over the run, with a random one in each part.
  moment=$(((whole * i + RANDOM % whole) / moments)) victim=$((RANDOM % ranks))
  start
  pid=$(pid_of $victim)
  sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
  where=$(tail -n 1 "$work/ledger" 2>/dev/null | cut -c 1-40)
  if [ -z "$pid" ] || ! kill -STOP "$pid" 2>/dev/null; then
    # Another moment takes its place: runs have become shorter.
    echo "moment $moment ms: rank $victim has ended"
    whole=$((whole * 9 / 10))
    wait $job
    rm -f "$work/weights" "$work/ledger"
    [ $((over += 1)) -gt $((2 * moments)) ] || i=$((i - 1))
    continue
  fi
  stopped=$(now)
  # The others are those that are neither stopped nor ended.
  while :; do
    others=0
    for candidate in $(pids); do
      state=$(sed -n 's/^.*) \([A-Za-z]\) .*/\1/p' "/proc/$candidate/stat" 2>/dev/null)
      case $state in T | t | Z | X | '') ;; *) others=$((others + 1)) ;; esac
    done
    took=$((($(now) - stopped) / 1000000))
    [ $others -eq 0 ] && break
    [ $took -gt $(((timeout + grace + 20) * 1000)) ] && break
    sleep 0.05
  done
  # The launcher ends the stopped rank when another one has failed; where all had finished it still waits for it.
  launcher=
  grep -q 'lockstep: error:' "$work/stderr" && for _ in {1..50}; do kill -0 $job 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null
  for _ in {1..50}; do kill -0 $job 2>/dev/null || break; sleep 0.1; done
  if kill -KILL $job 2>/dev/null; then
    launcher="(the launcher had to be ended)"
    launchers=$((launchers + 1))
  fi
  wait $job 2>/dev/null
  message=$(grep -a '^lockstep: error:' "$work/stderr")
  count=$(grep -ac 'lockstep: error:' "$work/stderr")
  verdict=
  if [ $others -gt 0 ] || [ $took -gt $(((timeout + grace) * 1000)) ]; then
    verdict="took too long"
  elif [ "$count" -eq 0 ] && [ $took -lt $((timeout * 1000)) ] && [ -s "$work/weights" ]; then
    verdict=  # the others had nothing to wait for any more
  elif [ "$count" -ne 1 ]; then
    verdict="expected one message, got $count"
  elif ! grep -Eq "waited $timeout s for .*rank $victim " <<<"$message"; then
    verdict="the message does not name rank $victim"
  else
    named=$((named + 1))
  fi
  rm -f "$work/weights" "$work/ledger"
  echo "moment $moment ms, rank $victim, after '$where': others gone after $took ms: ${message:-finished} $launcher ${verdict:+FAILED: $verdict}"
  [ -z "$verdict" ] || { failures=$((failures + 1)); sed 's/^/    /' "$work/stderr"; }
done
echo "$moments moments: $named named, $over without that rank, $launchers launchers that hung, $failures failures"
[ $failures -eq 0 ]
