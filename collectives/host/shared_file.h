// SPDX-License-Identifier: Apache-2.0
// Memory that the processes of a machine share by mapping one file, where the room for MPI's own windows is too small.
#pragma once

#include <cstdint>
#include <string>

namespace lockstep {

// Where a file system has room: "/dev/shm (3.2 MiB free of 12.0 MiB)".
struct Room {
  std::string folder;
  int64_t free = 0, all = 0;
};
Room room_of(const std::string& folder);  // no room where there is no such folder
std::string describe(const Room& room);
// TMPDIR, or /tmp.
std::string temporary_folder();

// Creates a file of zeros in `folder` with all its bytes reserved, so that no write to it fails later, and returns its
// path; empty, leaving nothing behind, when that is not possible.
std::string make_shared_file(const std::string& folder, int64_t bytes);

// A mapping of the whole file; Error(file) when it cannot be mapped.
class SharedMapping {
 public:
  SharedMapping() = default;
  SharedMapping(const std::string& path, int64_t bytes);
  SharedMapping(SharedMapping&& other) noexcept;
  SharedMapping& operator=(SharedMapping&& other) noexcept;
  ~SharedMapping();
  char* data() const { return data_; }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace lockstep
