# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Language models from text to their loss: the same bits on any ranks, and what is refused before the first step.
# shellcheck disable=SC2154  # variables of cli_test.sh and support.sh

# A tokenizer, tokens and the file of a run: sets `config` and `training`.
make_language() {
  local i text=$work/text.txt
  for i in $(seq 500); do echo "Line $i of the text says that $((i * i % 97)) is a number, and $((i * 7 % 31)) another one."; done >"$text"
  expect_success "$lockstep" tokenize train "$text" --vocabulary 300 --output "$work/tokenizer"
  expect_success "$lockstep" tokenize encode "$text" --tokenizer "$work/tokenizer" --output "$work/train.bin" \
    --validation "$work/val.bin" --shard-tokens 5000
  config=$work/run.toml
  cat >"$config" <<END
[model]
preset = "gpt-nano"
vocab_size = 300
block_size = 32
n_layer = 2
n_head = 2
n_embd = 32
dropout = 0.1
[data]
train = ["$work/train_0*.bin"]
validation = ["$work/val.bin"]
tokenizer = "$work/tokenizer"
[optimizer]
learning_rate = 0.01
[train]
batch_tokens = 512
steps = 20
virtual_ranks = 8
END
  training=("$lockstep" train --config "$config")
}

expect_score() {  # expect_score: the line of results, whose scores are left in $work/score
  expect_output 1 "^validation_loss=[0-9.]+ perplexity=[0-9.]+ bits_per_byte=[0-9.]+ tokens_per_second=[0-9]+ steps=20 ranks=$1$"
  grep -o '^validation_loss=[^ ]* perplexity=[^ ]* bits_per_byte=[^ ]*' "$work/stdout" >"$work/score"
}

expect_same_scores() { expect_same "$work/reference_score" "$work/score"; }

# Sets `config` and `training`, and leaves the reference of 20 steps and its scores.
make_scored_language() {
  make_language
  make_reference 20
  expect_score 1
  cp "$work/score" "$work/reference_score"
}

# What each part of a run does, once.
test_language() {
  local config training loss
  make_scored_language
  # It learns: a guess among 300 tokens has a loss of 5.7.
  loss=$(grep -o '^validation_loss=[0-9]' "$work/stdout")
  [ "${loss#*=}" -le 4 ] || complain "expected a loss below 5, got: $loss"
  expect_same_run "${training[@]}" --threads 2 --model.recompute=true

  # Validation on the way, and metrics; texts, which leave the run as it is.
  expect_same_run "${training[@]}" --ranks 2 --eval-every 8 --metrics "$work/metrics" \
    --sample-every 8 --sample-prompt "Line 1" --sample-tokens 30
  expect_score 2
  expect_same_scores
  expect_output 1 '^step 8/20  validation_loss=[0-9.]+ perplexity=[0-9.]+ bits_per_byte=[0-9.]+$'
  expect_output 1 '^step 16/20  validation_loss='
  expect_output 1 '^epoch 2/2  step 20/20  loss [0-9.]+  [0-9]+ tokens/s  0:00 left$'
  [ "$(grep -c '"tokens_per_second":' "$work/metrics")" -eq 20 ] || complain "expected tokens per second of 20 steps"
  [ "$(grep -Ec '^{"bits_per_byte":[0-9.]+,"perplexity":[0-9.]+(,"step":[0-9]+)?,"validation_loss":[0-9.]+}$' "$work/metrics")" -eq 3 ] ||
    complain "expected three validations in the metrics"
  expect_output 1 '^step 8/20  sample "Line 1..+"$'
  expect_output 1 '^step 16/20  sample "Line 1..+"$'
  [ "$(grep -Ec '^{"sample":"Line 1..+","step":(8|16)}$' "$work/metrics")" -eq 2 ] || complain "expected two texts in the metrics"
  grep '^step .* sample' "$work/stdout" >"$work/texts"
  [ "$(cut -d' ' -f5- "$work/texts" | sort -u | wc -l)" -eq 2 ] || complain "expected a text of a model that has learnt more"

  # A folder of Hugging Face says what it holds; a sample comes from it.
  expect_success "${training[@]}" --save "$work/folder/"
  expect_success "$lockstep" eval --data "$work/val.bin" --weights "$work/folder"
  expect_output 1 "^$(cat "$work/reference_score") tokens=[0-9]+ bytes=[0-9]+$"
  expect_success "$lockstep" sample --weights "$work/folder" --prompt "Line 1" --tokens 5
  expect_output 1 '^Line 1'
  expect_success "${training[@]}" --steps 2 --model.preset=llama-nano --model.n_kv_head=1 --batch 8
  expect_output 1 '^training llama-nano with adamw on 1 ranks '
  if emulated; then
    training+=(--steps 4)
    make_reference 4
    expect_same_run "${training[@]}" --device cuda
  fi
}

