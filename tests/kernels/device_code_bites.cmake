# SPDX-License-Identifier: Apache-2.0
# Plants a kernel for every finding that device_code_check can make, and one without any:
# cmake -D CHECK=<program> -D NVCC=<compiler> -D WORK=<folder> -P device_code_bites.cmake
cmake_minimum_required(VERSION 3.25)
file(REMOVE_RECURSE ${WORK})
file(WRITE ${WORK}/planted.cpp.cu [[
template <class Operand> struct In { const float* data; };
struct bfloat16 { unsigned short bits; };
template <class T, class... Operand> __global__ void fine(float4* to, const float4* from) {
  const float4 x = from[threadIdx.x];
  to[threadIdx.x] = make_float4(__fadd_rn(x.x, 1), x.y, x.z, x.w);
}
template __global__ void fine<float, In<float>>(float4*, const float4*);
template __global__ void fine<float, In<float>, In<bfloat16>>(float4*, const float4*);
__global__ void scalar(float* to, const float* from) {
  for (int i = 0; i < 4; ++i) to[4 * threadIdx.x + i] = from[4 * threadIdx.x + i];
}
__global__ void generic(float* to, bool shared) {
  __shared__ float own[32];
  own[threadIdx.x] = to[threadIdx.x];
  __syncthreads();
  (shared ? own : to)[threadIdx.x ^ 1] = 2;
}
__global__ void contracted(float* to, float a) { to[threadIdx.x] = to[threadIdx.x] * a + a; }
__global__ void approximate(float* to) { to[threadIdx.x] = __fdividef(1, to[threadIdx.x]); }
__global__ void indexed(float* to, int k) {
  float own[64];
  for (int i = 0; i < 64; ++i) own[i] = to[i];
  for (int i = 0; i < k; ++i) own[to[i] > 0 ? i : k] = i;
  to[threadIdx.x] = own[k];
}
__global__ void allowed(float* to, int k) {
  float own[64];
  for (int i = 0; i < 64; ++i) own[i] = fmaf(to[i], to[i], 1);
  for (int i = 0; i < k; ++i) own[to[i] > 0 ? i : k] = i;
  to[threadIdx.x] = own[k];
}
__global__ void reloads(float* to, const float* same) {
  for (int i = 0; i < 4; ++i) to[4 * threadIdx.x + i] = __fadd_rn(to[4 * threadIdx.x + i], *same);
}
__global__ void unknown() {}
]])
file(WRITE ${WORK}/table.txt [[
# a comment
operands 1 32 ^fine
1 1 32 ^scalar
0 0 1 ^generic
0 0 32 stack=128 ^(contracted|approximate|indexed)
0 0 64 fma stack=256 ^allowed
0 0 32 other=5 ^reloads
0 0 32 ^nobody
]])
set(command "${NVCC} -O3 -std=c++20 -x cu -c ${WORK}/planted.cpp.cu -o ${WORK}/planted.o")
file(WRITE ${WORK}/compile_commands.json "[{\"file\": \"${WORK}/planted.cpp.cu\", \"command\": \"${command}\"}]")
set(expected
  "planted.cpp: fine<float, In<float>, In<bfloat16> >: expected 3 128-bit loads, got 1"
  "planted.cpp: scalar: expected 1 128-bit loads, got 0"
  "planted.cpp: scalar: expected 1 128-bit stores, got 0"
  "planted.cpp: generic: expected 0 generic accesses, got 1"
  "planted.cpp: generic on sm_80: expected at most 1 registers, got "
  "planted.cpp: generic on sm_90: expected at most 1 registers, got "
  "planted.cpp: contracted: expected 0 fused multiply-adds, got 1"
  "planted.cpp: approximate: 1 instructions need not round as on the CPU, the first is div.approx.f32"
  "planted.cpp: indexed on sm_80: expected at most 128 bytes of stack and no spills, got "
  "planted.cpp: indexed on sm_90: expected at most 128 bytes of stack and no spills, got "
  "planted.cpp: reloads: expected at most 5 narrower loads, got 8"
  "planted.cpp: unknown: no row of ${WORK}/table.txt matches"
  "${WORK}/table.txt:8: no kernel has a name like '^nobody'")

execute_process(COMMAND ${CHECK} ${WORK}/compile_commands.json ${WORK}/table.txt ${WORK}/code
  OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE result)
foreach(finding IN LISTS expected)
  string(FIND "${output}" "FINDING ${finding}" at)
  if(at EQUAL -1)
    message(SEND_ERROR "did not find: ${finding}")
  endif()
endforeach()
list(LENGTH expected count)
string(FIND "${output}" "10 kernels of 1 files, ${count} findings" at)
if(at EQUAL -1 OR NOT result EQUAL 1)
  message(FATAL_ERROR "expected ${count} findings and exit code 1, got exit code ${result} and\n${output}")
endif()
