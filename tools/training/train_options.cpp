// SPDX-License-Identifier: Apache-2.0
#include "tools/training/train_options.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "kernels/device/check.h"
#include "kernels/device/device.h"
#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"
#include "runtime/models/model_list.h"
#include "runtime/variables/precision.h"
#include "tools/training/tasks/chosen_model.h"

namespace lockstep {
namespace {

void check_between(const char* option, int64_t value, int64_t least, int64_t most) {
  check(value >= least && value <= most, ErrorCode::usage,
        [&] { return str(option, ": expected a whole number from ", least, " to ", most, ", got ", value); });
}

void check_virtual_ranks(const TrainOptions& options, int ranks) {
  const int64_t leaves = options.plan.virtual_ranks;
  if (leaves == 0) return;
  check(options.batch % leaves == 0, ErrorCode::usage, [&] {
    return str("--batch ", options.batch, " is not divisible by --virtual-ranks ", leaves,
               ": every virtual rank takes an equal part; use --batch ", (options.batch / leaves + 1) * leaves);
  });
  check(ranks <= leaves || options.plan.reduce != ReduceMode::tree, ErrorCode::usage, [&] {
    return str("--virtual-ranks ", leaves, " leaves nothing to do for some of ", ranks, " ranks; use at least ", ranks);
  });
}

}  // namespace

int64_t bytes_of_mib(const char* option, double mib) {
  check(mib > 0 && mib <= 1e6, ErrorCode::usage,
        [&] { return str(option, ": expected a size above 0 and up to 1e6, got ", exact(mib)); });
  return std::max<int64_t>(1, int64_t(mib * 1024 * 1024));
}

OptimizerSet choose_optimizers(const ModelOptions& options, VariableTable& variables) {
  if (is_narrow(options.weights)) variables.narrow_weights(options.weights);
  std::vector<std::string_view> paths;
  for (const VariableDeclaration& variable : variables.declarations()) paths.push_back(variable.path);
  for (const std::string& path : options.freeze) check_known("variable", path, paths, list_of(paths));
  for (const std::string& path : options.freeze) variables.freeze(path);
  OptimizerChoice choice{.name = options.optimizer, .options = options.hyperparameters, .rules = options.groups};
  check(options.ema_momentum || !options.ema_overwrite_every, ErrorCode::usage,
        "--ema-overwrite-every says when averages are taken over; give --ema-momentum too");
  if (options.ema_momentum) {
    check_between("--ema-overwrite-every", options.ema_overwrite_every.value_or(1), 1, int64_t(1) << 62);
    choice.average = {.momentum = *options.ema_momentum, .overwrite_every = options.ema_overwrite_every.value_or(0)};
  }
  check(options.loss_scale || !options.loss_scale_growth_steps, ErrorCode::usage,
        "--loss-scale-growth-steps says when the factor grows; give --loss-scale too");
  // f16 loses small gradients.
  if (options.weights == DType::f16) choice.scaling = LossScaling{};
  if (options.loss_scale)
    choice.scaling = {.initial = *options.loss_scale,
                      .growth_steps = options.loss_scale_growth_steps.value_or(LossScaling{}.growth_steps)};
  return make_optimizer_set(variables, choice);
}

void check_threads(int64_t threads) { check_between("--threads", threads, 0, 1024); }

void check_plan_options(const ModelOptions& model, const PlanSettings& plan) {
  check_reduce_dtype(plan.reduce, plan.reduce_dtype);
  check_between("--virtual-ranks", plan.virtual_ranks, 0, 4096);
  check(plan.activations == DType::f32 || shipped_transformer(model.name), ErrorCode::usage, [&] {
    return str("--activations ", to_string(plan.activations), ": the ops of model ", model.name,
               " keep activations in f32; leave it out, or choose a language model (--model gpt-mini)");
  });
  check(plan.activations == DType::f32 || model.weights != DType::f16, ErrorCode::usage, [&] {
    return str("--activations ", to_string(plan.activations),
               " with --precision f16: a product takes both operands in one narrow dtype; use --precision bf16, or "
               "activations of f32");
  });
  // A rate that f32 rounds to 1 would leave nothing.
  check(model.dropout >= 0 && float(model.dropout) < 1, ErrorCode::usage, [&] {
    return str("--dropout: expected a rate in [0, 1)", model.dropout < 1 ? " that stays below 1 in f32" : "", ", got ",
               exact(model.dropout));
  });
}

std::string_view to_string(Audit audit) {
  constexpr std::string_view names[] = {"replicas"};
  return names[size_t(audit)];
}

void check_train_options(const TrainOptions& options, int ranks) {
  check_plan_options(options.model, options.plan);
  check(!language_settings(options.model) || !options.data.files.empty(), ErrorCode::usage, [&] {
    return str("--data: model ", options.model.name,
               " reads tokens, expected files of them, such as --data 'train*.bin', got none; lockstep tokenize encode "
               "writes them");
  });
  // The steps of all epochs can be counted: no data set has more than 2^32 samples.
  check_between("--epochs", options.epochs, 1, 1'000'000'000);
  check_between("--steps", options.steps, 0, 1'000'000'000'000);
  check_between("--eval-every", options.eval_every, 0, 1'000'000'000'000);
  check_between("--sample-every", options.sample.every, 0, 1'000'000'000'000);
  check_between("--sample-tokens", options.sample.tokens, 1, 1'000'000);
  check(options.sample.every > 0 || options.sample.prompt.empty(), ErrorCode::usage,
        "--sample-prompt says how texts begin that are written during training; give --sample-every STEPS too");
  check_between("--batch", options.batch, 1, 1'000'000'000);
  check_between("--accumulation", options.plan.accumulation, 1, 1'000'000);
  check_between("--seed", options.seed, 0, std::numeric_limits<int64_t>::max());
  check_threads(options.threads);
  check(options.batch >= ranks, ErrorCode::usage, [&] {
    return str("--batch ", options.batch, " is smaller than the ", ranks,
               " ranks: every rank needs a sample; use --batch ", ranks, " or fewer ranks");
  });
  check_virtual_ranks(options, ranks);
  check_clip_options(options.clip);
  check(options.timeout_seconds > 0 && options.timeout_seconds <= 1e6, ErrorCode::usage,
        [&] { return str("--timeout: expected seconds above 0 and up to 1e6, got ", exact(options.timeout_seconds)); });
  check_checkpoint_options(options.checkpoints);
  check(options.progress == "auto" || options.progress == "terminal" || options.progress == "plain", ErrorCode::usage,
        [&] { return str("--progress: expected auto, terminal or plain, got '", options.progress, "'"); });
  const bool on_gpu = parse_device(options.device) == DeviceKind::cuda;
  parse_profile_steps(options.profile_steps);
  check(on_gpu || options.profile_steps.empty(), ErrorCode::usage,
        "--profile-steps is for profilers of GPUs; leave it out, or use --device cuda");
  check(on_gpu || !options.graph, ErrorCode::usage,
        "--graph records the work of a GPU; leave it out, or use --device cuda");
  check(!on_gpu || options.plan.reduce != ReduceMode::mpi, ErrorCode::usage,
        "--reduce mpi sums in memory of the host; with --device cuda reduce by 'tree' or 'fast'");
}

StepInterval parse_profile_steps(const std::string& text) {
  if (text.empty()) return {};
  StepInterval steps;
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, steps.first);
  const bool has_colon = first.ec == std::errc() && first.ptr < end && *first.ptr == ':';
  const auto last = std::from_chars(has_colon ? first.ptr + 1 : end, end, steps.last);
  check(has_colon && last.ec == std::errc() && last.ptr == end && steps.first >= 1 && steps.first <= steps.last,
        ErrorCode::usage, [&] {
          return str("--profile-steps: expected FIRST:LAST, two numbers of steps from 1 on, as 10:12, got '", text,
                     "'");
        });
  return steps;
}

void set_hyperparameter(ModelOptions& options, const std::string& option, const std::string& text) {
  const size_t sign = text.find('=');
  const bool named = sign != std::string::npos && sign > 0;
  const std::optional<double> value = named ? real_number_in(std::string_view(text).substr(sign + 1)) : std::nullopt;
  check(value.has_value(), ErrorCode::usage,
        [&] { return str(option, ": expected NAME=VALUE with a number, such as beta_1=0.95, got '", text, "'"); });
  const std::string name = text.substr(0, sign);
  const auto given = options.hyperparameters.emplace(name, *value);
  check(given.second, ErrorCode::usage, [&] {
    return str(option, " ", text, ": ", name, " is ", exact(given.first->second),
               " by another option already; leave one of them out");
  });
}

std::vector<RunFact> run_facts(const TrainOptions& options, const OptimizerSet& optimizer,
                               const std::optional<Schedule>& schedule, const PlanSettings& settings) {
  std::vector<RunFact> facts{{"model", model_text(options.model)}};
  const auto add = [&](std::string name, std::string value) { facts.push_back({std::move(name), std::move(value)}); };
  const auto add_setting = [&](const SettingText& setting, InRun kind) {
    if (is_told(setting, kind)) add(setting.field.name, setting.value);
  };
  // It begins with "optimizer=".
  const std::string described = optimizer.description();
  add("optimizer", described.substr(described.find('=') + 1));
  add("batch", str(options.batch));
  add("seed", str(options.seed));
  add("dropout", exact(options.model.dropout));
  const std::vector<SettingText> texts = setting_texts(settings);
  for (const SettingText& setting : texts) add_setting(setting, InRun::always);
  const Precision& precision = precision_of(options.model.weights, settings.stochastic_rounding);
  if (precision.weights != DType::f32) add("precision", std::string(precision.name));
  if (options.data.classes > 0) add("classes", str(options.data.classes));
  for (const SettingText& setting : texts) {
    if (std::string_view(setting.field.name) == "accumulation")  // in every ledger the frozen variables come before it
      for (const std::string& path : options.model.freeze) add("freeze", path);
    add_setting(setting, InRun::unless_default);
  }
  if (schedule) add("schedule", schedule->text());
  if (options.clip.clipnorm > 0) add("clipnorm", exact(options.clip.clipnorm));
  if (options.clip.global_clipnorm > 0) add("global_clipnorm", exact(options.clip.global_clipnorm));
  if (options.clip.clipvalue > 0) add("clipvalue", exact(options.clip.clipvalue));
  return facts;
}

std::string run_description(const TrainOptions& options, const OptimizerSet& optimizer,
                            const std::optional<Schedule>& schedule, const PlanSettings& settings) {
  std::string text;
  for (const RunFact& fact : run_facts(options, optimizer, schedule, settings))
    text += str(text.empty() ? "" : " ", fact.name, "=", fact.value);
  return text;
}

}  // namespace lockstep
