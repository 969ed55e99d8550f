// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/memory_roof.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>
#include <vector>

#include "kernels/launch.h"

namespace lockstep {
namespace {

View view(std::vector<float>& x) { return {x.data(), DType::f32, DeviceKind::cpu, Shape{int64_t(x.size())}}; }

TEST(MemoryRoof, AddInPlaceTouchesEveryElementOnce) {
  Stream stream = Stream::cpu();
  for (const size_t n : {0, 1, 3, 255, 256, 1001}) {
    std::vector<float> x(n, 1.0f);
    launch(stream, AddInPlace{view(x), 0.5f});
    EXPECT_THAT(x, testing::Each(1.5f)) << n;
  }
}

TEST(MemoryRoof, CopyCopies) {
  Stream stream = Stream::cpu();
  std::vector<float> from = {1, 2, 3}, to(3);
  launch(stream, CopyArray{view(to), view(from)});
  EXPECT_EQ(to, from);
}

TEST(MemoryRoof, FillSpreadsOverTheRange) {
  Stream stream = Stream::cpu();
  std::vector<float> x(1000);
  launch(stream, FillSpread{view(x), -2, 3});
  EXPECT_GT(std::set<float>(x.begin(), x.end()).size(), 990u);
  EXPECT_THAT(x, testing::Each(testing::AllOf(testing::Ge(-2), testing::Lt(3))));
  EXPECT_LT(*std::ranges::min_element(x), -1.9f);
  EXPECT_GT(*std::ranges::max_element(x), 2.9f);
}

}  // namespace
}  // namespace lockstep
