# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# `lockstep run`: a supervisor that starts a training again after a fault.
# shellcheck disable=SC2154,SC2034  # variables of cli_test.sh and support.sh

# supervised OPTION... -- TRAINING...: runs it and sets `code`; nothing is left afterwards.
supervised() {
  local pid
  command="lockstep run $*"
  rm -f "$work/incidents"
  "$lockstep" run --incidents "$work/incidents" --backoff 0.1 "$@" >"$work/stdout" 2>"$work/stderr" </dev/null &
  pid=$!
  for _ in {1..1200}; do kill -0 $pid 2>/dev/null || break; sleep 0.05; done
  kill -9 $pid 2>/dev/null && complain "expected an end within 60 seconds"
  expect_end $pid
}

expect_end() {  # expect_end SUPERVISOR: sets `code`; nothing is left
  wait "$1" 2>/dev/null
  code=$?
  expect_nobody_left
  [ ! -e "/dev/shm/lockstep_run_$1" ] || complain "expected nothing in /dev/shm"
}

expect_incident() {  # expect_incident TIMES PATTERN
  [ "$(grep -Ec "$2" "$work/incidents")" -eq "$1" ] ||
    complain "expected $1 incidents like '$2', got: $(cat "$work/incidents")"
}

child_of() { tr -d ' ' <"/proc/$1/task/$1/children"; }  # child_of PROCESS, which has one

await_ledger() {  # await_ledger LINES
  for _ in {1..600}; do [ "$(wc -l 2>/dev/null <"$work/ledger" || echo 0)" -gt "$1" ] && return; sleep 0.05; done
  complain "expected training to begin"
}

# One process, whose ranks are threads.
test_supervisor() {
  local base whole files resumed pid
  checkpointed 16 64
  expect_success "${whole[@]}" --ledger "$work/reference" --save "$work/reference_weights"
  local run=("${whole[@]:1}" --ledger "$work/ledger" --save "$work/weights")

  # Without a checkpoint: the snapshot of the last step is enough.
  supervised -- "${run[@]}" --ranks 2 --inject kill@step=8,rank=1 --inject kill@step=11,life=2
  [ $code -eq 0 ] || complain "expected success"
  expect_same "$work/reference" "$work/ledger"
  expect_same "$work/reference_weights" "$work/weights"
  # A rank may be killed before another one has written the last step.
  expect_output 1 '^going on after step [78] of 16, from the snapshot in memory$'
  expect_output 1 '^going on after step 1[01] of 16, from the snapshot in memory$'
  expect_incident 1 '"what":"the run ended at step 8 with exit code 137 \(SIGKILL\)","life":1,.*"action":"starting it again"'
  expect_incident 1 '"kind":"resumed","what":"training goes on after step [78],.*"life":2,.*"repeated_steps":[01],'
  expect_incident 4 '^\{"time":"'
  grep -q '^lockstep: incident: the run ended at step 8 ' "$work/stderr" || complain "expected the incident to be told"

  # Checkpoints alone.
  checkpointed 16 64
  supervised --snapshot-every 0 -- "${resumed[@]:1}" --ranks 2 --inject kill@step=8
  [ $code -eq 0 ] || complain "expected success"
  expect_output 1 "^going on after step [36] of 16, from $work/run/step_0000000[36]\$"
  expect_whole_run 16

  # The same step again and again.
  supervised --give-up-after 2 -- "${run[@]}" --inject kill@step=5,life=0
  [ $code -eq 1 ] || complain "expected exit code 1"
  [ "$(grep -c '^lockstep: error: \[launch\] the run has failed 2 times in a row at step 5, the last time with exit code 137' "$work/stderr")" -eq 1 ] ||
    complain "expected one error"
  expect_incident 2 '"step":5,'
  expect_incident 1 '"action":"giving up"'

  # What no further life can mend.
  supervised -- "${run[@]}" --batch 0
  [ $code -eq 2 ] || complain "expected exit code 2"
  [ "$(grep -c '^lockstep: error: \[usage\]' "$work/stderr")" -eq 1 ] || complain "expected one error"
  [ ! -e "$work/incidents" ] || complain "expected no incident"
  expect_error 2 "*\\[usage\\]*expected 'train' and its options behind '--', got nothing*" "$lockstep" run
  expect_error 2 "*\\[usage\\]*expected 'train'*got 'eval'*" "$lockstep" run -np 2 -- eval
  expect_error 2 "*\\[usage\\]*--give-up-after: expected at least 1, got 0*" "$lockstep" run --give-up-after 0 -- train
  expect_error 2 "*\\[usage\\]*itself started by mpirun*" env OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1 "$lockstep" run -- train
  expect_error 1 "*\\[launch\\]*cannot start '/nowhere'*" "$lockstep" run --launcher /nowhere -np 2 -- train

  # A rank that issues another collective, which is found out before the update: what was trained stays.
  rm -rf "$work/run" "$work/ledger"
  run "${whole[@]}" --ledger "$work/ledger" --ranks 2 --inject mismatch@step=5,rank=1
  [ $code -eq 1 ] || complain "expected exit code 1"
  [ "$(grep -c '^lockstep: error: \[collective\] .*rank 1 (.* collectives of .*all_reduce of 4 B of f32 (sum) at fault_injection.cpp:[0-9]*, and rank 0 (' "$work/stderr")" -eq 1 ] ||
    complain "expected one error that names both"
  cmp -s <(head -n 6 "$work/reference") "$work/ledger" || complain "expected the ledger of five steps"

  # Somebody who asks it to stop, and a supervisor that is killed: nothing is left.
  for signal in USR1 KILL; do
    rm -f "$work/ledger"
    command="lockstep run and SIG$signal"
    "$lockstep" run --incidents "$work/incidents" -- "${base[@]:1}" --ledger "$work/ledger" --steps 2000 --batch 64 --ranks 2 >"$work/stdout" 2>"$work/stderr" </dev/null &
    pid=$!
    await_ledger 5
    kill -$signal $pid
    expect_end $pid
    [ $code -eq "$([ $signal = USR1 ] && echo 0 || echo 137)" ] || complain "unexpected exit code"
    [ $signal = KILL ] || grep -q '^lockstep: stopped by SIGUSR1 after step' "$work/stderr" || complain "expected a message"
  done
}

