// SPDX-License-Identifier: Apache-2.0
// What a person sees of a run's progress, in a terminal of any width.
#include "tools/training/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "tools/text/byte_progress.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// Enough of a terminal for lines: it wraps when something is written behind the last column.
class Screen {
 public:
  Screen() : lines_(1) {}
  // What lies behind the new edge is lost.
  void resize(size_t columns) {
    columns_ = columns;
    for (std::string& line : lines_) line.resize(std::min(line.size(), columns));
  }
  void write(const std::string& text) {
    for (const char c : text) put(c);
  }
  int wrapped() const { return wrapped_; }
  bool saw_escapes() const { return escapes_; }
  // Without blanks at the end.
  std::vector<std::string> lines() const {
    std::vector<std::string> lines = lines_;
    for (std::string& line : lines) line.erase(line.find_last_not_of(' ') + 1);
    return lines;
  }

 private:
  void put(char c) {
    if (c == '\x1b') escapes_ = true;
    if (c == '\r') {
      column_ = 0;
    } else if (c == '\n') {
      lines_.emplace_back();
      column_ = 0;
    } else {
      if (column_ >= columns_) {
        ++wrapped_;
        lines_.emplace_back();
        column_ = 0;
      }
      std::string& line = lines_.back();
      line.resize(std::max(line.size(), column_ + 1), ' ');
      line[column_++] = c;
    }
  }

  size_t columns_ = 80, column_ = 0;
  std::vector<std::string> lines_;
  int wrapped_ = 0;
  bool escapes_ = false;
};

// A pseudo terminal whose other end is read as a terminal's window reads it.
class Terminal {
 public:
  Terminal() {
    EXPECT_EQ(openpty(&window_, &program_, nullptr, nullptr, nullptr), 0);
    out = fdopen(program_, "w");
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() {
    std::fclose(out);
    close(window_);
  }
  void resize(unsigned short columns) {
    const winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    EXPECT_EQ(ioctl(program_, TIOCSWINSZ, &size), 0);
    screen.resize(columns);
  }
  // The driver makes "\r\n" of "\n".
  void show() {
    const std::string end(1, '\x04');
    std::fputs(end.c_str(), out);
    std::fflush(out);
    for (char c = 0; read(window_, &c, 1) == 1 && c != end[0];) screen.write(std::string(1, c));
  }

  std::FILE* out = nullptr;
  Screen screen;

 private:
  int window_ = -1, program_ = -1;
};

// A step of a long run, with numbers that take room; a line is due after 0.2 s.
void take_step(Progress& progress, int64_t step) {
  std::this_thread::sleep_for(std::chrono::milliseconds(210));
  StepReport report;
  report.loss_sum = 128 * 2.3;
  report.sums = {{"correct", 100, 100}};
  progress.step(step, 128, [&]() -> const StepReport& { return report; });
}

TEST(Progress, NeverWrapsAtAnyWidthEvenWhenItChanges) {
  constexpr int64_t kSteps = 2'345'000;
  Terminal terminal;
  Progress progress(terminal.out, /*terminal=*/true, kSteps, kSteps / 5);
  int64_t step = 1'234'567;
  for (const unsigned short columns : {200, 80, 60, 20, 7, 200}) {
    terminal.resize(columns);
    take_step(progress, step++);
    terminal.show();
    EXPECT_EQ(terminal.screen.wrapped(), 0) << columns << " columns";
    ASSERT_EQ(terminal.screen.lines().size(), 1u) << "every line is written over the one before";
    const std::string line = terminal.screen.lines()[0];
    EXPECT_LE(line.size(), columns) << "in the last column stays what was there before a terminal shrank";
    EXPECT_THAT(line, StartsWith(std::string("epoch 3/5").substr(0, columns - 1)));
    if (columns == 200) {
      EXPECT_THAT(line, HasSubstr(" left"));
    }
    if (columns == 60) {
      EXPECT_THAT(line, HasSubstr("loss "));
    }
  }
  EXPECT_FALSE(terminal.screen.saw_escapes());
}

TEST(Progress, ErasesALongerLineAndKeepsTheLastOfAnEpoch) {
  Terminal terminal;
  terminal.resize(60);
  Progress progress(terminal.out, /*terminal=*/true, 2000, 1000);
  take_step(progress, 998);
  terminal.show();
  terminal.resize(30);
  take_step(progress, 999);
  take_step(progress, 1000);
  terminal.show();
  const std::vector<std::string> lines = terminal.screen.lines();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], StartsWith("epoch 1/2  step 1000/2000"));
  EXPECT_THAT(lines[1], StartsWith("epoch 2/2  step 1001/2000"));
}

