// SPDX-License-Identifier: Apache-2.0
#include "collectives/usable_cores.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <thread>

namespace lockstep {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<int> allowed_cores() {
  std::vector<int> cores = cores_of_process(0);
  if (!cores.empty()) return cores;
  for (int core = 0; core < int(std::max(1u, std::thread::hardware_concurrency())); ++core) cores.push_back(core);
  return cores;
}

// A hierarchy of control groups that this process sees: where it is mounted, the group that lies there, and its own.
struct Hierarchy {
  bool version_2 = false;
  std::string mount_point, mounted_group, own_group;
};

bool lists(const std::string& names, const std::string& name) {
  std::istringstream in(names);
  for (std::string entry; std::getline(in, entry, ',');)
    if (entry == name) return true;
  return false;
}

// proc(5), cgroups(7): lines "id:controllers:group" of /proc/self/cgroup, and of /proc/self/mountinfo "id parent
// device root point options ... - type source options".
std::vector<Hierarchy> find_hierarchies(const std::string& root) {
  std::string group_1, group_2;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty()) group_2 = line.substr(second + 1);
    if (lists(controllers, "cpu")) group_1 = line.substr(second + 1);
  }
  std::vector<Hierarchy> found;
  std::ifstream mounts(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string id, parent, device, mounted, point, type, source, options;
    left >> id >> parent >> device >> mounted >> point;
    right >> type >> source >> options;
    if (type == "cgroup2" && !group_2.empty()) found.push_back({true, point, mounted, group_2});
    if (type == "cgroup" && lists(options, "cpu") && !group_1.empty())
      found.push_back({false, point, mounted, group_1});
  }
  return found;
}

// The quota that a group's own folder sets, in cores; infinite without one.
double quota_of_folder(const std::string& folder, bool version_2) {
  double quota = -1, period = 0;
  if (version_2) {
    std::istringstream(first_line(folder + "/cpu.max")) >> quota >> period;  // "max 100000" has no number
  } else {
    std::istringstream(first_line(folder + "/cpu.cfs_quota_us")) >> quota;
    std::istringstream(first_line(folder + "/cpu.cfs_period_us")) >> period;
  }
  return quota > 0 && period > 0 ? quota / period : std::numeric_limits<double>::infinity();
}

// Every group on the way from the own one up to the one that is mounted may have a quota; the smallest counts.
void apply_quotas(const Hierarchy& hierarchy, const std::string& root, UsableCores& usable) {
  std::string group = hierarchy.own_group;
  // A container may see its own group as the top one.
  if (hierarchy.mounted_group != "/" && group.starts_with(hierarchy.mounted_group))
    group.erase(0, hierarchy.mounted_group.size());
  while (true) {
    const std::string folder = hierarchy.mount_point + group;
    const double quota = quota_of_folder(root + folder, hierarchy.version_2);
    if (quota < usable.quota) {
      usable.quota = quota;
      usable.group = folder;
    }
    if (group.empty() || group == "/") return;
    group.erase(group.rfind('/'));
  }
}

// Sends what threads_of_rank() needs as words; paths of groups have no line breaks.
std::string to_text(const UsableCores& usable) {
  std::string text = str(usable.machine, "\n", usable.group, "\n", usable.quota, "\n");
  for (const int core : usable.cores) text += str(core, " ");
  return text;
}

UsableCores from_text(const std::string& text) {
  UsableCores usable;
  std::istringstream in(text);
  std::string quota;
  std::getline(in, usable.machine);
  std::getline(in, usable.group);
  std::getline(in, quota);
  if (quota != "inf") usable.quota = std::stod(quota);
  for (int core = 0; in >> core;) usable.cores.push_back(core);
  return usable;
}

}  // namespace

std::vector<int> cores_of_process(int process) {
  // Machines with many cores refuse sets that are too small.
  for (size_t words = 16; words <= 4096; words *= 2) {
    std::vector<unsigned long> set(words);
    const size_t bytes = words * sizeof(unsigned long);
    auto* cpus = reinterpret_cast<cpu_set_t*>(set.data());
    if (sched_getaffinity(process, bytes, cpus) != 0) continue;
    std::vector<int> cores;
    for (int core = 0; core < int(bytes * 8); ++core)
      if (CPU_ISSET_S(size_t(core), bytes, cpus)) cores.push_back(core);
    return cores;
  }
  return {};
}

UsableCores find_usable_cores(const std::string& root) {
  UsableCores usable{.cores = allowed_cores(), .group = "", .machine = ""};
  for (const Hierarchy& hierarchy : find_hierarchies(root)) apply_quotas(hierarchy, root, usable);
  usable.machine = first_line(root + "/proc/sys/kernel/random/boot_id");
  // Equal paths mean different groups in containers, each of which has a view of its own.
  std::error_code ignored;
  if (!usable.group.empty())
    usable.group += " of " + std::filesystem::read_symlink(root + "/proc/self/ns/cgroup", ignored).string();
  return usable;
}

bool can_run_at_once(std::span<const std::vector<int>> cores_of_ranks, double quota) {
  std::set<int> cores;
  for (const std::vector<int>& of_rank : cores_of_ranks) cores.insert(of_rank.begin(), of_rank.end());
  return double(cores_of_ranks.size()) <= std::min(double(cores.size()), quota);
}

int threads_of_rank(std::span<const UsableCores> usable, int rank) {
  const UsableCores& mine = usable[size_t(rank)];
  std::map<int, int> takers;  // of each core
  int sharing_quota = 0;
  for (const UsableCores& other : usable) {
    if (other.machine != mine.machine) continue;
    for (const int core : other.cores) ++takers[core];
    if (other.group == mine.group) ++sharing_quota;
  }
  double cores = 0;
  for (const int core : mine.cores) cores += 1.0 / takers[core];
  const double threads = std::min(cores, mine.quota / sharing_quota);
  constexpr double kRounding = 1e-6;  // of sums of thirds
  return std::max(1, int(std::floor(threads + kRounding)));
}

int share_of_cores(Communicator& ranks) {
  std::vector<UsableCores> usable;
  for (const std::string& text : ranks.all_gather_bytes(to_text(find_usable_cores())))
    usable.push_back(from_text(text));
  return threads_of_rank(usable, ranks.rank());
}

std::string describe(const UsableCores& usable) {
  std::string text = str(usable.cores.size(), " of ", sysconf(_SC_NPROCESSORS_ONLN), " cores");
  if (std::isfinite(usable.quota)) text += str(", the time of ", usable.quota, " by quota");
  return text;
}

}  // namespace lockstep
