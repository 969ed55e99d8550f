// SPDX-License-Identifier: Apache-2.0
// Matrix products on CUDA by cuBLASLt; sums in full f32 (no TF32).
//
// Bias and relu are epilogues of the product, where the library has an algorithm for them, and a kernel of ours
// otherwise. Gelu is always ours: the library's rounds otherwise and is a little less exact. Gradients of biases are
// ours too, because cuBLASLt's BGRADA and BGRADB promise no order: kernels/reduction.h adds rows in an order that the
// shape alone decides, as on the CPU.
#include "kernels/matmul_cuda.h"

#include <cublasLt.h>

#include <algorithm>
#include <compare>
#include <cstdlib>
#include <map>
#include <memory>
#include <source_location>

#include "kernels/device/cuda_check.h"
#include "kernels/matmul.h"
#include "kernels/matmul_finish.h"
#include "kernels/pointwise.h"

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
// Kernels of the library move at most 16 bytes at once. More than that is not told to it: offsets into arenas depend on
// the number of ranks, and the choice of an algorithm, which decides bits, must not.
constexpr uint32_t kAlignment = 16;

// What decides the choice of an algorithm.
struct Key {
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  DType in, out;
  Activation activation;
  uint32_t align_out, align_a, align_b, align_bias;  // align_bias is 0 without a bias
  bool biased() const { return align_bias != 0; }
  friend auto operator<=>(const Key&, const Key&) = default;
};

// One product as cuBLASLt sees it. The library is column-major: our [m, n] is its n x m, so we ask for out = a . b as
// out^T = b^T . a^T, and nothing is copied. A bias has an element for each of its rows, which are our columns.
struct Product {
  Operation operation;
  Layout first, second, out;
  cublasLtMatmulAlgo_t algorithm;
  bool finishes = true;  // the library adds the bias and activates
};

// The stream keeps the library's handle, and one choice per key, made once.
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

cudaDataType_t type_of(DType dtype) {
  if (dtype == DType::bf16) return CUDA_R_16BF;
  return dtype == DType::f16 ? CUDA_R_16F : CUDA_R_32F;
}

// The layout of a row-major [rows, columns].
Layout row_major(DType dtype, int64_t rows, int64_t columns) {
  cublasLtMatrixLayout_t layout;
  cublas_check(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), uint64_t(columns), uint64_t(rows), columns));
  return Layout(layout);
}

template <class Value>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  cublas_check(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof(value)));
}

cublasLtEpilogue_t epilogue_of(const Key& key) {
  if (key.activation == Activation::relu) return key.biased() ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
  return key.biased() ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

Operation operation_of(const Key& key, cublasLtEpilogue_t epilogue) {
  cublasLtMatmulDesc_t handle;
  cublas_check(cublasLtMatmulDescCreate(&handle, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  Operation operation(handle);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  return operation;
}

template <class Value>
void prefer(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const Value& value) {
  cublas_check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
}

// Takes the library's first proposal: a function of key, device and version, hence the same in every run. False where
// it has none.
bool choose(const CublasLt& state, Product& product, const Key& key) {
  cublasLtMatmulPreference_t handle;
  cublas_check(cublasLtMatmulPreferenceCreate(&handle));
  const Preference preference(handle);
  prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(kWorkspaceBytes));
  // Parts of a long sum may be computed separately only if they are added in f32 and in a fixed order.
  prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.align_b);
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.align_a);
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.align_out);
  prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.align_out);
  cublasLtMatmulHeuristicResult_t best;
  int found = 0;
  const auto out = product.out.get();
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(state.library.get(), product.operation.get(), product.first.get(),
                                     product.second.get(), out, out, preference.get(), 1, &best, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return false;
  cublas_check(status);
  if (found == 0 || best.state != CUBLAS_STATUS_SUCCESS) return false;
  product.algorithm = best.algo;
  return true;
}

Product product_with(const Key& key, cublasLtEpilogue_t epilogue) {
  return {.operation = operation_of(key, epilogue),
          .first = key.transpose_b ? row_major(key.in, key.n, key.k) : row_major(key.in, key.k, key.n),
          .second = key.transpose_a ? row_major(key.in, key.k, key.m) : row_major(key.in, key.m, key.k),
          .out = row_major(key.out, key.m, key.n),
          .algorithm = {}};
}

