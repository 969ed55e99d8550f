// SPDX-License-Identifier: Apache-2.0
// Matrix products on CUDA by cuBLASLt, in full f32 (no TF32).
#include <cublasLt.h>

#include <array>
#include <map>
#include <memory>
#include <source_location>

#include "kernels/device/cuda_check.h"
#include "kernels/matmul.h"

namespace lockstep {
namespace {

void cublas_check(cublasStatus_t status, std::source_location at = std::source_location::current()) {
  check(
      status == CUBLAS_STATUS_SUCCESS, ErrorCode::device,
      [&] { return str("cuBLASLt: ", cublasLtGetStatusString(status), " (", cublasLtGetStatusName(status), ")"); }, at);
}

// Owners of what cuBLASLt hands out by pointer.
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
struct Destroy {
  using pointer = Handle;
  void operator()(Handle handle) const noexcept { static_cast<void>(kDestroy(handle)); }
};
using Library = std::unique_ptr<void, Destroy<cublasLtHandle_t, cublasLtDestroy>>;
using Operation = std::unique_ptr<void, Destroy<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<void, Destroy<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>>;
using Preference = std::unique_ptr<void, Destroy<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>>;

constexpr int64_t kWorkspaceBytes = 32 << 20;  // what NVIDIA advises for Hopper

// One product as cuBLASLt sees it. It thinks in columns: a row-major [m, n] is its n x m, so out = a . b is asked for
// as out^T = b^T . a^T, and nothing is copied.
struct Product {
  Operation operation;
  Layout first, second, out;
  cublasLtMatmulAlgo_t algorithm;
};

// m, n, k, transpose_a, transpose_b, alignment of out, a and b
using Key = std::array<int64_t, 8>;

// Kept by the stream: the library's handle, and one choice per shape, made once.
struct CublasLt {
  Library library;
  std::map<Key, Product> products;

  CublasLt() {
    cublasLtHandle_t handle;
    cublas_check(cublasLtCreate(&handle));
    library.reset(handle);
  }
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;
};

// A row-major [rows, columns].
Layout row_major(int64_t rows, int64_t columns) {
  cublasLtMatrixLayout_t layout;
  cublas_check(cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, uint64_t(columns), uint64_t(rows), columns));
  return Layout(layout);
}

Operation operation_of(bool transpose_first, bool transpose_second) {
  cublasLtMatmulDesc_t handle;
  cublas_check(cublasLtMatmulDescCreate(&handle, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  Operation operation(handle);
  const cublasOperation_t first = transpose_first ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = transpose_second ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublas_check(cublasLtMatmulDescSetAttribute(handle, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof(first)));
  cublas_check(cublasLtMatmulDescSetAttribute(handle, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof(second)));
  return operation;
}

template <class Value>
void prefer(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const Value& value) {
  cublas_check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
}

// The library's first proposal: a function of shape, alignment, device and version, hence the same in every run.
cublasLtMatmulAlgo_t choose(const CublasLt& state, const Product& product, const Key& key) {
  cublasLtMatmulPreference_t handle;
  cublas_check(cublasLtMatmulPreferenceCreate(&handle));
  const Preference preference(handle);
  prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(kWorkspaceBytes));
  // Parts of a long sum may be computed apart only if they are added in a fixed order.
  prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t(key[7]));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t(key[6]));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32_t(key[5]));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(key[5]));
  cublasLtMatmulHeuristicResult_t best;
  int found = 0;
  const auto out = product.out.get();
  cublas_check(cublasLtMatmulAlgoGetHeuristic(state.library.get(), product.operation.get(), product.first.get(),
                                              product.second.get(), out, out, preference.get(), 1, &best, &found));
  check(found == 1, ErrorCode::device, [&] {
    return str("cuBLASLt has no algorithm for [", key[0], ", ", key[2], "] . [", key[2], ", ", key[1], "]");
  });
  return best.algo;
}

const Product& product_for(CublasLt& state, const Key& key) {
  if (const auto known = state.products.find(key); known != state.products.end()) return known->second;
  const auto [m, n, k, transpose_a, transpose_b, align_out, align_a, align_b] = key;
  Product product{.operation = operation_of(transpose_b != 0, transpose_a != 0),
                  .first = transpose_b ? row_major(n, k) : row_major(k, n),
                  .second = transpose_a ? row_major(k, m) : row_major(m, k),
                  .out = row_major(m, n),
                  .algorithm = {}};
  product.algorithm = choose(state, product, key);
  return state.products.emplace(key, std::move(product)).first->second;
}

// The largest power of two up to 256 that divides the address.
int64_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer) | 256u;
  return int64_t(address & (~address + 1));
}

}  // namespace

int64_t scratch_bytes(Cuda, Stream&, const Matmul&) { return kWorkspaceBytes; }

void run(Cuda, Stream& stream, const Matmul& k, std::byte* workspace) {
  const int64_t m = k.out.shape[0], n = k.out.shape[1], depth = k.a.shape[k.transpose_a ? 0 : 1];
  float* out = data<float>(k.out);
  const float *a = data<float>(k.a), *b = data<float>(k.b);
  const auto queue = static_cast<cudaStream_t>(stream.handle());
  cuda_check(cudaSetDevice(stream.device().index));
  if (m == 0 || n == 0) return;
  if (depth == 0) {
    if (!k.accumulate) cuda_check(cudaMemsetAsync(out, 0, size_t(k.out.bytes()), queue));
    return;
  }
  auto& state = stream.state<CublasLt>();
  const Product& product = product_for(
      state, {m, n, depth, k.transpose_a, k.transpose_b, alignment_of(out), alignment_of(a), alignment_of(b)});
  const float one = 1, beta = k.accumulate ? 1 : 0;
  cublas_check(cublasLtMatmul(state.library.get(), product.operation.get(), &one, b, product.first.get(), a,
                              product.second.get(), &beta, out, product.out.get(), out, product.out.get(),
                              &product.algorithm, workspace, size_t(kWorkspaceBytes), queue));
}

}  // namespace lockstep
