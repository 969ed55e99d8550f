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

// How a product is cut into blocks.
struct Blocks {
  MatmulBlock whole;
  bool cut_rows;
  int64_t count, side, grains;

  explicit Blocks(const Matmul& op)
      : whole(whole_product(op)),
        cut_rows(whole.m >= whole.n),
        count(block_count(whole.m, whole.n, whole.k)),
        side(cut_rows ? whole.m : whole.n),
        grains((side + kGrain - 1) / kGrain) {}

  bool empty() const { return whole.m == 0 || whole.n == 0 || whole.k == 0; }
  int64_t workers(const Stream& stream) const { return std::min<int64_t>(stream.threads(), count); }

  int64_t begin(int64_t part) const { return std::min(side, grains * part / count * kGrain); }

  // A block in its sizes, with the operands of the whole.
  MatmulBlock sizes_of(int64_t part) const {
    MatmulBlock block = whole;
    (cut_rows ? block.m : block.n) = begin(part + 1) - begin(part);
    return block;
  }

  MatmulBlock at(int64_t part) const {
    MatmulBlock block = sizes_of(part);
    const int64_t first = begin(part);
    if (cut_rows) {
      block.a += first * (whole.transpose_a ? 1 : whole.ld_a);
      block.out += first * whole.n;
    } else {
      block.b += first * (whole.transpose_b ? whole.ld_b : 1);
      block.out += first;
    }
    return block;
  }

  // Every worker has scratch for its largest block.
  int64_t scratch_of_worker(const MatmulLibrary& library) const {
    int64_t bytes = 0;
    for (int64_t part = 0; part < count; ++part) bytes = std::max(bytes, library.scratch_bytes(sizes_of(part)));
    return scratch_piece(bytes);
  }
};

constexpr const MatmulLibrary& chosen_library() {
  if constexpr (config::onednn) return onednn::kMatmul;
  return eigen::kMatmul;
}

}  // namespace

int64_t matmul_scratch(const Stream& stream, const Matmul& op, const MatmulLibrary& library) {
  check_shapes(op);
  const Blocks blocks(op);
  return blocks.empty() ? 0 : blocks.workers(stream) * blocks.scratch_of_worker(library);
}

void run_matmul(Stream& stream, const Matmul& op, const MatmulLibrary& library, std::byte* scratch) {
  check_shapes(op);
  const Blocks blocks(op);
  if (blocks.empty()) {
    if (!op.accumulate) std::fill_n(blocks.whole.out, op.out.size(), 0.0f);
    return;
  }
  const int64_t workers = blocks.workers(stream), each = blocks.scratch_of_worker(library);
  cpu::parallel_parts(stream.threads(), workers, [&](int64_t worker) {
    for (int64_t part = blocks.count * worker / workers; part < blocks.count * (worker + 1) / workers; ++part)
      library.run(blocks.at(part), scratch + worker * each);
  });
}

int64_t scratch_bytes(Cpu, Stream& stream, const Matmul& op) { return matmul_scratch(stream, op, chosen_library()); }

void run(Cpu, Stream& stream, const Matmul& op, std::byte* scratch) {
  run_matmul(stream, op, chosen_library(), scratch);
}

void matmul_by_library(const Matmul& op) {
  check_shapes(op);
  if constexpr (config::onednn) {
    onednn::plain_call(whole_product(op));
  } else {
    eigen::matmul_block(whole_product(op), nullptr);
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
