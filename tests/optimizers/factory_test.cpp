// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <string>

#include "kernels/device/check.h"
#include "optimizers/nearest_name.h"
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
  EXPECT_THAT(optimizer_names(), ElementsAre("sgd", "adam", "adamw"));
  for (const std::string_view name : optimizer_names()) EXPECT_EQ(make_optimizer(name)->name(), name);
}

TEST(OptimizerFactory, DefaultsAreThoseOfKeras) {
  using Map = std::map<std::string, double>;
  EXPECT_EQ(hyperparameters(*make_optimizer("sgd")),
            (Map{{"learning_rate", 0.01}, {"weight_decay", 0}, {"momentum", 0}, {"nesterov", 0}}));
  const Map adam = {{"learning_rate", 0.001}, {"weight_decay", 0}, {"beta_1", 0.9},
                    {"beta_2", 0.999},        {"epsilon", 1e-7},   {"amsgrad", 0}};
  EXPECT_EQ(hyperparameters(*make_optimizer("adam")), adam);
  Map adamw = adam;
  adamw["weight_decay"] = 0.004;
  EXPECT_EQ(hyperparameters(*make_optimizer("adamw")), adamw);
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
  // The twin that updates ranges excluded from weight decay.
  EXPECT_EQ(slot_names(*make_optimizer("adamw", {{"weight_decay", 0}})), slot_names(*make_optimizer("adamw")));
}

TEST(OptimizerFactory, CountsReadAndWrittenBytesOfParameterGradientAndSlots) {
  EXPECT_EQ(make_optimizer("sgd")->bytes_per_element(), 16);
  EXPECT_EQ(make_optimizer("sgd", {{"momentum", 0.9}})->bytes_per_element(), 24);
  EXPECT_EQ(make_optimizer("adam")->bytes_per_element(), 32);
  EXPECT_EQ(make_optimizer("adam", {{"amsgrad", 1}})->bytes_per_element(), 40);
}

TEST(OptimizerFactory, UnknownNamesAreErrorsThatNameTheNearestKnownOne) {
  EXPECT_THAT(usage_error("adamww"), HasSubstr("did you mean 'adamw'? Known are: sgd, adam, adamw"));
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
}

TEST(NearestName, CountsInsertionsDeletionsAndReplacementsButNotCase) {
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("same", "SAME"), 0u);
}

}  // namespace
}  // namespace lockstep
