// SPDX-License-Identifier: Apache-2.0
// The folder of a run's checkpoints. What is in it by name:
//
//   step_00000500            a checkpoint: it got this name when it was whole
//   step_00000500.partial    one that is being written, or that a run which was killed has left
//   step_00000500.removed    one that is being removed, likewise
//   step_00000500.damaged    one that could not be read when a run went on from the one before it
//   latest                   a symbolic link to the newest
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/checkpoint/file_operations.h"

namespace lockstep {

inline constexpr std::string_view kPartialSuffix = ".partial", kRemovedSuffix = ".removed", kDamagedSuffix = ".damaged";

// "step_00000500"
std::string checkpoint_name(int64_t step);
// The step that a name stands for, which must end with `suffix`.
std::optional<int64_t> step_of_name(std::string_view name, std::string_view suffix = "");

// A path in the folder.
std::string in_folder(const std::string& folder, std::string_view name);
// The folder that holds `path`, and the name of `path` there; slashes at its end do not count.
std::string folder_around(const std::string& path);
std::string name_in_folder(const std::string& path);

// The steps of the checkpoints that a folder holds, newest first; none where there is no such folder. Error(file).
std::vector<int64_t> list_checkpoints(const std::string& folder, std::string_view suffix = "");

struct KeepRules {
  int64_t newest = 3;  // so many are kept, at least 2: the newest may turn out to be damaged
  int64_t every = 0;   // above 0: those of steps that are multiples of it are kept besides
};
// Which of these steps, newest first, go.
std::vector<int64_t> steps_to_remove(const std::vector<int64_t>& steps, const KeepRules& rules);

// A checkpoint loses its name before any of its files goes.
void remove_checkpoint(const FileOperations& files, const std::string& folder, int64_t step);
// Removes what runs that were killed have left.
void remove_leftovers(const FileOperations& files, const std::string& folder);

// Held by the run that writes into a folder, as long as it lives.
class FolderLock {
 public:
  // Error(file) where another run has it. A file system without locks lets everybody in.
  explicit FolderLock(const std::string& folder);

 private:
  FileDescriptor folder_;
};

}  // namespace lockstep
