# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Text to tokens and back.
# shellcheck disable=SC2154  # variables of cli_test.sh and support.sh

test_text() {
  local tokenize=("$lockstep" tokenize) text=$work/text tokenizer=$work/tokenizer i
  mkdir -p "$text"
  for i in $(seq 400); do echo "It is line $i of a text, and don't lines repeat? They do."; done >"$text/a.txt"
  for i in $(seq 40); do echo "{\"text\": \"Document $i says that it is a text, too.\"}"; done >"$text/b.jsonl"
  gzip -k "$text/b.jsonl"

  expect_success "${tokenize[@]}" train "$text"/*.txt "$text/b.jsonl" --vocabulary 320 --output "$tokenizer"
  expect_output 1 "^$tokenizer: vocabulary 320, 63 merges, rule gpt2, hash [0-9a-f]{16}$"
  cp -r "$tokenizer" "$work/one_thread"
  expect_success "${tokenize[@]}" train "$text"/*.txt "$text/b.jsonl" --vocabulary 320 --output "$work/one_thread" --threads 1
  cmp -s "$tokenizer/tokenizer.json" "$work/one_thread/tokenizer.json" || complain "expected the same tokenizer by one thread"

  local encode=("${tokenize[@]}" encode --tokenizer "$tokenizer")
  expect_success "${encode[@]}" "$text/*.txt" "$text/b.jsonl" --output "$work/train.bin" --validation "$work/val.bin"
  expect_output 1 "^training: [0-9]* bytes of text, 38 documents, [0-9]* tokens, [0-9.]* bytes per token$"
  expect_output 1 "^validation: [0-9]* bytes of text, 4 documents, [0-9]* tokens, [0-9.]* bytes per token$"
  expect_output 2 "^$work/(train|val).bin: [0-9]* tokens, hash [0-9a-f]{16}$"
  expect_success "${encode[@]}" "$text/b.jsonl.gz" "$text/a.txt" --output "$work/all.bin" --shard-tokens 6000 --threads 1
  expect_success "${tokenize[@]}" info "$tokenizer" "$work"/all_*.bin
  expect_output 1 '^  319 "<\|endoftext\|>", the end of a text$'
  expect_output 2 "^$work/all_00000[01].bin: llm.c, 16 bits, [0-9]* tokens, vocabulary 320, tokenizer [0-9a-f]{16}, hash"

  # Any bytes come back.
  noise 5000 >"$text/noise.txt"
  expect_success "${encode[@]}" "$text/noise.txt" --output "$work/noise.bin" --no-end-of-text
  expect_success "${tokenize[@]}" decode "$work/noise.bin" --tokenizer "$tokenizer" --output "$work/noise"
  cmp -s "$text/noise.txt" "$work/noise" || complain "expected decoding to give the bytes back"
  expect_success "${tokenize[@]}" decode "$work/all_*.bin" --tokenizer "$tokenizer" --first 1 --tokens 3
  expect_output 1 '^[A-Za-z0-9 ]+$'

  encode+=(--output "$out/new")
  : >"$text/empty.txt"
  expect_error 1 "*'$text/empty.txt' holds no text: it is empty*" "${encode[@]}" "$text/a.txt" "$text/empty.txt"
  expect_error 1 "*expected files that match '$text/\*.md', found none*" "${encode[@]}" "$text/*.md"
  echo '{"text": 3}' >"$text/bad.jsonl"
  expect_error 1 "*'$text/bad.jsonl':1: expected an object with a \"text\"*" "${encode[@]}" "$text/bad.jsonl"
  expect_error 2 "*'$text/a.txt' is an input, which would be written over*" \
    "${tokenize[@]}" encode "$text/a.txt" --tokenizer "$tokenizer" --output "$text/a.txt"
  expect_error 2 "*--output and --validation both name '$out/new'*" "${encode[@]}" "$text/a.txt" --validation "$out/new"
  expect_error 2 '*--validation-share: expected a share between 0 and 1, got 1*' \
    "${encode[@]}" "$text/a.txt" --validation "$out/val" --validation-share 1
  expect_error 1 "*'$work/nowhere'*" "${tokenize[@]}" encode "$text/a.txt" --tokenizer "$work/nowhere" --output "$out/new"
  expect_error 1 "*'$text' holds no tokenizer: expected tokenizer.json*" \
    "${tokenize[@]}" encode "$text/a.txt" --tokenizer "$text" --output "$out/new"
  expect_error 1 '*has pairs that occur twice for a vocabulary of * only, not 60000*' \
    "${tokenize[@]}" train "$text/a.txt" --vocabulary 60000 --output "$out/new"
  expect_error 2 '*--rule: expected gpt2, gpt2-digits or llama3, got *' \
    "${tokenize[@]}" train "$text/a.txt" --vocabulary 300 --output "$out/new" --rule gpt3
  expect_success "${tokenize[@]}" train "$text/a.txt" --vocabulary 300 --output "$work/other"
  expect_error 1 "*'$work/train.bin' was encoded with a vocabulary of 320, expected at most 300*" \
    "${tokenize[@]}" decode "$work/train.bin" --tokenizer "$work/other" --output "$out/new"
  head -c 3000 "$work/train.bin" >"$work/cut.bin"
  expect_error 1 "*'$work/cut.bin' has 3000 bytes, expected *" "${tokenize[@]}" info "$work/cut.bin"
  expect_error 1 "*'$text/a.txt' looks like text, expected tokens*" "${tokenize[@]}" info "$text/a.txt"
}
