// SPDX-License-Identifier: Apache-2.0
// Finds the first op of a pass whose result is not finite, and of which sample it is, while a part of a batch whose
// loss or gradient was not finite is computed once more.
#pragma once

#include <string>

#include "runtime/autograd/result_observer.h"
#include "runtime/data/step_input.h"
#include "runtime/plan/plan.h"

namespace lockstep {

class FiniteSearch final : public ResultObserver {
 public:
  explicit FiniteSearch(const Plan& plan) : plan_(plan) {}

  // What is looked at from now on belongs to this part, in memory of the host, which outlives the pass.
  void begin(const BatchPart& part) { part_ = &part; }
  void forward(std::string_view op, const std::source_location& where, const ConstView& output) override;
  void backward(std::string_view op, const std::source_location& where, const ConstView& gradient,
                int32_t variable) override;
  // "matmul at mlp.cpp:20 gave inf in element [5, 3] of [8, 10], in the forward pass of part 3, sample 4711"; empty as
  // long as all was finite.
  const std::string& found() const { return found_; }

 private:
  // `what`: the values in words; `by_sample`: their rows are of samples.
  void look(std::string_view op, const std::source_location& where, const ConstView& values, const std::string& what,
            bool by_sample, std::string_view pass);
  std::string samples_text(int64_t element, const Shape& shape, bool by_sample) const;

  const Plan& plan_;
  const BatchPart* part_ = nullptr;
  std::string found_;
};

}  // namespace lockstep
