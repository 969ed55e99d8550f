// SPDX-License-Identifier: Apache-2.0
#include "tools/supervisor/heartbeats.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <sstream>

#include "kernels/device/check.h"
#include "runtime/files/file_descriptor.h"

namespace lockstep {
namespace {

std::string name_in(const std::string& folder) { return folder + "/heartbeats"; }

// What /proc/N/stat has behind the name of the process, which may itself hold brackets and blanks: "S 11 ...".
std::string behind_name(int process) {
  std::ifstream file(str("/proc/", process, "/stat"), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const size_t bracket = text.rfind(") ");
  return bracket == text.npos ? std::string() : text.substr(bracket + 2);
}

}  // namespace

SupervisionFile SupervisionFile::make(const std::string& folder) {
  const std::string path = name_in(folder);
  const FileDescriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.is_open()) fail_file("make", path, errno);
  if (const int error = ::posix_fallocate(file.number(), 0, sizeof(Supervision))) fail_file("make", path, error);
  SupervisionFile made(path);
  made->supervisor = getpid();
  made->supervisor_start = start_of_process(getpid());
  made->mark = Supervision::kMark;
  return made;
}

SupervisionFile SupervisionFile::open(const std::string& folder) {
  const std::string path = name_in(folder);
  const int64_t bytes = open_to_read(path, Links::refuse).bytes;
  check(bytes == int64_t(sizeof(Supervision)), ErrorCode::file, [&] {
    return str("'", path, "' has ", bytes, " bytes, expected ", sizeof(Supervision), "; it is of another program");
  });
  SupervisionFile opened(path);
  check(opened->mark == Supervision::kMark, ErrorCode::file,
        [&] { return str("'", path, "' is not what a supervisor makes; it is of another program"); });
  return opened;
}

uint64_t start_of_process(int process) {
  std::istringstream fields(behind_name(process));
  char state = 'X';
  fields >> state;
  if (state == 'Z' || state == 'X') return 0;
  std::string skipped;
  constexpr int kBetween = 18;  // fields 4 to 21 of proc(5)
  for (int i = 0; i < kBetween; ++i) fields >> skipped;
  uint64_t start = 0;
  fields >> start;
  return start;
}

char state_of_process(int process) {
  const std::string text = behind_name(process);
  return text.empty() ? '\0' : text[0];
}

}  // namespace lockstep
