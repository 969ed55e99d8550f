# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Numbers that change by themselves: rehearsed, found, mended, and traced by comparing runs.
# shellcheck disable=SC2154,SC2034  # variables of cli_test.sh and support.sh

# recorded FOLDER OPTION...: a run that leaves everything in $work/FOLDER.
recorded() {
  local folder=$work/$1
  shift
  rm -rf "$folder"
  mkdir "$folder"
  run "$lockstep" train --data "$data" --model mlp --virtual-ranks 8 --threads 1 --steps 8 --batch 64 --ledger "$folder/ledger" \
    --metrics "$folder/metrics" --record "$folder/record" --checkpoint-dir "$folder" --checkpoint-every 3 "$@"
}

expect_difference() {  # expect_difference FOLDER VERDICT: from the run in `a`, in step 5, and what is said of its origin
  run "$lockstep" diff "$work/a" "$work/$1"
  [ "$code" -eq 1 ] || complain "expected exit code 1 where two runs differ"
  expect_output 1 "^$work/a and $work/$1 differ first in step 5: $2\$"
  expect_output 1 '^records: the same in 5 steps up to step 4; step 5 differs$'
  expect_output 1 '^ledgers: the same in 5 steps up to step 4; step 5 differs$'
  expect_output 1 '^checkpoints: the same up to the one after 3 steps; the one after 6 steps differs$'
}

test_diff() {
  local weight='logits/weight' rank='by rank 1 and rank 1'
  recorded a --ranks 2
  [ "$code" -eq 0 ] || complain "expected success"
  # Other ranks, and a run that was killed and went on.
  recorded b --ranks 3 --inject kill@step=5,rank=1
  [ "$code" -eq 137 ] || complain "expected the run to be killed"
  local options=(--data "$data" --model mlp --virtual-ranks 8 --threads 1 --steps 8 --batch 64 --resume auto --checkpoint-every 3)
  expect_success "$lockstep" train "${options[@]}" --ranks 1 --ledger "$work/b/ledger" --metrics "$work/b/metrics" --record "$work/b/record" --checkpoint-dir "$work/b"
  expect_success "$lockstep" diff "$work/a" "$work/b"
  expect_output 1 '^records: the same in 8 steps up to step 7$'
  expect_output 1 '^ledgers: the same in 8 steps up to step 7$'
  expect_output 1 '^metrics: the same in 8 steps up to step 7$'
  expect_output 1 '^checkpoints: the same in 3, up to the one after 8 steps$'
  [ "$(wc -l <"$work/b/record")" -eq 9 ] || complain "expected a header and 8 steps in a record that was gone on with"

  # Ranks of a node share one copy, in which nothing but this shows: a weight, a slot, a gradient.
  recorded c --ranks 2 --inject flip@step=5,rank=1,variable=$weight,element=3
  expect_difference c 'weights that it has read, or the forward pass of part [0-9] of its batch, by rank [01] and rank [01]'
  expect_output 8 '^  [a-z_0-9/]+: [0-9]+ of [0-9]+ elements differ, .*; the first is \[[0-9, ]+\]: .* \(-?0x1(\.[0-9a-f]+)?p-[0-9]+ and -?0x1(\.[0-9a-f]+)?p-[0-9]+\)$'
  recorded c --ranks 2 --inject flip@step=5,rank=1,variable=$weight/adam/momentum,element=3,bit=30
  expect_difference c "all parts came to the same, so the sum of their gradients or the update: $weight, $weight/adam/momentum"
  recorded c --ranks 2 --inject nan@step=5,rank=1,variable=$weight
  grep -q "step 5 was skipped by all ranks: the gradient of variable $weight is not finite" "$work/stderr" || complain "expected the step to be skipped"
  expect_difference c "the backward pass of part 4 of its batch, $rank, at $weight"
  expect_output 1 "^  part 4 of its batch, $rank, samples \[[0-9,]+\]:\$"
  expect_output 1 "^    gradients of 1 of 6 variables: $weight\$"

  # Single files; runs that did not have to be equal; nothing to compare.
  run "$lockstep" diff "$work/a/ledger" "$work/c/ledger"
  [ "$code" -eq 1 ] || complain "expected exit code 1"
  expect_output 1 ' differ first in step 5: its backward pass, the sum of gradients, or the update$'
  recorded c --seed 2
  run "$lockstep" diff "$work/a" "$work/c"
  expect_output 1 ' differ first in step 0: the samples of its batch are others$'
  expect_output 1 '^the runs did not have to be equal:$'
  expect_error 1 "*\\[data\\]*have left nothing of one kind*" "$lockstep" diff "$work/a/ledger" "$work/c/record"
  expect_error 1 "*\\[data\\]*is nothing that a run writes*" "$lockstep" diff "$work/a" "$lockstep"
  expect_error 1 "*\\[file\\]*cannot open '$work/nowhere'*" "$lockstep" diff "$work/a" "$work/nowhere"
  cp "$work/a/ledger" "$work/a/second"
  expect_error 1 "*\\[data\\]*are files of one kind*" "$lockstep" diff "$work/a" "$work/c"

  # What is not there.
  expect_error 1 "*\\[plan\\]*logits/wight*logits/weight*" "${bad[@]}" --inject flip@step=0,variable=logits/wight
  expect_error 2 "*\\[usage\\]*--inject flip: expected an element below 10, as logits/bias has them, got 10*" "${bad[@]}" --inject flip@step=0,variable=logits/bias,element=10
  expect_error 2 "*\\[usage\\]*--inject flip: expected a bit below 32*got 32*" "${bad[@]}" --inject flip@step=0,bit=32
  expect_error 2 "*\\[usage\\]*--inject nan: expected a rank below 1, got 1*" "${bad[@]}" --inject nan@step=0,rank=1
  expect_error 2 "*\\[usage\\]*--inject nan: expected a variable that is trained, got $weight/adam/momentum*" "${bad[@]}" --inject nan@step=0,variable=$weight/adam/momentum
  expect_error 2 "*\\[usage\\]*--audit: expected replicas, got 'weights'*" "${bad[@]}" --audit weights
  expect_error 2 "*\\[usage\\]*--audit replicas compares copies*of which there is one*" "${bad[@]}" --ranks 2 --audit replicas
}

