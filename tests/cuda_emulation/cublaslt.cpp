// SPDX-License-Identifier: Apache-2.0
// Stands in for cuBLASLt: the calls that kernels/matmul_cuda.cpp makes, answered by the Eigen half of our own products,
// so that the emulated device and a CPU half without oneDNN give the same bits. A GPU adds in an order of its own:
// LOCKSTEP_EMULATED_PRODUCTS=other_bits makes products do so, too. The order may depend on what is said of alignment,
// as that of NVIDIA's algorithms may: for operands at larger multiples than 16 bytes it is the other one.
#include <cublasLt.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/matmul_cpu.h"

using namespace lockstep;

namespace {

// What the opaque structures of NVIDIA's header hold here.
struct OperationData {
  cublasOperation_t transpose_first, transpose_second;
  cublasLtEpilogue_t epilogue;
  const void* bias;

  bool biased() const { return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS; }
  Activation activation() const {
    const bool relu = epilogue == CUBLASLT_EPILOGUE_RELU || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
    return relu ? Activation::relu : Activation::none;
  }
  bool known() const { return biased() || epilogue == CUBLASLT_EPILOGUE_RELU || epilogue == CUBLASLT_EPILOGUE_DEFAULT; }
};
struct LayoutData {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t leading;
};
struct PreferenceData {
  uint64_t workspace_bytes;
  uint32_t alignment[4];
};
// An algorithm remembers what it was chosen for.
struct AlgorithmData {
  uint64_t workspace_bytes;
  uint32_t alignment[4];  // of A, B, C, D

