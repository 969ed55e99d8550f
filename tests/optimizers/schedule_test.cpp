// SPDX-License-Identifier: Apache-2.0
#include "optimizers/schedules/schedule.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numbers>
#include <set>
#include <string>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr int64_t kReachOfFloat = int64_t(1) << 24, kReachOf32Bits = int64_t(1) << 31;

double rate(std::string_view text, int64_t counter, double learning_rate = 0.1) {
  return make_schedule(text, learning_rate).at(counter);
}

// The message of the usage error that making the schedule must end in.
std::string usage_error(std::string_view text, double learning_rate = 0.1) {
  try {
    make_schedule(text, learning_rate);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage) << error.what();
    return error.what();
  }
  ADD_FAILURE() << text << " was made";
  return "";
}

// One of each, with every parameter that its curve depends on away from zero and one.
const std::vector<std::string> kExamples = {
    "constant",
    "exponential(steps=100, decay_rate=0.5)",
    "polynomial(steps=100, end=0.01, power=2, cycle=true)",
    "inverse_time(steps=100, decay_rate=0.5, staircase=true)",
    "cosine(steps=1000, alpha=0.1, warmup_steps=100, start=0.01)",
    "cosine(decay_steps=1000, alpha=0.1, warmup_steps=100, warmup_target=0.01)",
    "polynomial(decay_steps=100, end_learning_rate=0.01, power=2)",
    "cosine_restarts(first_steps=100, t_mul=1.5, m_mul=0.9, alpha=0.1)",
    "linear_warmup(steps=100, start=0.001)",
    "warmup_stable_decay(warmup_steps=10, stable_steps=50, decay_steps=40, end=0.001, power=2)",
    "one_cycle(steps=1000)",
    "piecewise_constant(boundaries=[100, 110], values=[1, 0.1, 0.01])"};

// A schedule of Keras: the name is ours, its parameters are Keras' own.
std::string text_of(const json& vector) {
  static const std::map<std::string, std::string> names = {
      {"ExponentialDecay", "exponential"}, {"PiecewiseConstantDecay", "piecewise_constant"},
      {"PolynomialDecay", "polynomial"},   {"InverseTimeDecay", "inverse_time"},
      {"CosineDecay", "cosine"},           {"CosineDecayRestarts", "cosine_restarts"}};
  std::string text;
  for (const auto& [key, value] : vector.at("settings").items())
    text += str(text.empty() ? "" : ", ", key, "=", value.dump());
  return str(names.at(vector.at("schedule")), "(", text, ")");
}

TEST(ScheduleVectors, AgreeWithKerasInDouble) {
  std::ifstream file(OPTIMIZER_VECTORS);
  ASSERT_TRUE(file) << OPTIMIZER_VECTORS;
  std::vector<std::string> covered;
  const json all = json::parse(file);
  for (const json& vector : all.at("vectors")) {
    if (vector.at("kind") != "schedule") continue;
    covered.push_back(vector.at("id"));
    const Schedule schedule = make_schedule(text_of(vector), 7);
    for (const json& point : vector.at("points")) {
      const double expected = point.at("expected");
      EXPECT_NEAR(schedule.at(point.at("step")), expected, 4e-16 * std::abs(expected) + 1e-17)
          << covered.back() << " at " << point.at("step");
    }
  }
  EXPECT_THAT(covered, testing::UnorderedElementsAre(
                           "sched/exp_continuous", "sched/piecewise", "sched/linear_halfway", "sched/linear_cycle",
                           "sched/sqrt", "sched/cycle_begin", "sched/inverse_time_staircase", "sched/cosine_alpha",
                           "sched/cosine_warmup_decay", "sched/cosine_restarts_alpha", "sched/cosine_restarts_tmul"));
}

TEST(Schedule, TheOptimizersRateIsTheFirstUnlessTheTextGivesOne) {
  EXPECT_EQ(rate("constant", 5, 0.25), 0.25);
  EXPECT_EQ(rate("constant(learning_rate=0.5)", 5, 0.25), 0.5);
  EXPECT_EQ(rate("cosine(steps=10)", 0, 0.25), 0.25);
  EXPECT_EQ(rate("constant(learning_rate=1)", 5), 1) << "a whole number is a number";
}

