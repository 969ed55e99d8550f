// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "collectives/host/thread_ranks.h"
#include "optimizers/optimizer.h"
#include "runtime/data/dataset.h"
#include "runtime/files/standard_output.h"
#include "runtime/models/model_list.h"
#include "runtime/variables/precision.h"
#include "tools/commands/command_line.h"
#include "tools/training/train.h"

namespace lockstep {
namespace {

void print_result(const TrainResult& result, int ranks) {
  print_output(fmt::format("{} steps={} ranks={}\n", result.text, result.steps, ranks));
}

// Returns the exit code.
int train_on(const TrainOptions& options, Communicator& communicator, const StopRequest& asked) {
  communicator.set_timeout(std::chrono::milliseconds(int64_t(options.timeout_seconds * 1e3)));
  const TrainResult result = train(options, communicator, asked);
  if (result.signal != 0) return exit_code_of_signal(result.signal);
  if (communicator.rank() == 0) print_result(result, communicator.size());
  return 0;
}

int run_train(const TrainOptions& options, Communicator& launched) {
  std::optional<double> seconds;
  if (!options.checkpoints.exit_after.empty()) seconds = seconds_of("--exit-after", options.checkpoints.exit_after);
  const StopRequest asked(seconds);
  if (options.ranks == 0) return train_on(options, launched, asked);
  check(launched.size() == 1, ErrorCode::usage, [&] {
    return str("--ranks ", options.ranks, " starts ranks as threads, but the launcher has started ", launched.size(),
               " processes already; use one or the other");
  });
  check(options.ranks >= 1 && options.ranks <= 256, ErrorCode::usage,
        [&] { return str("--ranks: expected 1 to 256 ranks, got ", options.ranks); });
  int code = 0;
  run_thread_ranks({.ranks = int(options.ranks), .node_of = {}}, [&](Communicator& communicator) {
    const int mine = train_on(options, communicator, asked);
    if (communicator.rank() == 0) code = mine;
  });
  return code;
}

void add_hyperparameter(CLI::App& command, ModelOptions& options, const std::string& flag, const std::string& name,
                        const std::string& help) {
  command.add_option_function<double>(
      flag, [&options, name](const double& value) { options.hyperparameters[name] = value; }, help);
}

}  // namespace

CLI::Option* add_mib_option(CLI::App& command, const char* flag, int64_t& bytes, const std::string& help) {
  CLI::Option* option = command.add_option_function<double>(
      flag, [flag, &bytes](const double& mib) { bytes = bytes_of_mib(flag, mib); }, help);
  return bytes == 0 ? option : option->default_str(str(double(bytes) / (1 << 20)));
}

std::string model_choices() { return fmt::format("{}", fmt::join(model_names(), " | ")); }

CLI::Option* add_transport_option(CLI::App& command, DeviceTransport& transport, const std::string& help) {
  return command
      .add_option_function<std::string>(
          "--transport", [&transport](const std::string& name) { transport = parse_device_transport(name); }, help)
      ->default_str("auto");
}

void add_plan_options(CLI::App& command, ModelOptions& options, PlanSettings& plan) {
  add_config_option(command);
  add_model_options(command, options);
  command
      .add_option("--optimizer,--optimizer.name", options.optimizer,
                  fmt::format("update rule: {}", fmt::join(optimizer_names(), " | ")))
      ->capture_default_str();
  add_hyperparameter(command, options, "--learning-rate,--optimizer.learning_rate", "learning_rate",
                     "step size of the optimizer (default: its own)");
  add_hyperparameter(command, options, "--momentum,--optimizer.momentum", "momentum",
                     "keep this share of the last step in the next (sgd, rmsprop and others; docs/optimizers.md)");
  add_hyperparameter(command, options, "--nesterov,--optimizer.nesterov", "nesterov",
                     "look ahead along the momentum: 1, or 0 (sgd)");
  add_hyperparameter(command, options, "--beta-1,--optimizer.beta_1", "beta_1",
                     "decay of the running mean of gradients (adam and its kin)");
  add_hyperparameter(command, options, "--beta-2,--optimizer.beta_2", "beta_2",
                     "decay of the running mean of their squares (adam and its kin)");
  add_hyperparameter(command, options, "--epsilon,--optimizer.epsilon", "epsilon",
                     "added to the root that a step is divided by (adam and its kin)");
  add_hyperparameter(
      command, options, "--weight-decay,--optimizer.weight_decay", "weight_decay",
      "take this share of each weight off in every step, times the rate: decoupled, with every optimizer");
  command
      .add_option_function<std::vector<std::string>>(
          "--optimizer-option",
          [&options](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) set_hyperparameter(options, "--optimizer-option", text);
          },
          "set any hyper-parameter of the optimizer: NAME=VALUE, such as rho=0.95 (repeatable; docs/optimizers.md)")
      ->allow_extra_args(false);
  command
      .add_option("--virtual-ranks,--train.virtual_ranks", plan.virtual_ranks,
                  "cut the batch into this many parts: with the same number, every number of ranks gives the same bits "
                  "(0: one for each rank)")
      ->capture_default_str();
  add_choice(command, "--reduce", plan.reduce, kReduceModes,
             "sum gradients by: tree, canonical sums with the same bits | fast, one part per rank | mpi, "
             "MPI_Allreduce, to compare");
  command
      .add_option_function<std::string>(
          "--precision,--train.precision",
          [&options, &plan](const std::string& name) {
            const Precision& precision = parse_choice("--precision", name, kPrecisions);
            options.weights = precision.weights;
            plan.stochastic_rounding = precision.stochastic_rounding;
          },
          "keep matrices in: f32 | bf16, with f32 masters | bf16-stochastic, without | f16, with f32 masters "
          "(docs/precision.md)")
      ->default_str("f32");
  add_choice(command, "--reduce-dtype", plan.reduce_dtype, kStorageDTypes,
             "add gradients in: f32 | bf16, they and their sums are rounded to bf16, and half the bytes travel");
  add_activation_options(command, options, plan);
  command.add_option("--freeze", options.freeze, "do not train the variable of this path (repeatable)")
      ->allow_extra_args(false);
  command
      .add_option_function<std::vector<std::string>>(
          "--group",
          [&options](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) options.groups.push_back(parse_group_rule(text));
          },
          "set variables apart: PATTERN => SETTINGS for those whose whole path matches: \"freeze\", "
          "\"weight_decay=0, rate_factor=0.1\" or \"sgd(learning_rate=0.1)\" (repeatable; docs/optimizers.md)")
      ->allow_extra_args(false);
  command.add_option("--ema-momentum", options.ema_momentum,
                     "keep a running average of every trained variable, which is what evaluation and files get");
  command.add_option("--ema-overwrite-every", options.ema_overwrite_every,
                     "let variables take their averages after every so many steps");
  command.add_option(
      "--loss-scale", options.loss_scale,
      "multiply the loss by this power of two: halved when a gradient is not finite, doubled after a while");
  command.add_option("--loss-scale-growth-steps", options.loss_scale_growth_steps,
                     "double the loss scale after so many steps without such a gradient (default: 2000)");
  add_mib_option(command, "--bucket-mib", plan.bucket_bytes,
                 "sum so many MiB of gradients together (default: 4 on CPU ranks, 25 to 64 on GPUs, by their number)");
  add_mib_option(command, "--first-bucket-mib", plan.first_bucket_bytes,
                 "the same for the bucket that is summed first, so that it starts early (default: as the others)");
}

