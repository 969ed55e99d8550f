// SPDX-License-Identifier: Apache-2.0
// Threads are ours: the calling thread computes a block alone.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

#include "kernels/config.h"
#include "kernels/matmul_cpu.h"

namespace lockstep::eigen {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Stride = Eigen::OuterStride<>;
using ConstMap = Eigen::Map<const Matrix, Eigen::Unaligned, Stride>;
using Map = Eigen::Map<Matrix, Eigen::Unaligned, Stride>;

template <class A, class B>
void multiply(const MatmulBlock& block, const A& a, const B& b) {
  Map out(block.out, block.m, block.n, Stride(block.ld_out));
  if (!block.accumulate) out.setZero();
  out.noalias() += a * b;
}

}  // namespace

int64_t matmul_block_scratch(const MatmulBlock&) { return 0; }

void matmul_block(const MatmulBlock& block, std::byte*) {
  const int64_t m = block.m, n = block.n, k = block.k;
  const ConstMap a(block.a, block.transpose_a ? k : m, block.transpose_a ? m : k, Stride(block.ld_a));
  const ConstMap b(block.b, block.transpose_b ? n : k, block.transpose_b ? k : n, Stride(block.ld_b));
  if (block.transpose_a && block.transpose_b) return multiply(block, a.transpose(), b.transpose());
  if (block.transpose_a) return multiply(block, a.transpose(), b);
  if (block.transpose_b) return multiply(block, a, b.transpose());
  multiply(block, a, b);
}

std::string_view matmul_library() {
  static const std::string name =
      str("Eigen ", EIGEN_WORLD_VERSION, ".", EIGEN_MAJOR_VERSION, ".", EIGEN_MINOR_VERSION);
  return name;
}

// Sums are cut into blocks by the size of the first cache, which Eigen asks the processor for.
std::string matmul_numerics() {
  return str("Eigen-", EIGEN_WORLD_VERSION, ".", EIGEN_MAJOR_VERSION, ".", EIGEN_MINOR_VERSION, "-",
             config::architecture, "-l1:", Eigen::l1CacheSize(), "-l2:", Eigen::l2CacheSize());
}

}  // namespace lockstep::eigen