TEST(Schedule, ItsTextSaysEveryParameterAndReadsBackAsTheSameSchedule) {
  std::set<std::string> names;
  for (const std::string& example : kExamples) {
    const Schedule schedule = make_schedule(example, 0.3), again = make_schedule(schedule.text(), 99);
    EXPECT_EQ(again.text(), schedule.text());
    for (int64_t counter = 0; counter < 1300; counter += 7)
      EXPECT_EQ(again.at(counter), schedule.at(counter)) << example;
    names.insert(example.substr(0, example.find('(')));
  }
  EXPECT_EQ(make_schedule("cosine( steps = 10,alpha=0.5 )", 0.3).text(),
            "cosine(learning_rate=0.3, steps=10, alpha=0.5, warmup_steps=0, start=0)");
  EXPECT_EQ(make_schedule("cosine(decay_steps=10, initial_learning_rate=0.5)", 0.3).text(),
            "cosine(initial_learning_rate=0.5, decay_steps=10, alpha=0, warmup_steps=0, warmup_target=0.5)");
  for (const std::string_view name : schedule_names()) EXPECT_TRUE(names.contains(std::string(name))) << name;
}

TEST(Schedule, ItsNumbersAreThoseThatWereTyped) {
  EXPECT_EQ(make_schedule("cosine(steps=010, alpha=00.50)", 0.3).text(),
            make_schedule("cosine(steps=10, alpha=0.5)", 0.3).text());
  EXPECT_NE(make_schedule("cosine(steps=10, alpha=0.3)", 1).text(),
            make_schedule("cosine(steps=10, alpha=0.30000000000000004)", 1).text());
  EXPECT_EQ(make_schedule("cosine(steps=9007199254740991)", 1).length(), 9007199254740991);
  for (const char* text :
       {"cosine(steps=9007199254740993)", "cosine(steps=1e400)", "cosine(steps=0x10)",
        "piecewise_constant(boundaries=[9007199254740993], values=[1, 2])", "exponential(steps=10, decay_rate=1e-400)"})
    EXPECT_THROW(make_schedule(text, 1), Error) << text;
}

TEST(Schedule, RatesAreFiniteAndNotNegativeAtAnyCounter) {
  for (const std::string& example : kExamples) {
    const Schedule schedule = make_schedule(example, 0.3);
    for (const int64_t counter : {int64_t(0), int64_t(1), int64_t(99), int64_t(100), int64_t(101), kReachOfFloat + 1,
                                  kReachOf32Bits, int64_t(1) << 53}) {
      const double x = schedule.at(counter);
      EXPECT_TRUE(std::isfinite(x) && x >= 0) << example << " at " << counter << ": " << x;
    }
  }
}

TEST(Schedule, StairsChangeExactlyWhereTheyShould) {
  for (const int64_t stair : {int64_t(1), kReachOfFloat / 10 + 3, kReachOf32Bits / 10 + 3}) {
    const double before = 0.1 * std::pow(0.999, double(stair - 1)), after = 0.1 * std::pow(0.999, double(stair));
    const std::string exponential = "exponential(steps=10, decay_rate=0.999, staircase=true)";
    EXPECT_EQ(rate(exponential, 10 * stair - 1), before) << stair;
    EXPECT_EQ(rate(exponential, 10 * stair), after) << stair;
    const std::string inverse = "inverse_time(steps=10, decay_rate=0.5, staircase=true)";
    EXPECT_EQ(rate(inverse, 10 * stair - 1), 0.1 / (1 + 0.5 * double(stair - 1))) << stair;
    EXPECT_EQ(rate(inverse, 10 * stair), 0.1 / (1 + 0.5 * double(stair))) << stair;
  }
  EXPECT_NE(rate("exponential(steps=10, decay_rate=0.9)", 10), rate("exponential(steps=10, decay_rate=0.9)", 11));
}

TEST(Schedule, PiecewiseBoundariesBelongToThePieceBefore) {
  const std::string text =
      str("piecewise_constant(boundaries=[", kReachOfFloat + 1, ", ", kReachOf32Bits + 1, "], values=[3, 2, 1])");
  EXPECT_EQ(rate(text, kReachOfFloat + 1), 3);
  EXPECT_EQ(rate(text, kReachOfFloat + 2), 2);
  EXPECT_EQ(rate(text, kReachOf32Bits + 1), 2);
  EXPECT_EQ(rate(text, kReachOf32Bits + 2), 1);
}

