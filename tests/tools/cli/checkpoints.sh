# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Checkpoints: runs that are stopped, killed, resumed on other ranks, refused.
# shellcheck disable=SC2154,SC2034  # variables of cli_test.sh and support.sh

# A run of so many steps and what it writes: sets `base` (the training without steps and batch), `whole` (the run),
# `files` (what it writes) and `resumed` (the run that goes on), and empties the files.
checkpointed() {  # checkpointed STEPS BATCH OPTION...
  base=("$lockstep" train --data "$data" --model mlp --virtual-ranks 8 --dropout 0.2 --threads 1 "${@:3}")
  whole=("${base[@]}" --steps "$1" --batch "$2")
  files=(--ledger "$work/ledger" --metrics "$work/metrics" --checkpoint-dir "$work/run" --checkpoint-every 3)
  resumed=("${whole[@]}" "${files[@]}" --resume auto)
  rm -rf "$work/run" "$work/ledger" "$work/metrics"
}

expect_whole_run() {  # expect_whole_run STEPS: ledger and metrics are those of a run that never stopped
  expect_same "$work/reference" "$work/ledger"
  [ "$(grep -o '^{.*"step":[0-9]*,' "$work/metrics" | sed 's/.*"step"://' | tr -d ',')" = "$(seq 0 $(($1 - 1)))" ] ||
    complain "expected one line of metrics for each of $1 steps: $(grep -o '"step":[0-9]*' "$work/metrics" | tr '\n' ' ')"
  run "$lockstep" checkpoint verify "$work/run"
  [ $code -eq 0 ] || complain "expected checkpoints that are whole"
}

# Killed before two steps, by faults of the program's own, on other ranks each time; options in the order of a fault.
test_checkpoints() {
  local base whole files resumed options
  local all=()
  few_cases || all+=("--optimizer adam" "--optimizer muon --precision bf16")
  all+=("--ema-momentum 0.9 --loss-scale 1024 --accumulation 2 --precision f16")
  for options in "${all[@]}"; do
    # shellcheck disable=SC2086  # several options
    checkpointed 16 64 $options
    expect_success "${whole[@]}" --ledger "$work/reference" --save "$work/reference_weights"
    run "${resumed[@]}" --ranks 2 --inject kill@step=8,rank=1
    [ $code -eq 137 ] || complain "expected the run to be killed"
    run "${resumed[@]}" --ranks 3 --inject kill@step=12
    [ $code -eq 137 ] || complain "expected the run to be killed again"
    expect_output 1 "^going on after step [36] of 16, from $work/run/step_0000000[36]\$"
    expect_success "${resumed[@]}" --ranks 4 --save "$work/weights"
    expect_whole_run 16
    expect_same "$work/reference_weights" "$work/weights"
  done
  # Once more, when all is done: the same result, and nothing to do.
  expect_success "${resumed[@]}" --ranks 1 --save "$work/weights"
  expect_output 1 '^test_accuracy=.* steps=16 ranks=1$'
  expect_whole_run 16
  expect_same "$work/reference_weights" "$work/weights"
  [ -z "$(find "$work/run" -name '*.partial' -o -name '*.removed')" ] || complain "expected nothing else to be left"
  expect_success "$lockstep" checkpoint list "$work/run"
  expect_output 3 '^step_000000(16|15|12) '
  expect_success "$lockstep" checkpoint show "$work/run/latest" --tensors
  expect_output 1 '^  goes on with     step 7 of epoch 2, 64 samples a step, 600 an epoch$'
  expect_output 1 '^    dense_1/weight/adam/average '
  expect_success "$lockstep" checkpoint diff "$work/run/latest" "$work/run/step_00000016/"
  run "$lockstep" checkpoint diff "$work/run/step_00000015" "$work/run/latest"
  [ $code -eq 1 ] || complain "expected exit code 1 where two checkpoints differ"
  expect_output 1 '^step: 15 and 16$'
  expect_output 1 '^adam/iteration: 1 of 1 elements differ, by up to 1; the first is \[\]: 15 and 16$'
  expect_success "$lockstep" checkpoint prune "$work/run" --after 15 --dry-run
  expect_output 1 '^would remove step_00000016$'
  expect_success "$lockstep" checkpoint prune "$work/run" --after 15
  expect_output 1 '^removed step_00000016$'
  [ "$(readlink "$work/run/latest")" = step_00000015 ] || complain "expected latest to be step 15"
  expect_success "${resumed[@]}" --ranks 2
  expect_whole_run 16
}

