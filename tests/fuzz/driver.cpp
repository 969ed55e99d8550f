// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without libFuzzer, which g++ lacks: mutates a corpus from a seed for some seconds. An exception
// that leaves the target, a crash, or an input that takes too long ends the run; the input is left in a file.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/mutate.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> read_corpus(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file()) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());  // the order on disk must not decide what a seed does
  std::vector<std::string> corpus = built_in_seeds();
  for (const fs::path& path : paths) corpus.push_back(read(path));
  return corpus;
}

// The input under test in memory shared with a file, so that it is on disk however the process ends.
class InputFile {
 public:
  explicit InputFile(std::string path) : path_(std::move(path)) {
    const int file = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0 || ::ftruncate(file, kBytes) != 0) throw std::runtime_error("cannot write " + path_);
    memory_ = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    if (memory_ == MAP_FAILED) throw std::runtime_error("cannot map " + path_);
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile() { ::munmap(memory_, kBytes); }

  // Padded with newlines, which neither TOML nor JSON minds much.
  void hold(const std::string& input) {
    const size_t size = std::min(input.size(), size_t(kBytes));
    std::memcpy(memory_, input.data(), size);
    std::memset(static_cast<char*>(memory_) + size, '\n', std::max(held_, size) - size);
    held_ = size;
  }
  void shrink() const { fs::resize_file(path_, held_); }
  void remove() const { fs::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  static constexpr int64_t kBytes = 1 << 20;
  std::string path_;
  void* memory_ = nullptr;
  size_t held_ = kBytes;
};

extern "C" void too_long(int) {
  constexpr char message[] = "fuzz: an input takes too long; it is in the file named above, with newlines behind it\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, message, sizeof message - 1);
  ::_exit(1);
}

// In processor time, so that a busy machine does not matter.
void limit_time(int seconds) {
  itimerval timer{};
  timer.it_value.tv_sec = seconds;
  ::setitimer(ITIMER_PROF, &timer, nullptr);
}

bool passes(const std::string& input, InputFile& file) {
  file.hold(input);
  limit_time(LOCKSTEP_FUZZ_LIMIT_SECONDS);
  try {
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  } catch (const std::exception& error) {
    limit_time(0);
    file.shrink();
    std::fprintf(stderr, "fuzz: the target threw: %s\nfuzz: the input is in %s\n", error.what(), file.path().c_str());
    return false;
  }
  limit_time(0);
  return true;
}

int fuzz(const std::vector<std::string>& corpus, int seconds, uint64_t seed, InputFile& file) {
  Random random(seed);
  int64_t executions = 0;
  for (const std::string& input : corpus) {
    if (!passes(input, file)) return 1;
    ++executions;
  }
  for (const auto end = Clock::now() + std::chrono::seconds(seconds); Clock::now() < end; ++executions)
    if (!passes(mutate(corpus[random() % corpus.size()], corpus, random), file)) return 1;
  std::printf("fuzz: %lld executions in %d s from seed %llu and %zu inputs, no failure\n",
              static_cast<long long>(executions), seconds, static_cast<unsigned long long>(seed), corpus.size());
  return 0;
}

}  // namespace
}  // namespace lockstep

// fuzz_x FOLDER SECONDS [SEED], or fuzz_x FILE to run one input again.
int main(int count, char** arguments) {
  using namespace lockstep;
  if (count < 2 || count > 4) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER SECONDS [SEED]\n       %s INPUT_FILE\n", arguments[0], arguments[0]);
    return 2;
  }
  ::signal(SIGPROF, too_long);
  InputFile file(fs::path(arguments[0]).filename().string() + ".input");
  std::printf("fuzz: the input under test is in %s\n", fs::absolute(file.path()).c_str());
  std::fflush(stdout);
  const int result = count == 2 ? (passes(read(arguments[1]), file) ? 0 : 1)
                                : fuzz(read_corpus(arguments[1]), std::atoi(arguments[2]),
                                       count == 4 ? std::strtoull(arguments[3], nullptr, 10) : 1, file);
  if (result == 0) file.remove();
  return result;
}