Product new_product(const CublasLt& state, const Key& key, const void* bias) {
  const cublasLtEpilogue_t epilogue = epilogue_of(key);
  Product product = product_with(key, epilogue);
  // The address tells the library its alignment.
  if (key.biased()) set(product.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  if (choose(state, product, key)) return product;
  product = product_with(key, CUBLASLT_EPILOGUE_DEFAULT);
  product.finishes = epilogue == CUBLASLT_EPILOGUE_DEFAULT;
  check(choose(state, product, key), ErrorCode::device,
        [&] { return str("cuBLASLt has no algorithm for [", key.m, ", ", key.k, "] . [", key.k, ", ", key.n, "]"); });
  return product;
}

// Also sets the address of the bias, which is part of the product until the next call.
const Product& product_for(CublasLt& state, const Key& key, const void* bias) {
  auto known = state.products.find(key);
  if (known == state.products.end()) known = state.products.emplace(key, new_product(state, key, bias)).first;
  const Product& product = known->second;
  if (key.biased() && product.finishes) set(product.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  return product;
}

// The largest power of two up to kAlignment that divides the address.
uint32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer) | kAlignment;
  return uint32_t(address & (~address + 1));
}

Key key_of(const Matmul& op, const void* bias) {
  return {.m = op.out.shape[0],
          .n = op.out.shape[1],
          .k = op.a.shape[op.transpose_a ? 0 : 1],
          .transpose_a = op.transpose_a,
          .transpose_b = op.transpose_b,
          .in = op.a.dtype,
          .out = op.out.dtype,
          .activation = op.activation,
          .align_out = alignment_of(op.out.data),
          .align_a = alignment_of(op.a.data),
          .align_b = alignment_of(op.b.data),
          .align_bias = bias ? alignment_of(bias) : 0};
}

bool aligned(const void* pointer) { return alignment_of(pointer) == kAlignment; }

}  // namespace

int64_t scratch_bytes(Cuda, Stream&, const Matmul& op) {
  // A bias without the alignment that the library wants is copied behind the workspace.
  return kWorkspaceBytes + (op.has_bias() ? op.bias.bytes() : 0);
}

void run(Cuda, Stream& stream, const Matmul& op, std::byte* workspace) {
  check_matmul(op);
  if (op.activation == Activation::gelu) {
    Matmul linear = op;
    linear.out = op.before;
    linear.before = {};
    linear.activation = Activation::none;
    if (op.accumulate) run(Cuda{}, stream, Copy{op.before, op.out});
    run(Cuda{}, stream, linear, workspace);
    return run(Cuda{}, stream, Unary<Gelu>{op.out, op.before});
  }
  const auto queue = static_cast<cudaStream_t>(stream.handle());
  cuda_check(cudaSetDevice(stream.device().index));
  const void* bias = op.has_bias() ? op.bias.data : nullptr;
  if (bias && !aligned(bias)) {
    bias = workspace + kWorkspaceBytes;
    cuda_check(cudaMemcpyAsync(workspace + kWorkspaceBytes, op.bias.data, size_t(op.bias.bytes()),
                               cudaMemcpyDeviceToDevice, queue));
  }
  const Key key = key_of(op, bias);
  if (key.m == 0 || key.n == 0) return;
  if (key.k == 0) {
    if (!op.accumulate) cuda_check(cudaMemsetAsync(op.out.data, 0, size_t(op.out.bytes()), queue));
    return;
  }
  auto& state = stream.state<CublasLt>();
  const Product& product = product_for(state, key, bias);
  const float one = 1, beta = op.accumulate ? 1 : 0;
  cublas_check(cublasLtMatmul(state.library.get(), product.operation.get(), &one, op.b.data, product.first.get(),
                              op.a.data, product.second.get(), &beta, op.out.data, product.out.get(), op.out.data,
                              product.out.get(), &product.algorithm, workspace, size_t(kWorkspaceBytes), queue));
  if (!product.finishes) run(Cuda{}, stream, FinishProduct{op.out, op.bias, op.activation});
}

// A version of 0 is the stand-in's.
std::string matmul_numerics(const CudaDevice& device) {
  const size_t version = cublasLtGetVersion();
  if (version == 0) return "";
  std::string text = str("cuBLASLt-", version, "-sm_", device.major, device.minor);
  if (const char* tf32 = std::getenv("NVIDIA_TF32_OVERRIDE")) text += str(",NVIDIA_TF32_OVERRIDE:", tf32);
  return text;
}

}  // namespace lockstep
