// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/train_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "kernels/device/kernel_times.h"
#include "kernels/matmul.h"
#include "tools/bench/device/device_timing.h"
#include "tools/bench/memory_roof.h"
#include "tools/training/image_part.h"
#include "tools/training/made_up_parts.h"
#include "tools/training/tasks/chosen_model.h"
#include "tools/training/training_run.h"

namespace lockstep {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The products of one step of a model, forward and backward, as plain matrix products.
class ModelProducts {
 public:
  ModelProducts(const Model& model, int64_t samples, Stream& stream, Pool& pool) : stream_(stream) {
    for (const LayerProduct& product : model.products) {
      const int64_t m = product.rows * samples;
      layers_.push_back({Tensor(pool, DType::f32, {m, product.inner}),
                         Tensor(pool, DType::f32, {product.inner, product.columns}),
                         Tensor(pool, DType::f32, {m, product.columns}), product.needs_input_gradient});
      layers_.back().fill(stream_);
    }
  }

  // Seconds of all products. On one CPU thread the faster of Matmul and one plain call of the library counts for each.
  double seconds() {
    double total = 0;
    for (Layer& layer : layers_) {
      total += fastest({.out = layer.y, .a = layer.x, .b = layer.weight});
      total += fastest({.out = layer.weight, .a = layer.x, .b = layer.y, .transpose_a = true});
      if (layer.input_gradient)
        total += fastest({.out = layer.x, .a = layer.y, .b = layer.weight, .transpose_b = true});
      // Values would grow without bound from round to round.
      layer.fill(stream_);
    }
    return total;
  }

 private:
  struct Layer {
    Tensor x, weight, y;
    bool input_gradient;

    // Uninitialised memory may hold denormals, which are slow; any other value multiplies at one speed.
    void fill(Stream& stream) {
      for (const Tensor* t : {&x, &weight, &y}) launch(stream, FillSpread{*t, 1e-2f, 1e-2f});
    }
  };

  double fastest(const Matmul& product) {
    stream_.synchronize();
    double start = now();
    launch(stream_, product);
    stream_.synchronize();
    const double ours = now() - start;
    if (stream_.device().kind != DeviceKind::cpu || stream_.threads() > 1) return ours;
    start = now();
    matmul_by_library(product);
    return std::min(ours, now() - start);
  }

  Stream& stream_;
  std::vector<Layer> layers_;
};

ModelSettings image_settings(const Dataset& dataset) {
  if (dataset.train.count == 0) return {};
  return {.height = dataset.train.height, .width = dataset.train.width, .classes = dataset.classes()};
}

constexpr int64_t kImages = 128, kTokens = 2048;  // of a batch of which nobody says how large it is

// The model of that name with what the options say of all models.
ModelOptions named(const TrainBenchOptions& options, const std::string& name) {
  ModelOptions model = options.model;
  model.name = name;
  if (shipped_transformer(name)) model.optimizer = "adamw";
  check_plan_options(model, options.plan);
  return model;
}

int64_t batch_of(const TrainBenchOptions& options, const ModelOptions& model) {
  if (options.batch > 0) return options.batch;
  const std::optional<TransformerSettings> settings = language_settings(model);
  return settings ? std::max<int64_t>(1, kTokens / sequence_of(*settings, model.sequence)) : kImages;
}

bool reads_tokens(const Model& model) { return model.columns[0].name == "tokens"; }

struct Sample {
  double products = 0, step = 0;  // seconds
};

class TrainBench {
 public:
  TrainBench(Communicator& communicator, const TrainBenchOptions& options, const RunDevice& device,
             const ModelOptions& model)
      : communicator_(communicator),
        dataset_(shipped_transformer(model.name) ? Dataset{} : load_dataset(options.data)),
        batch_(batch_of(options, model)),
        run_(plan_run(model, image_settings(dataset_), options.plan, communicator.size(), ranks_per_node(communicator),
                      device.device.kind),
             communicator, device, 1),
        products_(run_.model(), batch_, run_.stream(), run_.pool()) {
    const int64_t batch = batch_ * communicator.size();
    if (reads_tokens(run_.model())) {
      tokens_.emplace(run_.model().columns, run_.step().first_part(), run_.step().last_part(), batch / run_.parts());
      global_count_ = batch / run_.parts() * run_.parts();
      return;
    }
    loader_.emplace(dataset_.train, LoaderSettings{.batch = batch,
                                                   .steps = int64_t(1) << 40,
                                                   .seed = 1,
                                                   .virtual_ranks = run_.parts(),
                                                   .first_part = run_.step().first_part(),
                                                   .end_part = run_.step().last_part()});
  }

  const Model& model() const { return run_.model(); }
  int64_t batch() const { return batch_; }  // samples of each rank

  // Runs the products once, then `steps` steps.
  Sample round(int64_t steps) {
    Sample sample;
    communicator_.barrier();
    sample.products = products_.seconds();
    communicator_.barrier();
    const double start = now();
    for (int64_t s = 0; s < steps; ++s) step();
    (void)run_.step().report();
    sample.step = (now() - start) / double(steps);
    return sample;
  }

  // The time of each kernel in `steps` steps, whose seconds come as `taken`.
  KernelTimes kernel_times(int64_t steps, double& taken) {
    KernelTimes times;
    communicator_.barrier();
    const double start = now();
    run_.stream().time_kernels(&times);
    for (int64_t s = 0; s < steps; ++s) step();
    run_.stream().time_kernels(nullptr);
    taken = now() - start;
    return times;
  }

