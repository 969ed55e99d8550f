// SPDX-License-Identifier: Apache-2.0
#include "tools/training/run_outputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "runtime/files/atomic_file.h"
#include "runtime/files/standard_output.h"
#include "runtime/state/ledger.h"
#include "tools/training/output_files.h"

namespace lockstep {
namespace {

bool is_file_to_be(const std::string& path) {
  std::error_code ignored;
  const auto type = std::filesystem::status(path, ignored).type();
  return type != std::filesystem::file_type::fifo && type != std::filesystem::file_type::character;
}

bool has_content(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored) && std::filesystem::file_size(path, ignored) > 0;
}

// Where to go on in a file of the run that is resumed; none where it begins anew.
std::optional<LinePosition> place_to_go_on(const char* option, const std::string& path, const RunState& resumed,
                                           const std::optional<LinePosition>& written) {
  if (!is_file_to_be(path)) return std::nullopt;
  if (!has_content(path)) {
    if (resumed.step > 0)
      print_remark(fmt::format("lockstep: warning: {} '{}' begins with step {}: what was written before is not there\n",
                               option, path, resumed.step));
    return std::nullopt;
  }
  check(written.has_value(), ErrorCode::usage, [&] {
    return str(option, " '", path,
               "' is there, but the run that is resumed wrote no such file; name another one, so "
               "that nothing is lost");
  });
  try {
    check_lines(path, *written);
  } catch (const Error& error) {
    fail(error.code(), str(option, ": ", error.what(), "; name the file of the run that is resumed, or a new one"));
  }
  return written;
}

std::string line_of(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string json_text(const std::string& text) { return line_of(text); }

std::chrono::milliseconds patience_of(const TrainOptions& options) {
  return std::chrono::milliseconds(int64_t(std::min(10.0, options.timeout_seconds / 2) * 1e3));
}

RunOutputs::RunOutputs(const TrainOptions& options, const std::string& header, const RunState* resumed, bool changed) {
  if (!options.save.empty()) check_can_write(what_is_written(options.save));
  // A pipe or device can only be opened; a file is tried before another one is emptied.
  if (!options.metrics.empty() && is_file_to_be(options.metrics)) check_can_write(options.metrics);
  std::optional<LinePosition> ledger, metrics;
  if (resumed && !options.ledger.empty())
    ledger = place_to_go_on("--ledger", options.ledger, *resumed, resumed->ledger);
  if (resumed && !options.metrics.empty())
    metrics = place_to_go_on("--metrics", options.metrics, *resumed, resumed->metrics);
  const std::chrono::milliseconds patience = patience_of(options);
  const auto open = [&](std::optional<LineFile>& file, const std::string& path,
                        const std::optional<LinePosition>& position) {
    if (path.empty()) return;
    if (position)
      file.emplace(path, patience, *position);
    else
      file.emplace(path, patience);
  };
  open(ledger_, options.ledger, ledger);
  open(metrics_, options.metrics, metrics);
  if (ledger_ && (!ledger || changed)) ledger_->write_line(header);
}

void RunOutputs::write(const StepReport& report, const StepBatch& batch, const ProgressWords& words,
                       const VariableStore& variables, double seconds, std::span<const RankTimes> times) {
  if (ledger_) ledger_->write_line(ledger_line(batch.step, report.loss, variables, batch.data_hash));
  if (!metrics_) return;
  const double samples = double(batch.global_count);
  nlohmann::json line{{"step", batch.step},
                      {"epoch", batch.epoch},
                      {"loss", report.loss},
                      {"samples_per_second", samples / seconds},
                      {"step_ms", seconds * 1e3},
                      {"compute_ms", report.compute_seconds * 1e3},
                      {"communication_ms", report.communication_seconds * 1e3},
                      {"exposed_communication_ms", report.communication_seconds * 1e3},
                      {"learning_rate", variables.scalars().learning_rate()}};
  if (!words.share_sum.empty()) line[words.share_name] = report.sum(words.share_sum) / samples;
  if (words.units_per_sample != 1)
    line[words.unit + "_per_second"] = samples * double(words.units_per_sample) / seconds;
  if (report.skipped) line["skipped"] = true;
  if (times.size() > 1) {
    const auto slowest = std::ranges::max_element(times, {}, &RankTimes::compute);
    line["slowest_rank"] = slowest - times.begin();
    line["longest_compute_ms"] = slowest->compute * 1e3;
    line["shortest_compute_ms"] = std::ranges::min(times, {}, &RankTimes::compute).compute * 1e3;
    line["longest_wait_ms"] = std::ranges::max(times, {}, &RankTimes::wait).wait * 1e3;
    line["shortest_wait_ms"] = std::ranges::min(times, {}, &RankTimes::wait).wait * 1e3;
  }
  metrics_->write_line(line.dump());
}

void RunOutputs::write_sample(const std::string& text, int64_t step) {
  if (metrics_) metrics_->write_line(line_of({{"sample", text}, {"step", step}}));
}

void RunOutputs::write_score(const Score& score, std::optional<int64_t> step) {
  if (!metrics_) return;
  nlohmann::json line = score.numbers;
  if (step) line["step"] = *step;
  metrics_->write_line(line.dump());
}

void RunOutputs::sync() const {
  if (ledger_) ledger_->sync();
  if (metrics_) metrics_->sync();
}

}  // namespace lockstep