# What cannot be gone on with, and what may be other than it was.
test_checkpoint_refusals() {
  local base whole files resumed
  checkpointed 12 64
  local dir=(--checkpoint-dir "$work/run")
  expect_error 2 '*\[usage\]*--checkpoint-every*--resume auto*name it with --checkpoint-dir*' "${bad[@]}" --checkpoint-every 3
  expect_error 2 '*\[usage\]*--keep: expected at least 2*' "${bad[@]}" "${dir[@]}" --keep 1
  expect_error 2 "*\\[usage\\]*--exit-after: expected a time such as 3h50m*got '3x'*" "${bad[@]}" --exit-after 3x
  expect_error 2 "*\\[usage\\]*--inject: expected *got 'kill@step=x'*" "${bad[@]}" --inject kill@step=x
  expect_error 2 "*\\[usage\\]*unknown change 'bacth'; did you mean 'batch'*" "${bad[@]}" "${dir[@]}" --allow-change bacth
  expect_error 1 "*\\[data\\]*--resume: cannot open '$work/nowhere/manifest.json'*" "${bad[@]}" --resume "$work/nowhere"
  expect_success "${base[@]}" --steps 5 --batch 64 "${files[@]}" --ranks 2
  expect_error 2 "*\\[usage\\]*holds checkpoints up to step 5; go on from them with --resume auto*" "${bad[@]}" "${dir[@]}"
  # Ranks may be others; what decides the numbers may not without being asked for.
  expect_error 2 "*\\[usage\\]*of a run with other options: batch was '64' and is '32' (*seed was '1' and is '7' (*--allow-change batch --allow-change seed" \
    "${bad[@]}" "${dir[@]}" --resume auto --batch 32 --seed 7 --dropout 0.2
  expect_error 2 "*model was 'mlp' and is 'cnn' (*so it is another training*begin a new one" \
    "${bad[@]}" "${dir[@]}" --resume auto --batch 64 --dropout 0.2 --model cnn
  expect_error 2 "*\\[usage\\]*--virtual-ranks 8 leaves nothing to do for some of 9 ranks*" \
    "${bad[@]}" "${dir[@]}" --resume auto --batch 64 --dropout 0.2 --ranks 9
  expect_error 2 "*\\[usage\\]*--batch 48: the checkpoint is 320 samples into an epoch*expected a divisor of 320*" \
    "${bad[@]}" "${dir[@]}" --resume auto --batch 48 --dropout 0.2 --allow-change batch
  expect_error 2 "*\\[usage\\]*of step 5, but the run is to end after step 4*" \
    "${bad[@]}" "${dir[@]}" --resume auto --batch 64 --dropout 0.2 --steps 4
  cp "$work/ledger" "$work/kept"
  sed -i '3s/loss/lost/' "$work/ledger"
  expect_error 1 "*\\[data\\]*--ledger: '$work/ledger' does not begin with*name the file of the run that is resumed*" "${resumed[@]}"
  head -n 2 "$work/kept" >"$work/ledger"
  expect_error 1 '*\[data\]*--ledger:*got a file of * bytes*' "${resumed[@]}"
  cp "$work/kept" "$work/ledger"
  # A batch of half the size: the epoch goes on at its next sample, and the ledger says where the numbers are others.
  expect_success "${base[@]}" --steps 7 --batch 32 "${files[@]}" --resume auto --allow-change batch
  [ "$(grep -c '^lockstep-ledger' "$work/ledger")" -eq 2 ] || complain "expected a second header in the ledger"
  cmp -s <(head -n 6 "$work/ledger") "$work/kept" || complain "expected the ledger to go on behind its five steps"
  run "$lockstep" checkpoint show "$work/run/latest"
  expect_output 1 '^  goes on with     step 13 of epoch 1, 32 samples a step, 600 an epoch$'

  # A newest one that is damaged: the one before serves, and all are told.
  checkpointed 12 64
  expect_success "${whole[@]}" --ledger "$work/reference"
  expect_success "${base[@]}" --steps 9 --batch 64 "${files[@]}" --ranks 2
  printf x | dd of="$work/run/step_00000009/shard_00001.safetensors" bs=1 seek=20000 conv=notrunc 2>/dev/null
  run "$lockstep" checkpoint verify "$work/run"
  [ $code -eq 1 ] || complain "expected exit code 1"
  grep -q '^lockstep: error: \[data\] 1 of 3 checkpoints .*cannot be believed' "$work/stderr" || complain "expected an error"
  expect_output 1 '^.*/step_00000009: damaged: .*shard_00001.safetensors.*hash'
  run "${resumed[@]}" --ranks 3
  [ $code -eq 0 ] || complain "expected success"
  [ "$(grep -c '^lockstep: warning: the checkpoint of step 9 is passed over: .*shard_00001.safetensors' "$work/stderr")" -eq 1 ] ||
    complain "expected one warning"
  [ -d "$work/run/step_00000009.damaged" ] || complain "expected the damaged one to be put aside"
  expect_same "$work/reference" "$work/ledger"
  rm "$work"/run/step_*/manifest.json
  expect_error 1 "*\\[data\\]*none of the 3 checkpoints in '$work/run' can be read*" "${resumed[@]}"

  # A disk that fails: a warning, or the end; and the last one serves.
  checkpointed 12 64
  run "${resumed[@]}" --ranks 2 --inject enospc@operation=20,rank=1
  [ $code -eq 0 ] || complain "expected training to go on"
  [ "$(grep -c '^lockstep: warning: the checkpoint of step [0-9]* was given up: rank 1 .*No space left on device' "$work/stderr")" -eq 1 ] ||
    complain "expected one warning that names the rank"
  expect_same "$work/reference" "$work/ledger"
  checkpointed 12 64
  run "${resumed[@]}" --ranks 2 --checkpoint-errors stop --inject eio@operation=60
  [ $code -eq 1 ] || complain "expected the run to end"
  [ "$(grep -c '^lockstep: error: \[file\] the checkpoint of step [0-9]* was given up: rank 0 .*Input/output error' "$work/stderr")" -eq 1 ] ||
    complain "expected one error that names the rank"
  expect_success "${resumed[@]}" --ranks 3
  expect_whole_run 12
}

