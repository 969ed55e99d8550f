// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "collectives/handshake.h"
#include "kernels/numerics.h"
#include "runtime/files/standard_output.h"
#include "runtime/language/language_model.h"
#include "tools/commands/command_line.h"
#include "tools/training/build_identity.h"
#include "tools/training/tasks/chosen_model.h"
#include "tools/training/tasks/training_task.h"
#include "tools/training/training_run.h"
#include "tools/training/weights.h"

namespace lockstep {
namespace {

struct EvalOptions {
  ModelOptions model;
  DataOptions data;
  std::string weights;
  std::string device = "cpu";
  int64_t threads = 0;
};

// Moves `values` into memory of the stream's device.
void bring_to(Stream& stream, Pool& pool, std::vector<Tensor>& values) {
  for (Tensor& value : values) {
    Tensor there(pool, value.dtype(), value.shape(), Purpose::parameters);
    copy(stream, there, value);
    stream.synchronize();
    value = std::move(there);
  }
}

void run_eval(const EvalOptions& options, Communicator& communicator) {
  check_threads(options.threads);
  Pool host_pool({});
  std::error_code ignored;
  std::optional<LanguageModel> folder;
  if (std::filesystem::exists(options.weights + "/config.json", ignored))
    folder = load_language_model(options.weights, host_pool);
  DataOptions data = options.data;
  // All that a language model is given here is to judge it by.
  if (folder || language_settings(options.model)) data.validation = std::exchange(data.files, {});
  if (folder && data.tokenizer.empty() && holds_tokenizer(options.weights)) data.tokenizer = options.weights;
  const std::unique_ptr<TrainingTask> task =
      folder ? make_language_task(communicator, folder->settings, sequence_of(folder->settings, options.model.sequence),
                                  data)
             : make_task(communicator, options.model, data);
  check(task->can_score(), ErrorCode::usage, "--data: expected files of tokens for a language model, got none");
  Model model = folder ? folder->model : make_chosen_model(options.model, task->images());
  if (!folder) narrow_as_stored(options.weights, model);
  const RunDevice device = choose_run_device(communicator, options.device, DeviceTransport::staged, options.threads);
  Stream stream = device.stream();
  Pool pool(stream.device());
  std::vector<Tensor> values;
  if (folder) values = std::move(folder->values);
  if (!folder) {
    for (const VariableDeclaration& variable : model.variables.declarations())
      values.emplace_back(host_pool, variable.dtype, variable.shape, Purpose::parameters);
    load_weights(options.weights, model, values);
  }
  check_finite(options.weights, model, values);
  // Every rank counts a part of the data: the sum means something only for one model and one data set.
  check_agreement(communicator, {{"binary", build_identity()},
                                 {"model", folder ? std::string("of a folder") : model_text(options.model)},
                                 {"numerics", numerics(device.device)},
                                 {"data", fmt::format("{:016x}", task->content_hash())},
                                 {"weights", fmt::format("{:016x}", hash_weights(values))}});
  if (device.device.kind == DeviceKind::cuda) bring_to(stream, pool, values);
  const Score score = *task->score({communicator, stream, pool, model, values});
  if (communicator.rank() == 0) print_output(fmt::format("{} {}\n", score.text, score.counts));
}

}  // namespace

void add_eval_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App& command = *app.add_subcommand("eval", "Judge saved weights by the test images, or by tokens");
  add_config_option(command);
  add_model_options(command, options->model);
  command
      .add_option("--data", options->data.files,
                  "images: folder of the four IDX files, or a folder and the beginning of their names; language "
                  "models: files of tokens to judge by, or globs (repeatable)")
      ->default_str(kDefaultDataFolder);
  command.add_option("--tokenizer,--data.tokenizer", options->data.tokenizer,
                     "the tokenizer that made the tokens: tells bits per byte");
  command.add_option("--eval-tokens", options->data.eval_tokens, "judge by so many tokens (0: all)")
      ->capture_default_str();
  command.add_option("--classes", options->data.classes, "classes of the images (0: those of the training labels)")
      ->capture_default_str();
  command
      .add_option(
          "--weights", options->weights,
          "take the weights from this safetensors file, written by train --save, or from a folder of Hugging Face")
      ->required();
  command.add_option("--device", options->device, "compute on: cpu | cuda, one GPU a rank")->capture_default_str();
  command.add_option("--threads", options->threads, "threads of each rank (0: the cores it may use)")
      ->capture_default_str();
  command.callback([&command, &chosen, options] {
    read_config(command);
    finish_model_options(command, options->model);
    chosen = [options](Communicator& c) { return run_eval(*options, c), 0; };
  });
}

}  // namespace lockstep