# The same run in other ways, and others.
test_language_runs() {
  local config training ranks
  make_scored_language
  for ranks in 2 3; do
    expect_same_run "${training[@]}" --threads 1 --ranks $ranks
    expect_score $ranks
    expect_same_scores
  done
  expect_other_run "${training[@]}" --threads 1 --seed 2
  expect_other_run "${training[@]}" --threads 1 --model.dropout=0
  expect_other_run "${training[@]}" --threads 1 --activations bf16

  # Texts on the way are those of any number of ranks.
  local writing=("${training[@]}" --sample-every 8 --sample-prompt "Line 1" --sample-tokens 30)
  for ranks in 1 2; do
    expect_same_run "${writing[@]}" --ranks $ranks --threads $ranks
    grep '^step .* sample' "$work/stdout" >"$work/texts_of_$ranks"
    [ "$(wc -l <"$work/texts_of_$ranks")" -eq 2 ] || complain "expected two texts"
  done
  expect_same "$work/texts_of_1" "$work/texts_of_2"
  printf '[train]\nsample_every = 20\nsample_tokens = 3\n' >"$work/writing.toml"
  expect_success "${training[@]/$config/$work/writing.toml}" --model gpt-nano --batch 2 --steps 20 --model.vocab_size=300 \
    --model.block_size=32 --data "$work/train_000000.bin" --tokenizer "$work/tokenizer"
  expect_output 1 '^step 20/20  sample ".*"$'

  for ranks in 1 3; do
    expect_success "$lockstep" eval --config "$config" --data "$work/val.bin" --weights "$work/weights" --threads $ranks
    expect_output 1 "^$(cat "$work/reference_score") tokens=[0-9]+ bytes=[0-9]+$"
  done
  # The same run by options alone; what is typed goes before the file.
  expect_same_run "$lockstep" train --model gpt-nano --model.vocab_size=300 \
    --model.block_size=32 --model.n_layer=2 --model.n_head=2 --model.n_embd=32 --dropout 0.1 --data "$work/train_000000.bin" \
    "$work/train_00000[1-9].bin" --optimizer adamw --learning-rate 0.01 --beta-2 0.95 --weight-decay 0.1 --batch 16 --steps 20 \
    --virtual-ranks 8
  expect_output 1 '^loss=[0-9.]+ tokens_per_second=[0-9]+ steps=20 ranks=1$'
}

test_language_refusals() {
  local config training bad
  make_language
  bad=("${training[@]}" "${outputs[@]}")
  expect_error 2 "*was encoded with a vocabulary of 300, but the model has model.vocab_size 299; use --model.vocab_size=300*" \
    "${bad[@]}" --model.vocab_size=299
  printf '\x2b\x01%.0s' {1..200} >"$work/raw.bin"  # 299
  printf '\x2c\x01' >>"$work/raw.bin"
  expect_error 1 "*'$work/raw.bin'*200*300*" "${bad[@]}" --data "$work/raw.bin"
  head -c 3000 "$work/train_000000.bin" >"$work/cut.bin"
  expect_error 1 "*'$work/cut.bin' has 3000 bytes, expected *" "${bad[@]}" --data "$work/cut.bin"
  expect_error 1 "*expected files that match '$work/none\*', found none*" "${bad[@]}" --data "$work/none*"
  expect_error 1 "*'$work/nowhere'*" "${bad[@]}" --tokenizer "$work/nowhere"
  expect_error 2 '*model.n_embd 33 is not divisible by model.n_head 2*use n_embd 34*' "${bad[@]}" --model.n_embd=33
  expect_error 2 "*unknown option '--model.n_layr'; did you mean '--model.n_layer'?*" "${bad[@]}" --model.n_layr=3
  expect_error 2 '*--sequence: expected 1 to 32 tokens*got 33*' "${bad[@]}" --sequence 33
  expect_error 2 '*--batch-tokens*' "${bad[@]}" --batch 16 --batch-tokens 512
  expect_error 2 '*500*tokens*32*' "${bad[@]}" --batch-tokens 500
  expect_error 2 '*--batch 2 is smaller than the 3 ranks*' "${bad[@]}" --batch 2 --ranks 3 --virtual-ranks 0
  expect_error 2 '*--save*--data*' "${training[@]}" --save "$work/train_000000.bin"
  expect_error 2 "*--save '$work/folder/' names a folder, which is for language models*" "${on_data[@]}" --save "$work/folder/"
  expect_error 2 '*--model is '\''mlp'\''*--model gpt-mini*' "${bad[@]}" --model mlp
  expect_error 2 '*model gpt-nano reads tokens*' "$lockstep" train --model gpt-nano "${outputs[@]}"
  expect_error 2 '*--validation and --tokenizer are for language models*' "${on_data[@]}" --validation "$work/val.bin" "${outputs[@]}"

  expect_error 2 '*the prompt has * tokens, and the context of the model is 32; use a shorter prompt*' \
    "${bad[@]}" --sample-every 5 --sample-prompt "$(printf '%0500d' 0)"
  expect_error 2 '*--activations: expected f32 or bf16*got '\''f64'\''*' "${bad[@]}" --activations f64
  expect_error 2 '*--activations bf16 with --precision f16*use --precision bf16*' "${bad[@]}" --activations bf16 --precision f16
  expect_error 2 '*--activations bf16: the ops of model cnn keep activations in f32*' "${on_data[@]}" --model cnn --activations bf16 "${outputs[@]}"
  expect_error 2 '*--sample-prompt*give --sample-every STEPS too*' "${bad[@]}" --sample-prompt A
  expect_error 2 '*--sample-tokens: expected a whole number from 1 to *, got 0*' "${bad[@]}" --sample-every 5 --sample-tokens 0
  expect_error 2 '*--sample-every is for language models*' "${on_data[@]}" --sample-every 5 "${outputs[@]}"
  expect_error 2 '*--sample-every writes texts*give --tokenizer*' "$lockstep" train --model gpt-nano --data "$work/train_000000.bin" \
    --sample-every 5 --batch 8 "${outputs[@]}"

  local file=$work/bad.toml
  refuse() {  # refuse CODE PATTERN LINE...
    printf '%s\n' "${@:3}" >"$file"
    expect_error "$1" "$2" "$lockstep" train --config "$file" --data "$work/train_0*.bin" "${outputs[@]}"
  }
  refuse 2 "*unknown key ($file:2) 'model.n_layr'; did you mean 'model.n_layer'?*" '[model]' 'n_layr = 3'
  refuse 2 "*$file:2: model.n_layer: *expected a whole number*" '[model]' 'n_layer = "many"'
  refuse 1 "*$file:1: 'n_layer' stands outside of a section*" 'n_layer = 3'
  refuse 1 "*$file:2: no TOML*" '[model]' 'n_layer ='
  refuse 2 '*train.batch*say the same in two ways*' '[train]' 'batch = 16' 'batch_tokens = 512'
  expect_error 1 "*'$work/none.toml'*" "$lockstep" train --config "$work/none.toml" "${outputs[@]}"
}

