// SPDX-License-Identifier: Apache-2.0
#include "runtime/variables/parameter_groups.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <utility>

#include "kernels/device/check.h"
#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"
#include "optimizers/call_text.h"
#include "runtime/variables/path_patterns.h"

namespace lockstep {
namespace {

constexpr std::string_view kArrow = "=>";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Splits off the hyper-parameters that only Muon's Adam has, under its own names for them.
std::map<std::string, double> split_off_adam(std::map<std::string, double>& options) {
  std::map<std::string, double> adam;
  for (auto option = options.begin(); option != options.end();) {
    if (option->first.starts_with("adam_")) {
      adam[option->first.substr(5)] = option->second;
      option = options.erase(option);
    } else {
      ++option;
    }
  }
  return adam;
}

// Whether Muon leaves a variable to its Adam; like Keras, it decides by the path in lower case.
bool is_for_adam(const VariableDeclaration& variable) {
  std::string path = variable.path;
  std::ranges::transform(path, path.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return variable.shape.rank() != 2 || path.find("embedding") != path.npos;
}

double take(std::map<std::string, double>& options, const std::string& name, double otherwise) {
  const auto found = options.find(name);
  if (found == options.end()) return otherwise;
  const double value = found->second;
  options.erase(found);
  return value;
}

class SetBuilder {
 public:
  SetBuilder(VariableTable& variables, const OptimizerChoice& choice) : variables_(variables), choice_(choice) {
    for (const GroupRule& rule : choice.rules) patterns_.add(rule.pattern, rule.text);
    matched_.resize(choice.rules.size());
  }

  OptimizerSet build() {
    add_group(choice_.name, choice_.options, std::nullopt, {});
    for (const GroupRule& rule : choice_.rules) {
      first_of_rule_.push_back(int32_t(groups_.size()));
      if (!rule.freeze) add_rule(rule);
    }
    add_undecayed();
    assign_all();
    return {std::move(groups_), std::move(group_of_), choice_.average, choice_.scaling};
  }

 private:
  // Adds one group, or two with Muon: matrices, then the others.
  void add_group(const std::string& name, std::map<std::string, double> options, std::optional<double> rate_factor,
                 const std::string& text, bool own_rate = false, const std::optional<Bounds>& bounds = std::nullopt) {
    std::map<std::string, double> adam;
    if (name == "muon") adam = split_off_adam(options);
    adam_only_.push_back(take_adam_only(adam, text));
    OptimizerGroup group{.optimizer = make_optimizer(name, options), .bounds = bounds, .text = text};
    if (rate_factor) group.rate_factor = *rate_factor;
    if (own_rate) group.own_rate = group.optimizer->learning_rate();
    groups_.push_back(group);
    if (name != "muon") return;
    const double ratio = take(adam, "lr_ratio", 1);
    adam.try_emplace("weight_decay", 0.004);
    group.optimizer = make_optimizer("adam", adam);
    group.rate_factor *= ratio;
    if (group.own_rate) *group.own_rate *= ratio;
    group.text += group.text.empty() ? "muon's adam" : ", muon's adam";
    groups_.push_back(std::move(group));
    adam_only_.push_back(false);
  }

  // Keras' exclude_layers: a group rule with adam_only=1 gives all it matches to Adam, whatever the shape and path.
  bool take_adam_only(std::map<std::string, double>& adam, const std::string& text) const {
    const double only = take(adam, "only", 0);
    check(only == 0 || (only == 1 && !text.empty()), ErrorCode::usage, [&] {
      return str("muon: expected adam_only to be 0 or 1, and in a group rule, got ", exact(only),
                 "; write --group 'PATTERN => adam_only=1', or --optimizer adam for all variables");
    });
    return only == 1;
  }

  void add_rule(const GroupRule& rule) {
    if (rule.optimizer == "overwrite") {
      check(rule.options.empty() && !rule.rate_factor && !rule.bounds, ErrorCode::usage, [&] {
        return str("group rule '", rule.text, "': overwrite takes the gradient as it is, without settings");
      });
      groups_.push_back({.optimizer = make_overwrite(), .text = "'" + rule.text + "'"});
      adam_only_.push_back(false);
      return;
    }
    std::map<std::string, double> options = rule.options;
    const bool own = options.contains("learning_rate") || (!rule.optimizer.empty() && !rule.rate_factor);
    check(!own || !rule.rate_factor, ErrorCode::usage,
          [&] { return str("group rule '", rule.text, "' has both learning_rate and rate_factor; keep one of them"); });
    if (rule.optimizer.empty()) options.insert(choice_.options.begin(), choice_.options.end());
    add_group(rule.optimizer.empty() ? choice_.name : rule.optimizer, std::move(options), rule.rate_factor,
              "'" + rule.text + "'", own, rule.bounds);
  }

  // The run's group once more without weight decay, where that makes a difference to some variable.
  void add_undecayed() {
    const auto decays = [](const OptimizerGroup& group) {
      return std::ranges::any_of(group.optimizer->hyperparameters(),
                                 [](const Hyperparameter& h) { return h.name == "weight_decay" && h.value != 0; });
    };
    const auto own = groups_.begin() + (choice_.name == "muon" ? 2 : 1);
    if (std::ranges::none_of(variables_.declarations(), &VariableDeclaration::undecayed) ||
        std::none_of(groups_.begin(), own, decays))
      return;
    std::map<std::string, double> options = choice_.options;
    options["weight_decay"] = 0;
    if (choice_.name == "muon") options["adam_weight_decay"] = 0;
    undecayed_ = int32_t(groups_.size());
    add_group(choice_.name, std::move(options), std::nullopt, "without weight decay");
  }

  void assign_all() {
    std::vector<std::string> freeze;
    for (const VariableDeclaration& variable : variables_.declarations()) {
      const bool parameter = variable.role == Role::parameter;
      if (!parameter && variable.role != Role::frozen_parameter) continue;
      const int rule = patterns_.find(variable.path);
      if (rule >= 0) matched_[size_t(rule)] = true;
      if (rule >= 0 && choice_.rules[size_t(rule)].freeze) {
        if (parameter) freeze.push_back(variable.path);
      } else if (parameter) {
        assign(variable, rule >= 0 ? first_of_rule_[size_t(rule)] : variable.undecayed ? undecayed_ : 0);
      }
    }
    for (const std::string& path : freeze) variables_.freeze(path);
    for (size_t r = 0; r < matched_.size(); ++r)
      if (!matched_[r]) fail_unmatched(choice_.rules[r]);
  }

  void assign(const VariableDeclaration& variable, int32_t group) {
    const bool muon = groups_[size_t(group)].optimizer->name() == "muon";
    if (muon && (adam_only_[size_t(group)] || is_for_adam(variable))) ++group;
    if (group > 0) group_of_.emplace(variable.path, group);
  }

  [[noreturn]] void fail_unmatched(const GroupRule& rule) const {
    std::vector<std::string_view> paths;
    for (const VariableDeclaration& variable : variables_.declarations()) paths.push_back(variable.path);
    fail(ErrorCode::plan, str("group rule '", rule.text, "' matches no parameter of the model; patterns match whole ",
                              "paths; ", did_you_mean(rule.pattern, paths)));
  }

  VariableTable& variables_;
  const OptimizerChoice& choice_;
  PathPatterns patterns_{"group rule"};
  std::vector<OptimizerGroup> groups_;
  std::vector<bool> adam_only_;  // by group, for Muon's groups
  std::vector<int32_t> first_of_rule_;
  int32_t undecayed_ = 0;  // the group of undecayed variables that no rule matches
  std::vector<bool> matched_;
  std::map<std::string, int32_t, std::less<>> group_of_;
};

void read_bounds(GroupRule& rule, std::map<std::string, double>& settings) {
  Bounds bounds;
  for (const auto& setting : {std::pair("minimum", &bounds.minimum), {"maximum", &bounds.maximum}}) {
    const char* name = setting.first;
    const auto given = settings.extract(name);
    if (!given) continue;
    check(std::isfinite(float(given.mapped())), ErrorCode::usage, [&] {
      return str("group rule '", rule.text, "': expected a finite ", name, ", got ", exact(given.mapped()));
    });
    *setting.second = given.mapped();
    rule.bounds = bounds;
  }
  check(bounds.minimum <= bounds.maximum, ErrorCode::usage, [&] {
    return str("group rule '", rule.text, "': expected a minimum up to the maximum, got ", exact(bounds.minimum),
               " and ", exact(bounds.maximum));
  });
}

}  // namespace

GroupRule parse_group_rule(std::string_view text) {
  const size_t arrow = text.find(kArrow);
  const auto expected = [&] {
    return str("group rule '", text, "': expected PATTERN => SETTINGS, such as '.*/bias => weight_decay=0', ",
               "'first/.* => freeze' or 'last/.* => sgd(learning_rate=0.1)'");
  };
  check(arrow != text.npos, ErrorCode::usage, expected);
  GroupRule rule;
  rule.pattern = trimmed(text.substr(0, arrow));
  rule.text = trimmed(text);
  const std::string_view settings = trimmed(text.substr(arrow + kArrow.size()));
  check(!rule.pattern.empty() && !settings.empty(), ErrorCode::usage, expected);
  if (settings == "freeze") {
    rule.freeze = true;
    return rule;
  }
  const bool names_one = settings.find('(') != settings.npos || settings.find('=') == settings.npos;
  CallText call = parse_call("group rule", names_one ? std::string(settings) : str("group(", settings, ")"));
  check(call.lists.empty(), ErrorCode::usage,
        [&] { return str("group rule '", rule.text, "': settings are numbers, got a list"); });
  if (names_one) rule.optimizer = call.name;
  if (const auto factor = call.numbers.extract("rate_factor")) {
    check(factor.mapped() >= 0 && factor.mapped() <= 1e30, ErrorCode::usage, [&] {
      return str("group rule '", rule.text, "': expected a finite rate_factor that is not negative, got ",
                 exact(factor.mapped()));
    });
    rule.rate_factor = factor.mapped();
  }
  read_bounds(rule, call.numbers);
  rule.options = std::move(call.numbers);
  return rule;
}

OptimizerSet make_optimizer_set(VariableTable& variables, const OptimizerChoice& choice) {
  return SetBuilder(variables, choice).build();
}

}  // namespace lockstep
