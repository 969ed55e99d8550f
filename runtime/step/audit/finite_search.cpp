// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/audit/finite_search.h"

#include <algorithm>
#include <cmath>

#include "runtime/state/element_text.h"

namespace lockstep {
namespace {

std::string_view name_of_file(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

// Rows of a result are those of samples, in their order, or of their positions, also where a sample has several.
std::string FiniteSearch::samples_text(int64_t element, const Shape& shape, bool by_sample) const {
  const int64_t samples = part_->batch.samples();
  const ConstView& ids = part_->batch.sample_ids();
  const auto id = [&](int64_t sample) { return ids.data != nullptr ? data<int64_t>(ids)[sample] : sample; };
  if (by_sample && shape.rank() > 0 && shape[0] > 0 && shape[0] % samples == 0) {
    const int64_t row = element / (shape.size() / shape[0]);
    return str("sample ", id(row / (shape[0] / samples)));
  }
  constexpr int64_t kShown = 8;
  std::string text = samples == 1 ? "sample " : "samples ";
  for (int64_t s = 0; s < std::min(samples, kShown); ++s) text += str(s == 0 ? "" : ", ", id(s));
  return samples > kShown ? str(text, " and ", samples - kShown, " more") : text;
}

void FiniteSearch::look(std::string_view op, const std::source_location& where, const ConstView& values,
                        const std::string& what, bool by_sample, std::string_view pass) {
  if (!found_.empty() || !is_floating(values.dtype)) return;
  for (int64_t i = 0; i < values.size(); ++i) {
    const double value = element_value(values.data, values.dtype, i);
    if (std::isfinite(value)) continue;
    found_ = str(op, " at ", name_of_file(where.file_name()), ":", where.line(), " gave ", hex_float(value),
                 " in element ", place_text(i, values.shape.sizes()), " of ", what, ", in the ", pass, " pass of part ",
                 part_->number, ", ", samples_text(i, values.shape, by_sample));
    return;
  }
}

void FiniteSearch::forward(std::string_view op, const std::source_location& where, const ConstView& output) {
  look(op, where, output, to_string(output.shape), true, "forward");
}

void FiniteSearch::backward(std::string_view op, const std::source_location& where, const ConstView& gradient,
                            int32_t variable) {
  if (variable < 0) return look(op, where, gradient, to_string(gradient.shape), true, "backward");
  look(op, where, gradient, str("the gradient of ", plan_.variables[size_t(variable)].path), false, "backward");
}

}  // namespace lockstep
