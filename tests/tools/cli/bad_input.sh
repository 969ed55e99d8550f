# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Bad input of one process: options, data, output files, weights.
# shellcheck disable=SC2154  # variables of cli_test.sh and support.sh

test_usage() {
  expect_error 2 "*unknown command 'trian'; did you mean 'train'?*" "$lockstep" trian
  expect_error 2 "*unknown command 'tap'; did you mean 'tape'?*" "$lockstep" bench tap
  expect_error 2 '*subcommand is required; see lockstep --help' "$lockstep"
  expect_error 2 "*unexpected argument 'train'; see lockstep train --help" "$lockstep" train train
  expect_error 2 "*unknown option '--bach'; did you mean '--batch'? see lockstep train --help" "${bad[@]}" --bach 3
  expect_error 2 "*unknown option '--bach'; did you mean '--batch'?*" "${bad[@]}" --bach=3
  expect_error 2 "*unknown option '--wieghts'; did you mean '--weights'?*" "$lockstep" eval --wieghts file
  expect_error 2 '*--weights is required; see lockstep eval --help' "$lockstep" eval
  expect_error 2 "*unknown model 'mpl'; did you mean 'mlp'? Known are: mlp, cnn, gpt-nano, *" "${bad[@]}" --model mpl
  expect_error 2 "*unknown optimizer 'adan'; did you mean 'adam'? Known are: sgd*" "${bad[@]}" --optimizer adan
  expect_error 2 "*no hyper-parameter 'momentum'*" "${bad[@]}" --optimizer adam --momentum 0.9
  expect_error 2 "*unknown variable 'dense_1/wieght'; did you mean 'dense_1/weight'?*" "${bad[@]}" --freeze dense_1/wieght
  local rate
  for rate in nan inf -1; do
    expect_error 2 "*expected learning_rate in \[0, *\], got $rate; the default is *" "${bad[@]}" --learning-rate $rate
  done
  expect_error 2 "*--learning-rate: expected a number, got 'fast'*" "${bad[@]}" --learning-rate fast
  expect_error 2 "*--batch: expected a whole number, got '1e2'*" "$lockstep" train --batch 1e2
  expect_error 2 '*--batch 2 is smaller than the 3 ranks*use --batch 3 or fewer ranks' "${on_data[@]}" --batch 2 --ranks 3
  expect_error 2 '*--batch 60 is not divisible by --virtual-ranks 8*use --batch 64' "${bad[@]}" --batch 60 --virtual-ranks 8
  expect_error 2 '*--virtual-ranks 2 *3 ranks; use at least 3' "${bad[@]}" --virtual-ranks 2 --ranks 3
  expect_error 2 '*--epochs: expected *from 1 to *, got 0' "${bad[@]}" --epochs 0
  expect_error 2 '*--epochs: expected *from 1 to *, got 9000000000' "${bad[@]}" --epochs 9000000000
  expect_error 2 '*--steps: expected *from 0 to *, got -3' "${bad[@]}" --steps -3
  expect_error 2 '*--threads: expected *from 0 to 1024, got -1' "${bad[@]}" --threads -1
  expect_error 2 '*--threads: expected *from 0 to 1024, got 1025' "$lockstep" eval --weights file --threads 1025
  expect_error 2 '*--ranks: expected 1 to 256 ranks, got -2' "${bad[@]}" --ranks -2
  expect_error 2 '*--dropout: expected a rate in \[0, 1), got 1' "${bad[@]}" --dropout 1
  expect_error 2 '*--dropout: expected a rate in \[0, 1), got nan' "$lockstep" explain --dropout nan
  expect_error 2 '*--dropout: expected a rate in \[0, 1) that stays below 1 in f32, got 0.99999999' "${bad[@]}" --dropout 0.99999999
  expect_error 2 '*--timeout: expected seconds above 0*, got 0' "${bad[@]}" --timeout 0
  expect_error 2 "*--reduce: expected tree, fast or mpi, got 'foo'" "${bad[@]}" --reduce foo
  expect_error 2 "*--reduce-dtype: expected f32 or bf16, got 'f16'" "${bad[@]}" --reduce-dtype f16
  expect_error 2 "*--reduce-dtype: expected f32 or bf16, got 'f64'" "$lockstep" explain --reduce-dtype f64
  expect_error 2 "*--reduce mpi adds in f32*--reduce-dtype bf16*'tree' or 'fast'" "${bad[@]}" --reduce mpi --reduce-dtype bf16
  expect_error 2 "*--reduce mpi adds in f32*--reduce-dtype bf16*" "$lockstep" plan --reduce mpi --reduce-dtype bf16
  expect_error 2 "*--reduce mpi needs*reduce by 'tree' or 'fast'" "${bad[@]}" --reduce mpi --ranks 2
  expect_error 2 "*--device: expected cpu or cuda, got 'foo'" "${bad[@]}" --device foo
  expect_error 2 "*unknown variable 'adam/iteratoin'; did you mean 'adam/iteration'?*" "$lockstep" explain adam/iteratoin

  # The threads that are asked for, and what an mpirun has left that was killed.
  local left=/dev/shm/vader_segment.of_a_test.$$
  : >"$left"
  expect_success env OMP_NUM_THREADS=3,2 "$lockstep" doctor
  rm "$left"
  expect_output 1 '^cores .*, 3 for each rank here$'
  expect_output 1 '^left by Open MPI +[1-9][0-9]* files /dev/shm/vader_segment\*, .*remove them when no job runs$'
}