// Plain lines at the ends of epochs of ten steps, and one in between that is due after a while.
std::string losses_of(ProgressWords words) {
  std::FILE* file = std::tmpfile();
  Progress progress(file, /*terminal=*/false, 20, 10, std::move(words));
  StepReport report;
  report.sums = {{"correct", 0, 0}};
  for (int64_t step = 0; step < 20; ++step) {
    report.loss_sum += step < 10 ? 4 * 3.0 : 4 * 1.0;  // of each of four samples
    report.sums[0].all_steps += step < 10 ? 1 : 3;
    progress.step(step, 4, [&]() -> const StepReport& { return report; });
  }
  std::rewind(file);
  std::string text(2000, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

TEST(Progress, ShowsMeansOfItsEpochAndNotOfTheRun) {
  const std::string images = losses_of({});
  EXPECT_THAT(images, HasSubstr("epoch 1/2  step 10/20  loss 3.0000  accuracy 0.2500"));
  EXPECT_THAT(images, HasSubstr("epoch 2/2  step 20/20  loss 1.0000  accuracy 0.7500"));
  const std::string tokens = losses_of({.unit = "tokens", .share_name = "", .share_sum = "", .recent_loss = true});
  EXPECT_THAT(tokens, HasSubstr("epoch 1/2  step 10/20  loss 3.0000"));
  EXPECT_THAT(tokens, HasSubstr("epoch 2/2  step 20/20  loss 1.0000"));
}

TEST(Progress, ATerminalThatIsDumbGetsPlainLines) {
  Terminal terminal;
  const char* before = getenv("TERM");
  const std::string kept = before ? before : "";
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(is_terminal_for_lines(terminal.out));
  setenv("TERM", "xterm", 1);
  EXPECT_TRUE(is_terminal_for_lines(terminal.out));
  before ? setenv("TERM", kept.c_str(), 1) : unsetenv("TERM");
}

TEST(ByteProgress, FitsTheTerminalAndLeavesNothing) {
  Terminal terminal;
  {
    ByteProgress progress("encoding", 5'000'000, terminal.out);
    for (const unsigned short columns : {60, 20, 5, 60}) {
      terminal.resize(columns);
      std::this_thread::sleep_for(std::chrono::milliseconds(210));
      progress.at(1'000'000);
      terminal.show();
      EXPECT_EQ(terminal.screen.wrapped(), 0) << columns << " columns";
      EXPECT_THAT(terminal.screen.lines()[0], StartsWith(std::string("encoding").substr(0, columns - 1)));
    }
    EXPECT_THAT(terminal.screen.lines()[0], HasSubstr("1.0 of 5.0 MB"));
  }
  terminal.show();
  EXPECT_EQ(terminal.screen.lines(), std::vector<std::string>{""});
  EXPECT_FALSE(terminal.screen.saw_escapes());
}

TEST(Progress, LeavesOutWholeFieldsFromTheEnd) {
  const std::vector<std::string> fields{"epoch 1/5", "step 10/20", "loss 1.0"};
  EXPECT_EQ(fitting_line(fields, 100), "epoch 1/5  step 10/20  loss 1.0");
  EXPECT_EQ(fitting_line(fields, 30), "epoch 1/5  step 10/20");
  EXPECT_EQ(fitting_line(fields, 21), "epoch 1/5  step 10/20");
  EXPECT_EQ(fitting_line(fields, 20), "epoch 1/5");
  EXPECT_EQ(fitting_line(fields, 5), "epoch");
}

}  // namespace
}  // namespace lockstep
