# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Several processes of which one fails, or all.
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and support.sh

# Environment variables of a launcher, but no MPI job: each process is rank 0 of 1 for MPI.
test_launch() {
  local rank codes=() pids=()
  command="two processes that claim to be ranks 0 and 1 of 2"
  for rank in 0 1; do
    OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=$rank timeout -k 5 60 "${bad[@]}" \
      >"$work/stdout.$rank" 2>"$work/stderr.$rank" </dev/null &
    pids+=($!)
  done
  for rank in 0 1; do wait "${pids[$rank]}"; codes+=($?); done
  code="${codes[*]}"
  cat "$work"/stderr.[01] >"$work/stderr"
  [ "$code" = "1 1" ] || complain "expected exit codes 1 1"
  grep -q '^lockstep: error: \[launch\] .*rank 0 of 2, but .* start ' "$work/stderr.0" || complain "expected an error"
  [ "$(grep -c 'lockstep: error:' "$work/stderr")" -eq 1 ] || complain "expected one message"
  expect_untouched_outputs
  expect_nobody_left
}

# Under mpirun one rank fails, or all of them, before training or in its middle.
test_failing_ranks() {
  local two=("$mpirun" -np 2) one=("$mpirun" -np 1)
  local other=("${train[@]}" "${outputs[@]}" --data)
  expect_error any "*unknown option '--bach'*" "${two[@]}" "${bad[@]}" --bach 3
  expect_error any "*/nowhere/train-images*" "$mpirun" -np 4 "${other[@]}" "$work/nowhere"
  expect_error any '*--ranks 2 starts ranks as threads, but the launcher has started 2 processes*' \
    "${two[@]}" "${bad[@]}" --ranks 2
  expect_error any '*--batch 1 is smaller than the 2 ranks*' "${two[@]}" "${bad[@]}" --batch 1
  expect_error any "*rank 0 of 2 *cannot write '$work/nowhere/file'*" "${two[@]}" "${on_data[@]}" --ledger "$out/new" --save "$work/nowhere/file"
  expect_error any "*rank 0 of 2 *cannot write '/dev/full'*" "${two[@]}" "${on_data[@]}" --save "$out/old" --ledger /dev/full
  expect_error any '*LOCKSTEP_PRETEND_NODES*many*' env LOCKSTEP_PRETEND_NODES=many "${two[@]}" "${bad[@]}"

  # MPI itself would wait for ever for a rank that ends without having started it.
  expect_error any '*waited 2 s for the other ranks to start*no process of rank 1 *' "${one[@]}" "${bad[@]}" --timeout 2 : -np 1 /bin/true
  expect_error any "*disagree about 'options'*batch=128 *batch=32 *" "${one[@]}" "${bad[@]}" : -np 1 "${bad[@]}" --batch 32
  expect_error any "*disagree about 'command'*" "${one[@]}" "${bad[@]}" : -np 1 "$lockstep" explain
  expect_error any "*disagree about 'command'*" "${one[@]}" "${bad[@]}" : -np 1 "$lockstep" train --help
  expect_error any "*rank 1 of 2 *unknown option '--bach'*" "${one[@]}" "${bad[@]}" : -np 1 "${bad[@]}" --bach 3
  { cat "$lockstep" && echo; } >"$work/changed"
  chmod +x "$work/changed"
  expect_error any "*disagree about 'binary'*" "${one[@]}" "${bad[@]}" : -np 1 "$work/changed" "${bad[@]:1}"
  cp -r "$data" "$work/other"
  labels 101 | gzip -dc | tail -c 100 | idx 100 >"$work/other/t10k-labels-idx1-ubyte.gz"
  expect_error any "*disagree about 'data'*" "${one[@]}" "${bad[@]}" : -np 1 "${other[@]}" "$work/other"
  printf '%100s' '' | idx 100 >"$work/other/t10k-labels-idx1-ubyte.gz"
  expect_error any '*rank 1 of 2 *label 0 is 32, expected 0 to 9*' "${one[@]}" "${bad[@]}" : -np 1 "${other[@]}" "$work/other"

  expect_success "${on_data[@]}" --save "$work/weights"
  expect_success "${on_data[@]}" --save "$work/other_weights" --seed 2
  local eval=("$lockstep" eval --data "$data" --weights)
  expect_error any "*disagree about 'weights'*" "${one[@]}" "${eval[@]}" "$work/weights" : -np 1 "${eval[@]}" "$work/other_weights"
  expect_error any "*rank 1 of 2 *cannot open*" "${one[@]}" "${eval[@]}" "$work/weights" : -np 1 "${eval[@]}" "$work/nowhere"

  mkfifo "$work/pipe"
  head -n 3 "$work/pipe" >"$work/read" &
  expect_error any "*rank 0 of 2 *cannot write '$work/pipe': Broken pipe*" "${one[@]}" \
    bash -c 'trap "" PIPE; exec "$@"' - "${on_data[@]}" --steps 1000000 --ledger "$work/pipe" --save "$out/old" : \
    -np 1 "${on_data[@]}" --steps 1000000
  wait $!
  [ "$(wc -l <"$work/read")" -eq 3 ] || complain "expected training to begin"
}