# Numbers are what was typed: no octal, no largest number in place of a larger one.
test_numbers() {
  local what option
  # refuses WHAT TYPE VALUE EXPECTED: every option of that type says what it expected
  refuses() {
    # shellcheck disable=SC2086  # several arguments
    for option in $("$lockstep" $1 --help | grep -oE -- "--[a-z0-9-]+ $2" | cut -d ' ' -f 1); do
      expect_error 2 "*$option: expected $4, got '$3'*" "$lockstep" $1 "$option" "$3"
    done
  }
  for what in train "eval --weights file" plan "plot schedule constant" "bench kernels" "bench collectives" "bench train"; do
    refuses "$what" INT 9223372036854775808 'a whole number from * to 9223372036854775807'
    refuses "$what" FLOAT 1e400 'a number'
  done
  refuses plan INT 0x10 'a whole number'
  refuses plan FLOAT 0x1p3 'a number'
  expect_error 2 "*--zero: expected a smaller number, got '4294967296'*" "$lockstep" plan --zero 4294967296
  expect_success "${on_data[@]}" --steps 010 --seed 0100 --learning-rate 00.001 --ledger "$work/padded"
  expect_output 1 ' steps=10 '
  expect_success "${on_data[@]}" --steps 10 --seed 100 --learning-rate 0.001 --ledger "$work/plain"
  expect_same "$work/padded" "$work/plain"
  expect_success "${on_data[@]}" --steps 1 --seed 009
  # Neighbours of f64 are other runs.
  expect_success "${on_data[@]}" --steps 1 --dropout 0.3 --ledger "$work/plain"
  expect_success "${on_data[@]}" --steps 1 --dropout 0.30000000000000004 --ledger "$work/padded"
  ! cmp -s <(head -n 1 "$work/plain") <(head -n 1 "$work/padded") || complain "expected other configurations"
}

