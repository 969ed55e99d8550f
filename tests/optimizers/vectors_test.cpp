// SPDX-License-Identifier: Apache-2.0
// The numbers of Keras' own tests and float64 evaluations of its formulas (vectors.json), as far as they concern what
// an optimizer does to a flat range. The others are listed with the reason why not.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/optimizers/flat_variables.h"
#include "tests/support/optimizer_vectors.h"

namespace lockstep {
namespace {

using namespace vectors;

// Settings that are not an optimizer's but the training step's.
const std::set<std::string> kStepSettings = {"clipvalue"};

// Why the vector is not for this level; empty when it is.
std::string reason_to_leave(const json& vector) {
  const std::string kind = vector.at("kind"), id = vector.at("id");
  if (kind == "schedule") return "schedule_test.cpp compares the learning-rate schedules";
  if (kind == "clip") return "norms and clipping belong to the training step, which hands in one grad_scale";
  if (kind == "state") return "the iteration counter is the training step's";
  if (kind == "errors" || kind == "overwrite") return "which variables have gradients is the training step's affair";
  if (kind == "multi") return "which optimizer a variable has is the training step's affair";
  if (id == "schedule_free_adamw/warmup") return "rules_test.cpp compares the two lengths of warm-up";
  if (kind == "property") return "accumulation and bounds belong to the training step";
  if (kind == "loss_scale" && id != "loss_scale/finite_step")
    return "the loss scale's own state is the training step's";
  if (kind == "newton_schulz" || id == "muon/lr_adjust") return "tensor_rules_test.cpp looks inside Muon";
  for (const char* key : {"gradient_accumulation_steps", "ema_overwrite_frequency"})
    if (vector.at("settings").contains(key)) return std::string(key) + " belongs to the training step";
  return "";
}

std::unique_ptr<Optimizer> make(const json& vector, bool excluded_from_weight_decay = false) {
  const std::string name = optimizer_of(vector);
  std::map<std::string, double> options;
  const json& settings = (vector.contains("inner") ? vector.at("inner") : vector).at("settings");
  for (const auto& [key, value] : settings.items()) {
    if (kStepSettings.contains(key) || key.find("ema") != std::string::npos) continue;
    options[key] = value.is_boolean() ? double(value.get<bool>()) : value.get<double>();
  }
  if (excluded_from_weight_decay) options["weight_decay"] = 0;
  return make_optimizer(name, options);
}

// Keras clips before the optimizer sees the gradient; here the training step would.
std::vector<float> gradient(const json& vector, size_t step, size_t variable) {
  if (vector.contains("per_replica_gradients_per_step")) {
    std::vector<float> sum = floats(vector.at("per_replica_gradients_per_step").at(step));
    for (float& g : sum) g *= vector.at("num_replicas").get<float>();
    return sum;
  }
  std::vector<float> g = floats(vector.at("gradients_per_step").at(step).at(variable));
  if (const json& settings = vector.at("settings"); settings.contains("clipvalue")) {
    const float limit = settings.at("clipvalue");
    for (float& x : g) x = std::clamp(x, -limit, limit);
  }
  return g;
}

// Compares one variable after `step` (from 1) with whatever the vector says about it; returns the comparisons made.
int compare(const json& vector, const std::vector<float>& actual, size_t step, size_t variable) {
  const std::string id = vector.at("id"), key = std::to_string(step), what = id + " step " + key;
  int compared = 0;
  // A vector with one variable may leave the list of variables out.
  const auto of_variable = [&](const json& value) { return value.at(0).is_array() ? value.at(variable) : value; };
  const bool averaged = vector.at("settings").contains("use_ema");
  if (vector.contains("expected_after_step") && vector.at("expected_after_step").contains(key) && !averaged) {
    const json& expected = of_variable(vector.at("expected_after_step").at(key));
    expect_close(actual, expected, vector.at("atol"), vector.at("rtol"), what);
    ++compared;
  }
  if (vector.contains("ref_float64_after_step") && vector.at("ref_float64_after_step").contains(key)) {
    const json& expected = of_variable(vector.at("ref_float64_after_step").at(key));
    expect_close(actual, expected, kReferenceTolerance, kReferenceTolerance, what + " (float64)");
    ++compared;
  }
  if (vector.contains("ref_float64")) {
    const json& expected = vector.at("ref_float64").at("plain_adam").at(step - 1);
    expect_close(actual, expected, kReferenceTolerance, kReferenceTolerance, what + " (float64)");
    ++compared;
  }
  return compared;
}

void run_steps(const json& vector) {
  const json& gradients = vector.contains("gradients_per_step") ? vector.at("gradients_per_step")
                                                                : vector.at("per_replica_gradients_per_step");
  const bool unscale = vector.at("settings").contains("initial_scale");
  const StepScalars scalars{.grad_scale = unscale ? 1 / vector.at("settings").at("initial_scale").get<float>() : 1};
  int compared = 0;
  for (size_t i = 0; i < vector.at("variables").size(); ++i) {
    const json& variable = vector.at("variables").at(i);
    const auto optimizer = make(vector, variable.value("excluded_from_weight_decay", false));
    FlatVariables flat(*optimizer, floats(variable.at("initial")), shape_of(variable.at("initial")));
    for (size_t step = 1; step <= gradients.size(); ++step) {
      flat.grad = gradient(vector, step - 1, i);
      flat.update(*optimizer, int64_t(step), scalars);
      compared += compare(vector, flat.param, step, i);
    }
  }
  EXPECT_GT(compared, 0) << vector.at("id") << " was run without a comparison";
}

// Fresh optimizers in turn, each on some of the variables, one step of zero gradients each.
void run_weight_decay_sequence(const json& vector) {
  std::map<std::string, std::vector<float>> values;
  for (const json& variable : vector.at("variables")) values[variable.at("name")] = floats(variable.at("initial"));
  for (const json& apply : vector.at("applies")) {
    for (const std::string name : apply.at("vars")) {
      const json& exclude = apply.at("exclude");
      const auto listed = [&](const char* key) {
        return exclude.is_object() && exclude.contains(key) && std::ranges::count(exclude.at(key), json(name)) > 0;
      };
      const auto optimizer = make(vector, listed("var_names") || listed("var_list"));
      FlatVariables flat(*optimizer, values[name]);
      flat.update(*optimizer, 1);
      values[name] = flat.param;
    }
  }
  for (const auto& [name, expected] : vector.at("expected_final").items())
    expect_close(values.at(name), expected, 1.5e-6, 0, vector.at("id").get<std::string>() + " " + name);
}

// One step without gradients.
void run_decay(const json& vector) {
  const auto optimizer = make(vector);
  const json& initial = vector.at("variables").at(0).at("initial");
  FlatVariables flat(*optimizer, floats(initial), shape_of(initial));
  flat.update(*optimizer, 1);
  expect_close(flat.param, vector.at("expected"), vector.at("atol"), vector.at("rtol"), vector.at("id"));
}

TEST(OptimizerVectors, AgreeWithKerasAndWithTheReferenceInDouble) {
  std::vector<std::string> covered;
  for (const json& vector : read()) {
    if (!reason_to_leave(vector).empty()) continue;
    covered.push_back(vector.at("id"));
    if (vector.at("kind") == "weight_decay_sequence") {
      run_weight_decay_sequence(vector);
    } else if (vector.at("id") == "muon/weight_decay_muon") {
      run_decay(vector);
    } else {
      run_steps(vector);
    }
  }
  // In full, so that no vector can drop out unnoticed.
  EXPECT_THAT(
      covered,
      testing::UnorderedElementsAre(
          "adam/single_step", "adamw/single_step", "sgd/single_step", "rmsprop/single_step", "adagrad/single_step",
          "adadelta/single_step", "adamax/single_step", "nadam/single_step", "ftrl/single_step", "lion/single_step",
          "schedule_free_adamw/single_step", "adamw/weight_decay", "sgd/weight_decay", "adagrad/weight_decay",
          "adadelta/weight_decay", "adamax/weight_decay", "lion/weight_decay", "adam/ema", "loss_scale/finite_step",
          "dist_tf/single_step", "own/adam_amsgrad", "own/adamw_excl", "own/adam_clip_then_decay", "own/sgd_momentum",
          "own/sgd_nesterov", "own/rmsprop_momentum_centered", "own/adagrad_bigeps", "own/nadam_default",
          "own/schedule_free_warmup", "lamb/single_step", "lamb/weight_decay", "adafactor/single_step_1d",
          "adafactor/golden", "muon/single_step_2d", "muon/weight_decay_muon"));
  for (const std::string& id : covered) std::cout << "covered  " << id << "\n";
}

// In full as well: a vector that is new belongs into one of the two lists.
TEST(OptimizerVectors, LeavesToOtherTestsWhatIsNotAnOptimizers) {
  std::vector<std::string> left;
  for (const json& vector : read())
    if (!reason_to_leave(vector).empty() && vector.at("kind") != "schedule") left.push_back(vector.at("id"));
  EXPECT_THAT(left,
              testing::UnorderedElementsAre(
                  "base/clipnorm", "base/constraint_after_update", "base/ema_sgd_overwrite3", "base/empty_gradients",
                  "base/global_clipnorm", "base/gradient_accumulation3", "base/gradient_accumulation_equals_mean_batch",
                  "base/iterations_counter", "base/overwrite_with_gradient", "loss_scale/overwrite_not_unscaled",
                  "loss_scale/upscaling", "multi/loss_scaling", "multi/stateful_apply", "muon/lr_adjust",
                  "muon/newton_schulz", "schedule_free_adamw/warmup", "sgd/variables_bookkeeping"));
}

}  // namespace
}  // namespace lockstep
