// SPDX-License-Identifier: Apache-2.0
// Files of lines that another run goes on with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/files/line_file.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::chrono::milliseconds kPatience(100);

TEST(ResumedLines, AreCutWhereTheOtherRunIsTakenUp) {
  const TemporaryFolder folder;
  const std::string path = folder / "ledger";
  LinePosition two, end;
  {
    LineFile file(path);
    file.write_line("one");
    file.write_line(std::string(3 << 20, 'x'));  // longer than a piece that is read
    two = *file.position();
    file.write_line("");
    file.write_line("four");
    end = *file.position();
    file.sync();
  }
  const std::string whole = read_file(path);
  EXPECT_EQ(end.bytes, int64_t(whole.size()));
  for (const LinePosition& position : {end, two, LinePosition{}}) {
    EXPECT_EQ(error_of([&] { check_lines(path, position); }), "");
    LineFile file(path, kPatience, position);
    EXPECT_EQ(read_file(path), whole.substr(0, size_t(position.bytes)));
    EXPECT_EQ(file.position(), position);
  }
  // Its position is that of a run which has written all of it.
  write_file(path, std::string_view(whole).substr(0, size_t(two.bytes) + 9));
  LineFile file(path, kPatience, two);
  file.write_line("");
  file.write_line("four");
  EXPECT_EQ(file.position(), end);
  EXPECT_EQ(read_file(path), whole);
}

TEST(ResumedLines, AreThoseThatWereWritten) {
  const TemporaryFolder folder;
  const std::string path = folder / "ledger";
  LinePosition position;
  {
    LineFile file(path);
    for (const char* line : {"first", "second", "third"}) file.write_line(line);
    position = *file.position();
  }
  const auto refusal = [&](const std::string& text) {
    write_file(path, text);
    return error_of([&] { check_lines(path, position); });
  };
  EXPECT_EQ(refusal("first\nsecond\nthird\nand more"), "");
  for (const char* text :
       {"first\nsecund\nthird\n", "first\nsecond\nthird ", "second\nfirst\nthird\n", "firs\ntsecond\nthird\n"})
    EXPECT_THAT(refusal(text), AllOf(StartsWith("data: '" + path), HasSubstr("does not begin with"))) << text;
  EXPECT_THAT(refusal("first\nsecond\n"), HasSubstr("got a file of 13 bytes"));
  EXPECT_THAT(error_of([&] { check_lines(folder / "none", position); }), StartsWith("file: "));
}

TEST(ResumedLines, AreNoneInADevice) {
  const LineFile file("/dev/null");
  EXPECT_EQ(file.position(), std::nullopt);
}

}  // namespace
}  // namespace lockstep
