// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul_cpu.h"

#include <algorithm>

#include "kernels/parallel.h"

namespace lockstep {
namespace {

void check_shapes(const Matmul& op) {
  const Shape &a = op.a.shape, &b = op.b.shape, &out = op.out.shape;
  for (const ConstView& view : {ConstView(op.out), op.a, op.b}) {
    check(view.dtype == DType::f32, ErrorCode::plan,
          [&] { return str("matmul: expected f32 matrices, got ", to_string(view.dtype), "; cast first"); });
    check(view.shape.rank() == 2, ErrorCode::plan, [&] {
      return str("matmul: expected matrices of 2 dimensions, got ", to_string(view.shape), "; reshape first");
    });
  }
  const Shape left{a[op.transpose_a ? 1 : 0], a[op.transpose_a ? 0 : 1]};
  const Shape right{b[op.transpose_b ? 1 : 0], b[op.transpose_b ? 0 : 1]};
  check(left[1] == right[0] && out == Shape{left[0], right[1]}, ErrorCode::plan, [&] {
    return str("matmul: expected ", to_string(Shape{left[0], right[1]}), " = [m, k] . [k, n], got out ", to_string(out),
               ", a ", to_string(a), op.transpose_a ? " transposed" : "", ", b ", to_string(b),
               op.transpose_b ? " transposed" : "", "; check the order of the operands and the transpose flags");
  });
}

// Inner borders are multiples of kGrain; a block is worth waking a thread for, and wide enough to run at full speed.
constexpr int64_t kGrain = 16, kBlockWidth = 128, kBlockFlops = 4'000'000, kMaxBlocks = 16;

// Number of blocks along the longer side of the output: a function of the shape alone, so bits do not depend on the
// number of threads. The inner dimension is never cut.
int64_t block_count(int64_t m, int64_t n, int64_t k) {
  const double flops = 2.0 * double(m) * double(n) * double(k);
  const int64_t by_work = int64_t(std::min(flops / double(kBlockFlops), double(kMaxBlocks)));
  return std::max<int64_t>(1, std::min(by_work, std::max(m, n) / kBlockWidth));
}

MatmulBlock whole_product(const Matmul& op) {
  const int64_t m = op.out.shape[0], n = op.out.shape[1], k = op.a.shape[op.transpose_a ? 0 : 1];
  return {data<float>(op.out), data<float>(op.a), data<float>(op.b), m, n, k, n, op.a.shape[1], op.b.shape[1],
          op.transpose_a,      op.transpose_b,    op.accumulate};
}

}  // namespace

void run_matmul(Stream& stream, const Matmul& op, MatmulBlockFunction matmul_block) {
  check_shapes(op);
  const int64_t m = op.out.shape[0], n = op.out.shape[1], k = op.a.shape[op.transpose_a ? 0 : 1];
  if (m == 0 || n == 0) return;
  float* out = data<float>(op.out);
  if (k == 0) {
    if (!op.accumulate) std::fill_n(out, m * n, 0.0f);
    return;
  }
  const MatmulBlock whole = whole_product(op);
  const bool cut_rows = m >= n;
  const int64_t side = cut_rows ? m : n, grains = (side + kGrain - 1) / kGrain, blocks = block_count(m, n, k);
  cpu::parallel_parts(stream.threads(), blocks, [&](int64_t part) {
    const int64_t begin = grains * part / blocks * kGrain;
    const int64_t end = std::min(side, grains * (part + 1) / blocks * kGrain);
    MatmulBlock block = whole;
    (cut_rows ? block.m : block.n) = end - begin;
    if (cut_rows) {
      block.a += begin * (op.transpose_a ? 1 : block.ld_a);
      block.out += begin * n;
    } else {
      block.b += begin * (op.transpose_b ? block.ld_b : 1);
      block.out += begin;
    }
    matmul_block(block);
  });
}

void run(Cpu, Stream& stream, const Matmul& op) {
  if constexpr (config::onednn) {
    run_matmul(stream, op, onednn::matmul_block);
  } else {
    run_matmul(stream, op, eigen::matmul_block);
  }
}

void matmul_by_library(const Matmul& op) {
  check_shapes(op);
  if constexpr (config::onednn) {
    onednn::plain_call(whole_product(op));
  } else {
    eigen::matmul_block(whole_product(op));
  }
}

std::string_view matmul_library() {
  if constexpr (config::onednn) {
    return onednn::matmul_library();
  } else {
    return eigen::matmul_library();
  }
}

}  // namespace lockstep