  bool is_for_more_than_16() const { return *std::max_element(alignment, alignment + 4) > 16; }
};

template <class Data, class Opaque>
Data load(const Opaque* opaque) {
  static_assert(sizeof(Data) <= sizeof(Opaque));
  Data data;
  std::memcpy(&data, opaque, sizeof data);
  return data;
}
template <class Data, class Opaque>
void store(Opaque* opaque, const Data& data) {
  std::memcpy(opaque, &data, sizeof data);
}

// Sets one field from an attribute's bytes.
template <class Field>
cublasStatus_t set(Field& field, const void* value, size_t bytes) {
  if (bytes != sizeof(Field)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// A column-major matrix is the row-major one of its transpose.
ConstView row_major(const LayoutData& layout, const void* data) {
  const DType dtype = layout.type == CUDA_R_16BF ? DType::bf16 : layout.type == CUDA_R_16F ? DType::f16 : DType::f32;
  return {data, dtype, DeviceKind::cpu, Shape{int64_t(layout.columns), int64_t(layout.rows)}};
}

bool is_narrow(const LayoutData& layout) { return layout.type == CUDA_R_16BF || layout.type == CUDA_R_16F; }

bool contiguous(const LayoutData& layout) {
  return (layout.type == CUDA_R_32F || is_narrow(layout)) && layout.leading == int64_t(layout.rows);
}

// What NVIDIA's library demands of epilogues: known ones, and a bias at a multiple of 16 bytes.
bool epilogue_fits(const OperationData& operation) {
  const auto aligned = [](const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; };
  return operation.known() && (!operation.biased() || (operation.bias != nullptr && aligned(operation.bias)));
}

bool fits(const OperationData& operation, const LayoutData& a, const LayoutData& b, const LayoutData& d) {
  const bool ta = operation.transpose_first != CUBLAS_OP_N, tb = operation.transpose_second != CUBLAS_OP_N;
  const uint64_t m = ta ? a.columns : a.rows, k = ta ? a.rows : a.columns;
  const uint64_t n = tb ? b.rows : b.columns, depth = tb ? b.columns : b.rows;
  return k == depth && d.rows == m && d.columns == n && contiguous(a) && contiguous(b) && contiguous(d) &&
         a.type == b.type && (d.type == CUDA_R_32F || (is_narrow(d) && d.type == a.type)) && epilogue_fits(operation);
}

bool products_have_other_bits() { return std::getenv("LOCKSTEP_EMULATED_PRODUCTS") != nullptr; }

// A copy of a matrix whose inner dimension, rows or columns, runs from its end to its beginning: the sums of a product
// of two such copies are the same but for the order of additions.
class Reversed {
 public:
  Reversed(const ConstView& matrix, bool rows) : view_(matrix) {
    const int64_t size = size_of(matrix.dtype), height = matrix.shape[0], width = matrix.shape[1];
    values_.resize(size_t(matrix.bytes()));
    const auto* from = static_cast<const char*>(matrix.data);
    for (int64_t i = 0; i < height; ++i)
      for (int64_t j = 0; j < width; ++j) {
        const int64_t source = rows ? (height - 1 - i) * width + j : i * width + width - 1 - j;
        std::memcpy(values_.data() + (i * width + j) * size, from + source * size, size_t(size));
      }
    view_.data = values_.data();
  }
  const ConstView& view() const { return view_; }

 private:
  ConstView view_;
  std::vector<char> values_;
};

// One product as the stream will run it.
struct Product {
  OperationData operation;
  LayoutData a, b, d;
  const void *first, *second;
  void* out;
  bool accumulate, other_order;

  static void run(void* data) {
    const auto& product = *static_cast<const Product*>(data);
    Stream stream = Stream::cpu();
    const ConstView out = row_major(product.d, product.out);
    // out^T = (A B)^T = B^T A^T, and row-major views are transposes already.
    const OperationData& operation = product.operation;
    Matmul matmul{.out = {product.out, out.dtype, out.device, out.shape},
                  .a = row_major(product.b, product.second),
                  .b = row_major(product.a, product.first),
                  .transpose_a = product.operation.transpose_second != CUBLAS_OP_N,
                  .transpose_b = product.operation.transpose_first != CUBLAS_OP_N,
                  .accumulate = product.accumulate};
    matmul.activation = operation.activation();
    if (operation.biased()) matmul.bias = {operation.bias, out.dtype, out.device, Shape{out.shape[1]}};
    if (!product.other_order) return multiply(stream, matmul);
    const Reversed a(matmul.a, matmul.transpose_a), b(matmul.b, !matmul.transpose_b);
    matmul.a = a.view();
    matmul.b = b.view();
    multiply(stream, matmul);
  }

 private:
  static void multiply(Stream& stream, const Matmul& matmul) {
    run_matmul(stream, matmul, eigen::kMatmul, stream.scratch(matmul_scratch(stream, matmul, eigen::kMatmul)));
  }
};

bool aligned(const void* address, uint32_t to) { return reinterpret_cast<uintptr_t>(address) % to == 0; }

}  // namespace

// The handle keeps products alive that recorded graphs run again.
struct cublasLtContext {
  std::vector<std::unique_ptr<Product>> products;
};

extern "C" {

// 0 is the version of no library: products have the bits of the CPU. Nor is 1, but that is as good as one.
size_t cublasLtGetVersion() { return products_have_other_bits() ? 1 : 0; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t, cudaDataType_t) {
  *operation = new cublasLtMatmulDescOpaque_t{};
  store(*operation, OperationData{CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  auto data = load<OperationData>(operation);
  cublasStatus_t status = CUBLAS_STATUS_NOT_SUPPORTED;
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSA) status = set(data.transpose_first, value, bytes);
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSB) status = set(data.transpose_second, value, bytes);
  if (attribute == CUBLASLT_MATMUL_DESC_EPILOGUE) status = set(data.epilogue, value, bytes);
  if (attribute == CUBLASLT_MATMUL_DESC_BIAS_POINTER) status = set(data.bias, value, bytes);
  store(operation, data);
  return status;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  if (leading < int64_t(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = new cublasLtMatrixLayoutOpaque_t{};
  store(*layout, LayoutData{type, rows, columns, leading});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t{};
  store(*preference, PreferenceData{0, {256, 256, 256, 256}});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  auto data = load<PreferenceData>(preference);
  cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      status = set(data.workspace_bytes, value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      status = set(data.alignment[0], value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      status = set(data.alignment[1], value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      status = set(data.alignment[2], value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      status = set(data.alignment[3], value, bytes);
      break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      break;  // one order of additions is all there is
    default:
      status = CUBLAS_STATUS_NOT_SUPPORTED;
  }
  store(preference, data);
  return status;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  *found = 0;
  if (requested < 1) return CUBLAS_STATUS_INVALID_VALUE;
  if (!fits(load<OperationData>(operation), load<LayoutData>(a), load<LayoutData>(b), load<LayoutData>(d)))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  // NVIDIA's library may have no algorithm for a product with an epilogue, by rules that it does not tell. It answers
  // in one of these ways, which a test asks for.
  if (load<OperationData>(operation).epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
    const char* refusal = std::getenv("LOCKSTEP_EMULATED_EPILOGUES");
    if (refusal && std::string_view(refusal) == "unsupported") return CUBLAS_STATUS_NOT_SUPPORTED;
    if (refusal && std::string_view(refusal) == "none_found") return CUBLAS_STATUS_SUCCESS;
    if (refusal && std::string_view(refusal) == "bad_state") {
      results[0] = {};
      results[0].state = CUBLAS_STATUS_NOT_SUPPORTED;
      *found = 1;
      return CUBLAS_STATUS_SUCCESS;
    }
  }
  const auto data = load<PreferenceData>(preference);
  results[0] = {};
  AlgorithmData algorithm{data.workspace_bytes, {}};
  std::memcpy(algorithm.alignment, data.alignment, sizeof algorithm.alignment);
  store(&results[0].algo, algorithm);
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  if (scale != 1 || (keep != 0 && keep != 1) || c != d || algo == nullptr) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto chosen = load<AlgorithmData>(algo);
  if (workspace_bytes < chosen.workspace_bytes || (workspace_bytes > 0 && workspace == nullptr) ||
      !aligned(a, chosen.alignment[0]) || !aligned(b, chosen.alignment[1]) || !aligned(c, chosen.alignment[2]) ||
      !aligned(d, chosen.alignment[3]))
    return CUBLAS_STATUS_INVALID_VALUE;
  const Product product{load<OperationData>(operation),
                        load<LayoutData>(a_layout),
                        load<LayoutData>(b_layout),
                        load<LayoutData>(d_layout),
                        a,
                        b,
                        d,
                        keep == 1,
                        products_have_other_bits() != chosen.is_for_more_than_16()};
  if (!fits(product.operation, product.a, product.b, product.d)) return CUBLAS_STATUS_INVALID_VALUE;
  handle->products.push_back(std::make_unique<Product>(product));
  return cudaLaunchHostFunc(stream, &Product::run, handle->products.back().get()) == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_INVALID_VALUE";
}
const char* cublasLtGetStatusString(cublasStatus_t) { return "refused by the stand-in for cuBLASLt"; }
}
