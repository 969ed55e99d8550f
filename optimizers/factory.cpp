// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <limits>

#include "kernels/device/check.h"
#include "optimizers/adam.h"
#include "optimizers/nearest_name.h"
#include "optimizers/option_reader.h"
#include "optimizers/rule_optimizer.h"
#include "optimizers/sgd.h"

namespace lockstep {

namespace {

// Zero is a rate: schedules begin and end there.
OptimizerSettings read_settings(std::string_view name, OptionReader& options, double learning_rate,
                                double weight_decay) {
  return {.name = name,
          .learning_rate = options.number("learning_rate", learning_rate, {}),
          .weight_decay = options.number("weight_decay", weight_decay, {}),
          .hyperparameters = {}};
}

template <class Rule>
std::unique_ptr<Optimizer> make(Rule rule, OptimizerSettings settings, const OptionReader& options) {
  settings.hyperparameters = options.finish();
  return std::make_unique<RuleOptimizer<Rule>>(rule, std::move(settings));
}

std::unique_ptr<Optimizer> make_sgd(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 0.01, 0);
  const double momentum = options.number("momentum", 0, {.highest = 1});
  const bool nesterov = options.flag("nesterov", false);
  if (momentum == 0) return make(Sgd{}, std::move(settings), options);
  if (nesterov) return make(SgdNesterov{momentum}, std::move(settings), options);
  return make(SgdMomentum{momentum}, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_adam_with_decay(std::string_view name, OptionReader& options, double weight_decay) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, weight_decay);
  const AdamHyperparameters adam{
      .beta_1 = options.number("beta_1", 0.9, {.highest = 1, .closed = false}),
      .beta_2 = options.number("beta_2", 0.999, {.highest = 1, .closed = false}),
      // As a float it must not vanish: an element that never saw a gradient would be 0 / 0.
      .epsilon = options.number("epsilon", 1e-7, {.lowest = std::numeric_limits<float>::min()})};
  if (options.flag("amsgrad", false)) return make(AdamAmsgrad{adam}, std::move(settings), options);
  return make(Adam{adam}, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_adam(std::string_view name, OptionReader& options) {
  return make_adam_with_decay(name, options, 0);
}

std::unique_ptr<Optimizer> make_adamw(std::string_view name, OptionReader& options) {
  return make_adam_with_decay(name, options, 0.004);
}

struct Entry {
  std::string_view name;
  std::unique_ptr<Optimizer> (*make)(std::string_view name, OptionReader& options);
};
constexpr std::array kEntries = {Entry{"sgd", make_sgd}, Entry{"adam", make_adam}, Entry{"adamw", make_adamw}};

}  // namespace

std::vector<std::string_view> optimizer_names() {
  std::vector<std::string_view> names;
  for (const Entry& entry : kEntries) names.push_back(entry.name);
  return names;
}

std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const std::map<std::string, double>& options) {
  for (const Entry& entry : kEntries) {
    if (entry.name != name) continue;
    OptionReader reader(entry.name, options);
    return entry.make(entry.name, reader);
  }
  const std::vector<std::string_view> known = optimizer_names();
  std::string list;
  for (const std::string_view each : known) list += str(list.empty() ? "" : ", ", each);
  fail(ErrorCode::usage,
       str("unknown optimizer '", name, "'; did you mean '", nearest_name(name, known), "'? Known are: ", list));
}

}  // namespace lockstep
