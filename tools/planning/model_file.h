// SPDX-License-Identifier: Apache-2.0
// Models and layout rules that users describe in TOML files, so that any model can be planned: docs/model-files.md.
#pragma once

#include <string>
#include <string_view>

#include "runtime/plan/plan.h"
#include "runtime/variables/layout_map.h"
#include "runtime/variables/variables.h"

namespace lockstep {

struct DescribedModel {
  std::string name;
  VariableTable variables;
  Workload workload;  // zeros where the file says nothing
  LayoutMap layouts;  // empty where the file says nothing
};

// All throw Error(data) for what breaks the format and Error(plan) for what cannot be planned, naming file, line,
// variable or rule, what was expected and what came; reading files also throws Error(file).
DescribedModel read_model_file(const std::string& path);
LayoutMap read_rules_file(const std::string& path);

// The same from texts; `where` stands for the file in messages.
DescribedModel read_model_text(std::string_view text, const std::string& where);
LayoutMap read_rules_text(std::string_view text, const std::string& where);

}  // namespace lockstep
