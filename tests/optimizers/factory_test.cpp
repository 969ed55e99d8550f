// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "kernels/device/check.h"
#include "kernels/device/nearest_name.h"
#include "optimizers/optimizer.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The message of the usage error that making the optimizer must end in.
std::string usage_error(std::string_view name, const std::map<std::string, double>& options = {}) {
  try {
    make_optimizer(name, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage) << error.what();
    return error.what();
  }
  ADD_FAILURE() << name << " was made";
  return "";
}

std::map<std::string, double> hyperparameters(const Optimizer& optimizer) {
  std::map<std::string, double> values;
  for (const Hyperparameter& parameter : optimizer.hyperparameters())
    values[std::string(parameter.name)] = parameter.value;
  return values;
}

std::vector<std::string_view> slot_names(const Optimizer& optimizer) {
  std::vector<std::string_view> names;
  for (const Slot& slot : optimizer.slots()) names.push_back(slot.name);
  return names;
}

TEST(OptimizerFactory, MakesEveryNameItLists) {
  // Whatever comes after these needs no line here.
  const std::vector<std::string_view> names = optimizer_names();
  EXPECT_THAT(std::vector(names.begin(), names.begin() + 14),
              ElementsAre("sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "ftrl", "lion",
                          "schedule_free_adamw", "lamb", "adafactor", "muon"));
  EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size()) << "a name is there twice";
  for (const std::string_view name : optimizer_names()) EXPECT_EQ(make_optimizer(name)->name(), name);
}

TEST(OptimizerFactory, DefaultsAreThoseOfKeras) {
  using Map = std::map<std::string, double>;
  const auto expect = [](std::string_view name, double learning_rate, double weight_decay, Map own) {
    own["learning_rate"] = learning_rate;
    own["weight_decay"] = weight_decay;
    own["coupled_weight_decay"] = 0;
    EXPECT_EQ(hyperparameters(*make_optimizer(name)), own) << name;
  };
  const Map adam = {{"beta_1", 0.9}, {"beta_2", 0.999}, {"epsilon", 1e-7}, {"amsgrad", 0}, {"torch_formula", 0}};
  expect("sgd", 0.01, 0, {{"momentum", 0}, {"nesterov", 0}, {"torch_formula", 0}});
  expect("adam", 1e-3, 0, adam);
  expect("adamw", 1e-3, 0.004, adam);
  expect("lamb", 1e-3, 0, {{"beta_1", 0.9}, {"beta_2", 0.999}, {"epsilon", 1e-7}});
  expect(
      "adafactor", 1e-3, 0,
      {{"beta_2_decay", -0.8}, {"epsilon_1", 1e-30}, {"epsilon_2", 1e-3}, {"clip_threshold", 1}, {"relative_step", 1}});
  expect("muon", 1e-3, 0.004,
         {{"momentum", 0.95},
          {"nesterov", 1},
          {"ns_steps", 5},
          {"ns_a", 3.4445},
          {"ns_b", -4.775},
          {"ns_c", 2.0315},
          {"rms_rate", 0.2},
          {"torch_formula", 0}});
  expect("rmsprop", 1e-3, 0, {{"rho", 0.9}, {"momentum", 0}, {"epsilon", 1e-7}, {"centered", 0}, {"torch_formula", 0}});
  expect("adagrad", 1e-3, 0, {{"initial_accumulator_value", 0.1}, {"epsilon", 1e-7}, {"torch_formula", 0}});
  expect("adadelta", 1e-3, 0, {{"rho", 0.95}, {"epsilon", 1e-7}});
  expect("adamax", 1e-3, 0, {{"beta_1", 0.9}, {"beta_2", 0.999}, {"epsilon", 1e-7}, {"torch_formula", 0}});
  expect("nadam", 1e-3, 0, {{"beta_1", 0.9}, {"beta_2", 0.999}, {"epsilon", 1e-7}, {"momentum_decay", 1}});
  expect("ftrl", 1e-3, 0,
         {{"learning_rate_power", -0.5},
          {"initial_accumulator_value", 0.1},
          {"l1_regularization_strength", 0},
          {"l2_regularization_strength", 0},
          {"l2_shrinkage_regularization_strength", 0},
          {"beta", 0}});
  expect("lion", 1e-3, 0, {{"beta_1", 0.9}, {"beta_2", 0.99}});
  expect("schedule_free_adamw", 2.5e-3, 0,
         {{"beta_1", 0.9}, {"beta_2", 0.999}, {"epsilon", 1e-8}, {"warmup_steps", 0}});
}

