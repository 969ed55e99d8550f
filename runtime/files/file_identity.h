// SPDX-License-Identifier: Apache-2.0
// Keeps the files of one run apart: different names, links and paths can lead to one file, and writing it would destroy
// what another option reads or writes.
#pragma once

#include <span>
#include <string>

namespace lockstep {

// A file and what names it: {"--ledger", "run.ledger"}, {"the data of --data", "..."}. An empty path is no file.
struct NamedFile {
  std::string what;
  std::string path;
};

// Throws Error(usage) unless all outputs are different files, and no output is one of the inputs or the regular file to
// which standard output or standard error go. Files are compared by device and inode, those that do not exist yet by
// folder and name; terminals and other character devices can be shared. To be called before any output is opened.
void check_separate(std::span<const NamedFile> outputs, std::span<const NamedFile> inputs);

}  // namespace lockstep
