// SPDX-License-Identifier: Apache-2.0
// The rules evaluated in double: against the float64 numbers of vectors.json and, over random steps, against the
// formulas of Keras and PyTorch as their documentation writes them. What is left is rounding of doubles, so a wrong
// place of epsilon or a missing correction cannot hide.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "kernels/device/check.h"
#include "optimizers/rule_optimizer.h"
#include "optimizers/rules/adadelta.h"
#include "optimizers/rules/adagrad.h"
#include "optimizers/rules/adam.h"
#include "optimizers/rules/adamax.h"
#include "optimizers/rules/ftrl.h"
#include "optimizers/rules/lion.h"
#include "optimizers/rules/nadam.h"
#include "optimizers/rules/rmsprop.h"
#include "optimizers/rules/schedule_free_adamw.h"
#include "optimizers/rules/sgd.h"

namespace lockstep {
namespace {

using nlohmann::json;

constexpr double kTolerance = 1e-12;

// One element in double.
template <class Rule>
class Element {
 public:
  Element(Rule rule, double param) : rule_(rule), param_(param) {
    for (size_t i = 0; i < kSlots<Rule>; ++i) {
      const double initial = rule_.slots[i].initial;
      // Declared as a float; the references start from the decimal fraction.
      slots_[i] = rule_.slots[i].starts_as_parameter ? param : std::round(initial * 1e6) / 1e6;
    }
    if constexpr (HasScalars<Rule>)
      for (const ScalarState& scalar : Rule::scalars) scalars_.push_back(scalar.initial);
  }

  void step(double learning_rate, double weight_decay, double grad) {
    ++step_;
    param_ -= learning_rate * weight_decay * param_;
    const auto update = [&] {
      if constexpr (HasScalars<Rule>) {
        rule_.advance(step_, learning_rate, scalars_);
        return rule_.template at<double>(step_, learning_rate, scalars_);
      } else {
        return rule_.template at<double>(step_, learning_rate);
      }
    }();
    std::apply([&](auto&... slot) { update(param_, grad, slot...); }, slots_);
  }

  double param() const { return param_; }

