// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/kernel_times.h"

#include <algorithm>

namespace lockstep {

void KernelTimes::add(std::string_view type, double seconds) {
  // A type has one text in memory for each file that launches it.
  auto found = std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.type == type; });
  if (found == entries_.end()) found = entries_.insert(found, {type, 0, 0});
  ++found->calls;
  found->seconds += seconds;
}

// The compiler writes "... kernel_type() [with Kernel = lockstep::Copy; std::string_view = ...]", or ends it with "]".
std::string kernel_name(std::string_view type) {
  constexpr std::string_view kBefore = "Kernel = ", kSpace = "lockstep::";
  const size_t begin = type.find(kBefore);
  if (begin == type.npos) return std::string(type);
  std::string name(type.substr(begin + kBefore.size()));
  name.resize(std::min(name.size(), name.find_first_of(";]")));
  for (size_t at = name.find(kSpace); at != name.npos; at = name.find(kSpace)) name.erase(at, kSpace.size());
  return name;
}

}  // namespace lockstep
