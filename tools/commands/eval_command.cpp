// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "collectives/handshake.h"
#include "kernels/numerics.h"
#include "runtime/files/standard_output.h"
#include "tools/commands/command_line.h"
#include "tools/training/build_identity.h"
#include "tools/training/evaluate.h"
#include "tools/training/training_run.h"
#include "tools/training/weights.h"

namespace lockstep {
namespace {

struct EvalOptions {
  std::string model = "mlp";
  std::string data = kDefaultDataFolder;
  int64_t classes = 0;
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
  const Dataset dataset = load_dataset(options.data, options.classes);
  Model model = make_model(
      options.model,
      {.height = dataset.test.height, .width = dataset.test.width, .classes = dataset.classes(), .dropout = 0});
  narrow_as_stored(options.weights, model);
  const RunDevice device = choose_run_device(communicator, options.device, DeviceTransport::staged, options.threads);
  Stream stream = device.stream();
  Pool host_pool({}), pool(stream.device());
  std::vector<Tensor> values;
  for (const VariableDeclaration& variable : model.variables.declarations())
    values.emplace_back(host_pool, variable.dtype, variable.shape, Purpose::parameters);
  load_weights(options.weights, model, values);
  check_finite(options.weights, model, values);
  // Every rank counts a part of the images: the sum means something only for one model and one data set.
  check_agreement(communicator, {{"binary", build_identity()},
                                 {"model", options.model},
                                 {"numerics", numerics(device.device)},
                                 {"data", fmt::format("{:016x}", dataset.content_hash)},
                                 {"weights", fmt::format("{:016x}", hash_weights(values))}});
  if (device.device.kind == DeviceKind::cuda) bring_to(stream, pool, values);
  const int64_t correct = count_correct(communicator, stream, pool, model, values, dataset.test);
  if (communicator.rank() == 0)
    print_output(fmt::format("test_accuracy={:.4f} correct={} images={}\n",
                             double(correct) / double(dataset.test.count), correct, dataset.test.count));
}

}  // namespace

void add_eval_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App& command = *app.add_subcommand("eval", "Count the right answers of saved weights on the test images");
  command.add_option("--model", options->model, "the model that the weights are of: " + model_choices())
      ->capture_default_str();
  command
      .add_option("--data", options->data, "folder of the four IDX files, or a folder and the beginning of their names")
      ->capture_default_str();
  command.add_option("--classes", options->classes, "classes of the images (0: those of the training labels)")
      ->capture_default_str();
  command
      .add_option("--weights", options->weights, "take the weights from this safetensors file, written by train --save")
      ->required();
  command.add_option("--device", options->device, "compute on: cpu | cuda, one GPU a rank")->capture_default_str();
  command.add_option("--threads", options->threads, "threads of each rank (0: the cores it may use)")
      ->capture_default_str();
  command.callback([&chosen, options] { chosen = [options](Communicator& c) { return run_eval(*options, c), 0; }; });
}

}  // namespace lockstep
