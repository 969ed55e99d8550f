# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Several processes of which one fails, or all.
# shellcheck disable=SC2034,SC2154  # variables of cli_test.sh and support.sh

# refuse_to_be_alone PATTERN COMMAND...: two processes of this command, in which @ stands for 0 and 1, believe to be alone for
# MPI, and are told by one message how to start.
refuse_to_be_alone() {
  local pattern=$1 rank codes=() pids=()
  shift
  command="two processes: $*"
  for rank in 0 1; do
    "${@//@/$rank}" timeout -k 5 60 "${bad[@]}" >"$work/stdout.$rank" 2>"$work/stderr.$rank" </dev/null &
    pids+=($!)
  done
  for rank in 0 1; do wait "${pids[$rank]}"; codes+=($?); done
  code="${codes[*]}"
  # What a launcher's child has to say may come after the end of its parent.
  expect_nobody_left
  cat "$work"/stderr.[01] >"$work/stderr"
  [ "$code" = "1 1" ] || complain "expected exit codes 1 1"
  grep -q "^lockstep: error: \[launch\] $pattern" "$work/stderr" || complain "expected an error"
  [ "$(grep -c 'lockstep: error:' "$work/stderr")" -eq 1 ] || complain "expected one message"
  expect_untouched_outputs
}

# Environment variables of a launcher, but no MPI job: each process is rank 0 of 1 for MPI.
test_launch() {
  refuse_to_be_alone '.*rank [01] of 2, but .*start the ranks of .* with its own ' \
    env OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=@
  # MPICH's launcher gives every rank a session of its own.
  refuse_to_be_alone 'a PMI launcher .*rank [01] of 2, but ' setsid env PMI_FD=9 PMI_SIZE=2 PMI_RANK=@
  # As that launcher does; refused before MPI starts.
  refuse_to_be_alone 'Hydra, .*rank [01] of 2 and does not serve .*with its own mpirun' setsid env HYDI_CONTROL_FD=7 \
    PMI_FD=9 PMI_SIZE=2 PMI_RANK=@
  # Under Slurm without a plugin for MPI some libraries end the process instead of starting.
  refuse_to_be_alone 'srun started this process as rank [01] of 2.* with its own ' env SLURM_JOB_ID=$$ SLURM_STEP_ID=0 \
    SLURM_STEP_NUM_TASKS=2 SLURM_NTASKS=2 SLURM_NODEID=0 SLURM_NODELIST=here SLURM_LOCALID=@ SLURM_PROCID=@
}

