// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <limits>

#include "kernels/device/check.h"
#include "kernels/device/known_name.h"
#include "optimizers/option_reader.h"
#include "optimizers/rule_optimizer.h"
#include "optimizers/rules/adadelta.h"
#include "optimizers/rules/adafactor.h"
#include "optimizers/rules/adagrad.h"
#include "optimizers/rules/adam.h"
#include "optimizers/rules/adamax.h"
#include "optimizers/rules/ftrl.h"
#include "optimizers/rules/lamb.h"
#include "optimizers/rules/lion.h"
#include "optimizers/rules/muon.h"
#include "optimizers/rules/nadam.h"
#include "optimizers/rules/overwrite.h"
#include "optimizers/rules/radam.h"
#include "optimizers/rules/rmsprop.h"
#include "optimizers/rules/schedule_free_adamw.h"
#include "optimizers/rules/sgd.h"

namespace lockstep {

namespace {

constexpr AllowedRange kBelowOne = {.highest = 1, .closed = false};

// Zero is a valid rate, because schedules begin and end there.
OptimizerSettings read_settings(std::string_view name, OptionReader& options, double learning_rate,
                                double weight_decay) {
  return {.name = name,
          .learning_rate = options.number("learning_rate", learning_rate, {}),
          .weight_decay = options.number("weight_decay", weight_decay, {}),
          .coupled_weight_decay = options.flag("coupled_weight_decay", false),
          .hyperparameters = {}};
}

FormulaStyle read_definition(OptionReader& options) {
  return options.flag("torch_formula", false) ? FormulaStyle::torch : FormulaStyle::keras;
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
  const FormulaStyle definition = read_definition(options);
  if (momentum == 0) return make(Sgd{}, std::move(settings), options);
  if (nesterov) return make(SgdNesterov{momentum, definition}, std::move(settings), options);
  return make(SgdMomentum{momentum, definition}, std::move(settings), options);
}

AdamHyperparameters read_adam(OptionReader& options) {
  return {.beta_1 = options.number("beta_1", 0.9, kBelowOne),
          .beta_2 = options.number("beta_2", 0.999, kBelowOne),
          .epsilon = options.number("epsilon", 1e-7, kPositive)};
}

std::unique_ptr<Optimizer> make_adam_with_decay(std::string_view name, OptionReader& options, double weight_decay) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, weight_decay);
  AdamHyperparameters adam = read_adam(options);
  adam.definition = read_definition(options);
  if (options.flag("amsgrad", false)) return make(AdamAmsgrad{adam}, std::move(settings), options);
  return make(Adam{adam}, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_adam(std::string_view name, OptionReader& options) {
  return make_adam_with_decay(name, options, 0);
}

std::unique_ptr<Optimizer> make_adamw(std::string_view name, OptionReader& options) {
  return make_adam_with_decay(name, options, 0.004);
}

std::unique_ptr<Optimizer> make_rmsprop(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  const RmspropHyperparameters rmsprop{.rho = options.number("rho", 0.9, kBelowOne),
                                       .momentum = options.number("momentum", 0, {.highest = 1}),
                                       .epsilon = options.number("epsilon", 1e-7, kPositive),
                                       .definition = read_definition(options)};
  const bool centered = options.flag("centered", false);
  if (rmsprop.momentum == 0 && !centered) return make(Rmsprop{rmsprop}, std::move(settings), options);
  if (rmsprop.momentum == 0) return make(RmspropCentered{rmsprop}, std::move(settings), options);
  if (!centered) return make(RmspropMomentum{rmsprop}, std::move(settings), options);
  return make(RmspropCenteredMomentum{rmsprop}, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_adagrad(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  Adagrad adagrad{.epsilon = options.number("epsilon", 1e-7, kPositive), .definition = read_definition(options)};
  adagrad.slots[0].initial = float(options.number("initial_accumulator_value", 0.1, {}));
  return make(adagrad, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_adadelta(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  const Adadelta adadelta{.rho = options.number("rho", 0.95, kBelowOne),
                          .epsilon = options.number("epsilon", 1e-7, kPositive)};
  return make(adadelta, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_adamax(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  const Adamax adamax{.beta_1 = options.number("beta_1", 0.9, kBelowOne),
                      .beta_2 = options.number("beta_2", 0.999, kBelowOne),
                      .epsilon = options.number("epsilon", 1e-7, kPositive),
                      .definition = read_definition(options)};
  return make(adamax, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_nadam(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  Nadam nadam{.adam = read_adam(options), .momentum_base = std::pow(0.96, options.number("momentum_decay", 1, {}))};
  // For Keras and PyTorch alike, Nadam's epsilon stands inside the bias correction.
  nadam.adam.definition = FormulaStyle::torch;
  return make(nadam, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_radam(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  const RAdam radam{.beta_1 = options.number("beta_1", 0.9, kBelowOne),
                    .beta_2 = options.number("beta_2", 0.999, kBelowOne),
                    .epsilon = options.number("epsilon", 1e-8, kPositive)};
  return make(radam, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_ftrl(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  const double power =
      options.number("learning_rate_power", -0.5, {.lowest = -double(std::numeric_limits<float>::max()), .highest = 0});
  const FtrlHyperparameters ftrl{.l1 = options.number("l1_regularization_strength", 0, {}),
                                 .l2 = options.number("l2_regularization_strength", 0, {}),
                                 .l2_shrinkage = options.number("l2_shrinkage_regularization_strength", 0, {}),
                                 .beta = options.number("beta", 0, {})};
  const double accumulator = options.number("initial_accumulator_value", 0.1, {});
  const auto make_with = [&](auto rule) {
    rule.slots[0].initial = float(accumulator);
    return make(rule, std::move(settings), options);
  };
  if (power == -0.5) return make_with(Ftrl{.hyperparameters = ftrl, .power = {}});
  return make_with(FtrlAnyPower{.hyperparameters = ftrl, .power = {.exponent = float(-power)}});
}

std::unique_ptr<Optimizer> make_lion(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  const Lion lion{.beta_1 = options.number("beta_1", 0.9, {.lowest = std::numeric_limits<float>::min(), .highest = 1}),
                  .beta_2 = options.number("beta_2", 0.99, kBelowOne)};
  return make(lion, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_schedule_free_adamw(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 2.5e-3, 0);
  const ScheduleFreeAdamW rule{.beta_1 = options.number("beta_1", 0.9, {.highest = 1}),
                               .beta_2 = options.number("beta_2", 0.999, kBelowOne),
                               .epsilon = options.number("epsilon", 1e-8, kPositive),
                               .warmup_steps = options.count("warmup_steps", 0, 0)};
  return make(rule, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_lamb(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  const AdamHyperparameters adam = read_adam(options);
  return make(Lamb{.beta_1 = adam.beta_1, .beta_2 = adam.beta_2, .epsilon = adam.epsilon}, std::move(settings),
              options);
}

std::unique_ptr<Optimizer> make_adafactor(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0);
  const Adafactor adafactor{
      .beta_2_decay = options.number("beta_2_decay", -0.8, {.lowest = -1000, .highest = 0, .closed = false}),
      .epsilon_1 = options.number("epsilon_1", 1e-30, kPositive),
      .epsilon_2 = options.number("epsilon_2", 1e-3, {}),
      .clip_threshold = options.number("clip_threshold", 1, kPositive)};
  // In Keras' formula the rate is at most 1 / sqrt(t), with this option and without.
  options.flag("relative_step", true);
  return make(adafactor, std::move(settings), options);
}

std::unique_ptr<Optimizer> make_muon(std::string_view name, OptionReader& options) {
  OptimizerSettings settings = read_settings(name, options, 1e-3, 0.004);
  const AllowedRange any = {.lowest = -double(std::numeric_limits<float>::max())};
  const Muon muon{.momentum = options.number("momentum", 0.95, {.highest = 1}),
                  .nesterov = options.flag("nesterov", true),
                  .ns_steps = options.count("ns_steps", 5, 0),
                  .ns_a = options.number("ns_a", 3.4445, any),
                  .ns_b = options.number("ns_b", -4.775, any),
                  .ns_c = options.number("ns_c", 2.0315, any),
                  .rms_rate = options.number("rms_rate", 0.2, {}),
                  .definition = read_definition(options)};
  return make(muon, std::move(settings), options);
}

struct OptimizerEntry {
  std::string_view name;
  std::unique_ptr<Optimizer> (*make)(std::string_view name, OptionReader& options);
};
constexpr std::array kOptimizers = {OptimizerEntry{"sgd", make_sgd},
                                    OptimizerEntry{"adam", make_adam},
                                    OptimizerEntry{"adamw", make_adamw},
                                    OptimizerEntry{"rmsprop", make_rmsprop},
                                    OptimizerEntry{"adagrad", make_adagrad},
                                    OptimizerEntry{"adadelta", make_adadelta},
                                    OptimizerEntry{"adamax", make_adamax},
                                    OptimizerEntry{"nadam", make_nadam},
                                    OptimizerEntry{"ftrl", make_ftrl},
                                    OptimizerEntry{"lion", make_lion},
                                    OptimizerEntry{"schedule_free_adamw", make_schedule_free_adamw},
                                    OptimizerEntry{"lamb", make_lamb},
                                    OptimizerEntry{"adafactor", make_adafactor},
                                    OptimizerEntry{"muon", make_muon},
                                    OptimizerEntry{"radam", make_radam}};

}  // namespace

std::unique_ptr<Optimizer> make_overwrite() {
  return std::make_unique<RuleOptimizer<Overwrite>>(Overwrite{},
                                                    OptimizerSettings{.name = "overwrite", .hyperparameters = {}});
}

std::vector<std::string_view> optimizer_names() {
  std::vector<std::string_view> names;
  for (const OptimizerEntry& entry : kOptimizers) names.push_back(entry.name);
  return names;
}

std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const std::map<std::string, double>& options) {
  for (const OptimizerEntry& entry : kOptimizers) {
    if (entry.name != name) continue;
    OptionReader reader(entry.name, options);
    return entry.make(entry.name, reader);
  }
  const std::vector<std::string_view> known = optimizer_names();
  fail_unknown("optimizer", name, known, list_of(known));
}

}  // namespace lockstep
