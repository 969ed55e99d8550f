// SPDX-License-Identifier: Apache-2.0
// The operations on files that a checkpoint is made of, one system call each, so that each of them can be made to fail
// or to be the last one: by tests, and by users who rehearse it (`lockstep train --inject`).
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/files/file_descriptor.h"

namespace lockstep {

class FileOperations {
 public:
  // Told of every operation before it takes place ("write", and the path); returns the number of the error that it is
  // to fail with, 0 for none.
  using Before = std::function<int(std::string_view operation, const std::string& path)>;
  explicit FileOperations(Before before = {}) : before_(std::move(before)) {}

  // All throw Error(file) where the system, or `before`, has an error.
  void make_folder(const std::string& path) const;  // or finds it there
  // A new file of these pieces, durable when this returns; its name is so when sync_folder() has returned.
  void write_new_file(const std::string& path, std::span<const std::span<const std::byte>> pieces) const;
  void sync_folder(const std::string& path) const;
  void rename(const std::string& from, const std::string& to) const;
  // A symbolic link at `path`, which may be there with another target: it is replaced at once.
  void replace_link(const std::string& target, const std::string& path) const;
  void remove_file(const std::string& path) const;
  // A folder with plain files in it, and nothing else; one that is missing is no error.
  void remove_folder(const std::string& path) const;

 private:
  void before(std::string_view operation, const std::string& path) const;
  Before before_;
};

// Gives a file, which may be there, this content in its place; nothing is durable. Throws Error(file).
void rewrite_file(const std::string& path, std::span<const std::span<const std::byte>> pieces);

}  // namespace lockstep
