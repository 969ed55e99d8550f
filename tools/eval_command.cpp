// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "collectives/handshake.h"
#include "tools/build_identity.h"
#include "tools/command_line.h"
#include "tools/evaluate.h"
#include "tools/training_run.h"
#include "tools/weights.h"

namespace lockstep {
namespace {

struct EvalOptions {
  std::string model = "mlp";
  std::string data = kDefaultDataFolder;
  std::string weights;
  int64_t threads = 0;
};

void run_eval(const EvalOptions& options, Communicator& communicator) {
  check_threads(options.threads);
  const Dataset dataset = load_dataset(options.data);
  const Model model = make_model(
      options.model, {.height = dataset.test.height, .width = dataset.test.width, .classes = kClasses, .dropout = 0});
  Stream stream = Stream::cpu(options.threads > 0 ? int(options.threads) : default_threads(communicator.place()));
  Pool pool(stream.device());
  std::vector<Tensor> values;
  for (const VariableDeclaration& variable : model.variables.declarations())
    values.emplace_back(pool, variable.dtype, variable.shape, Purpose::parameters);
  load_weights(options.weights, model, values);
  // Every rank counts for a part of the images: their sum means something for one model and data set alone.
  check_agreement(communicator, {{"binary", build_identity()},
                                 {"model", options.model},
                                 {"data", fmt::format("{:016x}", dataset.content_hash)},
                                 {"weights", fmt::format("{:016x}", hash_weights(values))}});
  const int64_t correct = count_correct(communicator, stream, pool, model, values, dataset.test);
  if (communicator.rank() == 0)
    fmt::print("test_accuracy={:.4f} correct={} images={}\n", double(correct) / double(dataset.test.count), correct,
               dataset.test.count);
}

}  // namespace

void add_eval_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App& command = *app.add_subcommand("eval", "Count the right answers of saved weights on the test images");
  command.add_option("--model", options->model, "mlp | cnn")->capture_default_str();
  command.add_option("--data", options->data, "folder of the four IDX files")->capture_default_str();
  command.add_option("--weights", options->weights, "safetensors file written by train --save")->required();
  command.add_option("--threads", options->threads, "per rank (0: the cores it may use)")->capture_default_str();
  command.callback([&chosen, options] { chosen = [options](Communicator& c) { run_eval(*options, c); }; });
}

}  // namespace lockstep