namespace {

void add_checkpoint_options(CLI::App& command, CheckpointRunOptions& options) {
  command.add_option(
      "--checkpoint-dir,--checkpoint.dir", options.folder,
      "write checkpoints into this folder, at the end and when the run is stopped (docs/checkpoints.md)");
  command.add_option("--checkpoint-every,--checkpoint.every", options.every, "and after every so many steps");
  command.add_option("--keep,--checkpoint.keep", options.keep.newest, "keep so many checkpoints, the newest")
      ->capture_default_str();
  command.add_option("--keep-every,--checkpoint.keep_every", options.keep.every,
                     "keep those of every so many steps besides");
  add_choice(command, "--checkpoint-errors,--checkpoint.errors", options.errors, kCheckpointErrors,
             "when a checkpoint cannot be written: warn | stop");
  command.add_option("--resume,--checkpoint.resume", options.resume,
                     "go on from the newest checkpoint that can be read, if there is one: auto; or from the one in "
                     "this folder");
  command
      .add_option("--allow-change", options.allow_change,
                  "go on though this is otherwise than in the checkpoint, such as batch (repeatable; "
                  "docs/checkpoints.md)")
      ->allow_extra_args(false);
  command.add_option("--exit-after,--checkpoint.exit_after", options.exit_after,
                     "stop after this time, such as 3h50m, as when asked by a signal");
  command
      .add_option_function<std::vector<std::string>>(
          "--inject",
          [&options](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) options.inject.push_back(parse_fault(text));
          },
          "rehearse a fault, such as kill@step=7,rank=1 (repeatable; docs/checkpoints.md)")
      ->allow_extra_args(false);
}

}  // namespace

