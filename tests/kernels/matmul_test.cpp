// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(Matmul, NamesItsLibrary) { EXPECT_FALSE(matmul_library().empty()); }

}  // namespace
}  // namespace lockstep