TEST(OptimizerFactory, OptionsReplaceDefaultsAndAreReported) {
  const auto adam = make_optimizer("adam", {{"learning_rate", 0.25}, {"beta_2", 0.5}});
  EXPECT_EQ(adam->learning_rate(), 0.25);
  EXPECT_EQ(hyperparameters(*adam).at("beta_2"), 0.5);
  EXPECT_EQ(hyperparameters(*adam).at("beta_1"), 0.9);
}

TEST(OptimizerFactory, SlotsAreDeclaredOnlyWhereTheyAreNeeded) {
  EXPECT_THAT(slot_names(*make_optimizer("sgd")), ElementsAre());
  EXPECT_THAT(slot_names(*make_optimizer("sgd", {{"nesterov", 1}})), ElementsAre());
  EXPECT_THAT(slot_names(*make_optimizer("sgd", {{"momentum", 0.9}})), ElementsAre("momentum"));
  EXPECT_THAT(slot_names(*make_optimizer("adam")), ElementsAre("momentum", "velocity"));
  EXPECT_THAT(slot_names(*make_optimizer("adamw", {{"amsgrad", 1}})),
              ElementsAre("momentum", "velocity", "velocity_hat"));
  EXPECT_THAT(slot_names(*make_optimizer("rmsprop")), ElementsAre("velocity"));
  EXPECT_THAT(slot_names(*make_optimizer("rmsprop", {{"momentum", 0.5}})), ElementsAre("velocity", "momentum"));
  EXPECT_THAT(slot_names(*make_optimizer("rmsprop", {{"centered", 1}})), ElementsAre("velocity", "average_gradient"));
  EXPECT_THAT(slot_names(*make_optimizer("rmsprop", {{"centered", 1}, {"momentum", 0.5}})),
              ElementsAre("velocity", "momentum", "average_gradient"));
  EXPECT_THAT(slot_names(*make_optimizer("adagrad")), ElementsAre("accumulator"));
  EXPECT_THAT(slot_names(*make_optimizer("adadelta")), ElementsAre("accumulated_grad", "accumulated_delta_var"));
  EXPECT_THAT(slot_names(*make_optimizer("adamax")), ElementsAre("momentum", "norm"));
  EXPECT_THAT(slot_names(*make_optimizer("nadam")), ElementsAre("momentum", "velocity"));
  EXPECT_THAT(slot_names(*make_optimizer("ftrl")), ElementsAre("accumulator", "linear"));
  EXPECT_THAT(slot_names(*make_optimizer("lion")), ElementsAre("momentum"));
  EXPECT_THAT(slot_names(*make_optimizer("schedule_free_adamw")), ElementsAre("momentum", "velocity"));
  // The twin that updates ranges excluded from weight decay.
  EXPECT_EQ(slot_names(*make_optimizer("adamw", {{"weight_decay", 0}})), slot_names(*make_optimizer("adamw")));
}

TEST(OptimizerFactory, SlotsStartWhereTheOptimizerSays) {
  for (const char* name : {"adagrad", "ftrl"}) {
    EXPECT_EQ(make_optimizer(name)->slots()[0].initial, 0.1f) << name;
    EXPECT_EQ(make_optimizer(name, {{"initial_accumulator_value", 0.5}})->slots()[0].initial, 0.5f) << name;
  }
  for (const std::string_view name : optimizer_names()) {
    const auto optimizer = make_optimizer(name);
    for (const Slot& slot : optimizer->slots()) {
      EXPECT_EQ(slot.starts_as_parameter, name == "schedule_free_adamw" && slot.name == "momentum") << name;
      if (slot.name != "accumulator") {
        EXPECT_EQ(slot.initial, 0) << name;
      }
    }
  }
}

TEST(OptimizerFactory, DeclaresTheScalarsThatAnOptimizerKeeps) {
  for (const std::string_view name : optimizer_names())
    EXPECT_EQ(make_optimizer(name)->scalars().size(), name == "nadam" ? 1u : 0u) << name;
  const auto nadam = make_optimizer("nadam");
  EXPECT_EQ(nadam->scalars()[0].name, "u_product");
  EXPECT_EQ(nadam->scalars()[0].initial, 1);
}