# Addresses and ports, as /proc writes them, on which processes of the program wait for connections from other machines.
reachable() {
  local pid
  for pid in $(find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$work/*" 2>/dev/null | cut -d/ -f3); do
    find "/proc/$pid/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null | tr -dc '0-9\n'
  done | sort -u >"$work/sockets"
  awk '$4 == "0A" && $2 !~ /^(0100007F|00000000000000000000000001000000):/ {print $10, $2}' /proc/net/tcp /proc/net/tcp6 2>/dev/null |
    sort | join - "$work/sockets"
}

# Ranks that are all on this machine, by tools/mpirun.sh.
test_reachable() {
  "$mpirun" -np 2 "${on_data[@]}" --steps 20000 --ledger "$out/ledger" >"$work/stdout" 2>"$work/stderr" </dev/null &
  local launcher=$!
  command="mpirun -np 2 train" code=
  for _ in {1..300}; do [ "$(wc -l 2>/dev/null <"$out/ledger")" -gt 3 ] 2>/dev/null && break; sleep 0.1; done
  [ "$(wc -l <"$out/ledger")" -gt 3 ] || complain "expected training to begin"
  reachable >"$work/reachable"
  [ ! -s "$work/reachable" ] || complain "expected nobody to wait for other machines: $(cat "$work/reachable")"
  kill $launcher
  wait $launcher
  expect_nobody_left
}

# Ranks that share more memory than /dev/shm has: another folder serves, or the message says what is missing where.
test_small_memory() {
  local small=(unshare --mount sh -c 'mount -t tmpfs -o size=10m tmpfs /dev/shm && exec "$@"' -)
  "${small[@]}" true 2>/dev/null || { echo "needs the right to mount a small /dev/shm"; return; }
  settings mlp 3
  make_reference 3
  expect_same_run "${small[@]}" "$mpirun" -np 2 "${training[@]}"
  [ -z "$(find "${TMPDIR:-/tmp}" -maxdepth 1 -name 'lockstep_shared.*' 2>/dev/null)" ] || complain "expected no file to be left"
  expect_error any '*\[device\] *share * MiB*neither in /dev/shm (*of 10.0 MiB) nor in *TMPDIR*' "${small[@]}" \
    "$mpirun" -np 2 env TMPDIR=/dev/shm "${bad[@]}"
}

# No thread can be started: an error, not an abort.
test_no_threads() {
  local limited=(setpriv --reuid=4711 --clear-groups prlimit --nproc=2)
  [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null || { echo "needs another user, whose threads can be limited"; return; }
  chmod -R a+rX "$work"
  "${limited[@]:0:3}" "$lockstep" --version >"$work/stdout" 2>&1 || { echo "needs a build that another user may read"; return; }
  expect_error 1 '*\[device\] *cannot start a thread for *ulimit -u*' "${limited[@]}" "${on_data[@]}" --ranks 4 --threads 1
  expect_error 1 '*\[device\] *cannot start a thread for *ulimit -u*' "${limited[@]}" "${on_data[@]}" --threads 8
}

# Waits until training has taken a few steps.
await_training() {
  for _ in {1..300}; do [ "$(wc -l 2>/dev/null <"$work/ledger")" -gt 5 ] 2>/dev/null && return; sleep 0.1; done
  complain "expected training to begin"
}

# expect_stop CODE SIGNAL TARGET COMMAND...: a signal in the middle of training, to the process that was started or to one of
# its ranks, ends it after a step of all ranks, with weights that can be read and one message.
expect_stop() {
  local expected=$1 signal=$2 target=$3 pid
  shift 3
  rm -f "$work/ledger" "$work/weights"
  command="$* and SIG$signal to $target"
  # Shells have their background processes ignore INT.
  env --default-signal=INT "$@" --steps 20000 --ledger "$work/ledger" --save "$work/weights" >"$work/stdout" 2>"$work/stderr" </dev/null &
  pid=$!
  await_training
  if [ "$target" = rank ]; then
    kill -"$signal" "$(find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$lockstep" 2>/dev/null | head -n 1 | cut -d/ -f3)"
  else
    kill -"$signal" "$pid"
  fi
  wait $pid
  code=$?
  [ "$expected" = any ] || [ $code -eq "$expected" ] || complain "expected exit code $expected"
  [ "$(grep -Ec "^lockstep: stopped by SIG[A-Z0-9]+ after step [0-9]+ of 20000; the weights are in $work/weights$" "$work/stderr")" -eq 1 ] ||
    complain "expected one message that names the step"
  local steps
  steps=$(sed -n 's/^lockstep: stopped by .* after step \([0-9]*\) of .*/\1/p' "$work/stderr")
  [ "$(grep -c '^step=' "$work/ledger")" = "$steps" ] || complain "expected a line in the ledger for each of $steps steps"
  run "$lockstep" eval --data "$data" --weights "$work/weights"
  [ $code -eq 0 ] || complain "expected weights that can be read"
}

test_stops() {
  expect_stop 143 TERM program "${on_data[@]}" --ranks 2
  expect_stop 130 INT program "${on_data[@]}"
  expect_stop 0 USR1 program "${on_data[@]}"
  expect_stop any TERM program "$mpirun" -np 2 "${on_data[@]}"
  expect_stop 0 USR1 program "$mpirun" -np 2 "${on_data[@]}"
  expect_stop 0 USR2 rank "$mpirun" -np 3 "${on_data[@]}"
  run "$mpirun" -np 1 "${on_data[@]}" --steps 2
  [ $code -eq 0 ] || complain "expected a run that nobody stops to end well"
}

# Under mpirun one rank fails, or all of them, before training or in its middle.
test_failing_ranks() {
  local two=("$mpirun" -np 2) one=("$mpirun" -np 1)
  local other=("${train[@]}" "${outputs[@]}" --data)
  expect_error any "*unknown option '--bach'*" "${two[@]}" "${bad[@]}" --bach 3
  expect_error any "*/nowhere/train-images*" "$mpirun" -np 4 "${other[@]}" "$work/nowhere"
  expect_error any '*--ranks 2 starts ranks as threads, but the launcher has started 2 processes*' \
    "${two[@]}" "${bad[@]}" --ranks 2
  # Instructions decide bits, and the environment can restrict those of one rank. Eigen has no such variable.
  if "$lockstep" doctor | grep -q '^numerics  *oneDNN'; then
    expect_error any "*\\[mismatch\\]*disagree about 'numerics'*rank 0*rank 1*-sse41'*" \
      "${one[@]}" "${bad[@]}" : -np 1 env DNNL_MAX_CPU_ISA=SSE41 "${bad[@]}"
  fi
  expect_error any '*--batch 1 is smaller than the 2 ranks*' "${two[@]}" "${bad[@]}" --batch 1
  expect_error any "*rank 0 of 2 *cannot write '$work/nowhere/file'*" "${two[@]}" "${on_data[@]}" --ledger "$out/new" --save "$work/nowhere/file"
  expect_error any "*rank 0 of 2 *cannot write '/dev/full'*" "${two[@]}" "${on_data[@]}" --save "$out/old" --ledger /dev/full
  expect_error any '*LOCKSTEP_PRETEND_NODES*many*' env LOCKSTEP_PRETEND_NODES=many "${two[@]}" "${bad[@]}"

  # MPI itself would wait for ever for a rank that ends without having started it.
  expect_error any '*waited 2 s for the other ranks to start*no process of rank 1 *' "${one[@]}" "${bad[@]}" --timeout 2 : -np 1 /bin/true
  expect_error any "*disagree about 'options'*batch=128 *batch=32 *" "${one[@]}" "${bad[@]}" : -np 1 "${bad[@]}" --batch 32
  expect_error any "*disagree about 'options'*dropout=0.3 *dropout=0.3000004 *" \
    "${one[@]}" "${bad[@]}" --dropout 0.3 : -np 1 "${bad[@]}" --dropout 0.3000004
  expect_error any "*rank 1 *has --ledger '$out/ledger' and rank 0 *has none*" "${one[@]}" "${on_data[@]}" : -np 1 "${bad[@]}"
  expect_error any "*rank 1 *has --output '$out/new' and rank 0 *has none*" \
    "${one[@]}" "$lockstep" plot schedule constant : -np 1 "$lockstep" plot schedule constant --output "$out/new"
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
