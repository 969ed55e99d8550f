// SPDX-License-Identifier: Apache-2.0
#include "tools/record/run_files.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <string_view>

#include "kernels/device/check.h"
#include "kernels/device/number_text.h"
#include "runtime/checkpoint/checkpoint_folder.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/files/file_descriptor.h"
#include "runtime/state/ledger.h"
#include "tools/record/run_record.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

// The number behind a key, "step=" or "\"step\":"; none where the line has no such key.
std::optional<int64_t> number_behind(std::string_view line, std::string_view key) {
  const size_t at = line.find(key);
  if (at == line.npos) return std::nullopt;
  const std::string_view rest = line.substr(at + key.size());
  return whole_number_in(rest.substr(0, rest.find_first_not_of("0123456789")));
}

// Where a file belongs, by its first line; null where it is nothing that a run writes.
std::string RunFiles::*kind_of(const std::string& path) {
  const std::string line = first_line_of(path);
  if (line.starts_with(kLedgerFormat)) return &RunFiles::ledger;
  if (!line.starts_with('{')) return nullptr;
  if (line.find(str("\"", kRecordFormat, "\"")) != line.npos) return &RunFiles::record;
  return number_behind(line, "\"step\":") ? &RunFiles::metrics : nullptr;
}

}  // namespace

std::string first_line_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

RunFiles find_run(const std::string& path) {
  RunFiles run;
  run.name = path;
  std::error_code error;
  const auto take = [&](const std::string& file) {
    std::string RunFiles::*const kind = kind_of(file);
    if (kind == nullptr) return;
    check((run.*kind).empty(), ErrorCode::data, [&] {
      return str("'", run.*kind, "' and '", file, "' are files of one kind; name one of them, or a folder of one run");
    });
    run.*kind = file;
  };
  if (fs::is_directory(path, error)) {
    run.folder = path;
    std::vector<std::string> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(path))
      if (entry.is_regular_file(error)) files.push_back(entry.path());
    std::ranges::sort(files);
    for (const std::string& file : files) take(file);
    run.checkpoints = list_checkpoints(path);
    std::ranges::reverse(run.checkpoints);
  } else {
    if (!fs::exists(path, error)) fail_file("open", path, ENOENT);
    take(path);
  }
  check(!run.ledger.empty() || !run.metrics.empty() || !run.record.empty() || !run.checkpoints.empty(), ErrorCode::data,
        [&] {
          return str("'", path,
                     "' is nothing that a run writes; expected a file of --ledger, --metrics or --record, or "
                     "a folder with such files or with checkpoints");
        });
  return run;
}

StepLines::StepLines(std::string path) : path_(std::move(path)), file_(path_) {
  if (!file_) fail_file("open", path_, errno);
}

bool StepLines::next() {
  // A line without its end is being written.
  while (std::getline(file_, text_) && !file_.eof()) {
    std::optional<int64_t> step = number_behind(text_, "\"step\":");
    if (text_.starts_with("step=")) step = number_behind(text_, "step=");
    // Scores and samples of metrics have a step, too, which is one of so many taken.
    const bool is_of_step = text_.starts_with("step=") || text_.find("\"loss\":") != text_.npos;
    if (!step || !is_of_step) continue;
    step_ = *step;
    return true;
  }
  return false;
}

}  // namespace lockstep