TEST(Schedule, RestartsAreAtTheirCounterExactly) {
  // Doubling periods of 3: restarts at 3 (2^i - 1). In the last step of a period the rate has fallen nearly to zero.
  for (int period = 1; period < 50; ++period) {
    const int64_t restart = 3 * ((int64_t(1) << period) - 1);
    const double peak = 0.1 * std::pow(0.5, period);
    EXPECT_EQ(rate("cosine_restarts(first_steps=3, m_mul=0.5)", restart), peak) << period;
    EXPECT_LE(rate("cosine_restarts(first_steps=3, m_mul=0.5)", restart - 1), 0.51 * peak) << period;
  }
  // Tripling periods of 7, and equal ones of 1000.
  for (int64_t restart = 7, length = 21; restart < kReachOf32Bits * 1000; restart += length, length *= 3) {
    EXPECT_EQ(rate("cosine_restarts(first_steps=7, t_mul=3)", restart), 0.1) << restart;
    EXPECT_LT(rate("cosine_restarts(first_steps=7, t_mul=3)", restart - 1), 0.01) << restart;
  }
  for (const int64_t restart : {int64_t(1000), (kReachOfFloat + 1) * 1000, (kReachOf32Bits + 1) * 1000}) {
    EXPECT_EQ(rate("cosine_restarts(first_steps=1000, t_mul=1)", restart), 0.1) << restart;
    EXPECT_LT(rate("cosine_restarts(first_steps=1000, t_mul=1)", restart - 1), 1e-6) << restart;
  }
}

TEST(Schedule, RestartsThatGrowByAFractionAreTheSameCurveStretched) {
  // Periods 100, 150, 225: half way of the second is counter 175.
  EXPECT_DOUBLE_EQ(rate("cosine_restarts(first_steps=100, t_mul=1.5, m_mul=0.5, alpha=0.2)", 175),
                   0.1 * (0.8 * 0.5 * 0.5 + 0.2));
  EXPECT_DOUBLE_EQ(rate("cosine_restarts(first_steps=100, t_mul=1.5)", 250), 0.1);
}

TEST(Schedule, NeighbouringCountersBeyondTheReachOfFloatDiffer) {
  for (const char* text :
       {"exponential(steps=1e9, decay_rate=0.5)", "polynomial(steps=1e9)", "inverse_time(steps=1e9, decay_rate=1)",
        "cosine(steps=1e9)", "cosine_restarts(first_steps=1e9)", "linear_warmup(steps=1e9)",
        "warmup_stable_decay(stable_steps=0, decay_steps=1e9)", "one_cycle(steps=1e9)"})
    EXPECT_NE(rate(text, kReachOfFloat), rate(text, kReachOfFloat + 1)) << text;
}

TEST(Schedule, PolynomialsCycleFromTheFirstStepAfterAnEnd) {
  EXPECT_EQ(rate("polynomial(steps=10, end=0)", 10), 0);
  EXPECT_EQ(rate("polynomial(steps=10, end=0)", 11), 0);
  EXPECT_EQ(rate("polynomial(steps=10, end=0, cycle=true)", 10), 0);
  EXPECT_DOUBLE_EQ(rate("polynomial(steps=10, end=0, cycle=true)", 11), 0.1 * (1 - 11.0 / 20));
  EXPECT_EQ(rate("polynomial(steps=10, end=0, cycle=true)", 0), 0.1);
}

