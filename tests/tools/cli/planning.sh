# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# lockstep plan and explain: what they print, what they refuse, and plans as files.
# shellcheck disable=SC2154  # variables of cli_test.sh

models=$here/../../../tools/models

test_plan() {
  local limit
  expect_success "$lockstep" plan --all
  expect_output 1 '^adam/iteration +counter +\[\] +i64 +\[\] +8 +no +no +only_first_replica +each_rank +adam$'
  expect_output 1 '^  gradients of bucket 0 +reduce_scatter +f32 +data +2679040 '
  expect_success "$lockstep" plan
  expect_output 1 '^adam/iteration +counter +\[\] +i64 +\[\] +8 B +no +no +only_first_replica +each_rank +adam$'
  expect_output 1 '^  gradients of bucket 0 +reduce_scatter +f32 +data +2.6 MiB '
  expect_output 1 'first of its node: holds the copy'
  expect_output 1 '^  while a part of 64 samples runs, at the peak: activations [0-9]+ B, scratch of kernels [0-9]+ B'
  expect_success "$lockstep" plan --model "$models/gpt-like.toml" --mesh data=8,model=4 --optimizer adamw --zero 1
  expect_output 1 '^plan [0-9a-f]{16} of gpt-like: .* mesh data=8,model=4 \(32 ranks, batch over data\), ZeRO 1,'
  # The summary comes first, and layers that are alike are one row.
  [ "$(grep -nE '^(plan|memory per rank|time of one step|variable |buckets|collectives)' "$work/stdout" | cut -d : -f 2 | cut -d ' ' -f 1 | tr '\n' ' ')" = \
    'plan memory time variable buckets, collectives ' ] || complain "expected the summary first"
  expect_output 1 '^  updated parameters of bucket \{[0-9,.]+\} +all_gather +bf16 +data '
  expect_output 1 '^decoder/\{0\.\.23\}/mlp/up/weight +parameter .* MiB +yes '
  [ "$(wc -l <"$work/stdout")" -lt 120 ] || complain "expected a folded list, got $(wc -l <"$work/stdout") lines"
  expect_success "$lockstep" plan --all --model "$models/gpt-like.toml" --mesh data=8,model=4
  expect_output 24 '^decoder/[0-9]+/mlp/up/weight +parameter .* [0-9]{5,} +yes '
  # Nothing of those ranks is needed.
  expect_success "$lockstep" plan --model "$models/gpt-like.toml" --ranks 100000
  expect_output 1 'mesh data=100000,model=1 '
  expect_success "$lockstep" plan --model "$models/gpt-like.toml" --mesh data=8,model=4 --optimizer adamw --memory-limit 80GiB
  expect_output 1 '^  best  '
  cp "$work/stdout" "$work/best"
  for limit in 85899345920 85899345.92kB 85899.34592MB 0.08589934592TB; do
    expect_success "$lockstep" plan --model "$models/gpt-like.toml" --mesh data=8,model=4 --optimizer adamw --memory-limit $limit
    expect_same "$work/best" "$work/stdout"
  done
  expect_error 1 '*no plan of gpt-like fits into --memory-limit 10MiB a rank*' \
    "$lockstep" plan --model "$models/gpt-like.toml" --mesh data=8,model=4 --memory-limit 10MiB
  expect_output 1 'none fits. The smallest takes .* more than the limit'
  expect_error 1 '*no plan of gpt-like is possible on these ranks*' \
    "$lockstep" plan --model "$models/gpt-like.toml" --ranks 100000 --memory-limit 80GiB
  expect_output 1 'data=100000,model=1: a batch of 512 has no sample for each of the 100000 ranks of the axis data'

  expect_success "$lockstep" plan --all --classes 26 --image-size 12x10
  expect_output 1 '^dense_1/weight +parameter +\[120, 512\] '
  expect_output 1 '^logits/weight +parameter +\[512, 26\] '
  expect_error 2 "*--image-size: expected HEIGHTxWIDTH*got '28'" "$lockstep" plan --image-size 28
  printf '[layout]\n"dense_[12]/weight" = ["-", "model"]\n' >"$work/rules.toml"
  expect_success "$lockstep" explain dense_1/weight --mesh data=2,model=4 --rules "$work/rules.toml"
  expect_output 1 "layout +\[-, model\] sharded +rule L5: the layout rule 'dense_\[12\]/weight' .*rules.toml.* matches"
  expect_success "$lockstep" explain adam/iteration --why-not sharded
  expect_output 1 'layout is not sharded \(rule L5\): a scalar has no dimension'
  expect_success "$lockstep" explain adam/iteration --why-not sum
  expect_output 1 'is not sum \(rule A3\): role counter: its 2 replicas are copies'
  printf '[layout]\n"logits/weight" = ["-", "model"]\n"nothing" = ["model"]\n' >"$work/rules.toml"
  expect_error 1 "*variable logits/weight of shape \[512, 10\]*dimension 1 of size 10 is not divisible by model=4*" \
    "$lockstep" plan --mesh data=2,model=4 --rules "$work/rules.toml"
  expect_success "$lockstep" plan --mesh data=2,model=4 --rules "$work/rules.toml" --indivisible replicate
  expect_output 1 "logits/weight .* is replicated because the layout rule .* does not fit"
  expect_output 1 "the layout rule 'nothing' .* matched no variable"
}

