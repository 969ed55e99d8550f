// SPDX-License-Identifier: Apache-2.0
// Whether variables are the same to the last bit.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/optimizers/flat_variables.h"

namespace lockstep {

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline void expect_same_bits(const FlatVariables& a, const FlatVariables& b, const std::string& what) {
  EXPECT_TRUE(same_bits(a.param, b.param)) << what << ": parameters differ";
  EXPECT_TRUE(same_bits(a.grad, b.grad)) << what << ": gradients differ";
  for (size_t i = 0; i < a.slots.size(); ++i)
    EXPECT_TRUE(same_bits(a.slots[i], b.slots[i])) << what << ": slots " << i << " differ";
  EXPECT_EQ(a.scalars, b.scalars) << what << ": scalars differ";
}

}  // namespace lockstep