// What a number of steps means where people give one: the table has each schedule's rate in the first step, at the end
// of its warm-up, when it is through, and after that.
TEST(Schedule, BeginsWarmsUpAndEndsWhereItsTextSays) {
  struct Point {
    int64_t counter;
    double rate;
  };
  struct Case {
    std::string text;
    int64_t length;
    std::vector<Point> points;
  };
  const std::vector<Case> cases = {
      {"constant", 0, {{0, 0.1}, {1000, 0.1}}},
      // A period: nothing ends.
      {"exponential(steps=100, decay_rate=0.5)", 100, {{0, 0.1}, {100, 0.05}, {200, 0.025}}},
      {"inverse_time(steps=100, decay_rate=1)", 100, {{0, 0.1}, {100, 0.05}, {300, 0.025}}},
      {"cosine_restarts(first_steps=100)", 100, {{0, 0.1}, {50, 0.05}, {100, 0.1}, {200, 0.05}, {300, 0.1}}},
      {"polynomial(steps=100)", 100, {{0, 0.1}, {50, 0.05}, {100, 0}, {1000, 0}}},
      {"polynomial(steps=100, end=0.02)", 100, {{0, 0.1}, {50, 0.06}, {100, 0.02}, {1000, 0.02}}},
      {"polynomial(decay_steps=100)", 100, {{0, 0.1}, {100, 1e-4}, {1000, 1e-4}}},
      {"cosine(steps=100)", 100, {{0, 0.1}, {50, 0.05}, {100, 0}, {1000, 0}}},
      {"cosine(steps=100, warmup_steps=20, alpha=0.1)",
       100,
       {{0, 0}, {1, 0.005}, {10, 0.05}, {20, 0.1}, {60, 0.055}, {100, 0.01}, {101, 0.01}, {1000, 0.01}}},
      {"cosine(steps=100, warmup_steps=20, start=0.02)", 100, {{0, 0.02}, {10, 0.06}, {20, 0.1}, {60, 0.05}, {100, 0}}},
      // Keras: from the rate to the target, and decay_steps begin after that.
      {"cosine(decay_steps=80, warmup_steps=20, warmup_target=0.3)",
       100,
       {{0, 0.1}, {10, 0.2}, {20, 0.3}, {60, 0.15}, {100, 0}, {1000, 0}}},
      {"linear_warmup(steps=100)", 100, {{0, 0}, {50, 0.05}, {100, 0.1}, {1000, 0.1}}},
      {"warmup_stable_decay(warmup_steps=20, stable_steps=30, decay_steps=50)",
       100,
       {{0, 0}, {10, 0.05}, {20, 0.1}, {50, 0.1}, {75, 0.05}, {100, 0}, {1000, 0}}},
      // PyTorch's reaches its end in the last of the steps.
      {"one_cycle(steps=100)", 100, {{0, 0.1 / 25}, {29, 0.1}, {99, 0.1 / 25e4}, {100, 0.1 / 25e4}}},
      {"piecewise_constant(boundaries=[100], values=[0.1, 0.05])", 100, {{0, 0.1}, {100, 0.1}, {101, 0.05}}}};
  std::set<std::string> names;
  for (const Case& each : cases) {
    const Schedule schedule = make_schedule(each.text, 0.1);
    EXPECT_EQ(schedule.length(), each.length) << each.text;
    for (const Point& point : each.points)
      EXPECT_NEAR(schedule.at(point.counter), point.rate, 1e-16) << each.text << " at " << point.counter;
    names.insert(each.text.substr(0, each.text.find('(')));
  }
  for (const std::string_view name : schedule_names()) EXPECT_TRUE(names.contains(std::string(name))) << name;
}

TEST(Schedule, OneDefinitionIsMeantAtATime) {
  EXPECT_THAT(usage_error("cosine(steps=10, decay_steps=10)"),
              HasSubstr("cosine: expected steps or decay_steps, got both"));
  EXPECT_THAT(usage_error("cosine(steps=10, warmup_target=1)"),
              HasSubstr("cosine: warmup_target goes with Keras' decay_steps"));
  EXPECT_THAT(usage_error("cosine(decay_steps=10, warmup_steps=5)"), HasSubstr("want a warmup_target"));
  EXPECT_THAT(usage_error("cosine(decay_steps=10, start=1)"), HasSubstr("cosine has no hyper-parameter 'start'"));
  EXPECT_THAT(usage_error("cosine(steps=10, warmup_steps=10)"), HasSubstr("warmup_steps below steps"));
  EXPECT_THAT(usage_error("polynomial(steps=10, end_learning_rate=1)"),
              HasSubstr("polynomial: end_learning_rate goes with Keras' decay_steps; with steps give end"));
  EXPECT_THAT(usage_error("constant(learning_rate=1, initial_learning_rate=1)"), HasSubstr("got both"));
}

