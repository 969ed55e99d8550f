// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/transport.h"

#include <algorithm>
#include <map>

namespace lockstep {

std::vector<int> split_members(int rank, std::span<const int> colors, std::span<const int> keys) {
  std::vector<int> members;
  for (int other = 0; other < int(colors.size()); ++other)
    if (colors[size_t(other)] == colors[size_t(rank)]) members.push_back(other);
  std::ranges::stable_sort(members, {}, [&](int member) { return keys[size_t(member)]; });
  return members;
}

Roster split_roster(const Roster& roster, std::span<const int> members) {
  Roster part;
  std::map<int, int> numbers;  // old node -> new node
  for (const int member : members) {
    const int node = numbers.try_emplace(roster.node_of[size_t(member)], int(numbers.size())).first->second;
    part.node_of.push_back(node);
    part.hosts.push_back(roster.hosts[size_t(member)]);
  }
  return part;
}

}  // namespace lockstep
