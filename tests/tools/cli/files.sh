# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Files that must not destroy each other, standard streams that are closed or full, and what is read as a plan.
# shellcheck disable=SC2154  # variables of cli_test.sh and support.sh

# No output is another output, an input or where the program prints to, whatever its name.
test_neighbours() {
  local images=$data/train-images-idx3-ubyte.gz short=("${on_data[@]}" --steps 2) option
  cp "$images" "$work/images"
  expect_error 2 "*--ledger '$out/new' and --save '$out/./new' are the same file*" "${short[@]}" --ledger "$out/new" --save "$out/./new"
  ln "$out/old" "$work/hard"
  expect_error 2 "*--ledger '$out/old' and --metrics '$work/hard' are the same file*" "${short[@]}" --ledger "$out/old" --metrics "$work/hard"
  expect_error 2 "*--save and --data both name '$images'*" "${short[@]}" --save "$images"
  ln -s "$data" "$work/linked"
  expect_error 2 "*--ledger '$images' and --data '$work/linked/*" "${train[@]}" --steps 2 --data "$work/linked" --ledger "$images"
  expect_error 2 "*--metrics '$lockstep' and the running program*" "${short[@]}" --metrics "$lockstep"
  ln -s "$out/old" "$work/soft"
  for option in ledger metrics save; do
    expect_error 1 "*cannot write '$work/soft': *it is a symbolic link*" "${short[@]}" --$option "$work/soft"
  done
  expect_error 2 "*--ledger '$work/both' is the file that the standard output goes to*" \
    sh -c "exec \"\$@\" >'$work/both'" - "${short[@]}" --ledger "$work/both"
  expect_error 2 "*--output '$work/both' is the file that the standard output goes to*" \
    sh -c "exec \"\$@\" >'$work/both'" - "$lockstep" plot schedule "constant" --output "$work/both"
  expect_same "$images" "$work/images"
  expect_success sh -c "\"\$@\" | cat" - "${short[@]}" --ledger /dev/stdout
  expect_output 2 '^step=[01] loss='
}

test_streams() {
  local short=("${on_data[@]}" --steps 3) stream
  run sh -c "exec \"\$@\" >&-" - "${short[@]}" --ledger "$work/ledger" --save "$work/saved"
  [ $code -eq 0 ] && [ "$(grep -Evc '^(lockstep-ledger 1|step=[0-9]+ loss)' "$work/ledger")" -eq 0 ] ||
    complain "expected a ledger without the text for the standard output"
  run sh -c "exec \"\$@\" <&- >&- 2>&-" - "${short[@]}" --save "$work/saved"
  [ $code -eq 0 ] || complain "expected success without streams"
  for stream in '>&-' '>/dev/full' '>/dev/null'; do
    run sh -c "exec \"\$@\" 2$stream" - "${bad[@]}" --bach 3
    [ $code -eq 2 ] || complain "expected the exit code of wrong usage with 2$stream"
  done
  for stream in plan "plan --json" explain doctor "plot schedule constant" --help; do
    # shellcheck disable=SC2086  # several arguments
    expect_error 1 '*\[file\] cannot write the standard output: No space left*' sh -c "exec \"\$@\" >/dev/full" - "$lockstep" $stream
  done
  expect_error 1 '*\[file\] cannot write the standard output: No space left*' sh -c "exec \"\$@\" >/dev/full" - "${short[@]}"
  # The limit of one block leaves no room for weights.
  expect_error 1 "*cannot write '$out/old': File too large; *ulimit -f*" sh -c "ulimit -f 1; exec \"\$@\"" - "${short[@]}" --save "$out/old"
  # Neither control characters nor whole long paths reach the terminal.
  local path
  path=$(printf '%10000s' '' | tr ' ' x)
  expect_error 1 '*cannot look at*bytes ...]*' "${train[@]}" --data "$path"
  [ "$(wc -c <"$work/stderr")" -lt 3000 ] || complain "expected a short message"
  expect_error 1 '*\\x1b\[31m\\x0a\\xc2\\x9b*found nothing there*' "${train[@]}" --data "$work/"$'\e[31m\n\xc2\x9b'
  [ "$(wc -l <"$work/stderr")" -eq 1 ] || complain "expected one line"
  expect_error 2 '*\\x1b*' "$lockstep" $'\e[31m'
}

test_plan_readers() {
  "$lockstep" plan --json >"$work/a.json"
  mkfifo "$work/plan_pipe"
  expect_error 1 "*'$work/plan_pipe' is no regular file*" "$lockstep" plan --diff "$work/a.json" "$work/plan_pipe"
  expect_error 1 "*'/dev/zero' is no regular file*" "$lockstep" plan --diff "$work/a.json" /dev/zero
  expect_error 1 "*'$work/plan_pipe' is no regular file*" "$lockstep" plan --model "$work/plan_pipe"
  expect_error 1 "*'$work/plan_pipe' is no regular file*" "$lockstep" eval --data "$data" --weights "$work/plan_pipe"
  truncate -s 300M "$work/big.json"
  expect_error 1 "*'$work/big.json' has 314572800 bytes; a plan has at most*" "$lockstep" plan --diff "$work/a.json" "$work/big.json"
  # Memory that is too small is found before reading begins. Sanitizers reserve more than any limit.
  ! few_cases || return 0
  printf 'name = "m"\n[[variable]]\npath = "{i}"\nshape = [4]\ndtype = "f32"\nrole = "parameter"\nrepeat = 20000\n' >"$work/many.toml"
  "$lockstep" plan --model "$work/many.toml" --optimizer sgd --json >"$work/many.json"
  # A build for GPUs maps the library of products.
  local kibibytes=600000
  ! ldd "$lockstep" | grep -q libcublasLt || kibibytes=1200000
  expect_error 1 '*\[device\] out of memory of the host*' \
    sh -c "ulimit -v $kibibytes; exec \"\$@\"" - env OMP_NUM_THREADS=1 "$lockstep" plan --diff "$work/many.json" "$work/many.json"
}
