// SPDX-License-Identifier: Apache-2.0
#include "tools/training/output_files.h"

#include <filesystem>
#include <string>

#include "kernels/device/check.h"

namespace lockstep {

void check_outputs(Communicator& communicator, const std::vector<NamedFile>& outputs,
                   const std::vector<NamedFile>& inputs) {
  for (const NamedFile& output : outputs) {
    const std::vector<std::string> paths = communicator.all_gather_bytes(output.path);
    for (int rank = 1; rank < communicator.size(); ++rank) {
      const std::string& path = paths[size_t(rank)];
      check(path.empty() || path == paths[0], ErrorCode::usage, [&] {
        return str(communicator.describe(rank), " has ", output.what, " '", path, "' and ", communicator.describe(0),
                   paths[0].empty() ? " has none" : str(" has '", paths[0], "'"),
                   ", expected the same: rank 0 alone writes files; give the option to all ranks alike, or to rank 0");
      });
    }
  }
  if (communicator.rank() == 0) check_separate(outputs, inputs);
}

std::string what_is_written(const std::string& path) {
  if (!names_folder(path)) return path;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return path + "config.json";
  return path.substr(0, path.find_last_not_of('/') + 1);
}

}  // namespace lockstep
