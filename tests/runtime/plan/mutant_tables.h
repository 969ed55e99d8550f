// SPDX-License-Identifier: Apache-2.0
// The mutants of planner_mutants_test.cpp and museum_test.cpp: rules broken, and finished plans changed.
#pragma once

#include <vector>

#include "tests/runtime/plan/mutants.h"

namespace lockstep {

std::vector<Mutant> all_mutants();

std::vector<Mutant> five_tempting_fixes();
std::vector<Mutant> aggregation_mutants();
std::vector<Mutant> tape_mutants();
std::vector<Mutant> layout_mutants();
std::vector<Mutant> residence_mutants();

std::vector<Mutant> state_mutants();
std::vector<Mutant> bucket_mutants();
std::vector<Mutant> place_mutants();
std::vector<Mutant> collective_mutants();
std::vector<Mutant> memory_mutants();

}  // namespace lockstep