TEST(OptimizerFactory, CountsReadAndWrittenBytesOfParameterGradientAndSlots) {
  EXPECT_EQ(make_optimizer("sgd")->bytes_per_element(), 16);
  EXPECT_EQ(make_optimizer("sgd", {{"momentum", 0.9}})->bytes_per_element(), 24);
  EXPECT_EQ(make_optimizer("adam")->bytes_per_element(), 32);
  EXPECT_EQ(make_optimizer("adam", {{"amsgrad", 1}})->bytes_per_element(), 40);
}

TEST(OptimizerFactory, UnknownNamesAreErrorsThatNameTheNearestKnownOne) {
  EXPECT_THAT(usage_error("adamww"),
              HasSubstr("did you mean 'adamw'? Known are: sgd, adam, adamw, rmsprop, adagrad, "));
  EXPECT_THAT(usage_error("RMSProp"), HasSubstr("did you mean 'rmsprop'"));
  EXPECT_THAT(usage_error("ScheduleFreeAdamW"), HasSubstr("did you mean 'schedule_free_adamw'"));
  EXPECT_THAT(usage_error("SGD"), HasSubstr("unknown optimizer 'SGD'; did you mean 'sgd'"));
  EXPECT_THAT(usage_error("AdamW"), HasSubstr("did you mean 'adamw'"));
  EXPECT_THAT(usage_error("sdg"), HasSubstr("did you mean 'sgd'"));
  EXPECT_THAT(usage_error(""), HasSubstr("unknown optimizer ''"));
  EXPECT_THAT(usage_error("adam", {{"beta1", 0.9}}),
              HasSubstr("adam has no hyper-parameter 'beta1'; did you mean 'beta_1'?"));
  EXPECT_THAT(usage_error("sgd", {{"beta_1", 0.9}}), HasSubstr("sgd has no hyper-parameter 'beta_1'"));
}

