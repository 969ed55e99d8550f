// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

void check_target(const std::string& path) {
  check(!path.empty() && path.back() != '/', ErrorCode::file,
        [&] { return str("expected the name of a file to write, got '", path, "'; name a file, not a folder"); });
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) fail_file("write", path, errno);
    return;
  }
  if (S_ISDIR(status.st_mode)) fail_file("write", path, EISDIR);
  if (S_ISLNK(status.st_mode)) fail_file("write", path, ELOOP);
  check(S_ISREG(status.st_mode), ErrorCode::file,
        [&] { return str("cannot replace '", path, "', which is no regular file; name a file elsewhere"); });
  if (::access(path.c_str(), W_OK) != 0) fail_file("write", path, errno);
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

void sync_folder(const std::string& folder) {
  const FileDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.is_open()) fail_file("open the folder", folder, errno);
  // EINVAL: the file system has no names to make durable.
  if (::fsync(descriptor.number()) != 0 && errno != EINVAL) fail_file("make durable", folder, errno);
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  check_target(path_);
  // The process id keeps two runs apart; the count steps over the files of a killed run with the same id.
  constexpr int kTries = 1000;
  for (int i = 0; i < kTries && !file_.is_open(); ++i) {
    std::string partial_path = str(path_, ".", ::getpid(), "-", i, ".partial");
    file_ = FileDescriptor(::open(partial_path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
    if (file_.is_open())
      partial_path_ = std::move(partial_path);
    else if (errno != EEXIST)
      fail_file("write", path_, errno);
  }
  if (!file_.is_open()) fail_file("write", path_, EEXIST);
}

AtomicFile::~AtomicFile() {
  if (!partial_path_.empty()) ::unlink(partial_path_.c_str());
}

void AtomicFile::write(const void* source, int64_t bytes) { write_all(file_, path_, source, bytes); }

void AtomicFile::overwrite(const void* source, int64_t bytes, int64_t offset) {
  write_at(file_, path_, source, bytes, offset);
}

void AtomicFile::commit() {
  check(!partial_path_.empty(), ErrorCode::internal, [&] { return str("'", path_, "' was committed twice"); });
  if (::fsync(file_.number()) != 0) fail_file("make durable", path_, errno);
  if (const int error = file_.close()) fail_file("close", path_, error);
  if (::rename(partial_path_.c_str(), path_.c_str()) != 0) fail_file("write", path_, errno);
  partial_path_.clear();
  sync_folder(folder_of(path_));
}

void check_can_write(const std::string& path) { AtomicFile attempt(path); }

}  // namespace lockstep