void add_train_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App& command = *app.add_subcommand("train", "Train a model on images or tokens, on all ranks of the launcher");
  add_plan_options(command, options->model, options->plan);
  command
      .add_option("--data,--data.train", options->data.files,
                  "images: folder of the four IDX files, or a folder and the beginning of their names; language "
                  "models: files of tokens, or globs (repeatable)")
      ->default_str(kDefaultDataFolder);
  command.add_option("--validation,--data.validation", options->data.validation,
                     "judge a language model by these files of tokens (repeatable)");
  command.add_option("--tokenizer,--data.tokenizer", options->data.tokenizer,
                     "the tokenizer that made the tokens: tells bits per byte, and sees to it that they belong to it");
  command
      .add_option("--eval-every,--train.eval_every", options->eval_every,
                  "judge the model after every so many steps (0: at the end)")
      ->capture_default_str();
  command
      .add_option("--eval-tokens,--train.eval_tokens", options->data.eval_tokens,
                  "judge by so many tokens of the validation (0: all)")
      ->capture_default_str();
  command
      .add_option("--sample-every,--train.sample_every", options->sample.every,
                  "let a language model write a text after every so many steps, for people to look at (0: never)")
      ->capture_default_str();
  command.add_option("--sample-prompt,--train.sample_prompt", options->sample.prompt,
                     "let it go on with this text (default: begin one)");
  command
      .add_option("--sample-tokens,--train.sample_tokens", options->sample.tokens,
                  "let it write up to so many tokens each time")
      ->capture_default_str();
  command.add_option("--classes", options->data.classes, "classes of the images (0: those of the training labels)")
      ->capture_default_str();
  command.add_option("--epochs,--train.epochs", options->epochs, "go through the training images so many times")
      ->capture_default_str();
  command.add_option("--steps,--train.steps", options->steps, "train for so many steps, instead of epochs");
  command.add_option("--schedule,--optimizer.schedule", options->schedule,
                     "change the learning rate by step, such as \"cosine(steps=2345, warmup_steps=100)\" "
                     "(docs/optimizers.md)");
  CLI::Option* batch = command.add_option("--batch,--train.batch", options->batch,
                                          "samples of a step, all ranks together (default: 128 images, 16 of tokens)");
  auto batch_tokens = std::make_shared<int64_t>(0);
  add_batch_tokens_option(command, *batch_tokens)->excludes(batch);
  command
      .add_option("--accumulation,--train.accumulation", options->plan.accumulation,
                  "compute a rank's part of the batch in so many micro-batches, with one synchronisation")
      ->capture_default_str();
  command.add_option("--clipnorm,--optimizer.clipnorm", options->clip.clipnorm,
                     "scale each variable's gradient down to this norm (0: off)");
  command.add_option("--global-clipnorm,--optimizer.global_clipnorm", options->clip.global_clipnorm,
                     "scale all gradients down together to this norm over all variables (0: off)");
  command.add_option("--clipvalue,--optimizer.clipvalue", options->clip.clipvalue,
                     "bring gradients into [-X, X] (0: off)");
  command.add_option("--seed,--train.seed", options->seed, "seed of first values, shuffling and dropout")
      ->capture_default_str();
  command.add_option("--threads,--train.threads", options->threads, "threads of each rank (0: the cores it may use)")
      ->capture_default_str();
  command.add_option("--ranks", options->ranks, "run this many ranks as threads of one process, without a launcher");
  command.add_option("--device,--train.device", options->device, "compute on: cpu | cuda, one GPU a rank")
      ->capture_default_str();
  add_transport_option(command, options->transport,
                       "carry gradients between GPUs by: auto | nccl | staged, through memory of the host, also where "
                       "ranks share a GPU");
  command.add_flag("--graph", options->graph, "record a step on a GPU once and launch it as a whole");
  command.add_option("--profile-steps", options->profile_steps,
                     "FIRST:LAST: the steps that a profiler records which waits for them (nsys "
                     "--capture-range=cudaProfilerApi)");
  command
      .add_option("--timeout", options->timeout_seconds,
                  "wait so many seconds for other ranks, from their start to their end")
      ->capture_default_str();
  command
      .add_option("--progress", options->progress,
                  "show progress: auto | terminal, one line that is rewritten | plain, lines")
      ->capture_default_str();
  const auto not_empty = [](const std::string& name) {
    return std::string(name.empty() ? "expected the name of a file, got ''; leave the option out to write none" : "");
  };
  command.add_option("--ledger,--train.ledger", options->ledger, "write a line of state hashes per step to this file")
      ->check(not_empty);
  command.add_option("--metrics,--train.metrics", options->metrics, "write a JSON object per step to this file")
      ->check(not_empty);
  command
      .add_option(
          "--record,--train.record", options->record,
          "write what each part of the batch and each variable came to in every step to this file, for lockstep "
          "diff")
      ->check(not_empty);
  command
      .add_option("--save,--train.save", options->save,
                  "write the trained weights to this safetensors file; of a language model, with a slash at the end, "
                  "into this folder as Hugging Face has them")
      ->check(not_empty);
  command
      .add_option_function<std::vector<std::string>>(
          "--audit,--train.audit",
          [options](const std::vector<std::string>& names) {
            for (const std::string& name : names) options->audits.push_back(parse_choice("--audit", name, kAudits));
          },
          "look over and over at what may go wrong unnoticed, such as replicas: copies of weights and slots are "
          "compared before every update, and mended (docs/resilience.md)")
      ->allow_extra_args(false);
  add_checkpoint_options(command, options->checkpoints);
  command.callback([&command, &chosen, options, batch_tokens] {
    read_config(command);
    finish_model_options(command, options->model);
    const bool given = command.count("--batch") > 0;
    if (!given) options->batch = batch_of(options->model, 0, *batch_tokens, options->batch);
    chosen = [options](Communicator& c) { return run_train(*options, c); };
  });
}

}  // namespace lockstep