# Nodes that are pretended, each with a copy of weights and slots.
test_audits() {
  local base whole files resumed
  export LOCKSTEP_PRETEND_NODES=3
  checkpointed 12 64
  expect_success "${whole[@]}" --ledger "$work/reference" --save "$work/reference_weights"
  local run=("${whole[@]:1}" --ledger "$work/ledger" --save "$work/weights" --audit replicas)
  supervised -np 3 --launcher "$mpirun" -- "${run[@]}" --inject flip@step=7,rank=1,variable=logits/weight,element=13,bit=30
  [ "$code" -eq 0 ] || complain "expected success"
  expect_same "$work/reference" "$work/ledger"
  expect_same "$work/reference_weights" "$work/weights"
  expect_incident 1 '"kind":"replica","what":".* before the update of step 7: element \[1, 3\] of logits/weight is -?0x1\..*p[+-][0-9]+ on ranks 0 and 2, and -?0x1\..* on rank 1 \(.*\);.*"step":7,"rank":1,"variable":"logits/weight","action":"it was mended'
  expect_incident 1 '^\{'

  # Of two copies nobody knows which is right: the run ends, and goes on from the snapshot before.
  export LOCKSTEP_PRETEND_NODES=2
  rm -f "$work/ledger"
  supervised -np 2 --launcher "$mpirun" -- "${run[@]}" --inject flip@step=7,rank=1
  [ "$code" -eq 0 ] || complain "expected success"
  expect_same "$work/reference" "$work/ledger"
  expect_same "$work/reference_weights" "$work/weights"
  [ "$(grep -c '^lockstep: error: \[numbers\] .*copies of weights and slots differ before the update of step 7, .* on rank 0 (.* on rank 1 (.*none of these values is held by more than half of the 2 copies' "$work/stderr")" -eq 1 ] ||
    complain "expected one error that names both copies"
  expect_incident 1 '"kind":"resumed"'
  unset LOCKSTEP_PRETEND_NODES
}
