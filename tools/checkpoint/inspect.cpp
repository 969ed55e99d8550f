// SPDX-License-Identifier: Apache-2.0
#include "tools/checkpoint/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <map>
#include <span>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/plan/plan_text.h"
#include "runtime/state/element_text.h"

namespace lockstep {
namespace {

std::string shape_text(std::span<const int64_t> shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

bool is_checkpoint(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(in_folder(path, kManifestName), ignored);
}

void check_folder(const std::string& folder) {
  std::error_code error;
  check(std::filesystem::is_directory(folder, error), ErrorCode::file,
        [&] { return str("'", folder, "' is no folder; name the one of --checkpoint-dir"); });
}

// What can be told without reading the data.
std::string summary(const std::string& path) {
  try {
    const CheckpointReader reader(path);
    const CheckpointManifest& m = reader.manifest();
    for (const ManifestFile& file : m.files) {
      std::error_code error;
      const auto bytes = std::filesystem::file_size(in_folder(path, file.name), error);
      if (error || int64_t(bytes) != file.bytes)
        return fmt::format("damaged: {} {}", file.name,
                           error ? "is missing" : fmt::format("has {} bytes, expected {}", bytes, file.bytes));
    }
    return fmt::format("epoch {:<4} {:>10} in {} files of {} ranks{}", m.run.position.epoch + 1,
                       readable_bytes(m.bytes()), m.files.size(), m.files.size(), m.run.ledger ? ", ledger" : "");
  } catch (const Error& error) {
    return fmt::format("damaged: {}", error.what());
  }
}

std::string difference_of(const ManifestTensor& tensor, std::span<const std::byte> a, std::span<const std::byte> b) {
  const int64_t width = size_of(tensor.dtype);
  int64_t count = 0, first = -1;
  double largest = 0;
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (std::memcmp(a.data() + i * width, b.data() + i * width, size_t(width)) == 0) continue;
    if (first < 0) first = i;
    ++count;
    const double by = std::abs(element_value(a.data(), tensor.dtype, i) - element_value(b.data(), tensor.dtype, i));
    if (!(by <= largest)) largest = by;
  }
  if (count == 0) return "";
  const double one = element_value(a.data(), tensor.dtype, first), other = element_value(b.data(), tensor.dtype, first);
  const bool whole = tensor.dtype == DType::i32 || tensor.dtype == DType::i64;
  return fmt::format("{}: {} of {} elements differ, by up to {:.3g}; the first is {}: {:.9g} and {:.9g}{}\n",
                     tensor.path, count, tensor.elements(), largest, place_text(first, tensor.shape), one, other,
                     whole ? "" : fmt::format(" ({} and {})", hex_float(one), hex_float(other)));
}

std::string difference_of(CheckpointReader& a, size_t in_a, CheckpointReader& b, size_t in_b) {
  const ManifestTensor &one = a.manifest().tensors[in_a], &other = b.manifest().tensors[in_b];
  if (one.dtype != other.dtype || one.shape != other.shape)
    return fmt::format("{}: {} {} and {} {}\n", one.path, to_string(one.dtype), shape_text(one.shape),
                       to_string(other.dtype), shape_text(other.shape));
  return difference_of(one, a.read(in_a), b.read(in_b));
}

std::string configuration_differences(const RunState& a, const RunState& b) {
  std::string text;
  if (a.step != b.step) text += fmt::format("step: {} and {}\n", a.step, b.step);
  std::map<std::string, std::pair<std::string, std::string>> values;
  for (const auto& [name, value] : a.configuration) values[name].first = value;
  for (const auto& [name, value] : b.configuration) values[name].second = value;
  for (const auto& [name, pair] : values)
    if (pair.first != pair.second) text += fmt::format("{}: '{}' and '{}'\n", name, pair.first, pair.second);
  return text;
}

std::string verified(const std::string& path, bool& whole) {
  try {
    CheckpointReader reader(path);
    reader.verify();
    return fmt::format("{}: whole, {} in {} files, {} tensors\n", path, readable_bytes(reader.manifest().bytes()),
                       reader.manifest().files.size(), reader.manifest().tensors.size());
  } catch (const Error& error) {
    whole = false;
    return fmt::format("{}: damaged: {}\n", path, error.what());
  }
}

void point_latest_at(const FileOperations& files, const std::string& folder, const std::vector<int64_t>& steps) {
  const std::string latest = in_folder(folder, "latest");
  if (steps.empty())
    files.remove_file(latest);
  else
    files.replace_link(checkpoint_name(steps.front()), latest);
}

}  // namespace

std::string list_text(const std::string& folder) {
  check_folder(folder);
  const std::vector<int64_t> steps = list_checkpoints(folder);
  std::string text;
  for (const int64_t step : steps)
    text += fmt::format("{:<16} {}\n", checkpoint_name(step), summary(in_folder(folder, checkpoint_name(step))));
  const std::pair<std::string_view, std::string_view> leftovers[] = {
      {kPartialSuffix, "is being written, or was left by a run that was killed"},
      {kRemovedSuffix, "is being removed, or was left by a run that was killed"},
      {kDamagedSuffix, "was put aside by a run that could not read it"}};
  for (const auto& [suffix, meaning] : leftovers)
    for (const int64_t step : list_checkpoints(folder, suffix))
      text += fmt::format("{}{} {}\n", checkpoint_name(step), suffix, meaning);
  return text.empty() ? fmt::format("no checkpoints in {}\n", folder) : text;
}

std::string show_text(const std::string& checkpoint, bool tensors) {
  const CheckpointReader reader(checkpoint);
  const CheckpointManifest& m = reader.manifest();
  const RunState& run = m.run;
  std::string text = fmt::format("{}\n", checkpoint);
  const auto line = [&](std::string_view name, const std::string& value) {
    text += fmt::format("  {:<16} {}\n", name, value);
  };
  line("step", fmt::format("{}, {} of them committed", run.step, m.optimizer.iteration));
  line("goes on with",
       fmt::format("step {} of epoch {}, {} samples a step, {} an epoch", run.position.step_in_epoch + 1,
                   run.position.epoch + 1, run.position.batch, run.position.samples));
  line("learning rate", m.optimizer.learning_rate);
  if (!m.optimizer.loss_scale.empty()) line("loss scale", m.optimizer.loss_scale);
  if (!run.scored) line("evaluation", "is still to be made after this step");
  for (const auto& [name, value] : run.configuration) line(name, value);
  const auto file = [&](std::string_view name, const std::optional<LinePosition>& position) {
    if (position) line(name, fmt::format("{} bytes, rolling hash {}", position->bytes, hash_digits(position->hash)));
  };
  file("ledger", run.ledger);
  file("metrics", run.metrics);
  line("written by", fmt::format("{} on {} nodes, plan {}", describe_mesh(m.mesh), m.nodes, hash_digits(m.plan_hash)));
  line("files", fmt::format("{}, {}", m.files.size(), readable_bytes(m.bytes())));
  line("tensors", fmt::format("{}", m.tensors.size()));
  if (!tensors) return text;
  for (const ManifestTensor& tensor : m.tensors)
    text += fmt::format("    {:<40} {:<16} {:<5} {:<16} in {} chunks\n", tensor.path, to_string(tensor.role),
                        to_string(tensor.dtype), shape_text(tensor.shape), tensor.chunks.size());
  return text;
}

Verified verify(const std::string& path) {
  Verified all;
  const auto look_at = [&](const std::string& checkpoint) {
    bool whole = true;
    all.text += verified(checkpoint, whole);
    ++all.checkpoints;
    all.damaged += whole ? 0 : 1;
  };
  if (is_checkpoint(path)) return look_at(path), all;
  check_folder(path);
  for (const int64_t step : list_checkpoints(path)) look_at(in_folder(path, checkpoint_name(step)));
  check(all.checkpoints > 0, ErrorCode::data, [&] { return str("'", path, "' holds no checkpoint"); });
  return all;
}

std::string differences_of(const std::string& a, const std::string& b) {
  CheckpointReader one(a), other(b);
  std::string text = configuration_differences(one.manifest().run, other.manifest().run);
  const std::vector<ManifestTensor>&left = one.manifest().tensors, &right = other.manifest().tensors;
  // Both are sorted by path.
  for (size_t i = 0, j = 0; i < left.size() || j < right.size();) {
    if (j == right.size() || (i < left.size() && left[i].path < right[j].path))
      text += fmt::format("{}: only in {}\n", left[i++].path, a);
    else if (i == left.size() || right[j].path < left[i].path)
      text += fmt::format("{}: only in {}\n", right[j++].path, b);
    else
      text += difference_of(one, i, other, j), ++i, ++j;
  }
  return text;
}

std::string prune(const std::string& folder, const PruneRequest& request) {
  check_folder(folder);
  check(!request.keep || request.keep->newest >= 1, ErrorCode::usage,
        [&] { return str("--keep: expected at least 1 checkpoint, got ", request.keep->newest); });
  const FolderLock lock(folder);
  const FileOperations files;
  std::vector<int64_t> steps = list_checkpoints(folder), gone;
  if (request.after)
    for (const int64_t step : steps)
      if (step > *request.after) gone.push_back(step);
  std::erase_if(steps, [&](int64_t step) { return std::ranges::find(gone, step) != gone.end(); });
  if (request.keep) {
    const std::vector<int64_t> more = steps_to_remove(steps, *request.keep);
    gone.insert(gone.end(), more.begin(), more.end());
    std::erase_if(steps, [&](int64_t step) { return std::ranges::find(more, step) != more.end(); });
  }
  std::string text;
  const std::string_view verb = request.dry_run ? "would remove" : "removed";
  const auto say = [&](std::string_view name) { text += fmt::format("{} {}\n", verb, name); };
  for (const int64_t step : gone) say(checkpoint_name(step));
  std::vector<std::string_view> suffixes{kPartialSuffix, kRemovedSuffix};
  if (request.damaged) suffixes.push_back(kDamagedSuffix);
  for (const std::string_view suffix : suffixes)
    for (const int64_t step : list_checkpoints(folder, suffix)) {
      const std::string name = checkpoint_name(step) + std::string(suffix);
      say(name);
      if (!request.dry_run) files.remove_folder(in_folder(folder, name));
    }
  if (!request.dry_run) {
    // The name of the newest goes on to one that stays before any is removed.
    if (!gone.empty()) point_latest_at(files, folder, steps);
    for (const int64_t step : gone) remove_checkpoint(files, folder, step);
  }
  return text.empty() ? "nothing to remove\n" : text;
}

}  // namespace lockstep