test_data() {
  expect_error 1 "*expected the data file '*/nowhere/train-images*', found nothing there; *--data DIR" \
    "${train[@]}" "${outputs[@]}" --data "$work/nowhere"
  local broken=$work/broken file
  # wrong FILE PATTERN: standard input in place of FILE is refused, by a message that names the file and the remedy
  wrong() {
    rm -rf "$broken"
    cp -r "$data" "$broken"
    cat >"$broken/$1"
    expect_error 1 "*'$broken/$1'*$2*--data DIR*" "${train[@]}" "${outputs[@]}" --data "$broken" --ranks 2
  }
  for file in train-images-idx3 train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do
    rm -rf "$broken"
    cp -r "$data" "$broken"
    rm "$broken/$file-ubyte.gz"
    expect_error 1 "*'$broken/$file-ubyte.gz', found nothing there*" "${train[@]}" "${outputs[@]}" --data "$broken"
  done
  local images=train-images-idx3-ubyte.gz labels=t10k-labels-idx1-ubyte.gz
  local half=$(($(stat -c %s "$data/$images") / 2))
  head -c $half "$data/$images" | wrong $images "is truncated: it ends at byte $half"
  echo 'neither of them' | wrong $images 'starts with the numbers 110 101 105 116, expected 0 0 8 3'
  : | wrong $images 'has 0 bytes, fewer than its header'
  { head -c $half "$data/$images" && tail -c +$((half + 2)) "$data/$images"; } | wrong $images ''
  { cat "$data/$images" && echo more; } | wrong $images 'goes on behind the end'
  gzip -dc "$data/$images" | head -c 1000 | wrong $images 'announces 470400 values, but its 1000 bytes'
  wrong $images 'numbers 0 0 8 1, expected 0 0 8 3' <"$data/$labels"
  noise 784 | idx 600 28 28 | wrong $images 'expected 470400'
  noise 784 | idx 4000000000 28 28 | wrong $images 'announces more than'
  : | idx 600 0 28 | wrong $images 'holds no pixels'
  # Fine by itself, but of another size than the training images.
  noise 39200 | idx 100 14 28 >"$broken/t10k-images-idx3-ubyte.gz"
  cp "$data/$images" "$broken"
  expect_error 1 "*'$broken' has training images of 28 x 28 and test images of 14 x 28*--data DIR" \
    "${train[@]}" "${outputs[@]}" --data "$broken"
  labels 99 | wrong $labels 'has 99 labels for the 100 images'
  printf '%99s\n' '' | idx 100 | wrong $labels 'label 0 is 32, expected 0 to 9'

  # Letters: other names, in part uncompressed and of several gzip members, other sizes, 26 classes that begin with 1.
  local letters=$work/letters eval=("$lockstep" eval)
  mkdir "$letters"
  noise $((260 * 12 * 10)) | idx 260 12 10 | gzip -dc >"$letters/emnist-letters-train-images-idx3-ubyte"
  noise $((52 * 12 * 10)) | idx 52 12 10 >"$letters/emnist-letters-test-images-idx3-ubyte.gz"
  letter_labels() { for _ in $(seq "$1"); do printf '\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24\25\26\27\30\31\32'; done; }
  letter_labels 10 | idx 260 | gzip -dc >"$work/plain"
  { head -c 100 "$work/plain" | gzip && tail -c +101 "$work/plain" | gzip; } >"$letters/emnist-letters-train-labels-idx1-ubyte.gz"
  letter_labels 2 | idx 52 >"$letters/emnist-letters-test-labels-idx1-ubyte.gz"
  expect_success "${train[@]}" --data "$letters" --epochs 2 --batch 26 --save "$work/letters.safetensors"
  expect_success "${eval[@]}" --data "$letters/emnist-letters" --weights "$work/letters.safetensors"
  expect_output 1 ' images=52$'
  expect_error 1 '*label 25 is 26, expected 0 to 25 by --classes*' "${train[@]}" --data "$letters" --classes 26
  expect_error 1 '*logits/weight is f32 \[512, 27\], expected f32 \[512, 30\]*' \
    "${eval[@]}" --data "$letters" --weights "$work/letters.safetensors" --classes 30
}