# Batch systems, launchers and people that end a run, and the same command line in the next life.
test_preemption() {
  local base whole files resumed steps
  checkpointed 60 8
  expect_success "${whole[@]}" --ledger "$work/reference" --save "$work/reference_weights"
  # A job that its batch system has started again goes on by itself; slowly enough for a signal to find it.
  local words=("${whole[@]}" "${files[@]:0:6}" --inject slow@step=0,ms=20)
  for signal in USR1 USR2; do
    rm -rf "$work/run" "$work/ledger"
    command="mpirun and SIG$signal"
    env --default-signal=INT "$mpirun" -np 2 "${words[@]}" >"$work/stdout" 2>"$work/stderr" </dev/null &
    local pid=$!
    await_training
    kill -$signal $pid
    wait $pid
    code=$?
    [ $code -eq 0 ] || complain "expected exit code 0"
    steps=$(sed -n "s,^lockstep: stopped by SIG$signal after step \([0-9]*\) of 60; the checkpoint is $work/run/step_0*\([0-9]*\)\$,\1 \2,p" "$work/stderr")
    [ -n "$steps" ] && [ "${steps% *}" = "${steps#* }" ] || complain "expected a message that names step and checkpoint"
    [ "$(grep -c '^step=' "$work/ledger")" = "${steps% *}" ] || complain "expected a line in the ledger for each step"
    expect_success env SLURM_RESTART_COUNT=1 "$mpirun" -np 3 "${words[@]}" --save "$work/weights"
    expect_whole_run 60
    expect_same "$work/reference_weights" "$work/weights"
  done

  # TERM: what fits into a second.
  rm -rf "$work/run" "$work/ledger"
  command="mpirun and SIGTERM"
  "$mpirun" -np 2 "${words[@]}" >"$work/stdout" 2>"$work/stderr" </dev/null &
  pid=$!
  await_training
  kill -TERM $pid
  wait $pid
  grep -q "^lockstep: stopped by SIGTERM after step [0-9]* of 60; the checkpoint is $work/run/step_" "$work/stderr" || complain "expected a checkpoint"
  rm -rf "$work/run" "$work/ledger"
  command="mpirun, a slow disk, and SIGTERM"
  "$mpirun" -np 2 "${words[@]}" --inject slow@operation=3,ms=1500 --inject slow@step=0,ms=60 --checkpoint-every 6 >"$work/stdout" 2>"$work/stderr" </dev/null &
  pid=$!
  for _ in {1..300}; do [ -e "$work/run/latest" ] && break; sleep 0.1; done
  sleep 0.5  # until all ranks know
  kill -TERM $pid
  wait $pid
  grep -q "^lockstep: stopped by SIGTERM after step [0-9]* of 60; there was no time for a checkpoint, the last one is $work/run/step_" "$work/stderr" ||
    complain "expected no checkpoint"
  expect_nobody_left
  expect_success "${words[@]}" --ranks 2 --resume auto
  expect_whole_run 60

  # The time that the user gives the run.
  rm -rf "$work/run" "$work/ledger"
  run "${words[@]}" --ranks 2 --exit-after 0.5s
  [ $code -eq 0 ] || complain "expected exit code 0"
  grep -q "^lockstep: stopped by --exit-after after step [0-9]* of 60; the checkpoint is" "$work/stderr" || complain "expected an end by time"
  expect_success "${words[@]}" --ranks 1 --resume auto
  expect_whole_run 60

  # A signal while the model is judged: it is judged in the next life.
  checkpointed 12 64 --eval-every 5 --ema-momentum 0.9
  expect_success "${whole[@]}" --ledger "$work/reference" --metrics "$work/metrics"
  grep -o '{.*test_accuracy.*' "$work/metrics" >"$work/scores"
  [ "$(wc -l <"$work/scores")" -eq 3 ] || complain "expected three scores"
  rm "$work/metrics"
  for step in 4 11; do
    run "${resumed[@]}" --ranks 2 --inject usr1@step=$step
    [ $code -eq 0 ] || complain "expected exit code 0"
    grep -q "^lockstep: stopped by SIGUSR1 after step $((step + 1)) of 12; the checkpoint is" "$work/stderr" || complain "expected an end in the evaluation"
    [ "$(grep -c '"step":'$((step + 1))',"test_accuracy' "$work/metrics")" -eq 0 ] || complain "expected no score"
    run "$lockstep" checkpoint show "$work/run/latest"
    [ $step -eq 11 ] || expect_output 1 '^  evaluation       is still to be made after this step$'
  done
  expect_success "${resumed[@]}" --ranks 3
  expect_same "$work/reference" "$work/ledger"
  grep -o '{.*test_accuracy.*' "$work/metrics" | cmp - "$work/scores" || complain "expected the same scores"
}

# Ranks and launchers that are killed at random moments. random_kills.sh does so as often as one likes.
test_kills() {
  "$(dirname "${BASH_SOURCE[0]}")/../../runtime/checkpoint/random_kills.sh" "$lockstep" "$mpirun" 2 1 ||
    { code=$? command=random_kills.sh; complain "expected every run to end as one that is never killed"; }
}

# Other models than mlp, and tokens: stopped in the middle of an epoch, and gone on with on other ranks.
test_checkpoint_models() {
  local config training model base whole files resumed
  make_language
  base=("${training[@]}" --threads 1)
  for model in cnn language; do
    [ $model = language ] || base=("$lockstep" train --data "$data" --model cnn --virtual-ranks 4 --threads 1 --steps 7 --batch 32)
    [ $model = cnn ] || base=("${training[@]}" --threads 1 --eval-every 5)
    files=(--ledger "$work/ledger" --metrics "$work/metrics" --checkpoint-dir "$work/run" --checkpoint-every 3 --resume auto)
    rm -rf "$work/run" "$work/ledger" "$work/metrics"
    expect_success "${base[@]}" --ledger "$work/reference" --metrics "$work/reference_metrics" --save "$work/reference_weights"
    tail -n 1 "$work/stdout" | sed 's/[a-z]*_per_second=.*//' >"$work/reference_score"
    run "${base[@]}" "${files[@]}" --ranks 2 --inject kill@step=5
    [ $code -eq 137 ] || complain "expected the run to be killed"
    expect_success "${base[@]}" "${files[@]}" --ranks 3 --save "$work/weights"
    expect_same "$work/reference" "$work/ledger"
    expect_same "$work/reference_weights" "$work/weights"
    tail -n 1 "$work/stdout" | sed 's/[a-z]*_per_second=.*//' | cmp - "$work/reference_score" || complain "expected the same score"
    [ "$(grep -c validation_loss "$work/metrics")" -eq "$(grep -c validation_loss "$work/reference_metrics")" ] || complain "expected each score once"
  done
  # The schedule of a language model depends on the steps of the run, unless it is given.
  expect_error 2 "*\\[usage\\]*schedule was 'cosine(*steps=20*' and is 'cosine(*steps=40*' (the learning rate *--allow-change schedule" \
    "$lockstep" train --config "$config" "${files[@]:4}" --steps 40
}
