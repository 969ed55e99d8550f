// SPDX-License-Identifier: Apache-2.0
// What ranks compare and ledgers are headed with tells any two settings apart, also neighbouring doubles.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tools/training/train_options.h"

namespace lockstep {
namespace {

struct Described {
  TrainOptions options;
  std::optional<std::string> schedule;
};

std::string description(const Described& run) {
  VariableTable variables;
  variables.parameter("w", {8, 8}, Initializer::constant(0));
  variables.parameter("b", {8}, Initializer::constant(0));
  const OptimizerSet optimizer = choose_optimizers(run.options.model, variables);
  std::optional<Schedule> schedule;
  if (run.schedule) schedule = make_schedule(*run.schedule, optimizer.learning_rate());
  return run_description(run.options, optimizer, schedule, run.options.plan);
}

std::string digits(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

TEST(RunDescription, TellsNeighbouringRealsApart) {
  using Set = std::function<void(Described&, double)>;
  const auto group = [](const char* settings) {
    return [settings](Described& run, double x) {
      run.options.model.groups = {parse_group_rule(std::string("b => ") + settings + digits(x))};
      // Groups are told by what they do, not only by the text that made them.
      run.options.model.groups[0].text = "'b'";
    };
  };
  const std::pair<const char*, Set> cases[] = {
      {"dropout", [](Described& run, double x) { run.options.model.dropout = x; }},
      {"clipnorm", [](Described& run, double x) { run.options.clip.clipnorm = x; }},
      {"global_clipnorm", [](Described& run, double x) { run.options.clip.global_clipnorm = x; }},
      {"clipvalue", [](Described& run, double x) { run.options.clip.clipvalue = x; }},
      {"learning_rate", [](Described& run, double x) { run.options.model.hyperparameters["learning_rate"] = x; }},
      {"weight_decay", [](Described& run, double x) { run.options.model.hyperparameters["weight_decay"] = x; }},
      {"beta_1", [](Described& run, double x) { run.options.model.hyperparameters["beta_1"] = x; }},
      {"ema_momentum", [](Described& run, double x) { run.options.model.ema_momentum = x; }},
      {"minimum", group("minimum=-")},
      {"maximum", group("maximum=")},
      {"rate_factor", group("rate_factor=")},
      {"own_rate", group("learning_rate=")},
      {"rate of muon's adam",
       [](Described& run, double x) {
         run.options.model.optimizer = "muon";
         run.options.model.groups = {parse_group_rule("b => learning_rate=0.1, adam_lr_ratio=" + digits(x))};
         run.options.model.groups[0].text = "'b'";
       }},
      {"schedule", [](Described& run, double x) { run.schedule = "constant(learning_rate=" + digits(x) + ")"; }},
      {"schedule's list",
       [](Described& run, double x) {
         run.schedule = "piecewise_constant(boundaries=[1], values=[1, " + digits(x) + "])";
       }},
  };
  for (const auto& [name, set] : cases)
    for (const double x : {0.3, 0.001}) {
      Described a, same, b;
      set(a, x);
      set(same, x);
      set(b, std::nextafter(x, 1));
      EXPECT_EQ(description(a), description(same)) << name;
      EXPECT_NE(description(a), description(b)) << name << " " << digits(x);
    }
}

TEST(RunDescription, TellsWholeNumbersApart) {
  Described a, b;
  b.options.seed = a.options.seed + 1;
  EXPECT_NE(description(a), description(b));
  b = a;
  b.options.data.classes = 11;
  EXPECT_NE(description(a), description(b));
}

}  // namespace
}  // namespace lockstep
