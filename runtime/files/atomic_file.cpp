// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

constexpr std::string_view kPartial = ".partial";

// Returns what is known of the file that is to be replaced, if there is one.
std::optional<struct stat> check_target(const std::string& path) {
  check(!path.empty() && path.back() != '/', ErrorCode::file,
        [&] { return str("expected the name of a file to write, got '", path, "'; name a file, not a folder"); });
  struct stat status;
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) fail_file("write", path, errno);
    return std::nullopt;
  }
  if (S_ISDIR(status.st_mode)) fail_file("write", path, EISDIR);
  if (S_ISLNK(status.st_mode)) fail_file("write", path, ELOOP);
  check(S_ISREG(status.st_mode), ErrorCode::file,
        [&] { return str("cannot replace '", path, "', which is no regular file; name a file elsewhere"); });
  if (::access(path.c_str(), W_OK) != 0) fail_file("write", path, errno);
  return status;
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Whether `name` is what make_partial() calls a file for `target`: TARGET.PROCESS-NUMBER.partial
bool is_partial_of(std::string_view target, std::string_view name) {
  if (!name.starts_with(target) || !name.ends_with(kPartial)) return false;
  if (name.size() < target.size() + kPartial.size() + 1) return false;
  const std::string_view middle = name.substr(target.size(), name.size() - target.size() - kPartial.size());
  const size_t dash = middle.find('-');
  const auto all_digits = [](std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  };
  return middle[0] == '.' && dash != middle.npos && all_digits(middle.substr(1, dash - 1)) &&
         all_digits(middle.substr(dash + 1));
}

// The lock of a file goes with the process that held it, on whatever machine that was.
void remove_if_abandoned(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status;
  if (!file.is_open() || ::fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  if (::flock(file.number(), LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
}

// A folder that cannot be listed keeps what it has; writing the file itself does not depend on that.
void remove_abandoned_partials(const std::string& path) {
  const std::string folder = folder_of(path), name = path.substr(path.rfind('/') + 1);
  std::error_code error;
  std::filesystem::directory_iterator entries(folder, error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error))
    if (is_partial_of(name, entries->path().filename().native())) remove_if_abandoned(entries->path());
}

// Opens a file of its own and locks it; empty where another process has removed it before it was locked.
FileDescriptor make_partial(const std::string& partial, mode_t mode) {
  FileDescriptor file(::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!file.is_open()) return file;
  struct stat status;
  // Where a file system has no locks this fails, and then nobody removes the file of another.
  [[maybe_unused]] const int locked = ::flock(file.number(), LOCK_EX);
  const bool there = ::fstat(file.number(), &status) == 0 && status.st_nlink > 0;
  errno = EEXIST;
  return there ? std::move(file) : FileDescriptor();
}

// Only root can hand on the owner; whoever else may write here becomes it.
void hand_on(const struct stat& before, const FileDescriptor& file, const std::string& path) {
  [[maybe_unused]] const int owner = ::fchown(file.number(), before.st_uid, before.st_gid);
  if (::fchmod(file.number(), before.st_mode & 07777) != 0) fail_file("keep the permissions of", path, errno);
}

void sync_folder(const std::string& folder) {
  const FileDescriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.is_open()) fail_file("open the folder", folder, errno);
  // EINVAL: the file system has no names to make durable.
  if (::fsync(descriptor.number()) != 0 && errno != EINVAL) fail_file("make durable", folder, errno);
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  const std::optional<struct stat> before = check_target(path_);
  remove_abandoned_partials(path_);
  // The process id keeps two runs apart, and the count two machines whose processes have the same one.
  constexpr int kTries = 1000;
  for (int i = 0; i < kTries && !file_.is_open(); ++i) {
    std::string partial_path = str(path_, ".", ::getpid(), "-", i, kPartial);
    file_ = make_partial(partial_path, before ? 0600 : 0666);
    if (file_.is_open())
      partial_path_ = std::move(partial_path);
    else if (errno != EEXIST)
      fail_file("write", path_, errno);
  }
  if (!file_.is_open()) fail_file("write", path_, EEXIST);
  try {
    if (before) hand_on(*before, file_, path_);
  } catch (...) {
    ::unlink(partial_path_.c_str());
    throw;
  }
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
  // The lock is kept until the file is in its place, or another process would take it for abandoned.
  const FileDescriptor lock(::fcntl(file_.number(), F_DUPFD_CLOEXEC, 0));
  if (const int error = file_.close()) fail_file("close", path_, error);
  if (::rename(partial_path_.c_str(), path_.c_str()) != 0) fail_file("write", path_, errno);
  partial_path_.clear();
  sync_folder(folder_of(path_));
}

void check_can_write(const std::string& path) { AtomicFile attempt(path); }

}  // namespace lockstep
