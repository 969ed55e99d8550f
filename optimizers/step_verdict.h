// SPDX-License-Identifier: Apache-2.0
// The decision of a step, made where the gradients are: whether anything is updated, what gradients are scaled by, and
// the result of the step. One team of threads makes it, in an order that shapes alone decide; nobody waits for it.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/host_device.h"
#include "kernels/step_cells.h"
#include "optimizers/optimizer.h"

namespace lockstep {

// How a step limits gradients (runtime/step/clip.h has the definitions).
enum class ClipKind : uint8_t { none, each_variable, all_variables, values };

// The factor that brings a gradient of this norm to a norm of at most `limit`; exactly 1 if it already has one.
HOST_DEVICE inline float clip_factor(double norm, double limit) { return norm > limit ? float(limit / norm) : 1.0f; }

// Computes the canonical sum (collectives/gradients/tree_sum.h: split at the largest power of two below n) of the
// parts' losses, which it uses up: it adds neighbours, then sums of two, of four, and so on.
HOST_DEVICE inline float sum_of_losses(const StepCells& cells) {
  for (int32_t width = 1; width < cells.parts; width *= 2)
    for (int32_t part = 0; part + width < cells.parts; part += 2 * width)
      cells.loss(part) = float(cells.loss(part)) + float(cells.loss(part + width));
  return float(cells.loss(0));
}

// Ends a step for loss scaling: cells[0] is the factor, cells[1] the number of steps since it changed.
HOST_DEVICE inline void adjust_loss_scale(double* cells, double growth_steps, bool skipped) {
  if (skipped) {
    cells[0] *= 0.5;
    cells[1] = 0;
  } else if (++cells[1] >= growth_steps) {
    cells[0] *= 2;
    cells[1] = 0;
  }
}

// The results of steps, in memory of the device, for whoever asks.
struct StepOutcome {
  int64_t steps = 0;  // number decided so far, including skipped ones
  int64_t skipped = 0;
  int64_t last_skipped = -1;     // the number of the last step that was skipped, from 0
  int32_t last_not_finite = -1;  // the first variable whose gradient was not finite then
  int32_t broken = 0;            // 1 if some loss was not finite; nothing has changed since
  int64_t broken_step = -1;
  float broken_loss = 0;
  float loss = 0;  // mean over the batch in the last step
  double sums[kMostSums] = {};
  // The following sums are over all steps.
  double loss_sum = 0;  // over samples
  double sums_of_all_steps[kMostSums] = {};
};

// All pointers are to memory of the device.
struct StepVerdict {
  const double* squares;  // [variables], sums of squares of their gradients; null if nobody asks
  int32_t variables;
  // These are summed over ranks, and used up. Ranks that have looked at sums while adding them have entered one plus
  // the first variable with a gradient that is not finite, or 0.
  StepCells cells;
  int64_t global_count;  // samples of the batch, by which the passes have divided their gradients
  ClipKind clip;
  double limit;
  float* factors;  // [variables], written if each variable is clipped by its own norm
  StepScalars* decision;
  StepOutcome* outcome;
  double* loss_scale = nullptr;  // two cells; null if gradients are not scaled
  double growth_steps = 0;
  // The named sum whose total over its unit is to divide losses and gradients instead of samples, where it is not 0.
  int32_t divisor_sum = -1;
  double divisor_unit = 1;
};

// The first variable with a gradient that some rank has seen not to be finite, or -1.
HOST_DEVICE inline int32_t first_seen_not_finite(const StepVerdict& v) {
  double first = 0;
  for (int32_t rank = 0; rank < v.cells.ranks; ++rank) {
    const double seen = v.cells.verdict(rank);
    if (seen > 0 && (first == 0 || seen < first)) first = seen;
  }
  return int32_t(first) - 1;
}

// All threads of a team call this.
template <class Team>
HOST_DEVICE void decide(const Team& team, const StepVerdict& v) {
  const double total =
      team.template sum<double>(v.squares ? v.variables : 0, [&](int64_t variable) { return v.squares[variable]; });
  const int32_t seen = first_seen_not_finite(v);
  const bool finite = total - total == 0 && seen < 0;
  double divisor_total = 0;
  if (v.divisor_sum >= 0)
    for (int32_t part = 0; part < v.cells.parts; ++part) divisor_total += v.cells.sum(part, v.divisor_sum);
  const double divisor = divisor_total > 0 ? divisor_total / v.divisor_unit : double(v.global_count);
  const double loss_scale = v.loss_scale ? v.loss_scale[0] : 1;
  // Gradients are too large by this factor. It is the loss scale alone, exactly, where samples divide.
  const double scale = loss_scale * (divisor / double(v.global_count));
  float first = -float(seen);
  if (total - total != 0)  // the same for all threads
    first = team.max(v.variables, [&](int64_t variable) {
      const double sum = v.squares[variable];
      return sum - sum == 0 ? -INFINITY : -float(variable);
    });
  if (v.clip == ClipKind::each_variable)
    team.each(v.variables, [&](int64_t variable) {
      v.factors[variable] = clip_factor(std::sqrt(v.squares[variable]) / scale, v.limit) / float(scale);
    });
  team.once([&] {
    StepOutcome& o = *v.outcome;
    o.loss = sum_of_losses(v.cells) / float(divisor);
    for (int32_t i = 0; i < v.cells.sums; ++i) {
      o.sums[i] = 0;
      for (int32_t part = 0; part < v.cells.parts; ++part) o.sums[i] += v.cells.sum(part, i);
    }
    if (o.broken == 0 && !(o.loss - o.loss == 0)) {
      o.broken = 1;
      o.broken_step = o.steps;
      o.broken_loss = o.loss;
    }
    if (o.broken == 0) {
      o.loss_sum += double(o.loss) * double(v.global_count);
      for (int32_t i = 0; i < v.cells.sums; ++i) o.sums_of_all_steps[i] += o.sums[i];
      if (!finite) {
        ++o.skipped;
        o.last_skipped = o.steps;
        o.last_not_finite = int32_t(-first);
      }
    }
    ++o.steps;
    StepScalars& decision = *v.decision;
    decision.skip = o.broken != 0 || !finite;
    decision.grad_scale = v.clip == ClipKind::all_variables ? clip_factor(std::sqrt(total) / scale, v.limit) : 1.0f;
    decision.clip_value = v.clip == ClipKind::values ? float(v.limit) * float(scale) : 0.0f;
    if (v.clip != ClipKind::each_variable) decision.grad_scale /= float(scale);
    if (v.loss_scale == nullptr) return;
    adjust_loss_scale(v.loss_scale, v.growth_steps, decision.skip);
  });
}

}  // namespace lockstep
