// SPDX-License-Identifier: Apache-2.0
#include "tools/text/byte_progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tools/training/clock_text.h"

namespace lockstep {

ByteProgress::ByteProgress(std::string doing, int64_t bytes, std::FILE* terminal)
    : doing_(std::move(doing)), bytes_(std::max<int64_t>(bytes, 1)), terminal_(terminal), line_(terminal) {}

ByteProgress::~ByteProgress() {
  if (terminal_) line_.clear();
}

void ByteProgress::at(int64_t bytes) {
  const auto now = Clock::now();
  if (!terminal_ || std::chrono::duration<double>(now - last_).count() < 0.2) return;
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double left = seconds / double(std::max<int64_t>(bytes, 1)) * double(bytes_ - bytes);
  line_.show({doing_, fmt::format("{:.1f} of {:.1f} MB", double(bytes) / 1e6, double(bytes_) / 1e6),
              fmt::format("{:.1f} MB/s", double(bytes) / 1e6 / seconds), clock_text(left) + " left"});
}

}  // namespace lockstep
