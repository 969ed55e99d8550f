// SPDX-License-Identifier: Apache-2.0
// The launches that make up a step of each whole-tensor rule.
#include <algorithm>

#include "kernels/matmul.h"
#include "optimizers/rules/adafactor.h"
#include "optimizers/rules/lamb.h"
#include "optimizers/rules/muon.h"

namespace lockstep {

int64_t Lamb::scratch_bytes(const Shape& shape) const { return tensor_sums_bytes(shape.size()) + kScratchAlignment; }

void Lamb::update(Stream& stream, const PreparedUpdate<Lamb>& step) const {
  launch(stream, LambMoments{step});
  launch(stream, LambRatio{step});
  launch(stream, LambApply{step});
}

FactoredShape factored_shape(const Shape& shape) {
  const int rank = shape.rank();
  if (rank < 2 || shape.size() == 0 || shape[rank - 1] == 1 || shape[rank - 2] == 1) return {false, 1, 1, shape.size()};
  const int64_t rows = shape[rank - 2], columns = shape[rank - 1];
  return {true, shape.size() / (rows * columns), rows, columns};
}

int64_t Adafactor::scratch_bytes(const Shape& shape) const {
  return tensor_sums_bytes(shape.size()) + kScratchAlignment +
         scratch_piece(factored_shape(shape).matrices * size_of(DType::f32));
}

void Adafactor::update(Stream& stream, const PreparedUpdate<Adafactor>& step) const {
  const FactoredShape shape = factored_shape(step.param.shape);
  launch(stream, AdafactorGradient{step});
  if (shape.factored) {
    launch(stream, AdafactorRows{step});
    for (int64_t matrix = 0; matrix < shape.matrices; ++matrix) launch(stream, AdafactorColumns{step, matrix});
    launch(stream, AdafactorMeans{step});
  }
  launch(stream, AdafactorDirection{step});
  launch(stream, AdafactorSquares{step});
  launch(stream, AdafactorLength{step});
  launch(stream, AdafactorApply{step});
}

namespace {

void check_matrix(const Shape& shape) {
  check(shape.rank() == 2, ErrorCode::plan, [&] {
    return str("muon: expected a matrix, got a parameter of shape ", to_string(shape),
               "; give it to another optimizer by a group rule");
  });
}

// Where the pieces of Muon's scratch begin: sums of chunks, one over the norm, x, its successor, and three squares.
struct MuonScratch {
  Shape shape, square;
  std::byte* base;

  MuonScratch(const Shape& of, std::byte* at)
      : shape(of), square{std::min(of[0], of[1]), std::min(of[0], of[1])}, base(at) {}

  TensorSums sums() const { return {reinterpret_cast<double*>(base), shape.size()}; }
  float* one_over_norm() const { return reinterpret_cast<float*>(base + first()); }
  View x(int which, Device device) const { return view(first() + kScratchAlignment + which * large(), shape, device); }
  View squares(int which, Device device) const {
    return view(first() + kScratchAlignment + 2 * large() + which * small(), square, device);
  }
  int64_t bytes() const { return first() + kScratchAlignment + 2 * large() + 3 * small(); }

 private:
  View view(int64_t at, const Shape& of, Device device) const { return {base + at, DType::f32, device.kind, of}; }
  int64_t first() const { return tensor_sums_bytes(shape.size()); }
  int64_t large() const { return scratch_piece(shape.size() * size_of(DType::f32)); }
  int64_t small() const { return scratch_piece(square.size() * size_of(DType::f32)); }
};

}  // namespace

int64_t Muon::scratch_bytes(const Shape& shape) const {
  check_matrix(shape);
  return MuonScratch(shape, nullptr).bytes();
}

double Muon::length(int64_t rows, int64_t columns) const {
  if (definition == FormulaStyle::torch) return std::sqrt(std::max(1.0, double(rows) / double(columns)));
  return rms_rate == 0 ? 1 : rms_rate * std::sqrt(double(std::max(rows, columns)));
}

void Muon::update(Stream& stream, const PreparedUpdate<Muon>& step) const {
  check_matrix(step.param.shape);
  const MuonScratch scratch(step.param.shape, step.scratch);
  const Device device = stream.device();
  const int64_t rows = step.param.shape[0], columns = step.param.shape[1];
  View x = scratch.x(0, device), next = scratch.x(1, device);
  const View a = scratch.squares(0, device), a_squared = scratch.squares(1, device), b = scratch.squares(2, device);
  launch(stream, MuonMomentum{.step = step,
                              .mu = float(momentum),
                              .fresh = float(1 - momentum),
                              .nesterov = nesterov,
                              .torch = definition == FormulaStyle::torch,
                              .x = x,
                              .sums = scratch.sums()});
  launch(stream, MuonNorm{step.decision, scratch.sums(), scratch.one_over_norm()});
  launch(stream, MuonScale{x, scratch.one_over_norm()});
  const bool wide = rows <= columns;
  for (int64_t i = 0; i < ns_steps; ++i) {
    launch(stream, Matmul{.out = a, .a = x, .b = x, .transpose_a = !wide, .transpose_b = wide});
    launch(stream, Matmul{.out = a_squared, .a = a, .b = a});
    launch(stream, MuonCombine{.out = b, .x = a, .y = a_squared, .a = float(ns_b), .b = float(ns_c)});
    launch(stream, MuonCombine{.out = next, .x = x, .y = {}, .a = float(ns_a), .b = 0});
    launch(stream, Matmul{.out = next, .a = wide ? b : x, .b = wide ? x : b, .accumulate = true});
    std::swap(x, next);
  }
  launch(stream, MuonApply{step, x, float(length(rows, columns))});
}

}  // namespace lockstep
