// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/file_identity.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <vector>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

struct Identity {
  dev_t device = 0;
  ino_t inode = 0;
  std::string name = {};  // of a file that does not exist yet, in the folder with this device and inode
  friend bool operator==(const Identity&, const Identity&) = default;
};

struct Known {
  const NamedFile* file;
  std::optional<Identity> identity;  // empty for what cannot be destroyed or cannot be opened anyway
};

std::optional<Identity> identity_of(const struct stat& status) {
  if (S_ISCHR(status.st_mode)) return std::nullopt;
  return Identity{status.st_dev, status.st_ino};
}

// Follows links to files that do not exist yet, as opening them would.
std::optional<Identity> identity_of(std::string path) {
  constexpr int kMostLinks = 40;
  for (int links = 0; links < kMostLinks; ++links) {
    struct stat status;
    if (::stat(path.c_str(), &status) == 0) return identity_of(status);
    const size_t slash = path.rfind('/');
    const std::string folder = slash == path.npos ? "." : path.substr(0, slash + 1);
    const std::string name = path.substr(slash == path.npos ? 0 : slash + 1);
    char target[PATH_MAX];
    const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
    if (length < 0) {
      if (::stat(folder.c_str(), &status) != 0) return std::nullopt;
      return Identity{status.st_dev, status.st_ino, name};
    }
    const std::string to(target, size_t(length));
    path = to.starts_with('/') ? to : folder + "/" + to;
  }
  return std::nullopt;
}

void add(std::vector<Known>& known, std::span<const NamedFile> files) {
  for (const NamedFile& file : files)
    if (!file.path.empty()) known.push_back({&file, identity_of(file.path)});
}

void add_stream(std::vector<Known>& known, int number, const NamedFile& file) {
  struct stat status;
  if (::fstat(number, &status) == 0 && S_ISREG(status.st_mode)) known.push_back({&file, identity_of(status)});
}

}  // namespace

void check_separate(std::span<const NamedFile> outputs, std::span<const NamedFile> inputs) {
  static const NamedFile out{"the standard output", ""}, err{"the standard error", ""};
  std::vector<Known> files;
  add(files, outputs);
  const size_t written = files.size();
  add(files, inputs);
  add_stream(files, STDOUT_FILENO, out);
  add_stream(files, STDERR_FILENO, err);
  for (size_t i = 0; i < written; ++i)
    for (size_t j = i + 1; j < files.size(); ++j) {
      const NamedFile &a = *files[i].file, &b = *files[j].file;
      const bool same = files[i].identity && files[i].identity == files[j].identity;
      check(!same, ErrorCode::usage, [&] {
        const std::string which =
            a.path == b.path ? str(a.what, " and ", b.what, " both name '", a.path, "'")
            : b.path.empty() ? str(a.what, " '", a.path, "' is the file that ", b.what, " goes to")
                             : str(a.what, " '", a.path, "' and ", b.what, " '", b.path, "' are the same file");
        return str(which, ", expected two files, or one would destroy the other; choose another name");
      });
    }
}

}  // namespace lockstep