 private:
  Rule rule_;
  double param_;
  std::array<double, kSlots<Rule>> slots_;
  std::vector<double> scalars_;
  int64_t step_ = 0;
};

// Every element of a vector, step by step, against its float64 numbers.
template <class Rule>
void compare(const json& vector, Rule rule) {
  const json &settings = vector.at("resolved_settings"), &reference = vector.at("ref_float64_after_step");
  for (size_t v = 0; v < vector.at("variables").size(); ++v) {
    const json& variable = vector.at("variables").at(v);
    const bool decays = !settings.at("weight_decay").is_null() && !variable.value("excluded_from_weight_decay", false);
    const double decay = decays ? settings.at("weight_decay").get<double>() : 0;
    for (size_t i = 0; i < variable.at("initial").size(); ++i) {
      Element<Rule> element(rule, variable.at("initial").at(i));
      for (size_t step = 0; step < vector.at("gradients_per_step").size(); ++step) {
        double grad = vector.at("gradients_per_step").at(step).at(v).at(i);
        if (const json& clip = settings.at("clipvalue"); !clip.is_null())
          grad = std::clamp(grad, -clip.get<double>(), clip.get<double>());
        element.step(settings.at("learning_rate"), decay, grad);
        if (!reference.contains(std::to_string(step + 1))) continue;
        const double expected = reference.at(std::to_string(step + 1)).at(v).at(i);
        EXPECT_NEAR(element.param(), expected, kTolerance * std::max(1.0, std::abs(expected)))
            << vector.at("id") << " step " << step + 1 << " element " << i;
      }
    }
  }
}

AdamHyperparameters adam_of(const json& s) {
  return {.beta_1 = s.at("beta_1"), .beta_2 = s.at("beta_2"), .epsilon = s.at("epsilon")};
}

void compare_rmsprop(const json& vector, const json& s) {
  const RmspropHyperparameters h{.rho = s.at("rho"), .momentum = s.at("momentum"), .epsilon = s.at("epsilon")};
  if (s.at("centered")) return compare(vector, RmspropCenteredMomentum{h});
  compare(vector, RmspropMomentum{h});
  compare(vector, Rmsprop{h});
}

void compare_sgd(const json& vector, const json& s) {
  if (s.at("nesterov")) return compare(vector, SgdNesterov{s.at("momentum")});
  compare(vector, SgdMomentum{s.at("momentum")});
  if (s.at("momentum") == 0) compare(vector, Sgd{});
}

void compare_adam(const json& vector, const json& s) {
  if (s.at("amsgrad")) return compare(vector, AdamAmsgrad{adam_of(s)});
  compare(vector, Adam{adam_of(s)});
}

Nadam keras_nadam(AdamHyperparameters adam) {
  adam.definition = FormulaStyle::torch;
  return {.adam = adam};
}

const std::map<std::string, std::function<void(const json& vector, const json& settings)>> kRules = {
    {"SGD", compare_sgd},
    {"Adam", compare_adam},
    {"AdamW", compare_adam},
    {"RMSprop", compare_rmsprop},
    {"Adagrad", [](const json& v, const json& s) { compare(v, Adagrad{.epsilon = s.at("epsilon")}); }},
    {"Adadelta",
     [](const json& v, const json& s) { compare(v, Adadelta{.rho = s.at("rho"), .epsilon = s.at("epsilon")}); }},
    {"Adamax",
     [](const json& v, const json& s) {
       compare(v, Adamax{s.at("beta_1"), s.at("beta_2"), s.at("epsilon")});
     }},
    {"Nadam", [](const json& v, const json& s) { compare(v, keras_nadam(adam_of(s))); }},
    {"Ftrl", [](const json& v, const json&) { compare(v, Ftrl{}); }},
    {"Lion",
     [](const json& v, const json& s) {
       compare(v, Lion{s.at("beta_1"), s.at("beta_2")});
     }},
    {"ScheduleFreeAdamW", [](const json& v, const json& s) {
       compare(v, ScheduleFreeAdamW{s.at("beta_1"), s.at("beta_2"), s.at("epsilon"), s.at("warmup_steps")});
     }}};

TEST(RulesInDouble, MeetTheFloat64NumbersOfTheVectors) {
  std::ifstream file(OPTIMIZER_VECTORS);
  const json all = json::parse(file);
  std::map<std::string, int> compared;
  for (const json& vector : all.at("vectors")) {
    if (!vector.contains("ref_float64_after_step") || !vector.contains("resolved_settings")) continue;
    const std::string optimizer = vector.at("optimizer");
    // Averaging and accumulation are the training step's.
    const json& settings = vector.at("resolved_settings");
    if (settings.at("use_ema") || !settings.at("gradient_accumulation_steps").is_null()) continue;
    if (!kRules.contains(optimizer)) continue;
    kRules.at(optimizer)(vector, settings);
    ++compared[optimizer];
  }
  for (const auto& [optimizer, _] : kRules) EXPECT_GT(compared[optimizer], 0) << optimizer;
}

// A formula as its source writes it: one element's state, stepped with rate, gradient and step number.
using Formula = std::function<double(double w, double a, double g, double t)>;

// Random gradients, and rates unless one is given, over 100 steps; both start at w.
template <class Rule>
void expect_agreement(const std::string& what, Rule rule, const Formula& formula, double w = 0.75,
                      double constant_rate = 0) {
  std::mt19937 random(7);
  std::normal_distribution<double> gradients;
  Element<Rule> element(rule, w);
  for (int t = 1; t <= 100; ++t) {
    const double a = constant_rate > 0 ? constant_rate : 0.01 * (1 + random() % 4);
    const double g = random() % 5 == 0 ? 0 : gradients(random);
    w = formula(w, a, g, t);
    element.step(a, 0, g);
    ASSERT_NEAR(element.param(), w, kTolerance) << what << " step " << t;
  }
}

TEST(RulesInDouble, MomentumAgreesWithPyTorchsFormula) {
  for (const bool nesterov : {false, true}) {
    double buffer = 0;
    const Formula formula = [&](double w, double a, double g, double) {
      buffer = 0.9 * buffer + g;
      return w - a * (nesterov ? g + 0.9 * buffer : buffer);
    };
    if (nesterov) expect_agreement("nesterov", SgdNesterov{0.9, FormulaStyle::torch}, formula);
    if (!nesterov) expect_agreement("momentum", SgdMomentum{0.9, FormulaStyle::torch}, formula);
  }
}

TEST(RulesInDouble, AdamAgreesWithPyTorchsFormula) {
  double m = 0, v = 0, largest = 0;
  const AdamHyperparameters h{.beta_1 = 0.8, .beta_2 = 0.9, .epsilon = 0.01, .definition = FormulaStyle::torch};
  const auto formula = [&](bool amsgrad) {
    m = v = largest = 0;
    return [&, amsgrad](double w, double a, double g, double t) {
      m = 0.8 * m + 0.2 * g;
      v = 0.9 * v + 0.1 * g * g;
      largest = std::max(largest, v);
      const double denominator = std::sqrt(amsgrad ? largest : v) / std::sqrt(1 - std::pow(0.9, t)) + 0.01;
      return w - a / (1 - std::pow(0.8, t)) * m / denominator;
    };
  };
  expect_agreement("adam", Adam{h}, formula(false));
  expect_agreement("amsgrad", AdamAmsgrad{h}, formula(true));
}

TEST(RulesInDouble, RmspropAgreesWithKerasAndPyTorchsFormulas) {
  double v = 0, mean = 0, m = 0;
  const auto formula = [&](bool torch, bool centered, double momentum) {
    v = mean = m = 0;
    return [&, torch, centered, momentum](double w, double a, double g, double) {
      v = 0.9 * v + 0.1 * g * g;
      mean = 0.9 * mean + 0.1 * g;
      const double variance = centered ? v - mean * mean : v;
      const double move = g / (torch ? std::sqrt(variance) + 0.01 : std::sqrt(variance + 0.01));
      m = momentum * m + (torch ? move : a * move);
      return w - (torch ? a * m : m);
    };
  };
  for (const bool torch : {false, true}) {
    const FormulaStyle definition = torch ? FormulaStyle::torch : FormulaStyle::keras;
    const RmspropHyperparameters plain{.rho = 0.9, .momentum = 0, .epsilon = 0.01, .definition = definition};
    const RmspropHyperparameters moving{.rho = 0.9, .momentum = 0.7, .epsilon = 0.01, .definition = definition};
    const std::string source = torch ? "torch " : "keras ";
    expect_agreement(source + "plain", Rmsprop{plain}, formula(torch, false, 0));
    expect_agreement(source + "centered", RmspropCentered{plain}, formula(torch, true, 0));
    expect_agreement(source + "momentum", RmspropMomentum{moving}, formula(torch, false, 0.7));
    expect_agreement(source + "both", RmspropCenteredMomentum{moving}, formula(torch, true, 0.7));
  }
}

TEST(RulesInDouble, AdagradAgreesWithPyTorchsFormula) {
  double sum = 0.1;
  expect_agreement("adagrad", Adagrad{.epsilon = 0.01, .definition = FormulaStyle::torch},
                   [&](double w, double a, double g, double) {
                     sum += g * g;
                     return w - a * g / (std::sqrt(sum) + 0.01);
                   });
}

TEST(RulesInDouble, AdadeltaAgreesWithPyTorchsFormula) {
  double grads = 0, moves = 0;
  expect_agreement("adadelta", Adadelta{.rho = 0.9, .epsilon = 0.01}, [&](double w, double a, double g, double) {
    grads = 0.9 * grads + 0.1 * g * g;
    const double move = std::sqrt(moves + 0.01) / std::sqrt(grads + 0.01) * g;
    moves = 0.9 * moves + 0.1 * move * move;
    return w - a * move;
  });
}

TEST(RulesInDouble, AdamaxAgreesWithKerasAndPyTorchsFormulas) {
  double m = 0, u = 0;
  for (const bool torch : {false, true}) {
    m = u = 0;
    const Adamax rule{0.8, 0.9, 0.01, torch ? FormulaStyle::torch : FormulaStyle::keras};
    expect_agreement(torch ? "torch" : "keras", rule, [&](double w, double a, double g, double t) {
      m = 0.8 * m + 0.2 * g;
      u = std::max(0.9 * u, std::abs(g) + (torch ? 0.01 : 0));
      return w - a / (1 - std::pow(0.8, t)) * m / (u + (torch ? 0 : 0.01));
    });
  }
}

TEST(RulesInDouble, NadamAgreesWithKerasAndPyTorchsFormulas) {
  for (const double decay : {1.0, 0.004}) {
    double m = 0, v = 0, product = 1;
    Nadam rule = keras_nadam({.beta_1 = 0.8, .beta_2 = 0.9, .epsilon = 0.01});
    rule.momentum_base = std::pow(0.96, decay);
    expect_agreement(str("decay ", decay), rule, [&](double w, double a, double g, double t) {
      const double mu = 0.8 * (1 - 0.5 * std::pow(0.96, t * decay));
      const double next = 0.8 * (1 - 0.5 * std::pow(0.96, (t + 1) * decay));
      product *= mu;
      m = 0.8 * m + 0.2 * g;
      v = 0.9 * v + 0.1 * g * g;
      const double denominator = std::sqrt(v / (1 - std::pow(0.9, t))) + 0.01;
      return w - a * (1 - mu) / (1 - product) * g / denominator - a * next / (1 - product * next) * m / denominator;
    });
  }
}

TEST(RulesInDouble, FtrlAgreesWithKerasFormula) {
  const Ftrl rule{.hyperparameters = {.l1 = 0.3, .l2 = 0.2, .l2_shrinkage = 0.1, .beta = 0.5}, .power = {}};
  // From either side: the linear term meets both ends of its clip.
  for (const double start : {0.75, -0.75}) {
    double n = 0.1, z = 0;
    const Formula formula = [&](double w, double a, double g, double) {
      const double l2 = 0.2 + 0.5 / (2 * a), total = n + g * g;
      z += g + 2 * 0.1 * w - (std::sqrt(total) - std::sqrt(n)) / a * w;
      n = total;
      return (std::clamp(z, -0.3, 0.3) - z) / (std::sqrt(total) / a + 2 * l2);
    };
    expect_agreement("ftrl", rule, formula, start);
  }
}

TEST(RulesInDouble, FtrlFromAnEmptyAccumulatorIsAdagrad) {
  Ftrl rule;
  rule.slots[0].initial = 0;
  double sum = 0;
  expect_agreement(
      "ftrl", rule,
      [&](double w, double, double g, double) {
        sum += g * g;
        return sum > 0 ? w - 0.02 * g / std::sqrt(sum) : w;
      },
      0.75, 0.02);
}

TEST(RulesInDouble, LionAgreesWithItsFormula) {
  double m = 0;
  expect_agreement("lion", Lion{0.8, 0.95}, [&](double w, double a, double g, double) {
    const double direction = 0.8 * m + 0.2 * g;
    m = 0.95 * m + 0.05 * g;
    return w - a * (direction > 0 ? 1 : direction < 0 ? -1 : 0);
  });
}

TEST(RulesInDouble, ScheduleFreeAdamWAgreesWithKerasFormulaThatKeepsTheAverage) {
  double v = 0, z = 0.75;
  const ScheduleFreeAdamW rule{.beta_1 = 0.8, .beta_2 = 0.9, .epsilon = 0.01, .warmup_steps = 10};
  expect_agreement("schedule_free_adamw", rule, [&](double w, double a, double g, double t) {
    const double average = (w - 0.2 * z) / 0.8;
    v = 0.9 * v + 0.1 * g * g;
    z -= a * std::min(t / 10, 1.0) * g / (std::sqrt(v / (1 - std::pow(0.9, t))) + 0.01);
    return 0.2 * z + 0.8 * ((1 - 1 / t) * average + z / t);
  });
}

}  // namespace
}  // namespace lockstep