TEST(Schedule, WarmupRunsLinearlyToTheRateAndStays) {
  EXPECT_EQ(rate("linear_warmup(steps=4, start=0.02)", 0), 0.02);
  EXPECT_DOUBLE_EQ(rate("linear_warmup(steps=4, start=0.02)", 1), 0.04);
  EXPECT_EQ(rate("linear_warmup(steps=4, start=0.02)", 4), 0.1);
  EXPECT_EQ(rate("linear_warmup(steps=4)", 0), 0);
  EXPECT_EQ(rate("linear_warmup(steps=4)", kReachOf32Bits), 0.1);
}

TEST(Schedule, WarmupStableDecayHasThreeParts) {
  const std::string text = "warmup_stable_decay(warmup_steps=10, stable_steps=5, decay_steps=20, end=0.02)";
  EXPECT_EQ(rate(text, 0), 0);
  EXPECT_DOUBLE_EQ(rate(text, 9), 0.09);
  for (const int64_t counter : {10, 12, 15}) EXPECT_EQ(rate(text, counter), 0.1) << counter;
  EXPECT_DOUBLE_EQ(rate(text, 16), 0.1 - 0.08 / 20);
  EXPECT_DOUBLE_EQ(rate(text, 25), 0.06);
  for (const int64_t counter : {35, 36, 1000}) EXPECT_EQ(rate(text, counter), 0.02) << counter;
  EXPECT_DOUBLE_EQ(rate("warmup_stable_decay(stable_steps=0, decay_steps=4, power=2)", 1), 0.1 * 0.5625);
}

TEST(Schedule, OneCycleIsPyTorchs) {
  // torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1, total_steps=100): up to step 29, down to step 99.
  const double start = 0.1 / 25, end = start / 1e4;
  const auto cosine = [](double from, double to, double share) {
    return to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * share));
  };
  EXPECT_DOUBLE_EQ(rate("one_cycle(steps=100)", 0), start);
  EXPECT_DOUBLE_EQ(rate("one_cycle(steps=100)", 10), cosine(start, 0.1, 10.0 / 29));
  EXPECT_DOUBLE_EQ(rate("one_cycle(steps=100)", 29), 0.1);
  EXPECT_DOUBLE_EQ(rate("one_cycle(steps=100)", 60), cosine(0.1, end, 31.0 / 70));
  for (const int64_t counter : {99, 100, 10000}) EXPECT_EQ(rate("one_cycle(steps=100)", counter), end) << counter;
  EXPECT_DOUBLE_EQ(rate("one_cycle(steps=1, pct_start=0)", 0), end);
  EXPECT_DOUBLE_EQ(rate("one_cycle(steps=10, pct_start=1, div_factor=2)", 9), 0.1);
}

TEST(Schedule, UnknownNamesAreErrorsThatNameTheNearestKnownOne) {
  EXPECT_THAT(usage_error("cosin(steps=10)"),
              HasSubstr("unknown learning-rate schedule 'cosin'; did you mean 'cosine'? Known are: constant, "));
  EXPECT_THAT(usage_error("Exponential(steps=10)"), HasSubstr("did you mean 'exponential'"));
  EXPECT_THAT(usage_error("cosine(steps=10, alhpa=0.1)"), HasSubstr("'alhpa'; did you mean 'alpha'?"));
  EXPECT_THAT(usage_error("cosine(step=10)"),
              HasSubstr("cosine: expected a value for steps, which has no default; given are: step"));
  EXPECT_THAT(usage_error("exponential(steps=10)"), HasSubstr("expected a value for decay_rate"));
  EXPECT_THAT(usage_error("piecewise_constant(boundary=[1], values=[1, 2])"),
              HasSubstr("'boundary'; did you mean 'boundaries'?"));
}

