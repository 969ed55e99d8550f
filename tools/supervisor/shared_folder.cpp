// SPDX-License-Identifier: Apache-2.0
#include "tools/supervisor/shared_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "collectives/host/shared_file.h"
#include "kernels/device/check.h"
#include "kernels/device/number_text.h"
#include "runtime/files/file_descriptor.h"
#include "tools/supervisor/heartbeats.h"

namespace lockstep {
namespace {

constexpr std::string_view kPrefix = "lockstep_run_";

bool is_in_use(const std::string& path, int process) {
  if (process == getpid()) return false;  // of another one that had this number
  try {
    // One that is just being made has no heartbeats yet.
    if (!std::filesystem::exists(path + "/heartbeats")) return start_of_process(process) != 0;
    const SupervisionFile file = SupervisionFile::open(path);
    return start_of_process(file->supervisor) == file->supervisor_start;
  } catch (const Error&) {
    return start_of_process(process) != 0;
  }
}

// A supervisor and its keeper may both have been killed.
void remove_leftovers(const std::string& folder) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (!name.starts_with(kPrefix)) continue;
    const auto process = whole_number_in(std::string_view(name).substr(kPrefix.size()));
    struct stat status {};
    const bool mine = ::lstat(entry->path().c_str(), &status) == 0 && status.st_uid == getuid();
    if (!process || !mine || is_in_use(entry->path(), int(*process))) continue;
    std::error_code ignored;
    std::filesystem::remove_all(entry->path(), ignored);
  }
}

}  // namespace

SharedFolder::SharedFolder() {
  const std::string in_memory = "/dev/shm";
  const std::string around = ::access(in_memory.c_str(), W_OK) == 0 ? in_memory : temporary_folder();
  remove_leftovers(around);
  path_ = str(around, "/", kPrefix, getpid());
  if (::mkdir(path_.c_str(), 0700) != 0) fail_file("make the folder", path_, errno);
  begin_life();
}

SharedFolder::~SharedFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void SharedFolder::begin_life() const {
  const std::string launcher = path_ + "/launcher";
  std::error_code ignored;
  std::filesystem::remove_all(launcher, ignored);
  if (::mkdir(launcher.c_str(), 0700) != 0) fail_file("make the folder", launcher, errno);
}

std::map<std::string, std::string> SharedFolder::launcher_environment() const {
  std::map<std::string, std::string> environment;
  // Open MPI's, which puts segments of memory into /dev/shm and a folder into TMPDIR.
  for (const char* name :
       {"OMPI_MCA_btl_vader_backing_directory", "OMPI_MCA_btl_sm_backing_directory",
        "OMPI_MCA_osc_sm_backing_directory", "OMPI_MCA_osc_rdma_backing_directory", "OMPI_MCA_orte_tmpdir_base"})
    if (std::getenv(name) == nullptr) environment[name] = path_ + "/launcher";
  return environment;
}

}  // namespace lockstep