test_outputs() {
  local option other
  for option in ledger metrics save; do
    # What was fine by itself is not begun either.
    other=(--metrics "$out/new")
    [ $option != metrics ] || other=(--ledger "$out/new")
    expect_error 1 "*cannot write '$work/nowhere/file': No such file or directory;*make the folder first" \
      "${on_data[@]}" "${other[@]}" --$option "$work/nowhere/file"
    expect_error 1 "*cannot write '$out': Is a directory;*name a file" "${on_data[@]}" "${other[@]}" --$option "$out"
    expect_error 2 "*--$option: expected the name of a file, got ''*" "${on_data[@]}" "${other[@]}" --$option ''
  done
  expect_error 1 "*cannot write '/dev/full': No space left*" "${on_data[@]}" --save "$out/old" --ledger /dev/full
  expect_error 1 "*cannot write '/dev/full': No space left*" "${on_data[@]}" --save "$out/old" --metrics /dev/full
  expect_error 1 "*cannot replace '/dev/full'*" "${on_data[@]}" --ledger "$out/new" --save /dev/full
  expect_error 2 "*--ledger and --save both name '$out/new'*" "${on_data[@]}" --ledger "$out/new" --save "$out/new"
  expect_error 1 '*cannot write the standard output: No space left*' sh -c "'$lockstep' explain >/dev/full"
  # Rank 0 alone fails, in the middle of training: nobody reads its ledger after the third line.
  mkfifo "$work/pipe"
  head -n 3 "$work/pipe" >"$work/read" &
  trap '' PIPE
  expect_error 1 "*cannot write '$work/pipe': Broken pipe*" \
    "${on_data[@]}" --steps 1000000 --ranks 2 --ledger "$work/pipe" --save "$out/old"
  trap - PIPE
  wait $!
  [ "$(wc -l <"$work/read")" -eq 3 ] || complain "expected training to begin"
  # Nobody reads: rank 0 says so before the other one blames it.
  expect_error 1 "*cannot write '$work/pipe': *nobody reads it*" "${on_data[@]}" --ranks 2 --timeout 1 --metrics "$work/pipe"
}

test_weights() {
  expect_success "${on_data[@]}" --save "$work/weights"
  local eval=("$lockstep" eval --data "$data" --weights)
  expect_error 1 "*cannot open '$work/nowhere': No such file*" "${eval[@]}" "$work/nowhere"
  expect_error 1 "*'$out'*" "${eval[@]}" "$out"
  local bytes
  for bytes in 0 7 100 10000; do
    head -c $bytes "$work/weights" >"$work/bad"
    expect_error 1 "*'$work/bad'*; *use another copy" "${eval[@]}" "$work/bad"
  done
  { cat "$work/weights" && echo more; } >"$work/bad"
  expect_error 1 "*'$work/bad'*" "${eval[@]}" "$work/bad"
  noise 5000 >"$work/bad"
  expect_error 1 "*'$work/bad' is no safetensors file*" "${eval[@]}" "$work/bad"
  # The last weight becomes a NaN.
  cp "$work/weights" "$work/bad"
  printf '\xff\xff\xff\x7f' | dd of="$work/bad" bs=1 seek=$(($(stat -c %s "$work/bad") - 4)) conv=notrunc status=none
  expect_error 1 "*\[numbers\]*'$work/bad': expected finite weights, got nan as element *" "${eval[@]}" "$work/bad"
  local header='{"foreign/kernel":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
  printf "\\x$(printf %x ${#header})"'\x0\x0\x0\x0\x0\x0\x0%s\x0\x0\x0\x0' "$header" >"$work/bad"
  expect_error 1 "*$work/bad does not hold the weights of model mlp: dense_1/weight is missing;*" "${eval[@]}" "$work/bad"
  expect_error 1 "*weights of model cnn: conv_1/weight is missing;*logits/weight is f32 \[512, 10\], expected f32 \[128, 10\]*" \
    "${eval[@]}" "$work/weights" --model cnn
}
