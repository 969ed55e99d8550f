// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/file_operations.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <vector>

namespace lockstep {

void FileOperations::before(std::string_view operation, const std::string& path) const {
  if (!before_) return;
  if (const int error = before_(operation, path)) fail_file(operation, path, error);
}

void FileOperations::make_folder(const std::string& path) const {
  before("make the folder", path);
  if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) fail_file("make the folder", path, errno);
}

void FileOperations::write_new_file(const std::string& path, std::span<const std::span<const std::byte>> pieces) const {
  before("open", path);
  FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!file.is_open()) fail_file("open", path, errno);
  for (const std::span<const std::byte> piece : pieces) {
    before("write", path);
    write_all(file, path, piece.data(), int64_t(piece.size()));
  }
  before("make durable", path);
  if (::fsync(file.number()) != 0) fail_file("make durable", path, errno);
  before("close", path);
  if (const int error = file.close()) fail_file("close", path, error);
}

void FileOperations::sync_folder(const std::string& path) const {
  before("make durable", path);
  const FileDescriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.is_open()) fail_file("open the folder", path, errno);
  // EINVAL: the file system has no names to make durable.
  if (::fsync(folder.number()) != 0 && errno != EINVAL) fail_file("make durable", path, errno);
}

void FileOperations::rename(const std::string& from, const std::string& to) const {
  before("rename", from);
  if (::rename(from.c_str(), to.c_str()) != 0) fail_file("rename", from, errno);
}

void FileOperations::replace_link(const std::string& target, const std::string& path) const {
  const std::string beside = path + ".partial";
  before("link", beside);
  ::unlink(beside.c_str());
  if (::symlink(target.c_str(), beside.c_str()) != 0) fail_file("link", beside, errno);
  rename(beside, path);
}

void FileOperations::remove_file(const std::string& path) const {
  before("remove", path);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_file("remove", path, errno);
}

void FileOperations::remove_folder(const std::string& path) const {
  std::vector<std::string> files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error))
    files.push_back(entry->path());
  std::ranges::sort(files);
  for (const std::string& file : files) remove_file(file);
  before("remove", path);
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT) fail_file("remove", path, errno);
}

void rewrite_file(const std::string& path, std::span<const std::span<const std::byte>> pieces) {
  FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.is_open()) fail_file("open", path, errno);
  int64_t end = 0;
  for (const std::span<const std::byte> piece : pieces) {
    write_at(file, path, piece.data(), int64_t(piece.size()), end);
    end += int64_t(piece.size());
  }
  if (::ftruncate(file.number(), off_t(end)) != 0) fail_file("cut", path, errno);
  if (const int error = file.close()) fail_file("close", path, error);
}

}  // namespace lockstep