# Ranks of mpirun: one is killed, one stops, and the next life has the same or fewer.
test_supervised_ranks() {
  local base whole files resumed pid keeper
  checkpointed 150 8
  expect_success "${whole[@]}" --ledger "$work/reference" --save "$work/reference_weights"
  local run=("${resumed[@]:1}" --save "$work/weights" --inject "slow@step=0,ms=15,life=0")
  supervised -np 3 --launcher "$mpirun" -- "${run[@]}" --inject kill@step=20,rank=1
  [ $code -eq 0 ] || complain "expected success"
  expect_whole_run 150
  expect_same "$work/reference_weights" "$work/weights"
  expect_incident 1 '"kind":"killed","what":"rank 1 \(process [0-9]+\) is gone in step 20, .*"action":"starting it again with 3 ranks"'
  expect_incident 1 '"kind":"resumed",.*"repeated_steps":[01],'

  # A stopped rank that is to end goes on for the moment between the launcher's CONT and its TERM.
  checkpointed 150 8
  supervised -np 3 --launcher "$mpirun" --after-fault left -- "${run[@]}" --inject stop@step=40,rank=2
  [ $code -eq 0 ] || complain "expected success"
  expect_whole_run 150
  expect_same "$work/reference_weights" "$work/weights"
  expect_incident 1 '"kind":"stopped","what":"rank 2 \(process [0-9]+\) is stopped in step 40, .*"action":"starting it again with 2 ranks"'
  expect_incident 1 '"kind":"resumed",.*"ranks":2,.*"repeated_steps":[01],'

  # The launcher, as an administrator would.
  checkpointed 150 8
  command="lockstep run and kill -9 of mpirun"
  "$lockstep" run -np 2 --launcher "$mpirun" --incidents "$work/incidents" -- "${run[@]}" >"$work/stdout" 2>"$work/stderr" </dev/null &
  pid=$!
  await_ledger 20
  keeper=$(child_of $pid)
  kill -9 "$(child_of "$keeper")"
  expect_end $pid
  [ $code -eq 0 ] || complain "expected success"
  expect_whole_run 150
  expect_same "$work/reference_weights" "$work/weights"
}
