# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Training on GPUs, real or emulated, and what goes wrong with them.
# shellcheck disable=SC2154  # variables of cli_test.sh and support.sh

emulated() { "$lockstep" doctor | grep -q '^gpus  *Emulated'; }
has_gpus() { ! "$lockstep" doctor | grep -q '^gpus  *none'; }

# What needs no GPU to be refused, and machines without one.
test_gpu_refusals() {
  local cuda=("${bad[@]}" --device cuda)
  expect_error 2 '*--graph*--device cuda*' "${bad[@]}" --graph
  expect_error 2 '*--transport: expected auto, nccl or staged, got '\''carrier pigeon'\''*' "${bad[@]}" --transport 'carrier pigeon'
  has_gpus || { expect_error 1 '*\[device\] --device cuda: no GPU can be used: *; use --device cpu*' "${cuda[@]}"; return; }
  expect_error 2 '*--reduce mpi*tree*fast*' "${cuda[@]}" --reduce mpi
  emulated || return
  expect_error 1 '*\[device\] --device cuda: no GPU can be used: *; use --device cpu*' \
    env LOCKSTEP_EMULATED_DEVICES=0 "${cuda[@]}"
  expect_error 1 '*\[device\]*out of memory on cuda:0*parameters*' env LOCKSTEP_EMULATED_MEMORY=9000000 "${cuda[@]}"
  expect_error 1 '*NCCL*/nonexistent*--transport staged*' \
    env LOCKSTEP_NCCL_LIBRARY=/nonexistent "${cuda[@]}" --ranks 2 --transport nccl
  # A step cannot be recorded where the host has a part in it.
  expect_error 2 '*--graph*staged*' "${cuda[@]}" --ranks 2 --transport staged --graph
  # Nor by ranks of one process, whose launches would wait for each other.
  expect_error 2 '*--graph records collectives of NCCL*--ranks*mpirun*' "${cuda[@]}" --ranks 2 --graph
}

# Two ranks of one machine with one GPU: refused on every rank, told once, unless gradients go through the host.
test_gpu_ranks() {
  emulated || { echo "needs the emulated GPUs of preset emulated"; return; }
  local one=(env LOCKSTEP_EMULATED_DEVICES=1)
  expect_error any '*\[launch\]*GPU*--transport staged*' "${one[@]}" "$mpirun" -np 2 "${bad[@]}" --device cuda
  expect_success "${one[@]}" "$mpirun" -np 2 "${on_data[@]}" --steps 2 --device cuda --transport staged
  expect_success env LOCKSTEP_NCCL_LIBRARY=/nonexistent "$mpirun" -np 2 "${on_data[@]}" --steps 2 --device cuda
}

# Under the thread sanitizer two ranks stand for all numbers of them.
test_gpu_training() {
  emulated || { echo "needs the emulated GPUs of preset emulated"; return; }
  local training ranks all=(1 4 3 2)
  ! few_cases || all=(2)
  settings mlp 6
  make_reference 6
  for ranks in "${all[@]}"; do expect_same_run "$mpirun" -np "$ranks" "${training[@]}" --device cuda; done
  expect_same_run "$mpirun" -np 2 "${training[@]}" --device cuda --transport staged
  expect_same_run "$mpirun" -np 2 "${training[@]}" --device cuda --graph
  expect_same_run "${training[@]}" --device cuda --ranks 3
  expect_other_run "$mpirun" -np 2 "${training[@]}" --device cuda --reduce fast
  if ! few_cases; then
    settings mlp 6 --reduce-dtype bf16
    make_reference 6
    for ranks in 1 2 3; do expect_same_run "$mpirun" -np "$ranks" "${training[@]}" --device cuda; done
    expect_same_run "$mpirun" -np 2 "${training[@]}" --device cuda --transport staged
    expect_same_run "$mpirun" -np 2 "${training[@]}" --device cuda --graph
    expect_success "$mpirun" -np 2 "${training[@]}" --device cuda --reduce fast
  fi
  expect_success "${training[@]}" --device cuda --metrics "$work/metrics" --save "$work/weights"
  expect_training_output 6 1 "$work/metrics"
  expect_success "$lockstep" eval --data "$data" --weights "$work/weights"
  cp "$work/stdout" "$work/on_cpu"
  expect_success "$lockstep" eval --data "$data" --weights "$work/weights" --device cuda
  expect_same "$work/on_cpu" "$work/stdout"
}

