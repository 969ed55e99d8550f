# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Language models of files: what they say, and from one kind of file to the other.
# shellcheck disable=SC2154  # variables of cli_test.sh and support.sh

language_models=$here/../../runtime/language

test_sample() {
  local sample=("$lockstep" sample --weights "$language_models/gpt2" --prompt "It is a truth") seed more i
  for i in $(seq 400); do echo "Line $i of a text that repeats itself."; done >"$work/text.txt"
  expect_success "${sample[@]}" --tokens 30 --temperature 0 --threads 1
  expect_output 1 '^It is a truth'
  cp "$work/stdout" "$work/greedy"
  [ "$(wc -c <"$work/greedy")" -gt 20 ] || complain "expected more than the prompt"
  for more in "--temperature=0 --threads=2" "--temperature=0 --seed=7" "--top-k=1 --temperature=2"; do
    # shellcheck disable=SC2086  # options are meant to be split
    expect_success "${sample[@]}" --tokens 30 $more
    expect_same "$work/stdout" "$work/greedy"
  done
  for seed in 1 2; do
    expect_success "${sample[@]}" --tokens 100 --temperature 0.8 --top-k 50 --top-p 0.9 --seed $seed --threads $seed
    cp "$work/stdout" "$work/seed$seed"
  done
  expect_success "${sample[@]}" --tokens 100 --temperature 0.8 --top-k 50 --top-p 0.9 --seed 2 --threads 1
  expect_same "$work/stdout" "$work/seed2"
  ! cmp -s "$work/seed1" "$work/seed2" || complain "expected another text of another seed"
  # Every token has a draw of its own: of two tokens at each place, now the one is taken and now the other.
  for seed in 1 2 3 4 5; do
    expect_success "${sample[@]}" --tokens 30 --temperature 1000000 --top-k 2 --seed $seed --threads 1
    cksum <"$work/stdout" >>"$work/texts"
  done
  [ "$(sort -u "$work/texts" | wc -l)" -eq 5 ] || complain "expected five texts"
  expect_success "$lockstep" sample --weights "$language_models/gpt2" --tokens 5
  expect_success "$lockstep" sample --weights "$language_models/llama" --tokenizer "$language_models/gpt2" --prompt A --tokens 5
  expect_success bash -c "printf 'It is a truth\nIt is a truth\n' | '$lockstep' sample --weights '$language_models/gpt2' --tokens 30 --temperature 0 --interactive"
  cat "$work/greedy" "$work/greedy" | cmp -s - "$work/stdout" || complain "expected the text of each line"
  run bash -c "printf '%0500d\nIt is a truth\n' 0 | '$lockstep' sample --weights '$language_models/gpt2' --tokens 30 --temperature 0 --interactive"
  grep -q '^lockstep: the prompt has [0-9]* tokens, and the context of the model is 80' "$work/stderr" || complain "expected a remark"
  expect_same "$work/stdout" "$work/greedy"

  expect_error 2 '*the prompt has [0-9]* tokens, and the context of the model is 80; use a shorter prompt' \
    "$lockstep" sample --weights "$language_models/gpt2" --prompt "$(printf '%0500d' 0)"
  expect_error 2 '*--temperature: expected 0 (the most likely token) to *, got -1*' "${sample[@]}" --temperature -1
  expect_error 2 '*--top-k: expected a number of tokens, or 0 for all, got -3*' "${sample[@]}" --top-k -3
  expect_error 2 '*--top-p: expected a probability above 0 and up to 1, got 1.5*' "${sample[@]}" --top-p 1.5
  expect_error 2 '*--tokens: expected a number of at least 1, got 0*' "${sample[@]}" --tokens 0
  expect_error 2 "*'$language_models/llama' comes without a tokenizer; name its folder with --tokenizer" \
    "$lockstep" sample --weights "$language_models/llama"
  expect_success "$lockstep" tokenize train "$work/text.txt" --vocabulary 310 --output "$work/other"
  expect_error 1 "*tokenizer of '$work/other' has a vocabulary of 310, and the model of '$language_models/gpt2' one of 300*" \
    "${sample[@]}" --tokenizer "$work/other"
  expect_error 1 "*'$work/nowhere*" "$lockstep" sample --weights "$work/nowhere" --tokenizer "$language_models/gpt2"
}

test_convert() {
  local convert=("$lockstep" convert) from=$language_models/gpt2 to=$work/to file i
  for i in $(seq 400); do echo "Line $i of a text that repeats itself."; done >"$work/text.txt"
  expect_success "${convert[@]}" "$from" "$to"
  expect_output 1 "^$to: GPT-2 model, 12672 parameters in 28 tensors, tokenizer [0-9a-f]{16}$"
  [ "$(cd "$to" && echo *)" = "config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json" ] ||
    complain "expected the files of a folder of Hugging Face"
  expect_success "${convert[@]}" "$to" "$work/file.safetensors"
  expect_success "${convert[@]}" "$work/file.safetensors" "$work/again" --tokenizer "$to"
  for file in config.json generation_config.json model.safetensors tokenizer.json; do
    expect_same "$to/$file" "$work/again/$file"
  done
  expect_success "$lockstep" sample --weights "$from" --prompt A --tokens 20 --temperature 0
  cp "$work/stdout" "$work/text"
  expect_success "$lockstep" sample --weights "$work/file.safetensors" --tokenizer "$to" --prompt A --tokens 20 --temperature 0
  expect_same "$work/stdout" "$work/text"

  expect_error 2 "*the output and the model to convert both name '$to/*" "${convert[@]}" "$to" "$to"
  expect_error 2 "*the output and the model to convert both name '$work/file.safetensors'*" "${convert[@]}" "$work/file.safetensors" "$work/file.safetensors"
  expect_error 2 "*the output and the tokenizer of --tokenizer both name '$to/*" "${convert[@]}" "$work/file.safetensors" "$to" --tokenizer "$to"
  cmp -s "$work/again/model.safetensors" "$to/model.safetensors" || complain "expected the input to be whole"
  # Another tokenizer than the one that the weights were saved with, although it has as many tokens.
  expect_success "$lockstep" tokenize train "$work/text.txt" --vocabulary 300 --output "$work/other"
  expect_error 1 "*the tokenizer of '$work/other' (hash *) does not belong to the weights of '$to'*" \
    "${convert[@]}" "$to" "$out/new" --tokenizer "$work/other"
  sed -i 's/"n_layer": 2/"n_layer": 3/' "$work/again/config.json"
  expect_error 1 "*'$work/again/model.safetensors' does not hold the weights of a GPT-2 model*transformer.h.2.ln_1.weight is missing*" \
    "${convert[@]}" "$work/again" "$out/new"
  expect_success "${on_data[@]}" --steps 1 --save "$work/mlp.safetensors"
  expect_error 1 "*'$work/mlp.safetensors' does not say the settings of a language model*the model 'mlp'*" \
    "${convert[@]}" "$work/mlp.safetensors" "$out/new"
}
