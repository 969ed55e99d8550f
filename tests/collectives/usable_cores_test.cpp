// SPDX-License-Identifier: Apache-2.0
// Threads of ranks on machines that are pretended by files.
#include "collectives/usable_cores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/support/files.h"

namespace lockstep {
namespace {

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

UsableCores on(std::vector<int> cores, double quota = kNoQuota, std::string group = "", std::string machine = "a") {
  return {.cores = std::move(cores), .quota = quota, .group = std::move(group), .machine = std::move(machine)};
}

std::vector<int> first_cores(int count) {
  std::vector<int> cores;
  for (int core = 0; core < count; ++core) cores.push_back(core);
  return cores;
}

TEST(UsableCores, RanksThatMayUseTheSameCoresShareThem) {
  const std::vector<UsableCores> three(3, on(first_cores(8)));
  EXPECT_EQ(threads_of_rank(three, 1), 2);
  EXPECT_EQ(threads_of_rank(std::vector(8, on({5, 6})), 7), 1);
  EXPECT_EQ(threads_of_rank(std::vector(3, on(first_cores(3))), 0), 1);
}

TEST(UsableCores, RanksThatAreBoundByTheLauncherDivideNothingAgain) {
  const std::vector<UsableCores> bound{on({0, 1, 2, 3}), on({4, 5, 6, 7})};
  EXPECT_EQ(threads_of_rank(bound, 0), 4);
  EXPECT_EQ(threads_of_rank(bound, 1), 4);
  const std::vector<UsableCores> overlapping{on({0, 1, 2, 3}), on({2, 3})};
  EXPECT_EQ(threads_of_rank(overlapping, 0), 3);
  EXPECT_EQ(threads_of_rank(overlapping, 1), 1);
}

TEST(UsableCores, RanksOfAControlGroupShareItsQuota) {
  EXPECT_EQ(threads_of_rank(std::vector(1, on(first_cores(64), 2, "/job")), 0), 2);
  EXPECT_EQ(threads_of_rank(std::vector(1, on(first_cores(64), 1.5, "/job")), 0), 1);
  EXPECT_EQ(threads_of_rank(std::vector(1, on(first_cores(64), 0.5, "/job")), 0), 1);
  EXPECT_EQ(threads_of_rank(std::vector(2, on(first_cores(64), 8, "/job")), 1), 4);
  const std::vector<UsableCores> containers{on(first_cores(64), 8, "/one"), on(first_cores(64), 4, "/two")};
  EXPECT_EQ(threads_of_rank(containers, 0), 8);
  EXPECT_EQ(threads_of_rank(containers, 1), 4);
}

TEST(UsableCores, RanksRunAtOnceOnAsManyCoresWhicheverTheyAreBoundTo) {
  const auto at_once = [](const std::vector<std::vector<int>>& cores, double quota = kNoQuota) {
    return can_run_at_once(cores, quota);
  };
  EXPECT_TRUE(at_once({{0, 1}, {0, 1}}));
  EXPECT_TRUE(at_once({{0}, {1}}));  // as mpirun binds two ranks
  EXPECT_FALSE(at_once({{0}, {0}}));
  EXPECT_FALSE(at_once({{0, 1}, {0, 1}, {0, 1}}));
  EXPECT_FALSE(at_once({{0}, {1}}, 1.5));
}

TEST(UsableCores, AProcessHasTheCoresThatTheSystemGivesIt) {
  EXPECT_EQ(cores_of_process(0), find_usable_cores().cores);
  EXPECT_TRUE(cores_of_process(-1).empty());
}

TEST(UsableCores, MachinesShareNothing) {
  const std::vector<UsableCores> ranks{on(first_cores(4), 4, "/job", "a"), on(first_cores(4), 4, "/job", "b")};
  EXPECT_EQ(threads_of_rank(ranks, 0), 4);
}

// A machine whose files lie in a folder.
class PretendedMachine {
 public:
  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path file = root() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string root() const { return folder_ / "machine"; }

 private:
  TemporaryFolder folder_;
};

TEST(UsableCores, ReadsTheQuotaOfVersion2AndOfTheGroupsAbove) {
  const PretendedMachine machine;
  machine.write("/proc/self/cgroup", "0::/batch/job 7/task\n");
  machine.write("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n");
  EXPECT_EQ(find_usable_cores(machine.root()).quota, kNoQuota);
  machine.write("/sys/fs/cgroup/batch/job 7/task/cpu.max", "max 100000\n");
  EXPECT_EQ(find_usable_cores(machine.root()).quota, kNoQuota);
  machine.write("/sys/fs/cgroup/batch/job 7/cpu.max", "150000 100000\n");
  EXPECT_EQ(find_usable_cores(machine.root()).quota, 1.5);
  machine.write("/sys/fs/cgroup/batch/cpu.max", "600000 100000\n");
  const UsableCores usable = find_usable_cores(machine.root());
  EXPECT_EQ(usable.quota, 1.5);
  EXPECT_TRUE(usable.group.starts_with("/sys/fs/cgroup/batch/job 7")) << usable.group;
}

TEST(UsableCores, ReadsTheQuotaOfVersion1) {
  const PretendedMachine machine;
  machine.write("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,cpuacct:/docker/0123\n3:cpuset:/docker/0123\n0::/\n");
  machine.write("/proc/self/mountinfo",
                "32 31 0:29 /docker/0123 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
                "34 31 0:31 /docker/0123 /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n");
  machine.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  machine.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(find_usable_cores(machine.root()).quota, kNoQuota);
  machine.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
  EXPECT_EQ(find_usable_cores(machine.root()).quota, 2);
}

TEST(UsableCores, AContainerThatSeesItsGroupAsTheTopOneHasItsQuota) {
  const PretendedMachine machine;
  machine.write("/proc/self/cgroup", "0::/\n");
  machine.write("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
  machine.write("/sys/fs/cgroup/cpu.max", "300000 100000\n");
  EXPECT_EQ(find_usable_cores(machine.root()).quota, 3);
}

}  // namespace
}  // namespace lockstep