# What NCCL cannot connect goes through the host, and one line says why.
test_gpu_without_connections() {
  emulated || { echo "needs the emulated GPUs of preset emulated"; return; }
  run env LOCKSTEP_EMULATED_NCCL_FAULT=init_error:1 "$mpirun" -np 2 "${on_data[@]}" --steps 2 --device cuda
  [ $code -eq 0 ] || complain "expected success"
  expect_output 1 '^training .* 2 ranks x Emulated GPU \(CPU\) \(staged\)'
  local warning='^lockstep: warning: gradients go through memory of the host, as with --transport staged: rank 1 .*: NCCL cannot connect the ranks'
  [ "$(grep -Ec "$warning" "$work/stderr")" -eq 1 ] || complain "expected one warning like $warning"
  [ "$(grep -c warning "$work/stderr")" -eq 1 ] || complain "expected one warning"
}

# A profiler hears of phases and buckets, and of the steps that it is to record; the end tells the memory of the GPU.
test_gpu_profiling() {
  emulated || { echo "needs the emulated GPUs of preset emulated"; return; }
  local profiler
  profiler=$(dirname "${LOCKSTEP_NCCL_LIBRARY:-}")/libprofiler_emulated.so
  [ -f "$profiler" ] || { echo "needs CUDA's header of NVTX"; return; }
  local profiled=(env NVTX_INJECTION64_PATH="$profiler" LOCKSTEP_EMULATED_PROFILER="$work/profile" "${on_data[@]}" --device cuda)
  expect_success "${profiled[@]}" --steps 4 --profile-steps 2:3
  expect_output 1 '^memory of the GPU of rank 0: [0-9.]+ MiB reserved, [0-9.]+ MiB of it for kernels; [0-9.]+ MiB live, [0-9.]+ MiB at the peak; ([0-9.]+ MiB) stay, \1 planned$'
  local expected='push step 0 push compute push bucket 0'
  [[ $(tr '\n' ' ' <"$work/profile") == "$expected"* ]] || complain "expected '$expected...', got $(head -n 6 "$work/profile")"
  for phase in compute reduce update meet; do
    [ "$(grep -cx "push $phase" "$work/profile")" -eq 4 ] || complain "expected 4 ranges '$phase'"
  done
  [ "$(grep -c '^push' "$work/profile")" -eq "$(grep -c '^pop' "$work/profile")" ] || complain "expected ranges to end"
  expected='push step 0 start push step 1 push step 2 stop push step 3'
  [ "$(grep -E 'step|start|stop' "$work/profile" | tr '\n' ' ')" = "$expected " ] || complain "expected $expected, got $(grep -E 'step|start|stop' "$work/profile")"
  rm "$work/profile"
  expect_success "${profiled[@]}" --steps 2 --profile-steps 2:9
  [ "$(tail -n 1 "$work/profile")" = stop ] || complain "expected the profiler to stop at the end of the run"
  local wrong
  for wrong in 3 3: :3 3:2 0:1 2:x; do
    expect_error 2 "*--profile-steps: expected FIRST:LAST, *as 10:12, got '$wrong'*" "${bad[@]}" --device cuda --profile-steps $wrong
  done
  expect_error 2 '*--profile-steps*--device cuda*' "${bad[@]}" --profile-steps 1:2
}

test_gpu_doctor() {
  emulated || { echo "needs the emulated GPUs of preset emulated"; return; }
  expect_success env LOCKSTEP_EMULATED_DEVICES=3 "$lockstep" doctor
  expect_output 1 '^cuda +kernels built in, for CUDA [0-9.]+; the driver serves CUDA [0-9.]+$'
  expect_output 1 '^each gpu +0: Emulated GPU \(CPU\), compute capability 9.0, 4.0 of 4.0 GiB free, EEEE:01:00.0$'
  expect_output 2 '^ {18}[12]: Emulated GPU'
  expect_output 1 "^gpu links +all 3 GPUs reach each other's memory$"
  expect_success env LOCKSTEP_EMULATED_DEVICES=3 LOCKSTEP_EMULATED_LINKED=2 "$lockstep" doctor
  expect_output 1 '^ {18}0: \. x -$'
  expect_output 1 '^ {18}2: - - \.$'
  expect_success env LOCKSTEP_EMULATED_DEVICES=1 LOCKSTEP_EMULATED_MIG=1 "$lockstep" doctor
  expect_output 1 '^each gpu .*part of a GPU \(MIG\): one rank can use it'
  expect_output 1 '^gpu links +one GPU, no links$'
}

