// SPDX-License-Identifier: Apache-2.0
#include "tools/train_options.h"

#include <cmath>

#include "kernels/device/check.h"
#include "kernels/device/device.h"

namespace lockstep {
namespace {

void check_at_least(const char* option, int64_t value, int64_t least) {
  check(value >= least, ErrorCode::usage,
        [&] { return str(option, ": expected a whole number of at least ", least, ", got ", value); });
}

void check_virtual_ranks(const TrainOptions& options, int ranks) {
  const int64_t leaves = options.plan.virtual_ranks;
  check_at_least("--virtual-ranks", leaves, 0);
  if (leaves == 0) return;
  check(leaves <= 4096, ErrorCode::usage, [&] { return str("--virtual-ranks: expected at most 4096, got ", leaves); });
  check(options.batch % leaves == 0, ErrorCode::usage, [&] {
    return str("--batch ", options.batch, " is not divisible by --virtual-ranks ", leaves,
               ": every virtual rank takes an equal part; use --batch ", (options.batch / leaves + 1) * leaves);
  });
  check(ranks <= leaves || options.plan.reduce != "tree", ErrorCode::usage, [&] {
    return str("--virtual-ranks ", leaves, " leaves nothing to do for some of ", ranks, " ranks; use at least ", ranks);
  });
}

}  // namespace

ReduceMode parse_reduce(const std::string& name) {
  if (name == "tree") return ReduceMode::tree;
  if (name == "fast") return ReduceMode::fast;
  if (name == "mpi") return ReduceMode::mpi;
  fail(ErrorCode::usage, str("--reduce: expected tree, fast or mpi, got '", name, "'"));
}

void check_device_option(const std::string& device) {
  check(device == "cpu" || device == "cuda", ErrorCode::usage,
        [&] { return str("--device: expected cpu or cuda, got '", device, "'"); });
  if (device == "cpu") return;
  const CudaDevices found = find_cuda_devices();
  check(found.count > 0, ErrorCode::device,
        [&] { return str("--device cuda: no GPU can be used: ", found.detail, "; use --device cpu"); });
  fail(ErrorCode::device, str("--device cuda: this version computes on the CPU only, though it found ", found.detail,
                              "; use --device cpu"));
}

void check_train_options(const TrainOptions& options, int ranks) {
  parse_reduce(options.plan.reduce);
  check_at_least("--epochs", options.epochs, 1);
  check_at_least("--steps", options.steps, 0);
  check_at_least("--batch", options.batch, 1);
  check_at_least("--seed", options.seed, 0);
  check_at_least("--threads", options.threads, 0);
  check(options.batch >= ranks, ErrorCode::usage, [&] {
    return str("--batch ", options.batch, " is smaller than the ", ranks,
               " ranks: every rank needs a sample; use --batch ", ranks, " or fewer ranks");
  });
  check_virtual_ranks(options, ranks);
  check(std::isfinite(options.plan.dropout) && options.plan.dropout >= 0 && options.plan.dropout < 1, ErrorCode::usage,
        [&] { return str("--dropout: expected a rate in [0, 1), got ", options.plan.dropout); });
  check(std::isfinite(options.plan.bucket_mib) && options.plan.bucket_mib > 0, ErrorCode::usage,
        [&] { return str("--bucket-mib: expected a size above 0, got ", options.plan.bucket_mib); });
  check(std::isfinite(options.timeout_seconds) && options.timeout_seconds > 0, ErrorCode::usage,
        [&] { return str("--timeout: expected seconds above 0, got ", options.timeout_seconds); });
  check(options.progress == "auto" || options.progress == "terminal" || options.progress == "plain", ErrorCode::usage,
        [&] { return str("--progress: expected auto, terminal or plain, got '", options.progress, "'"); });
  check_device_option(options.device);
}

std::string run_description(const TrainOptions& options, const Optimizer& optimizer, int64_t virtual_ranks) {
  std::string text = str("model=", options.plan.model, " optimizer=", optimizer.name());
  for (const Hyperparameter& h : optimizer.hyperparameters()) {
    char value[32];
    std::snprintf(value, sizeof value, "%.17g", h.value);
    text += str(" ", h.name, "=", value);
  }
  text += str(" batch=", options.batch, " seed=", options.seed, " dropout=", options.plan.dropout,
              " reduce=", options.plan.reduce, " virtual_ranks=", virtual_ranks);
  for (const std::string& path : options.plan.freeze) text += str(" freeze=", path);
  return text;
}

}  // namespace lockstep
