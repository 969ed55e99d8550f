// SPDX-License-Identifier: Apache-2.0
// Every optimizer that updates elements one by one, in every variant that runs other code: what property tests iterate
// over. tensor_rules_test.cpp has those that work tensor by tensor.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device/check.h"
#include "optimizers/optimizer.h"

namespace lockstep {

struct Variant {
  std::string name;
  std::map<std::string, double> options;

  std::unique_ptr<Optimizer> make(const std::map<std::string, double>& more = {}) const {
    std::map<std::string, double> all = more;
    all.insert(options.begin(), options.end());
    return make_optimizer(name, all);
  }
  std::string text() const {
    std::string text = name;
    for (const auto& [option, value] : options) text += str(" ", option, "=", value);
    return text;
  }
};

inline std::vector<Variant> every_variant() {
  std::vector<Variant> variants;
  for (const std::string_view name : optimizer_names())
    if (!make_optimizer(name)->updates_by_tensor()) variants.push_back({std::string(name), {}});
  const std::vector<Variant> further = {
      {"sgd", {{"momentum", 0.9}}},
      {"sgd", {{"momentum", 0.9}, {"torch_formula", 1}, {"coupled_weight_decay", 1}, {"weight_decay", 0.01}}},
      {"sgd", {{"momentum", 0.9}, {"nesterov", 1}, {"weight_decay", 0.01}}},
      {"adam", {{"torch_formula", 1}}},
      {"adam", {{"amsgrad", 1}}},
      {"rmsprop", {{"torch_formula", 1}}},
      {"rmsprop", {{"centered", 1}}},
      {"rmsprop", {{"momentum", 0.9}}},
      {"rmsprop", {{"centered", 1}, {"momentum", 0.9}, {"weight_decay", 0.01}}},
      {"adagrad", {{"torch_formula", 1}, {"initial_accumulator_value", 0}}},
      {"adamax", {{"torch_formula", 1}}},
      {"nadam", {{"momentum_decay", 0.004}}},
      {"ftrl", {{"learning_rate_power", -0.4}, {"initial_accumulator_value", 0}}},
      {"ftrl",
       {{"l1_regularization_strength", 0.01},
        {"l2_regularization_strength", 0.1},
        {"l2_shrinkage_regularization_strength", 0.1},
        {"beta", 0.5}}},
      {"lion", {{"beta_1", 1}}},
      {"schedule_free_adamw", {{"warmup_steps", 10}, {"weight_decay", 0.01}}}};
  variants.insert(variants.end(), further.begin(), further.end());
  return variants;
}

}  // namespace lockstep