# Arrays that the emulated GPU ends with soon; rows of memory, ops and optimizers, and that no GPU was measured.
test_gpu_bench_kernels() {
  emulated || { echo "needs the emulated GPUs of preset emulated"; return; }
  local bench=("$lockstep" bench kernels --device cuda)
  expect_success "${bench[@]}" --elements 640 --rows memory/
  expect_output 1 '^memory/copy +[0-9.e+]+ +GB/s +- +- +640 f32 read and written; emulated: not a measurement of a GPU; Emulated GPU.*, cold$'
  expect_success "${bench[@]}" --elements 640 --rows optimizer/adam/
  expect_output 0 '^(memory|op)/'
  expect_output 1 '^optimizer/adam/640 +[0-9.e+-]+ +GB/s +[0-9.e+-]+ +[0-9.]+ .* 32 bytes a parameter, roof: (our|the driver.s) copy of 2560 f32; emulated'
  expect_output 1 '^optimizer/adam/10x64 +[0-9.]+ +us +[0-9.]+ +[0-9.]+ .* both launches, a factor for each tensor'
  expect_output 1 '^optimizer/adam/whole_phase .* 640 parameters of 36 bytes, squares of gradients, decision and update, roof: (our|the driver.s) copy of 2880 f32'
  # Sanitizers watch the ops in tests of their own.
  local rows=()
  ! few_cases || rows=(--rows optimizer/)
  expect_success "${bench[@]}" --elements 100 --warm --json ${rows[@]+"${rows[@]}"}
  [ ${#rows[@]} -gt 0 ] || expect_output 1 '"name": "op/layer_norm/forward\+backward"'
  expect_output 2 '"name": "optimizer/lion"|"name": "optimizer/schedule_free_adamw"'
  expect_error 2 "*--rows: no row has 'nonsense' in its name*" "${bench[@]}" --elements 640 --rows nonsense
  expect_error 2 '*--elements: expected at least 1, got 0*' "${bench[@]}" --elements 0
  expect_error 2 '*--warm*--device cuda*' "$lockstep" bench kernels --warm
  expect_error 2 '*bench tape*leave --device out*' "$lockstep" bench tape --device cuda
}

test_gpu_bench_train() {
  emulated || { echo "needs the emulated GPUs of preset emulated"; return; }
  expect_success "$mpirun" -np 2 "$lockstep" bench train --model mlp --data "$data" --batch 4 --rounds 1 --device cuda
  expect_output 1 '^train/mlp +.* 2 ranks x 1 GPU, reduce tree; emulated: not a measurement of a GPU'
  expect_output 1 '^train/mlp/images '
}

# Every collective on every number of ranks, by both transports: the rows that are asked for, and no wrong element.
test_gpu_bench() {
  emulated || { echo "needs the emulated GPUs of preset emulated"; return; }
  local bench=("$lockstep" bench collectives --device cuda) transport ranks
  for transport in nccl staged; do
    for ranks in 1 3; do
      expect_success "$mpirun" -np $ranks "${bench[@]}" --transport $transport -b 3000 -e 12000 -f 4
      expect_output 1 "^# Transport: $transport"
      expect_output $ranks '^#  Rank +[0-9]+ on .* device +[0-9]+ \[EEEE:0[0-9]:00.0\] Emulated GPU'
      expect_output 4 '^# Out of bounds values : 0 OK$'
      expect_output 4 '^# Avg bus bandwidth    : [0-9.]+$'
      expect_output 2 '^ +(3000|12000) +(750|3000) +float +sum +-1 +N/A +N/A +N/A +N/A( +[0-9.]+){3} +0$'
      expect_output 4 '^ +(3000|12000) +[0-9]+ +float +(sum|none) +-1( +[0-9.]+){3} +0( +[0-9.]+){3} +0$'
      expect_output 2 '^ +(3000|12000) +(750|3000) +float +none +0 +N/A +N/A +N/A +N/A( +[0-9.]+){3} +0$'
    done
  done
  expect_success "$mpirun" -np 2 "${bench[@]}" -b 4096 -e 4096 --json
  expect_output 6 '"name": "(all_reduce|reduce_scatter|all_gather|broadcast) 4096 B, 2 GPUs, nccl, (in|out of) place"'
  expect_output 6 '"note": ".* us, 0 wrong, roof: the same bytes copied within a GPU"'
  expect_error 2 '*--smallest-bytes and --largest-bytes*got 100 and 10*' "${bench[@]}" -b 100 -e 10
  expect_error 2 '*--factor: expected 2 to 1024, got 1*' "${bench[@]}" -f 1
  expect_error 2 '*--transport: expected auto, nccl or staged*' "${bench[@]}" --transport pigeon
}
