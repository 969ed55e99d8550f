// SPDX-License-Identifier: Apache-2.0
// Muon (Jordan et al. 2024): the momentum of a matrix, made nearly orthogonal by Newton-Schulz steps. It is for
// matrices only; Adam takes all other variables of a model (runtime/variables/parameter_groups.h).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "optimizers/rules/formula_style.h"
#include "optimizers/tensor_rule.h"

namespace lockstep {

// Keras: m = mu m + g;  x = g + mu m (nesterov) or m.  PyTorch: m += (g - m)(1 - mu);  x = g + (m - g) mu or m.
// x /= |x| + 1e-7;  ns_steps times: A = x x', x = ns_a x + (ns_b A + ns_c A A) x, on the shorter side;
// w -= a s x with s = rms_rate sqrt(max(rows, columns)) (Keras; 1 for rms_rate = 0) or sqrt(max(1, rows / columns))
// (PyTorch).
struct Muon {
  double momentum = 0.95;
  bool nesterov = true;
  int64_t ns_steps = 5;
  double ns_a = 3.4445, ns_b = -4.775, ns_c = 2.0315;
  double rms_rate = 0.2;
  FormulaStyle definition = FormulaStyle::keras;

  static constexpr std::array slots = {Slot{.name = "momentum"}};

  template <class Real>
  struct Update {
    Real rate;
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t, double learning_rate) const {
    return {Real(learning_rate)};
  }

  double length(int64_t rows, int64_t columns) const;
  int64_t scratch_bytes(const Shape& shape) const;
  void update(Stream& stream, const PreparedUpdate<Muon>& step) const;
};

// The launches of a step besides products: momentum and the matrix to orthogonalise, with its squares by chunk; one
// over its norm; out = a x or a x + b y; the parameter.
struct MuonMomentum {
  PreparedUpdate<Muon> step;
  float mu, fresh;  // fresh: 1 - mu
  bool nesterov, torch;
  View x;
  TensorSums sums;
};
struct MuonNorm {
  const StepScalars* decision;
  TensorSums sums;
  float* one_over_norm;
};
struct MuonScale {  // x *= one_over_norm[0]
  View x;
  const float* one_over_norm;
};
struct MuonCombine {  // out = a x + b y
  View out;
  ConstView x, y;
  float a, b;
};
struct MuonApply {
  PreparedUpdate<Muon> step;
  ConstView x;
  float length;
};
void run(Cpu, Stream&, const MuonMomentum&);
void run(Cuda, Stream&, const MuonMomentum&);
void run(Cpu, Stream&, const MuonNorm&);
void run(Cuda, Stream&, const MuonNorm&);
void run(Cpu, Stream&, const MuonScale&);
void run(Cuda, Stream&, const MuonScale&);
void run(Cpu, Stream&, const MuonCombine&);
void run(Cuda, Stream&, const MuonCombine&);
void run(Cpu, Stream&, const MuonApply&);
void run(Cuda, Stream&, const MuonApply&);

}  // namespace lockstep
