// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/shared_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/device/check.h"

namespace lockstep {

Room room_of(const std::string& folder) {
  struct statvfs system {};
  if (statvfs(folder.c_str(), &system) != 0) return {.folder = folder};
  const auto block = int64_t(system.f_frsize);
  return {folder, int64_t(system.f_bavail) * block, int64_t(system.f_blocks) * block};
}

std::string describe(const Room& room) {
  char text[64];
  std::snprintf(text, sizeof text, " (%.1f MiB free of %.1f MiB)", double(room.free) / (1 << 20),
                double(room.all) / (1 << 20));
  return room.folder + text;
}

std::string temporary_folder() {
  const char* named = std::getenv("TMPDIR");
  return named && *named ? named : "/tmp";
}

std::string make_shared_file(const std::string& folder, int64_t bytes) {
  std::string path = folder + "/lockstep_shared.XXXXXX";
  const int file = mkstemp(path.data());
  if (file < 0) return "";
  const int error = posix_fallocate(file, 0, off_t(bytes));
  close(file);
  if (error == 0) return path;
  unlink(path.c_str());
  return "";
}

SharedMapping::SharedMapping(const std::string& path, int64_t bytes) : bytes_(bytes) {
  const int file = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  void* mapped = file < 0 ? MAP_FAILED : mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  const int error = errno;
  if (file >= 0) close(file);
  check(mapped != MAP_FAILED, ErrorCode::file, [&] {
    return str("cannot share the memory of '", path, "' between the ranks of this machine: ", std::strerror(error),
               "; all of them need to see the same folder TMPDIR");
  });
  data_ = static_cast<char*>(mapped);
}

SharedMapping::SharedMapping(SharedMapping&& other) noexcept { *this = std::move(other); }

SharedMapping& SharedMapping::operator=(SharedMapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

SharedMapping::~SharedMapping() {
  if (data_) munmap(data_, size_t(bytes_));
}

}  // namespace lockstep
