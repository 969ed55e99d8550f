// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/number_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/device/printable.h"

namespace lockstep {
namespace {

TEST(NumberText, ReadsWholeNumbersAsTheyWereTyped) {
  EXPECT_EQ(whole_number_in("010"), 10);
  EXPECT_EQ(whole_number_in("009"), 9);
  EXPECT_EQ(whole_number_in("+5"), 5);
  EXPECT_EQ(whole_number_in("-0"), 0);
  EXPECT_EQ(whole_number_in("9223372036854775807"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(whole_number_in("-9223372036854775808"), std::numeric_limits<int64_t>::min());
  for (const char* text : {"", "9223372036854775808", "-9223372036854775809", "99999999999999999999", "0x10", "1e2",
                           "1.0", " 1", "1 ", "+-1", "++1", "+", "-", "1_000", "one"})
    EXPECT_FALSE(whole_number_in(text)) << text;
}

TEST(NumberText, ReadsRealNumbersAsTheyWereTyped) {
  EXPECT_EQ(real_number_in("010.50"), 10.5);
  EXPECT_EQ(real_number_in("+1e-3"), 1e-3);
  EXPECT_EQ(real_number_in("inf"), HUGE_VAL);
  EXPECT_TRUE(std::isnan(real_number_in("nan").value_or(0)));
  for (const char* text : {"", "1e400", "1e-400", "0x1p3", "1,5", "1f", " 1", "+-1", "fast"})
    EXPECT_FALSE(real_number_in(text)) << text;
}

TEST(NumberText, WritesARealSoThatItReadsBackTheSame) {
  EXPECT_EQ(exact(0.3), "0.3");
  for (double x : {0.3, 1e-3, 1 / 3.0, 5e-324, 1.7976931348623157e308, 123456789.0}) {
    const double next = std::nextafter(x, 1);
    EXPECT_EQ(real_number_in(exact(x)), x);
    EXPECT_NE(exact(x), exact(next));
  }
}

TEST(Printable, ShowsControlCharactersAndLeavesTextAlone) {
  EXPECT_EQ(printable("plain 'text' \xc3\xa9\xe2\x82\xac"), "plain 'text' \xc3\xa9\xe2\x82\xac");
  EXPECT_EQ(printable("\x1b[31m\n\x7f"), "\\x1b[31m\\x0a\\x7f");
  EXPECT_EQ(printable("\xc2\x9b\xc2\xa0"), "\\xc2\\x9b\xc2\xa0");
  EXPECT_EQ(printable("0123456789", 4), "01[... 6 bytes ...]89");
  EXPECT_EQ(printable("0123", 4), "0123");
}

}  // namespace
}  // namespace lockstep
