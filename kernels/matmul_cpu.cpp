// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul_cpu.h"

#include <algorithm>

#include "kernels/parallel.h"
#include "kernels/pointwise.h"

namespace lockstep {
namespace {

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

  // The part of a bias that belongs to a block.
  const float* bias_at(const float* bias, int64_t part) const {
    return bias == nullptr || cut_rows ? bias : bias + begin(part);
  }

  bool empty() const { return whole.m == 0 || whole.n == 0 || whole.k == 0; }
  int64_t workers(const Stream& stream) const { return std::min<int64_t>(stream.threads(), count); }

  int64_t begin(int64_t part) const { return std::min(side, grains * part / count * kGrain); }

  // A block with its own sizes and the operands of the whole.
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

// Applies bias and activation to a block that was just computed and is in cache. `before` receives the results before
// the activation, unless null.
void finish(const MatmulBlock& block, const float* bias, Activation activation, float* before) {
  const auto each = [&](const auto& formula) {
    for (int64_t row = 0; row < block.m; ++row) {
      float* y = block.out + row * block.ld_out;
      float* z = before ? before + row * block.ld_out : y;
      for (int64_t c = 0; c < block.n; ++c) y[c] = formula(z[c] = bias ? y[c] + bias[c] : y[c]);
    }
  };
  if (activation == Activation::relu) return each([](float x) { return Relu::value(x); });
  if (activation == Activation::gelu) return each([](float x) { return Gelu::value(x); });
  if (bias) each([](float x) { return x; });
}

int64_t scratch_f32(const Stream& stream, const Matmul& op, const MatmulLibrary& library) {
  const Blocks blocks(op);
  return blocks.empty() ? 0 : blocks.workers(stream) * blocks.scratch_of_worker(library);
}

void run_f32(Stream& stream, const Matmul& op, const MatmulLibrary& library, std::byte* scratch) {
  const Blocks blocks(op);
  if (blocks.empty()) {
    if (!op.accumulate) std::fill_n(blocks.whole.out, op.out.size(), 0.0f);
    return;
  }
  const float* bias = op.has_bias() ? data<float>(op.bias) : nullptr;
  const int64_t workers = blocks.workers(stream), each = blocks.scratch_of_worker(library);
  cpu::parallel_parts(stream.threads(), workers, [&](int64_t worker) {
    for (int64_t part = blocks.count * worker / workers; part < blocks.count * (worker + 1) / workers; ++part) {
      const MatmulBlock block = blocks.at(part);
      library.run(block, scratch + worker * each);
      float* before =
          op.activation == Activation::gelu ? data<float>(op.before) + (block.out - blocks.whole.out) : nullptr;
      finish(block, blocks.bias_at(bias, part), op.activation, before);
    }
  });
}

// Widens narrow operands to f32, one behind the other in scratch. Without scratch it only counts their bytes.
class Widening {
 public:
  Widening(Stream& stream, std::byte* scratch) : stream_(stream), scratch_(scratch) {}

  Matmul widened(const Matmul& op) {
    Matmul wide = op;
    wide.a = filled(op.a);
    wide.b = filled(op.b);
    wide.bias = filled(op.bias);
    if (is_narrow(op.out.dtype)) {
      wide.out = place(op.out);
      if (op.accumulate) fill(wide.out, op.out);
    }
    return wide;
  }
  int64_t bytes() const { return bytes_; }

 private:
  View place(const ConstView& view) {
    const View wide{scratch_ ? scratch_ + bytes_ : nullptr, DType::f32, view.device, view.shape};
    bytes_ += scratch_piece(wide.bytes());
    return wide;
  }
  void fill(const View& wide, const ConstView& view) {
    if (scratch_) run(Cpu{}, stream_, Copy{wide, view});
  }
  ConstView filled(const ConstView& view) {
    if (!is_narrow(view.dtype)) return view;
    const View wide = place(view);
    fill(wide, view);
    return wide;
  }

  Stream& stream_;
  std::byte* scratch_;
  int64_t bytes_ = 0;
};

// The product whose narrow result gelu is taken of; one without gelu remains as it is.
Matmul before_gelu(const Matmul& op) {
  if (op.activation != Activation::gelu) return op;
  Matmul product = op;
  product.out = op.before;
  product.before = {};
  product.activation = Activation::none;
  return product;
}

constexpr const MatmulLibrary& chosen_library() {
  if constexpr (config::onednn) return onednn::kMatmul;
  return eigen::kMatmul;
}

}  // namespace

int64_t matmul_scratch(Stream& stream, const Matmul& op, const MatmulLibrary& library) {
  check_matmul(op);
  Widening widening(stream, nullptr);
  const Matmul wide = widening.widened(is_narrow(op.out.dtype) ? before_gelu(op) : op);
  return widening.bytes() + scratch_f32(stream, wide, library);
}

void run_matmul(Stream& stream, const Matmul& op, const MatmulLibrary& library, std::byte* scratch) {
  check_matmul(op);
  if (op.a.dtype == DType::f32) return run_f32(stream, op, library, scratch);
  if (is_narrow(op.out.dtype) && op.activation == Activation::gelu) {
    if (op.accumulate) run(Cpu{}, stream, Copy{op.before, op.out});
    run_matmul(stream, before_gelu(op), library, scratch);
    return run(Cpu{}, stream, Unary<Gelu>{op.out, op.before});
  }
  Widening widening(stream, scratch);
  const Matmul wide = widening.widened(op);
  run_f32(stream, wide, library, scratch + widening.bytes());
  if (is_narrow(op.out.dtype)) run(Cpu{}, stream, Copy{op.out, wide.out});
}

int64_t scratch_bytes(Cpu, Stream& stream, const Matmul& op) { return matmul_scratch(stream, op, chosen_library()); }

void run(Cpu, Stream& stream, const Matmul& op, std::byte* scratch) {
  run_matmul(stream, op, chosen_library(), scratch);
}

void matmul_by_library(const Matmul& op) {
  check_matmul(op);
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
