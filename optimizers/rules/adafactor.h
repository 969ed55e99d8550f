// SPDX-License-Identifier: Apache-2.0
// Adafactor (Shazeer & Stern 2018), in Keras' definition: the second moment of a matrix is kept by rows and columns.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "kernels/math.h"
#include "optimizers/tensor_rule.h"

namespace lockstep {

// G = g^2 + epsilon_1;  v = b v + (1 - b) G with b = 1 - t^beta_2_decay. For matrices, r and c do so with the means of
// G over columns and rows, and v = r c / mean(r);  u = g / sqrt(v);
// w -= max(epsilon_2, rms(w)) min(a, 1 / sqrt(t)) u / max(1, rms(u) / clip_threshold)
struct Adafactor {
  double beta_2_decay = -0.8, epsilon_1 = 1e-30, epsilon_2 = 1e-3, clip_threshold = 1;

  // If the last two dimensions of a tensor are both longer than 1, every matrix [rows, columns] holds r, then c, from
  // its first element on; other tensors hold v. (A matrix of one row or column has the same v either way.)
  static constexpr std::array slots = {Slot{.name = "accumulator"}};

  template <class Real>
  struct Update {
    Real fresh, epsilon_1;  // 1 - b
    double rho, epsilon_2, clip_threshold;
  };

  template <class Real = float>
  HOST_DEVICE Update<Real> at(int64_t step, double learning_rate) const {
    const double root = 1 / std::sqrt(double(step));
    return {Real(falling_power(double(step), beta_2_decay)), Real(epsilon_1),
            learning_rate < root ? learning_rate : root, epsilon_2, clip_threshold};
  }

  int64_t scratch_bytes(const Shape& shape) const;
  void update(Stream& stream, const PreparedUpdate<Adafactor>& step) const;
};

// A tensor as matrices side by side, or without factors as one long row.
struct FactoredShape {
  bool factored = false;
  int64_t matrices = 1, rows = 1, columns = 1;
};
FactoredShape factored_shape(const Shape& shape);

// The launches of a step make gradients ready; make r, c and the mean of r for matrices; put directions in place of
// gradients; take squares of parameter and direction by chunk; find the length of the step; update the parameter.
struct AdafactorGradient {
  PreparedUpdate<Adafactor> step;
};
struct AdafactorRows {
  PreparedUpdate<Adafactor> step;
};
struct AdafactorColumns {
  PreparedUpdate<Adafactor> step;
  int64_t matrix;
};
struct AdafactorMeans {
  PreparedUpdate<Adafactor> step;
};
struct AdafactorDirection {
  PreparedUpdate<Adafactor> step;
};
struct AdafactorSquares {
  PreparedUpdate<Adafactor> step;
};
struct AdafactorLength {
  PreparedUpdate<Adafactor> step;
};
struct AdafactorApply {
  PreparedUpdate<Adafactor> step;
};
void run(Cpu, Stream&, const AdafactorGradient&);
void run(Cuda, Stream&, const AdafactorGradient&);
void run(Cpu, Stream&, const AdafactorRows&);
void run(Cuda, Stream&, const AdafactorRows&);
int64_t scratch_bytes(Cpu, Stream&, const AdafactorColumns&);
int64_t scratch_bytes(Cuda, Stream&, const AdafactorColumns&);
void run(Cpu, Stream&, const AdafactorColumns&, std::byte* scratch);
void run(Cuda, Stream&, const AdafactorColumns&, std::byte* scratch);
void run(Cpu, Stream&, const AdafactorMeans&);
void run(Cuda, Stream&, const AdafactorMeans&);
void run(Cpu, Stream&, const AdafactorDirection&);
void run(Cuda, Stream&, const AdafactorDirection&);
void run(Cpu, Stream&, const AdafactorSquares&);
void run(Cuda, Stream&, const AdafactorSquares&);
void run(Cpu, Stream&, const AdafactorLength&);
void run(Cuda, Stream&, const AdafactorLength&);
void run(Cpu, Stream&, const AdafactorApply&);
void run(Cuda, Stream&, const AdafactorApply&);

}  // namespace lockstep
