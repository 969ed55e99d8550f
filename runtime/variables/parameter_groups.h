// SPDX-License-Identifier: Apache-2.0
// Groups of parameters by rule: which optimizer updates which variable, at which rate and with which weight decay, and
// which variables are not trained at all.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "optimizers/optimizer_set.h"
#include "runtime/variables/variables.h"

namespace lockstep {

struct GroupRule {
  std::string pattern;                    // matches paths, as in PathPatterns
  bool freeze = false;                    // not trained; then nothing else is set
  std::string optimizer;                  // empty: the run's, with its hyper-parameters and those below; "overwrite":
                                          // the gradient becomes the value
  std::map<std::string, double> options;  // hyper-parameters; learning_rate: its own rate, without schedule
  std::optional<double> rate_factor;      // factor on the run's rate
  std::optional<Bounds> bounds;           // minimum and maximum
  std::string text;                       // as it was written
};

// "PATTERN => freeze", "PATTERN => overwrite", "PATTERN => weight_decay=0, rate_factor=0.1" or
// "PATTERN => sgd(learning_rate=0.1)"; settings may have minimum and maximum.
// Error(usage) shows what is not as expected.
GroupRule parse_group_rule(std::string_view text);

// The other choices besides groups.
struct OptimizerChoice {
  std::string name = "adam";
  std::map<std::string, double> options = {};
  std::vector<GroupRule> rules = {};
  std::optional<MovingAverage> average = std::nullopt;
  std::optional<LossScaling> scaling = std::nullopt;
};

// Freezes what the rules say, and assigns the other parameters of `variables` to groups. Muon takes matrices; its Adam
// takes parameters that have another rank or "embedding" (in upper or lower case) in their path, and all that a rule
// with adam_only=1 matches. Its hyper-parameters are Muon's with the names adam_... (Keras).
// Error(plan) for a rule that matches no parameter and for a parameter that several match; Error(usage) for options.
OptimizerSet make_optimizer_set(VariableTable& variables, const OptimizerChoice& choice);

}  // namespace lockstep