TEST(OptimizerFactory, ValuesOutOfRangeAreErrorsThatNameParameterRangeAndValue) {
  EXPECT_THAT(usage_error("sgd", {{"momentum", 1.5}}), HasSubstr("sgd: expected momentum in [0, 1], got 1.5"));
  EXPECT_THAT(usage_error("adam", {{"beta_1", 1}}), HasSubstr("adam: expected beta_1 in [0, 1), got 1;"));
  EXPECT_THAT(usage_error("adam", {{"beta_2", -0.1}}), HasSubstr("beta_2"));
  EXPECT_THAT(usage_error("adam", {{"epsilon", 0}}), HasSubstr("epsilon"));
  EXPECT_THAT(usage_error("adam", {{"epsilon", 1e-60}}), HasSubstr("epsilon"));
  EXPECT_THAT(usage_error("adamw", {{"weight_decay", -0.004}}), HasSubstr("adamw: expected weight_decay in [0, "));
  EXPECT_THAT(usage_error("adamw", {{"learning_rate", -1e-9}}), HasSubstr("learning_rate"));
  EXPECT_THAT(usage_error("sgd", {{"learning_rate", 1e300}}), HasSubstr("learning_rate"));
  EXPECT_THAT(usage_error("sgd", {{"nesterov", 0.5}}), HasSubstr("expected nesterov to be 0 or 1, got 0.5"));
  EXPECT_THAT(usage_error("rmsprop", {{"rho", 1}}), HasSubstr("rmsprop: expected rho in [0, 1), got 1;"));
  EXPECT_THAT(usage_error("rmsprop", {{"momentum", -0.5}}), HasSubstr("expected momentum in [0, 1], got -0.5"));
  EXPECT_THAT(usage_error("rmsprop", {{"centered", 3}}), HasSubstr("expected centered to be 0 or 1, got 3"));
  EXPECT_THAT(usage_error("adagrad", {{"initial_accumulator_value", -1}}),
              HasSubstr("initial_accumulator_value in [0, "));
  EXPECT_THAT(usage_error("adadelta", {{"epsilon", 0}}), HasSubstr("adadelta: expected epsilon in ["));
  EXPECT_THAT(usage_error("adamax", {{"torch_formula", 0.5}}), HasSubstr("expected torch_formula to be 0 or 1"));
  EXPECT_THAT(usage_error("nadam", {{"momentum_decay", -1}}), HasSubstr("nadam: expected momentum_decay in [0, "));
  EXPECT_THAT(usage_error("ftrl", {{"learning_rate_power", 0.5}}), HasSubstr(", 0], got 0.5; the default is -0.5"));
  EXPECT_THAT(usage_error("ftrl", {{"l1_regularization_strength", -1}}), HasSubstr("l1_regularization_strength"));
  EXPECT_THAT(usage_error("ftrl", {{"l2_regularization_strength", -1}}), HasSubstr("l2_regularization_strength"));
  EXPECT_THAT(usage_error("ftrl", {{"l2_shrinkage_regularization_strength", -1}}), HasSubstr("l2_shrinkage"));
  EXPECT_THAT(usage_error("ftrl", {{"beta", -1}}), HasSubstr("ftrl: expected beta in [0, "));
  EXPECT_THAT(usage_error("lion", {{"beta_1", 0}}), HasSubstr("lion: expected beta_1 in ["));
  EXPECT_THAT(usage_error("schedule_free_adamw", {{"warmup_steps", 2.5}}),
              HasSubstr("expected warmup_steps to be a whole number from 0 to 2^53 - 1, got 2.5; the default is 0"));
  EXPECT_THAT(usage_error("schedule_free_adamw", {{"warmup_steps", -1}}), HasSubstr("warmup_steps"));
  EXPECT_THAT(usage_error("lion", {{"coupled_weight_decay", 2}}), HasSubstr("coupled_weight_decay to be 0 or 1"));
  EXPECT_THAT(usage_error("adafactor", {{"beta_2_decay", 0}}), HasSubstr("adafactor: expected beta_2_decay in ["));
  EXPECT_THAT(usage_error("adafactor", {{"clip_threshold", 0}}), HasSubstr("expected clip_threshold in ["));
  EXPECT_THAT(usage_error("lamb", {{"beta_2", 1}}), HasSubstr("lamb: expected beta_2 in [0, 1), got 1"));
  EXPECT_THAT(usage_error("muon", {{"ns_steps", 0.5}}), HasSubstr("expected ns_steps to be a whole number from 0"));
  EXPECT_THAT(usage_error("muon", {{"rms_rate", -1}}), HasSubstr("muon: expected rms_rate in [0, "));
  EXPECT_THAT(usage_error("adam", {{"amsgrad", 2}}), HasSubstr("expected amsgrad to be 0 or 1, got 2"));
}

TEST(OptimizerFactory, NoHyperparameterMayBeNotANumberOrInfinite) {
  for (const std::string_view name : optimizer_names()) {
    for (const Hyperparameter& parameter : make_optimizer(name)->hyperparameters()) {
      const std::string key(parameter.name);
      for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity(), -HUGE_VAL})
        EXPECT_THAT(usage_error(name, {{key, bad}}), HasSubstr(key)) << bad;
    }
  }
}

TEST(OptimizerFactory, BordersOfTheRangesAreLegal) {
  EXPECT_NO_THROW(make_optimizer("sgd", {{"momentum", 1}, {"learning_rate", 0}}));
  EXPECT_NO_THROW(make_optimizer("adam", {{"beta_1", 0}, {"beta_2", 0}, {"weight_decay", 0}}));
  EXPECT_NO_THROW(make_optimizer("lion", {{"beta_1", 1}}));
  EXPECT_NO_THROW(make_optimizer("ftrl", {{"learning_rate_power", 0}, {"initial_accumulator_value", 0}}));
  EXPECT_NO_THROW(make_optimizer("schedule_free_adamw", {{"beta_1", 1}, {"warmup_steps", 0x1p53 - 1}}));
}

TEST(OptimizerFactory, WholeNumbersAreThoseThatWereTyped) {
  // 2^53 + 1 is no double, and would be taken for 2^53.
  EXPECT_THROW(make_optimizer("schedule_free_adamw", {{"warmup_steps", 9007199254740993.0}}), Error);
  EXPECT_THROW(make_optimizer("schedule_free_adamw", {{"warmup_steps", 1.5}}), Error);
}

TEST(NearestName, CountsInsertionsDeletionsAndReplacementsButNotCase) {
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("same", "SAME"), 0u);
}

}  // namespace
}  // namespace lockstep
