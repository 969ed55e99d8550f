// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/file_descriptor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

// One system call moves at most this much: Linux caps it near 2 GiB, and smaller pieces answer signals sooner.
constexpr int64_t kPieceBytes = int64_t(1) << 28;

std::string_view remedy(int error_number) {
  switch (error_number) {
    case ENOENT:
      return "check the spelling, or make the folder first";
    case ENOTDIR:
      return "a part of the path is a file, not a folder";
    case EISDIR:
      return "it is a folder; name a file";
    case EACCES:
    case EPERM:
      return "change its permissions, or name another file";
    case EROFS:
      return "the file system is read-only; name a file elsewhere";
    case ELOOP:
      return "it is a symbolic link, or links lead round in a circle; name the file itself";
    case ENOSPC:
    case EDQUOT:
      return "free some space, or name a file on another disk";
    case EFBIG:
      return "the file grew over the size limit; see `ulimit -f`";
    case EMFILE:
      return "too many files are open; see `ulimit -n`";
    case ENAMETOOLONG:
      return "the path is longer than the file system allows; name a shorter one";
    case ENXIO:
      return "nobody reads it; start its reader first, or name a file";
    case ETIMEDOUT:
      return "its reader takes nothing any more; look at the reader, or name a file";
    default:
      return "check the disk, or name another file";
  }
}

int64_t nanoseconds(const timespec& time) { return int64_t(time.tv_sec) * 1'000'000'000 + int64_t(time.tv_nsec); }

}  // namespace

FileDescriptor::~FileDescriptor() { close(); }

int FileDescriptor::close() noexcept {
  if (number_ < 0) return 0;
  // Linux releases the number even when close() fails, so it is never tried twice.
  return ::close(std::exchange(number_, -1)) == 0 ? 0 : errno;
}

void fail_file(std::string_view doing, const std::string& path, int error_number, std::source_location at) {
  fail(ErrorCode::file,
       str("cannot ", doing, " '", path, "': ", std::generic_category().message(error_number), "; ",
           remedy(error_number)),
       at);
}

ReadableFile open_to_read(const std::string& path, Links links) {
  // Without O_NONBLOCK, opening a FIFO would wait for a writer.
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (links == Links::refuse ? O_NOFOLLOW : 0);
  FileDescriptor file(::open(path.c_str(), flags));
  if (!file.is_open()) fail_file("open", path, errno);
  struct stat status;
  if (::fstat(file.number(), &status) != 0) fail_file("look at", path, errno);
  if (S_ISDIR(status.st_mode)) fail_file("read", path, EISDIR);
  check(S_ISREG(status.st_mode), ErrorCode::file, [&] {
    return str("'", path, "' is no regular file but a FIFO, socket or device; copy its content to a file");
  });
  return {std::move(file), int64_t(status.st_size), nanoseconds(status.st_mtim)};
}

void check_unchanged(const ReadableFile& file, const std::string& path) {
  struct stat status;
  if (::fstat(file.descriptor.number(), &status) != 0) fail_file("look at", path, errno);
  check(int64_t(status.st_size) == file.bytes && nanoseconds(status.st_mtim) == file.modified_at, ErrorCode::file, [&] {
    return str("'", path, "' changed while it was read: it had ", file.bytes, " bytes when it was opened and has ",
               int64_t(status.st_size), " now; start again when nothing writes to it");
  });
}

int64_t read_at(const FileDescriptor& file, const std::string& path, void* destination, int64_t bytes, int64_t offset) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::pread(file.number(), static_cast<char*>(destination) + done,
                                size_t(std::min(bytes - done, kPieceBytes)), off_t(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_file("read", path, errno);
    if (got == 0) break;
    done += got;
  }
  return done;
}

void write_at(const FileDescriptor& file, const std::string& path, const void* source, int64_t bytes, int64_t offset) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t put = ::pwrite(file.number(), static_cast<const char*>(source) + done,
                                 size_t(std::min(bytes - done, kPieceBytes)), off_t(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_file("write", path, errno);
    done += put;
  }
}

void write_all(const FileDescriptor& file, const std::string& path, const void* source, int64_t bytes) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t put =
        ::write(file.number(), static_cast<const char*>(source) + done, size_t(std::min(bytes - done, kPieceBytes)));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_file("write", path, errno);
    done += put;
  }
}

std::string read_text(const std::string& path, int64_t most, std::string_view what) {
  const ReadableFile file = open_to_read(path, Links::follow);
  check(file.bytes <= most, ErrorCode::data, [&] {
    return str("'", path, "' has ", file.bytes, " bytes; ", what, " has at most ", most, ": is this the right file?");
  });
  std::string text(size_t(file.bytes), '\0');
  text.resize(size_t(read_at(file.descriptor, path, text.data(), file.bytes, 0)));
  return text;
}

}  // namespace lockstep
