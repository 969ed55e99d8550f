// SPDX-License-Identifier: Apache-2.0
#include <iostream>
#include <optional>

#include "collectives/handshake.h"
#include "kernels/device/number_text.h"
#include "tools/bench/benchmark.h"
#include "tools/bench/collective_bench.h"
#include "tools/bench/device/device_bench.h"
#include "tools/bench/device/device_collective_bench.h"
#include "tools/bench/kernel_bench.h"
#include "tools/bench/ops/op_bench.h"
#include "tools/bench/plan_bench.h"
#include "tools/bench/tape_bench.h"
#include "tools/bench/train_bench.h"
#include "tools/commands/command_line.h"
#include "tools/training/tasks/chosen_model.h"
#include "tools/training/training_run.h"

namespace lockstep {
namespace {

struct BenchOptions {
  std::string what;
  std::string device = "cpu";
  DeviceTransport transport = DeviceTransport::automatic;
  CollectiveBenchOptions collectives;
  bool json = false;
  int64_t threads = 1;
  std::optional<int64_t> elements;
  bool warm = false;
  RowFilter rows;
  TrainBenchOptions train;
};

void print(const BenchOptions& options, const std::vector<BenchmarkRow>& rows) {
  options.json ? print_json(std::cout, rows) : print_table(std::cout, rows);
}

std::vector<BenchmarkRow> device_kernel_rows(const BenchOptions& options) {
  DeviceBenchOptions device;
  if (options.elements) device.elements = device.sweep_elements = *options.elements;
  if (options.warm) device.timing.cache = Cache::warm;
  device.rows = options.rows;
  DeviceBench bench(device);
  std::vector<BenchmarkRow> rows = bench.memory();
  for (const auto& more : {bench_ops(bench), bench.optimizers(), bench.adam_sizes(), bench.adam_tensors()})
    rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

std::vector<BenchmarkRow> host_kernel_rows(const BenchOptions& options) {
  Stream stream = Stream::cpu(int(options.threads));
  std::vector<BenchmarkRow> rows = bench_ops(int(options.threads), options.rows);
  Pool pool(stream.device());
  const MemoryBenchOptions memory{.elements = options.elements.value_or(int64_t(1) << 26), .rows = options.rows};
  for (const auto& more : {bench_memory(stream, pool, memory), bench_optimizers(stream, pool, memory)})
    rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

std::vector<BenchmarkRow> kernel_rows(const BenchOptions& options) {
  const bool on_gpu = parse_device(options.device) == DeviceKind::cuda;
  std::vector<BenchmarkRow> rows = on_gpu ? device_kernel_rows(options) : host_kernel_rows(options);
  check(!rows.empty(), ErrorCode::usage, [&] {
    return str("--rows: no row has '", options.rows.text, "' in its name; without the option there are all of them");
  });
  return rows;
}

void check_sizes(const CollectiveBenchOptions& sizes) {
  constexpr int64_t kLargest = int64_t(1) << 36;
  check(sizes.smallest_bytes >= 4 && sizes.smallest_bytes <= sizes.largest_bytes && sizes.largest_bytes <= kLargest,
        ErrorCode::usage, [&] {
          return str("--smallest-bytes and --largest-bytes: expected 4 to ", kLargest, " and the smaller first, got ",
                     sizes.smallest_bytes, " and ", sizes.largest_bytes);
        });
  check(sizes.factor >= 2 && sizes.factor <= 1024, ErrorCode::usage,
        [&] { return str("--factor: expected 2 to 1024, got ", sizes.factor); });
}

void bench_gpus(const BenchOptions& options, Communicator& communicator) {
  const Device device = choose_device(communicator, options.transport);
  const DeviceCollectiveBench bench =
      bench_device_collectives(communicator, device, options.transport, options.collectives);
  if (communicator.rank() != 0) return;
  if (options.json)
    print_json(std::cout, device_collective_rows(bench));
  else
    print_device_collectives(std::cout, bench);
}

void bench_collectives_command(const BenchOptions& options, Communicator& communicator) {
  check_sizes(options.collectives);
  if (options.device == "cuda") return bench_gpus(options, communicator);
  CollectiveBenchOptions collectives = options.collectives;
  collectives.threads = int(options.threads);
  const auto lines = bench_collectives(communicator, collectives);
  if (communicator.rank() != 0) return;
  if (options.json)
    print_json(std::cout, collective_rows(lines, communicator.size()));
  else
    print_collectives(std::cout, lines, communicator.size());
}

void run_bench(const BenchOptions& options, Communicator& communicator) {
  const DeviceKind device = parse_device(options.device);
  check(device == DeviceKind::cpu || (options.what != "tape" && options.what != "plan"), ErrorCode::usage,
        [&] { return str("--device cuda: bench ", options.what, " measures work of the host; leave --device out"); });
  check(device == DeviceKind::cuda || !options.warm, ErrorCode::usage,
        "--warm is about the cache of a GPU; leave it out, or use --device cuda");
  check(options.threads >= 1 && options.threads <= 1024, ErrorCode::usage,
        [&] { return str("--threads: expected 1 to 1024, got ", options.threads); });
  check(!options.elements || *options.elements >= 1, ErrorCode::usage,
        [&] { return str("--elements: expected at least 1, got ", *options.elements); });
  check(options.train.batch >= 0 && options.train.rounds >= 1, ErrorCode::usage, [&] {
    return str("--batch and --rounds: expected at least 0 and 1, got ", options.train.batch, " and ",
               options.train.rounds);
  });
  std::string meant = str("threads=", options.threads, " batch=", options.train.batch, " rounds=", options.train.rounds,
                          run_text(options.train.plan, InRun::always),
                          run_text(options.train.plan, InRun::unless_default), " device=", options.device,
                          " transport=", int(options.transport), " bytes=", options.collectives.smallest_bytes, "..",
                          options.collectives.largest_bytes, " factor=", options.collectives.factor, " models=");
  for (const std::string& name : options.train.models) {
    ModelOptions model = options.train.model;
    model.name = name;
    meant += str(options.what == "train" ? model_text(model) : name, " dropout=", exact(model.dropout), " ");
  }
  check_agreement(communicator, {{"options", meant}});
  if (options.what == "collectives") return bench_collectives_command(options, communicator);
  if (options.what == "train") {
    TrainBenchOptions train = options.train;
    train.threads = int(options.threads);
    train.device = options.device;
    train.transport = options.transport;
    const auto rows = bench_training(communicator, train);
    if (communicator.rank() == 0) print(options, rows);
    return;
  }
  if (communicator.rank() != 0) return;  // tape, planner and kernels concern one rank
  print(options, options.what == "tape"   ? bench_tape()
                 : options.what == "plan" ? bench_planning()
                                          : kernel_rows(options));
}

CLI::App& add_kind(CLI::App& bench, const std::string& name, const std::string& help,
                   const std::shared_ptr<BenchOptions>& options, Command& chosen) {
  CLI::App& command = *bench.add_subcommand(name, help);
  command.add_option("--device", options->device, "measure: cpu | cuda")->capture_default_str();
  command.add_option("--threads", options->threads, "threads of each rank")->capture_default_str();
  command.add_flag("--json", options->json, "print a JSON array");
  command.callback([&chosen, options, name] {
    options->what = name;
    chosen = [options](Communicator& c) { return run_bench(*options, c), 0; };
  });
  return command;
}

void add_collectives(CLI::App& bench, const std::shared_ptr<BenchOptions>& options, Command& chosen) {
  CLI::App& command = add_kind(
      bench, "collectives", "All-reduce beside MPI_Allreduce; with --device cuda collectives of GPUs as nccl-tests do",
      options, chosen);
  add_transport_option(command, options->transport, "carry data between GPUs by: auto | nccl | staged");
  command.add_option("-b,--smallest-bytes", options->collectives.smallest_bytes, "begin with this size")
      ->capture_default_str();
  command.add_option("-e,--largest-bytes", options->collectives.largest_bytes, "end with this size")
      ->capture_default_str();
  command.add_option("-f,--factor", options->collectives.factor, "multiply by this from one size to the next")
      ->capture_default_str();
}

void add_training(CLI::App& bench, const std::shared_ptr<BenchOptions>& options, Command& chosen) {
  CLI::App& train = add_kind(bench, "train", "Training steps of the shipped models", options, chosen);
  train.add_option("--model,--model.preset", options->train.models, "train: " + model_choices() + " (repeatable)")
      ->allow_extra_args(false);
  add_config_option(train);
  add_language_settings(train, options->train.model);
  add_activation_options(train, options->train.model, options->train.plan);
  train
      .add_option("--data", options->train.data,
                  "folder of the four IDX files, or a folder and the beginning of their names")
      ->capture_default_str();
  train
      .add_option("--batch", options->train.batch,
                  "samples of each rank (0: 128 images, or as many sequences as have 2,048 tokens)")
      ->capture_default_str();
  add_transport_option(train, options->transport, "carry data between GPUs by: auto | nccl | staged");
  PlanSettings& plan = options->train.plan;
  add_choice(train, "--reduce", plan.reduce, kReduceModes, "sum gradients by: tree | fast | mpi");
  add_choice(train, "--reduce-dtype", plan.reduce_dtype, kStorageDTypes, "add gradients in: f32 | bf16");
  train.add_option("--virtual-ranks", plan.virtual_ranks, "cut the batch into this many parts (0: one for each rank)")
      ->capture_default_str();
  train.add_option("--rounds", options->train.rounds, "measure so often, and take medians")->capture_default_str();
  train.callback([&train, &chosen, options] {
    read_config(train);
    if (!options->train.model.changes.empty() && train.count("--model") == 0) options->train.models = {"gpt-mini"};
    options->what = "train";
    chosen = [options](Communicator& c) { return run_bench(*options, c), 0; };
  });
}

}  // namespace

void add_bench_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App& bench = *app.add_subcommand("bench", "Measure, each figure beside its roof of the same run");
  bench.require_subcommand(1);
  add_kind(bench, "tape", "What the tape adds to an op", options, chosen);
  add_kind(bench, "plan", "What planning costs, for up to 100,000 ranks", options, chosen);
  CLI::App& kernels = add_kind(bench, "kernels", "Ops, memory and optimizers", options, chosen);
  kernels.add_option(
      "--elements", options->elements,
      "parameters of the optimizer rows; on a GPU the most elements of any array (default: 67108864, and 268435456 "
      "for Adam on a GPU)");
  kernels.add_option("--rows", options->rows.text, "measure only rows whose names contain this");
  kernels.add_flag("--warm", options->warm, "leave operands in the cache of a GPU between samples");
  add_collectives(bench, options, chosen);
  add_training(bench, options, chosen);
}

}  // namespace lockstep
