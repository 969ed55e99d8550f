# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Training that succeeds: outputs, and the same bits on any number of ranks.
# shellcheck disable=SC2154  # variables of cli_test.sh and support.sh

expect_training_output() {  # expect_training_output STEPS RANKS METRICS
  local number='-?[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?' field fields
  [[ $(tail -n 1 "$work/stdout") =~ ^test_accuracy=[01]\.[0-9]{4}\ images_per_second=[0-9]+\ steps=$1\ ranks=$2$ ]] ||
    complain "expected the result as the last line, got: $(tail -n 1 "$work/stdout")"
  expect_output 1 '^test_accuracy='
  fields='step epoch loss accuracy samples_per_second step_ms compute_ms communication_ms exposed_communication_ms learning_rate'
  for field in $fields; do
    [ "$(grep -Ec "^\{.*\"$field\":${number}[,}]" "$3")" -eq "$1" ] || complain "expected '$field' in $1 lines of metrics"
  done
  [ "$(grep -Evc "^\{(\"[a-z_]+\":$number,?){10,15}\}$" "$3")" -eq 1 ] || complain "expected metrics to be JSON objects of numbers"
  tail -n 1 "$3" | grep -Eqx "\{\"test_accuracy\":$number\}" || complain "expected the test accuracy as last metrics line"
}

settings() {  # settings MODEL STEPS OPTION...: sets `training`
  training=("$lockstep" train --data "$data" --model "$1" --steps "$2" --batch 64 --virtual-ranks 8 --dropout 0.2 "${@:3}")
}

# The ledger and weights of one rank without a launcher, which all others must equal.
make_reference() {  # make_reference STEPS
  expect_success "${training[@]}" --threads 1 --ledger "$work/reference" --save "$work/reference_weights"
  head -n 1 "$work/reference" | grep -Eqx 'lockstep-ledger 1 config=[0-9a-f]{16} numerics=(oneDNN|Eigen)-[^ ]+' || complain "expected a ledger header"
  local hash='[0-9a-f]{16}' loss='-?0x[01](\.[0-9a-f]+)?p[+-][0-9]+'
  [ "$(tail -n +2 "$work/reference" |
    grep -Ecx "step=[0-9]+ loss=$loss parameters=$hash slots=$hash scalars=$hash data=$hash")" -eq "$1" ] ||
    complain "expected $1 steps in the ledger"
  # A run that changes nothing would have equal ledgers, too.
  [ "$(grep -Eo " (parameters|slots|scalars|data)=$hash" "$work/reference" | sort -u | wc -l)" -eq $((4 * $1)) ] ||
    complain "expected every state to be another one"
}

expect_same_run() {  # expect_same_run COMMAND...: the same ledger and weights as the reference
  expect_success "$@" --ledger "$work/ledger" --save "$work/weights"
  expect_same "$work/reference" "$work/ledger"
  expect_same "$work/reference_weights" "$work/weights"
}

expect_other_run() {  # expect_other_run COMMAND...: other numbers than the reference
  expect_success "$@" --ledger "$work/ledger"
  ! cmp -s <(tail -n 1 "$work/reference") <(tail -n 1 "$work/ledger") || complain "expected other bits"
}

test_threads() {
  local model steps ranks training
  for model in "mlp 30" "cnn 12"; do
    steps=${model#* }
    # shellcheck disable=SC2086  # two arguments
    settings $model
    make_reference "$steps"
    expect_same_run "${training[@]}" --threads 3
    for ranks in 2 3 5 8; do expect_same_run "${training[@]}" --threads 1 --ranks $ranks; done
    expect_other_run "${training[@]}" --threads 1 --ranks 2 --reduce fast
    expect_other_run "${training[@]}" --threads 1 --ranks 2 --seed 4
  done
  settings mlp 12
  make_reference 12
  expect_other_run "${training[@]}" --threads 1 --reduce-dtype bf16
  cp "$work/reference" "$work/in_f32"
  settings mlp 12 --reduce-dtype bf16
  make_reference 12
  for ranks in 2 3 5; do expect_same_run "${training[@]}" --threads 1 --ranks $ranks; done
  # A run says what it is, and f32 is what it always was.
  ! cmp -s <(head -n 1 "$work/in_f32") <(head -n 1 "$work/reference") || complain "expected another run's header"
  settings mlp 12 --reduce-dtype f32
  make_reference 12
  expect_same "$work/in_f32" "$work/reference"
  settings mlp 12
  expect_success "${training[@]}" --ranks 2 --metrics "$work/metrics" --save "$work/weights"
  expect_training_output 12 2 "$work/metrics"
  local accuracy
  accuracy=$(grep -o '^test_accuracy=[^ ]*' "$work/stdout")
  expect_success "$lockstep" eval --data "$data" --weights "$work/weights"
  expect_output 1 "^$accuracy correct=[0-9]+ images=100$"
}

test_ledgers() {
  local model steps ranks training
  for model in "mlp 30" "cnn 12"; do
    steps=${model#* }
    # shellcheck disable=SC2086  # two arguments
    settings $model
    make_reference "$steps"
    for ranks in 1 2 3 4; do expect_same_run "$mpirun" -np $ranks "${training[@]}" --threads 1; done
    for ranks in 3 4; do expect_same_run env LOCKSTEP_PRETEND_NODES=2 "$mpirun" -np $ranks "${training[@]}" --threads 1; done
    expect_other_run "$mpirun" -np 2 "${training[@]}" --threads 1 --reduce fast
  done
  settings mlp 12 --reduce-dtype bf16
  make_reference 12
  for ranks in 2 3; do expect_same_run env LOCKSTEP_PRETEND_NODES=2 "$mpirun" -np $ranks "${training[@]}" --threads 1; done
  settings mlp 12
  expect_success "$mpirun" -np 2 "${training[@]}" --reduce mpi --metrics "$work/metrics" --save "$work/weights"
  expect_training_output 12 2 "$work/metrics"
  local accuracy
  accuracy=$(grep -o '^test_accuracy=[^ ]*' "$work/stdout")
  for ranks in 1 3; do
    expect_success "$mpirun" -np $ranks "$lockstep" eval --data "$data" --weights "$work/weights"
    expect_output 1 "^$accuracy correct=[0-9]+ images=100$"
  done
  expect_success "$mpirun" -np 2 "$lockstep" --help
  expect_output 1 '^Usage: lockstep '
  expect_success "$mpirun" -np 2 "$lockstep" train --help
  expect_output 1 '^Usage: lockstep train '
}
