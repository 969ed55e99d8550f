// SPDX-License-Identifier: Apache-2.0
#include "optimizers/schedules/schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/device/check.h"
#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"
#include "optimizers/call_text.h"
#include "optimizers/option_reader.h"

namespace lockstep {

namespace {

constexpr std::nullopt_t kRequired = std::nullopt;
constexpr AllowedRange kShare = {.highest = 1};

std::string digits(const std::vector<double>& list) {
  std::string text;
  for (const double x : list) text += (text.empty() ? "[" : ", ") + exact(x);
  return text.empty() ? "[]" : text + "]";
}

ScheduleFormula make_constant(OptionReader&, double learning_rate) { return ConstantRate{learning_rate}; }

// Keras' name for the number of steps; it makes a schedule Keras' own.
constexpr std::string_view kKerasSteps = "decay_steps";

int64_t read_steps(OptionReader& options) { return options.count(options.either("steps", kKerasSteps), kRequired, 1); }

ScheduleFormula make_exponential(OptionReader& options, double learning_rate) {
  return ExponentialDecay{.learning_rate = learning_rate,
                          .steps = read_steps(options),
                          .decay_rate = options.number("decay_rate", kRequired, {}),
                          .staircase = options.flag("staircase", false)};
}

ScheduleFormula make_polynomial(OptionReader& options, double learning_rate) {
  const bool keras = options.given(kKerasSteps);
  if (!keras)
    options.refuse("end_learning_rate", "end_learning_rate goes with Keras' decay_steps; with steps give end");
  return PolynomialDecay{.learning_rate = learning_rate,
                         .steps = read_steps(options),
                         .end = keras ? options.number("end_learning_rate", 1e-4, {}) : options.number("end", 0, {}),
                         .power = options.number("power", 1, {}),
                         .cycle = options.flag("cycle", false)};
}

ScheduleFormula make_inverse_time(OptionReader& options, double learning_rate) {
  return InverseTimeDecay{.learning_rate = learning_rate,
                          .steps = read_steps(options),
                          .decay_rate = options.number("decay_rate", kRequired, {}),
                          .staircase = options.flag("staircase", false)};
}

ScheduleFormula make_cosine(OptionReader& options, double learning_rate) {
  const bool keras = options.given(kKerasSteps);
  const int64_t steps = read_steps(options);
  const double alpha = options.number("alpha", 0, kShare);
  const int64_t warmup = options.count("warmup_steps", 0, 0);
  if (keras) {
    if (warmup > 0 && !options.given("warmup_target"))
      options.refuse("warmup_steps",
                     "warmup_steps want a warmup_target with Keras' decay_steps, or steps in their place");
    return CosineDecay{.start = learning_rate,
                       .peak = options.number("warmup_target", learning_rate, {}),
                       .warmup_steps = warmup,
                       .decay_steps = steps,
                       .alpha = alpha};
  }
  options.refuse("warmup_target",
                 "warmup_target goes with Keras' decay_steps; with steps the warm-up ends at the rate");
  check(warmup < steps, ErrorCode::usage, [&] {
    return str("cosine: expected warmup_steps below steps, which include the warm-up, got ", warmup, " and ", steps);
  });
  return CosineDecay{.start = options.number("start", 0, {}),
                     .peak = learning_rate,
                     .warmup_steps = warmup,
                     .decay_steps = steps - warmup,
                     .alpha = alpha};
}

ScheduleFormula make_cosine_restarts(OptionReader& options, double learning_rate) {
  return CosineRestarts{.learning_rate = learning_rate,
                        .first_steps = options.count(options.either("first_steps", "first_decay_steps"), kRequired, 1),
                        .t_mul = options.number("t_mul", 2, {.lowest = 1}),
                        .m_mul = options.number("m_mul", 1, {}),
                        .alpha = options.number("alpha", 0, kShare)};
}

ScheduleFormula make_linear_warmup(OptionReader& options, double learning_rate) {
  return LinearWarmup{.learning_rate = learning_rate,
                      .steps = options.count("steps", kRequired, 1),
                      .start = options.number("start", 0, {})};
}

ScheduleFormula make_warmup_stable_decay(OptionReader& options, double learning_rate) {
  return WarmupStableDecay{.learning_rate = learning_rate,
                           .warmup_steps = options.count("warmup_steps", 0, 0),
                           .stable_steps = options.count("stable_steps", kRequired, 0),
                           .decay_steps = options.count("decay_steps", kRequired, 1),
                           .start = options.number("start", 0, {}),
                           .end = options.number("end", 0, {}),
                           .power = options.number("power", 1, {})};
}

ScheduleFormula make_one_cycle(OptionReader& options, double learning_rate) {
  return OneCycle{.learning_rate = learning_rate,
                  .steps = options.count("steps", kRequired, 1),
                  .pct_start = options.number("pct_start", 0.3, kShare),
                  .div_factor = options.number("div_factor", 25, kPositive),
                  .final_div_factor = options.number("final_div_factor", 1e4, kPositive)};
}

struct ScheduleEntry {
  std::string_view name;
  ScheduleFormula (*make)(OptionReader& options, double learning_rate);
};
constexpr std::array kSchedules = {ScheduleEntry{"constant", make_constant},
                                   ScheduleEntry{"exponential", make_exponential},
                                   ScheduleEntry{"polynomial", make_polynomial},
                                   ScheduleEntry{"inverse_time", make_inverse_time},
                                   ScheduleEntry{"cosine", make_cosine},
                                   ScheduleEntry{"cosine_restarts", make_cosine_restarts},
                                   ScheduleEntry{"linear_warmup", make_linear_warmup},
                                   ScheduleEntry{"warmup_stable_decay", make_warmup_stable_decay},
                                   ScheduleEntry{"one_cycle", make_one_cycle}};

// The only schedule made of lists: its rates are in the text, and the optimizer's plays no part.
constexpr std::string_view kPiecewise = "piecewise_constant";

Schedule make_piecewise(const CallText& call) {
  constexpr std::array<std::string_view, 2> known = {"boundaries", "values"};
  const auto refuse_unknown = [&](const auto& arguments) {
    for (const auto& argument : arguments) {
      const std::string& key = argument.first;
      check(std::ranges::count(known, key) > 0, ErrorCode::usage,
            [&] { return str(kPiecewise, " has no parameter '", key, "'; ", did_you_mean(key, known)); });
    }
  };
  refuse_unknown(call.numbers);
  refuse_unknown(call.lists);
  for (const std::string_view key : known)
    check(call.lists.contains(std::string(key)), ErrorCode::usage,
          [&] { return str(kPiecewise, ": expected a list for ", key, ", like ", key, "=[1, 2]"); });
  const PiecewiseConstant formula{call.lists.at("boundaries"), call.lists.at("values")};
  const std::vector<double>&boundaries = formula.boundaries, &values = formula.values;
  check(values.size() == boundaries.size() + 1, ErrorCode::usage, [&] {
    return str(kPiecewise, ": expected one value more than boundaries, got ", boundaries.size(), " boundaries and ",
               values.size(), " values");
  });
  for (size_t i = 0; i < boundaries.size(); ++i) {
    const bool whole = std::abs(boundaries[i]) < 0x1p53 && boundaries[i] == std::floor(boundaries[i]);
    check(whole && (i == 0 || boundaries[i] > boundaries[i - 1]), ErrorCode::usage, [&] {
      return str(kPiecewise, ": expected boundaries to be whole numbers that grow, got ", digits(boundaries));
    });
  }
  for (const double value : values)
    check(value >= 0 && value <= double(std::numeric_limits<float>::max()), ErrorCode::usage,
          [&] { return str(kPiecewise, ": expected values that are finite and not negative, got ", digits(values)); });
  return {formula, str(kPiecewise, "(boundaries=", digits(boundaries), ", values=", digits(values), ")")};
}

Schedule make_of_numbers(const ScheduleEntry& entry, const CallText& call, double learning_rate) {
  for (const auto& [key, _] : call.lists)
    fail(ErrorCode::usage, str(entry.name, ": expected a number for ", key, ", got a list"));
  OptionReader options(entry.name, call.numbers);
  const std::string_view name_of_rate = options.either("learning_rate", "initial_learning_rate");
  const double rate = options.number(name_of_rate, learning_rate, {});
  ScheduleFormula formula = entry.make(options, rate);
  std::string text;
  for (const Hyperparameter& parameter : options.finish())
    text += str(text.empty() ? "" : ", ", parameter.name, "=", exact(parameter.value));
  return {std::move(formula), str(entry.name, "(", text, ")")};
}

}  // namespace

double Schedule::at(int64_t counter) const {
  return std::visit([&](const auto& formula) { return formula.at(counter); }, formula_);
}

int64_t Schedule::length() const {
  return std::visit([](const auto& formula) { return formula.length(); }, formula_);
}

std::vector<std::string_view> schedule_names() {
  std::vector<std::string_view> names;
  for (const ScheduleEntry& entry : kSchedules) names.push_back(entry.name);
  names.push_back(kPiecewise);
  return names;
}

Schedule make_schedule(std::string_view text, double learning_rate) {
  const CallText call = parse_call("learning-rate schedule", text);
  if (call.name == kPiecewise) return make_piecewise(call);
  for (const ScheduleEntry& entry : kSchedules)
    if (entry.name == call.name) return make_of_numbers(entry, call, learning_rate);
  const std::vector<std::string_view> known = schedule_names();
  fail_unknown("learning-rate schedule", call.name, known, list_of(known));
}

}  // namespace lockstep