# The forecasts of the same file, and of both families.
test_language_plan() {
  local config training
  make_language
  expect_success "$lockstep" plan --config "$config" --ranks 2
  expect_success "$lockstep" plan --config "$config" --verify --ranks 3 --steps 2
  expect_output 0 'DIFFERENT'
  expect_success "$lockstep" plan --config "$config" --verify --ranks 2 --steps 2 --model.preset llama-nano --model.n_kv_head 1 \
    --model.tied=false --model.recompute=true --accumulation 2
  expect_output 0 'DIFFERENT'
  expect_success "$lockstep" plan --config "$config" --verify --ranks 2 --steps 2 --activations bf16
  expect_output 0 'DIFFERENT'
  expect_output 1 '^every term that must be exact is exact on every rank$'
}

# Speed of the model of the same file, beside its products, and what the time goes to.
test_language_bench() {
  local config training
  make_language
  expect_success "$lockstep" bench train --config "$config" --batch 2 --rounds 1
  expect_output 1 '^train/gpt-nano +.* batch 2 a rank, 1 ranks x 1 threads, reduce tree$'
  expect_output 1 '^train/gpt-nano/tokens .* tokens/s '
  expect_output 1 '^train/gpt-nano/time/Matmul .* calls a step; the limit, with the products of attention, [0-9]+ ms$'
  expect_output 1 '^train/gpt-nano/time/other kernels '
  expect_output 1 '^train/gpt-nano/time/outside of kernels .* tape, sums over ranks, waiting$'
  expect_success "$lockstep" bench train --config "$config" --batch 2 --rounds 1 --activations bf16 --model.n_layer 1
  expect_output 1 '^train/gpt-nano +.* reduce tree, activations bf16$'
  expect_error 2 '*--activations bf16: the ops of model mlp keep activations in f32*' \
    "$lockstep" bench train --model mlp --activations bf16 --data "$data"
  printf '[model]\nn_layers = 2\n' >"$work/wrong.toml"
  expect_error 2 "*model.n_layers*did you mean 'model.n_layer'?*" "$lockstep" bench train --config "$work/wrong.toml"
}

test_language_mpi() {
  local config training ranks
  make_scored_language
  for ranks in 2 3; do
    expect_same_run "$mpirun" -np $ranks "${training[@]}" --threads 1
    expect_score $ranks
    expect_same_scores
    expect_success "$mpirun" -np $ranks "$lockstep" eval --config "$config" --data "$work/val.bin" --weights "$work/weights"
    expect_output 1 "^$(cat "$work/reference_score") tokens=[0-9]+ bytes=[0-9]+$"
  done
  expect_error any "*'$work/none'*" "$mpirun" -np 2 "${training[@]}" "${outputs[@]}" --data "$work/none"
}
