// SPDX-License-Identifier: Apache-2.0
// Every way we know to break the planner is noticed, by the planner itself, by check_plan or by brute force.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <set>

#include "runtime/plan/check/plan_check.h"
#include "tests/runtime/plan/brute_force.h"
#include "tests/runtime/plan/mutant_tables.h"

namespace lockstep {
namespace {

TEST(PlannerMutants, NoneOfTheSubjectsIsBrokenToBeginWith) {
  for (int machine = 0; machine < kMachines; ++machine) {
    const Subject subject{Machine(machine)};
    if (Machine(machine) == Machine::indivisible) {
      EXPECT_THROW(make_plan(subject.input()), Error);
      continue;
    }
    const Plan plan = make_plan(subject.input());
    EXPECT_NO_THROW(check_plan(plan));
    EXPECT_EQ(brute_force(subject.input(), plan), "") << machine;
  }
}

TEST(PlannerMutants, AreAllKilled) {
  const std::vector<Mutant> mutants = all_mutants();
  EXPECT_GE(mutants.size(), 60u);
  std::set<std::string> names;
  int number = 0;
  for (const Mutant& mutant : mutants) {
    EXPECT_TRUE(names.insert(mutant.name).second) << mutant.name << " is there twice";
    const std::string killer = killer_of(mutant);
    std::printf("%3d  %s\n     killed by %s\n", ++number, mutant.name.c_str(), killer.c_str());
    EXPECT_NE(killer, "") << mutant.name << " survives";
    EXPECT_THAT(killer, testing::HasSubstr(mutant.notices)) << mutant.name;
  }
  std::printf("%zu mutants\n", mutants.size());
}

}  // namespace
}  // namespace lockstep
