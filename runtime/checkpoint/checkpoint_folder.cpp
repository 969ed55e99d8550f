// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/checkpoint_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "kernels/device/check.h"
#include "kernels/device/number_text.h"

namespace lockstep {
namespace {

constexpr std::string_view kPrefix = "step_";

std::string without_slashes(const std::string& path) {
  const size_t last = path.find_last_not_of('/');
  return last == path.npos ? path : path.substr(0, last + 1);
}

}  // namespace

std::string checkpoint_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step_%08lld", static_cast<long long>(step));
  return name;
}

std::optional<int64_t> step_of_name(std::string_view name, std::string_view suffix) {
  if (!name.starts_with(kPrefix) || !name.ends_with(suffix)) return std::nullopt;
  if (name.size() < kPrefix.size() + suffix.size()) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size(), name.size() - kPrefix.size() - suffix.size());
  const std::optional<int64_t> step = whole_number_in(digits);
  if (!step || *step < 0 || checkpoint_name(*step) + std::string(suffix) != name) return std::nullopt;
  return step;
}

std::string in_folder(const std::string& folder, std::string_view name) {
  return str(folder, folder.ends_with('/') ? "" : "/", name);
}

std::string folder_around(const std::string& path) {
  const std::string trimmed = without_slashes(path);
  const size_t slash = trimmed.rfind('/');
  if (slash == trimmed.npos) return ".";
  return slash == 0 ? "/" : trimmed.substr(0, slash);
}

std::string name_in_folder(const std::string& path) {
  const std::string trimmed = without_slashes(path);
  return trimmed.substr(trimmed.rfind('/') + 1);
}

std::vector<int64_t> list_checkpoints(const std::string& folder, std::string_view suffix) {
  std::vector<int64_t> steps;
  std::error_code error;
  std::filesystem::directory_iterator entries(folder, error);
  if (error == std::errc::no_such_file_or_directory) return steps;
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error))
    if (const auto step = step_of_name(entries->path().filename().native(), suffix)) steps.push_back(*step);
  if (error) fail_file("list the folder", folder, error.value());
  std::ranges::sort(steps, std::greater());
  return steps;
}

std::vector<int64_t> steps_to_remove(const std::vector<int64_t>& steps, const KeepRules& rules) {
  std::vector<int64_t> removed;
  for (size_t i = size_t(rules.newest); i < steps.size(); ++i)
    if (rules.every <= 0 || steps[i] % rules.every != 0) removed.push_back(steps[i]);
  return removed;
}

void remove_checkpoint(const FileOperations& files, const std::string& folder, int64_t step) {
  const std::string path = in_folder(folder, checkpoint_name(step)), gone = path + std::string(kRemovedSuffix);
  files.rename(path, gone);
  files.remove_folder(gone);
}

void remove_leftovers(const FileOperations& files, const std::string& folder) {
  for (const std::string_view suffix : {kPartialSuffix, kRemovedSuffix})
    for (const int64_t step : list_checkpoints(folder, suffix))
      files.remove_folder(in_folder(folder, checkpoint_name(step) + std::string(suffix)));
  files.remove_file(in_folder(folder, "latest.partial"));
}

FolderLock::FolderLock(const std::string& folder)
    : folder_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (!folder_.is_open()) fail_file("open the folder", folder, errno);
  check(::flock(folder_.number(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, ErrorCode::file, [&] {
    return str("another run writes checkpoints into '", folder, "'; wait for its end, or name another folder");
  });
}

}  // namespace lockstep