 private:
  void step() {
    if (tokens_) return run_.step().queue({next_step_++, global_count_, tokens_->parts()});
    const ImageBatch& batch = loader_->next();
    parts_.clear();
    for (const ImagePart& part : batch.parts) parts_.push_back(image_part(part, dataset_.train));
    run_.step().queue({batch.step, batch.global_count, parts_});
  }

  Communicator& communicator_;
  Dataset dataset_;  // of a model of images
  int64_t batch_;
  TrainingRun run_;
  ModelProducts products_;
  std::optional<MadeUpParts> tokens_;  // in place of a loader
  int64_t global_count_ = 0, next_step_ = 0;
  std::optional<BatchLoader> loader_;
  std::vector<BatchPart> parts_;
};

// A row for each kernel that takes a hundredth of a step or more; `products` are the seconds of the limit.
std::vector<BenchmarkRow> time_rows(TrainBench& bench, const std::string& name, int64_t steps, double products) {
  double taken = 0;
  KernelTimes times = bench.kernel_times(steps, taken);
  std::vector<KernelTimes::Entry> entries = times.entries();
  std::ranges::sort(entries, std::greater(), &KernelTimes::Entry::seconds);
  std::vector<BenchmarkRow> rows;
  const auto add = [&](const std::string& what, double seconds, const std::string& note) {
    rows.push_back({.name = str("train/", name, "/time/", what),
                    .value = seconds / double(steps) * 1e3,
                    .unit = "ms",
                    .roof = taken / double(steps) * 1e3,
                    .share_of_roof = seconds / taken,
                    .note = note});
  };
  double others = 0, inside = 0;
  for (const KernelTimes::Entry& entry : entries) {
    inside += entry.seconds;
    if (entry.seconds < taken / 100) {
      others += entry.seconds;
      continue;
    }
    const std::string kernel = kernel_name(entry.type);
    add(kernel, entry.seconds,
        str(entry.calls / steps, " calls a step",
            kernel == "Matmul" ? str("; the limit, with the products of attention, ", int64_t(products * 1e3), " ms")
                               : ""));
  }
  add("other kernels", others, "of a step in this run; those below a hundredth of it each");
  add("outside of kernels", taken - inside, "tape, sums over ranks, waiting");
  return rows;
}

std::vector<BenchmarkRow> bench_model(Communicator& communicator, const TrainBenchOptions& options,
                                      const RunDevice& device, const std::string& name) {
  TrainBench bench(communicator, options, device, named(options, name));
  // Rank 0 decides how many steps fill a round: all ranks must take as many.
  bench.round(2);
  int64_t steps = std::max<int64_t>(2, int64_t(std::ceil(options.seconds_per_round / bench.round(2).step)));
  Stream stream = Stream::cpu();
  communicator.broadcast(View{&steps, DType::i64, DeviceKind::cpu, Shape{1}}, 0, stream).wait(stream);
  std::vector<double> products, step, share;
  for (int r = 0; r < options.rounds; ++r) {
    const Sample sample = bench.round(steps);
    products.push_back(sample.products);
    step.push_back(sample.step);
    share.push_back(sample.products / sample.step);
  }
  const int64_t flops = bench.model().flops_per_sample() * bench.batch();
  const bool tokens = reads_tokens(bench.model());
  const bool on_cpu = device.device.kind == DeviceKind::cpu;
  const std::string gpu = on_cpu ? "" : "; " + describe_gpu(device.device.index);
  const DType reduced = options.plan.reduce_dtype;
  const std::string note = str(
      "batch ", bench.batch(), " a rank, ", communicator.size(), " ranks x ",
      on_cpu ? str(options.threads, " threads") : "1 GPU", ", reduce ", to_string(options.plan.reduce),
      reduced == DType::f32 ? "" : str(" in ", to_string(reduced)),
      options.plan.activations == DType::f32 ? "" : str(", activations ", to_string(options.plan.activations)), gpu);
  std::vector<BenchmarkRow> rows{
      {.name = "train/" + name,
       .value = double(flops) / median(step) * 1e-9,
       .unit = "GFLOP/s",
       .roof = double(flops) / median(products) * 1e-9,
       .share_of_roof = median(share),
       .flops = flops,
       .note = "per rank, roof: the model's own matrix products; " + note},
      {.name = "train/" + name + (tokens ? "/tokens" : "/images"),
       .value = double(bench.batch() * communicator.size() * (tokens ? bench.model().columns[0].sample.size() : 1)) /
                median(step),
       .unit = tokens ? "tokens/s" : "images/s",
       .flops = flops * communicator.size(),
       .note = note}};
  if (on_cpu)
    for (BenchmarkRow& row : time_rows(bench, name, steps, median(products))) rows.push_back(std::move(row));
  return rows;
}

}  // namespace

std::vector<BenchmarkRow> bench_training(Communicator& communicator, const TrainBenchOptions& options) {
  const RunDevice device = choose_run_device(communicator, options.device, options.transport, options.threads);
  std::vector<BenchmarkRow> rows;
  for (const std::string& model : options.models)
    for (BenchmarkRow& row : bench_model(communicator, options, device, model)) rows.push_back(std::move(row));
  return rows;
}

}  // namespace lockstep