TEST(Schedule, ValuesOutOfRangeAreErrorsThatNameParameterRangeAndValue) {
  EXPECT_THAT(usage_error("cosine(steps=0)"),
              HasSubstr("cosine: expected steps to be a whole number from 1 to 2^53 - 1, got 0"));
  EXPECT_THAT(usage_error("cosine(steps=-5)"), HasSubstr("got -5"));
  EXPECT_THAT(usage_error("cosine(steps=2.5)"), HasSubstr("whole number from 1 to 2^53 - 1, got 2.5"));
  EXPECT_THAT(usage_error("cosine(steps=nan)"), HasSubstr("got nan"));
  EXPECT_THAT(usage_error("cosine(steps=1e17)"), HasSubstr("got 1e+17"));
  EXPECT_THAT(usage_error("cosine(steps=10, alpha=1.5)"), HasSubstr("expected alpha in [0, 1], got 1.5"));
  EXPECT_THAT(usage_error("cosine(decay_steps=10, warmup_target=inf)"), HasSubstr("warmup_target"));
  EXPECT_THAT(usage_error("cosine_restarts(first_steps=10, t_mul=0.5)"), HasSubstr("expected t_mul in [1, "));
  EXPECT_THAT(usage_error("exponential(steps=10, decay_rate=-1)"), HasSubstr("decay_rate in [0, "));
  EXPECT_THAT(usage_error("polynomial(steps=10, cycle=2)"), HasSubstr("cycle to be 0 or 1, got 2"));
  EXPECT_THAT(usage_error("one_cycle(steps=10, pct_start=2)"), HasSubstr("pct_start in [0, 1]"));
  EXPECT_THAT(usage_error("one_cycle(steps=10, div_factor=0)"), HasSubstr("div_factor"));
  EXPECT_THAT(usage_error("warmup_stable_decay(stable_steps=1, decay_steps=0)"), HasSubstr("decay_steps"));
  EXPECT_THAT(usage_error("constant", std::nan("")), HasSubstr("learning_rate"));
  EXPECT_THAT(usage_error("constant(learning_rate=-1)"), HasSubstr("learning_rate in [0, "));
}

TEST(Schedule, PiecewiseListsThatDoNotFitAreErrors) {
  EXPECT_THAT(usage_error("piecewise_constant(boundaries=[1, 2], values=[1, 2])"),
              HasSubstr("expected one value more than boundaries, got 2 boundaries and 2 values"));
  EXPECT_THAT(usage_error("piecewise_constant(boundaries=[2, 2], values=[1, 2, 3])"), HasSubstr("grow, got [2, 2]"));
  EXPECT_THAT(usage_error("piecewise_constant(boundaries=[1.5], values=[1, 2])"), HasSubstr("whole numbers"));
  EXPECT_THAT(usage_error("piecewise_constant(boundaries=[nan], values=[1, 2])"), HasSubstr("whole numbers"));
  EXPECT_THAT(usage_error("piecewise_constant(boundaries=[1], values=[1, -2])"), HasSubstr("got [1, -2]"));
  EXPECT_THAT(usage_error("piecewise_constant(boundaries=[1], values=[1, inf])"), HasSubstr("finite"));
  EXPECT_THAT(usage_error("piecewise_constant(boundaries=1, values=[1, 2])"),
              HasSubstr("expected a list for boundaries, like boundaries=[1, 2]"));
  EXPECT_THAT(usage_error("cosine(steps=[1, 2])"), HasSubstr("cosine: expected a number for steps, got a list"));
}

TEST(Schedule, TextThatIsNoScheduleIsAnErrorThatShowsThePlace) {
  EXPECT_THAT(usage_error(""), HasSubstr("expected a name after '', got the end; write it like name("));
  EXPECT_THAT(usage_error("cosine(steps=10"), HasSubstr("expected ',' or ')' after 'cosine(steps=10', got the end"));
  EXPECT_THAT(usage_error("cosine(steps 10)"), HasSubstr("expected '=' and a value for steps"));
  EXPECT_THAT(usage_error("cosine(steps=ten)"), HasSubstr("expected a number, true, false, or a list like [1, 2]"));
  EXPECT_THAT(usage_error("cosine(steps=10, steps=20)"), HasSubstr("expected steps only once"));
  EXPECT_THAT(usage_error("cosine(steps=10) x"), HasSubstr("expected the end after 'cosine(steps=10) ', got 'x'"));
  EXPECT_THAT(usage_error("cosine(steps=10,)"), HasSubstr("expected the name of a parameter"));
  EXPECT_THAT(usage_error("piecewise_constant(values=[1; 2])"), HasSubstr("expected ',' or ']'"));
}

}  // namespace
}  // namespace lockstep
