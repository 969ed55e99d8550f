// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/step_input.h"

#include <algorithm>
#include <string>

namespace lockstep {

const ReportedSum& StepReport::find(std::string_view name) const {
  const auto found = std::ranges::find(sums, name, &ReportedSum::name);
  check(found != sums.end(), ErrorCode::usage, [&] {
    std::string names;
    for (const ReportedSum& known : sums) names += str(names.empty() ? "" : ", ", known.name);
    return str("the model returns no sum '", name, "'; it returns: ", names.empty() ? "none" : names);
  });
  return *found;
}

}  // namespace lockstep