test_plan_files() {
  "$lockstep" plan --ranks 100000 --json >"$work/many.json"
  expect_success "$lockstep" plan --diff "$work/many.json" "$work/many.json"
  "$lockstep" plan --json >"$work/a.json"
  "$lockstep" plan --mesh data=4 --json >"$work/b.json"
  expect_success "$lockstep" plan --diff "$work/a.json" "$work/a.json"
  expect_output 1 '^the plans are equal$'
  expect_success "$lockstep" plan --diff "$work/a.json" "$work/b.json"
  expect_output 1 '^mesh: data=2 -> data=4$'
  sed 's/"on_tape": true/"on_tape": false/' "$work/a.json" >"$work/changed.json"
  expect_error 1 '*changed.json.variables*on_tape: expected true, got false; the file was changed*' \
    "$lockstep" plan --diff "$work/a.json" "$work/changed.json"
  sed 's/gradients of bucket 0/gradients of all buckets/' "$work/a.json" >"$work/changed.json"
  expect_error 1 '*changed.json.collectives*what: expected "gradients of bucket 0", got "gradients of all buckets"*' \
    "$lockstep" plan --diff "$work/a.json" "$work/changed.json"
  head -c 5000 "$work/a.json" >"$work/changed.json"
  expect_error 1 '*changed.json is no JSON: *' "$lockstep" plan --diff "$work/changed.json" "$work/a.json"
  expect_error 1 "*cannot open '$work/nowhere'*" "$lockstep" plan --diff "$work/nowhere" "$work/a.json"

  expect_error 2 '*--zero: expected a stage from 0 to 3, got 4' "$lockstep" plan --zero 4
  expect_error 2 '*--zero 1 with --device cpu: *use --device cuda' "$lockstep" plan --zero 1 --device cpu
  expect_error 2 "*a mesh is written like data=8,model=4; got 'data=0'*" "$lockstep" explain --mesh data=0
  expect_error 2 "*a mesh is written like data=8,model=4; got 'data=8,'*" "$lockstep" plan --mesh data=8,
  expect_error 1 "*has two axes named 'data'*" "$lockstep" plan --mesh data=8,data=2
  expect_error 2 "*--ranks 5 and --mesh data=2, which has 2 ranks, contradict*" "$lockstep" plan --mesh data=2 --ranks 5
  expect_error 1 "*has more than 10000000 ranks*" "$lockstep" plan --mesh data=9999999,a=9999999,b=9999999,c=9999999
  expect_error 2 "*more than 10000 ways to cut the ranks into 5 axes*" \
    "$lockstep" plan --mesh a=8648640,b=1,c=1,d=1,e=1 --memory-limit 1GiB
  expect_error 2 "*--memory-limit: expected a size such as 80GiB*got '80 bananas'" "$lockstep" plan --memory-limit '80 bananas'
  expect_error 2 "*--memory-limit: expected a size such as 80GiB*got '-1'" "$lockstep" plan --memory-limit=-1
  expect_error 2 "*unknown machine profile 'h300'; did you mean 'h200'?*" "$lockstep" plan --profile h300
  expect_error 2 "*--why-not: no rule decides 'bananas'*" "$lockstep" explain adam/iteration --why-not bananas
  expect_error 2 '*--why-not asks about one variable*' "$lockstep" explain --why-not sum
  expect_error 2 '*--verify runs 300 ranks as threads, expected at most 256*' "$lockstep" plan --verify --ranks 300
  expect_error 2 '*--verify runs the model, and a model file lists variables only*' \
    "$lockstep" plan --verify --model "$models/gpt-like.toml"
}

test_plan_verify() {
  expect_success "$lockstep" plan --verify --ranks 3 --steps 2
  expect_output 0 'DIFFERENT'
  expect_output 1 '^  (communication of a step by itself|no times)'
  expect_output 1 '^every term that must be exact is exact on every rank$'
  expect_success "$lockstep" plan --verify --mesh data=2,model=2 --optimizer sgd --steps 1 --batch 16
  expect_output 0 'DIFFERENT'
  # Micro-batches of unequal size; groups, averages and loss scaling have state that is planned.
  expect_success "$lockstep" plan --verify --ranks 2 --steps 2 --batch 10 --accumulation 4 \
    --group '.*/bias => nadam(beta_1=0.8)' --ema-momentum 0.9 --loss-scale 8
  expect_output 0 'DIFFERENT'
  expect_success "$lockstep" plan --verify --ranks 3 --steps 2 --reduce-dtype bf16
  expect_output 0 'DIFFERENT'
}

test_plan_verify_mpi() {
  expect_success "$mpirun" -np 2 "$lockstep" plan --verify --model cnn --batch 8 --steps 1
  expect_output 0 'DIFFERENT'
  expect_output 1 '^every term that must be exact is exact on every rank$'
  LOCKSTEP_PRETEND_NODES=2 expect_success "$mpirun" -np 3 "$lockstep" plan --verify --batch 12 --steps 1
  expect_output 0 'DIFFERENT'
  LOCKSTEP_PRETEND_NODES=2 expect_success "$mpirun" -np 3 "$lockstep" plan --verify --batch 12 --steps 1 --reduce-dtype bf16
  expect_output 0 'DIFFERENT'
  expect_error any "*disagree about 'steps and dropout': *'2 0.3'*'2 0.3000004'*" "$mpirun" -np 1 "$lockstep" plan --verify --steps 2 --dropout 0.3 : \
    -np 1 "$lockstep" plan --verify --steps 2 --dropout 0.3000004
  expect_error any '*whose mesh data=5 has 5 ranks, but there are 2*' "$mpirun" -np 2 "$lockstep" plan --verify --mesh data=5
}
