// SPDX-License-Identifier: Apache-2.0
// Files as the operating system sees them: they are opened, read and written completely, or Error(file) names the path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

namespace lockstep {

// The sole owner of an open file.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int number) : number_(number) {}
  FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~FileDescriptor();
  int number() const { return number_; }
  bool is_open() const { return number_ >= 0; }
  // Returns the error number of close(), 0 when all went well.
  int close() noexcept;

 private:
  int number_ = -1;
};

// Throws Error(file): "cannot <doing> '<path>': <what the system said>; <what to do>".
[[noreturn]] void fail_file(std::string_view doing, const std::string& path, int error_number,
                            std::source_location at = std::source_location::current());

struct ReadableFile {
  FileDescriptor descriptor;
  int64_t bytes = 0;        // size when it was opened
  int64_t modified_at = 0;  // in nanoseconds, likewise
};

enum class Links { follow, refuse };

// Opens a regular file; a folder, FIFO or device is refused without waiting for it.
ReadableFile open_to_read(const std::string& path, Links links);

// Throws Error(file) where the file is not as long or not as old as when it was opened: what was read of it then does
// not belong together.
void check_unchanged(const ReadableFile& file, const std::string& path);

// Reads `bytes` bytes from `offset` on, or fewer where the file ends. Returns the number read.
int64_t read_at(const FileDescriptor& file, const std::string& path, void* destination, int64_t bytes, int64_t offset);

// Writes over what is there, wherever write_all() goes on.
void write_at(const FileDescriptor& file, const std::string& path, const void* source, int64_t bytes, int64_t offset);

void write_all(const FileDescriptor& file, const std::string& path, const void* source, int64_t bytes);

// The whole content of a regular file of at most `most` bytes, which is `what` ("a plan"). Error(file), and Error(data)
// for a larger file, before memory is taken for it.
std::string read_text(const std::string& path, int64_t most, std::string_view what);

}  // namespace lockstep
