// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/files/atomic_file.h"
#include "runtime/files/line_file.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// Root may write anywhere; as somebody else the permissions of files count.
class AsNobody {
 public:
  AsNobody() {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) ADD_FAILURE() << "cannot become nobody";
  }
  ~AsNobody() {
    if (::getuid() == 0 && ::seteuid(0) != 0) ADD_FAILURE() << "cannot become root again";
  }
};

// Makes writes fail from `bytes` on, as a full disk would.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &old_); }

 private:
  rlimit old_{};
};

void save(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text.data(), int64_t(text.size()));
  file.commit();
}

TEST(AtomicFile, PutsANewFileInPlaceAndLeavesNothingElse) {
  const TemporaryFolder folder;
  save(folder / "weights", "new");
  EXPECT_EQ(read_file(folder / "weights"), "new");
  EXPECT_THAT(folder.names(), ElementsAre("weights"));
}

TEST(AtomicFile, KeepsTheOldContentUntilCommitted) {
  const TemporaryFolder folder;
  write_file(folder / "weights", "old");
  {
    AtomicFile file(folder / "weights");
    file.write("new", 3);
    EXPECT_EQ(read_file(folder / "weights"), "old");
  }
  EXPECT_EQ(read_file(folder / "weights"), "old");
  EXPECT_THAT(folder.names(), ElementsAre("weights"));
  save(folder / "weights", "new");
  EXPECT_EQ(read_file(folder / "weights"), "new");
}

TEST(AtomicFile, LeavesTheOldFileAloneWhenTheDiskIsFull) {
  const TemporaryFolder folder;
  write_file(folder / "weights", "old");
  const std::string big(100'000, 'x');
  std::string error;
  {
    const FileSizeLimit limit(5000);
    error = error_of([&] { save(folder / "weights", big); });
  }
  EXPECT_THAT(error, AllOf(StartsWith("file: cannot write"), HasSubstr(folder / "weights"), HasSubstr("ulimit")));
  EXPECT_EQ(read_file(folder / "weights"), "old");
  EXPECT_THAT(folder.names(), ElementsAre("weights"));
}

TEST(AtomicFile, StepsOverWhatAKilledRunLeft) {
  const TemporaryFolder folder;
  write_file(folder / str("weights.", ::getpid(), "-0.partial"), "half");
  save(folder / "weights", "new");
  EXPECT_EQ(read_file(folder / "weights"), "new");
}

TEST(AtomicFile, NamesAFolderThatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { check_can_write(folder / "no/weights"); }),
              AllOf(StartsWith("file: cannot write"), HasSubstr(folder / "no/weights"), HasSubstr("No such file")));
}

TEST(AtomicFile, RefusesAFolderALinkAndADevice) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { check_can_write(folder.path()); }), HasSubstr("name a file"));
  EXPECT_THAT(error_of([&] { check_can_write(folder / ""); }), HasSubstr("name a file"));
  EXPECT_THAT(error_of([&] { check_can_write(""); }), HasSubstr("name of a file"));
  std::filesystem::create_symlink("elsewhere", folder / "link");
  EXPECT_THAT(error_of([&] { check_can_write(folder / "link"); }), HasSubstr("symbolic link"));
  EXPECT_THAT(error_of([&] { check_can_write("/dev/null"); }), HasSubstr("no regular file"));
  struct stat status;
  ASSERT_EQ(::stat("/dev/null", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
}

TEST(AtomicFile, SaysThatThePermissionIsMissing) {
  const TemporaryFolder folder;
  write_file(folder / "weights", "old");
  ASSERT_EQ(::chmod((folder / "weights").c_str(), 0444), 0);
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  {
    const AsNobody nobody;
    EXPECT_THAT(error_of([&] { check_can_write(folder / "new"); }), HasSubstr("Permission denied"));
    EXPECT_THAT(error_of([&] { check_can_write(folder / "weights"); }), HasSubstr("permissions"));
  }
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
}

TEST(AtomicFile, TryingAPathLeavesItUntouched) {
  const TemporaryFolder folder;
  check_can_write(folder / "weights");
  EXPECT_THAT(folder.names(), IsEmpty());
}

TEST(LineFile, ShowsEachLineAsSoonAsItIsWritten) {
  const TemporaryFolder folder;
  write_file(folder / "ledger", "of an earlier run, and longer than the new one\n");
  LineFile file(folder / "ledger");
  file.write_line("first");
  EXPECT_EQ(read_file(folder / "ledger"), "first\n");
  file.write_line("");
  file.write_line("third");
  EXPECT_EQ(read_file(folder / "ledger"), "first\n\nthird\n");
  file.close();
}

TEST(LineFile, EndsWithAWholeLineWhenTheDiskIsFull) {
  const TemporaryFolder folder;
  LineFile file(folder / "ledger");
  file.write_line("first");
  std::string error;
  {
    const FileSizeLimit limit(10);
    error = error_of([&] { file.write_line("longer than what is left"); });
  }
  EXPECT_THAT(error, AllOf(StartsWith("file: cannot write"), HasSubstr(folder / "ledger")));
  EXPECT_EQ(read_file(folder / "ledger"), "first\n");
  file.write_line("again");
  EXPECT_EQ(read_file(folder / "ledger"), "first\nagain\n");
}

TEST(LineFile, SaysThatTheDiskIsFull) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "this machine has no /dev/full";
  LineFile file("/dev/full");
  EXPECT_THAT(error_of([&] { file.write_line("text"); }), AllOf(HasSubstr("/dev/full"), HasSubstr("free some space")));
}

TEST(LineFile, NamesAPathThatCannotBeOpened) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { LineFile file(folder / "no/ledger"); }), HasSubstr(folder / "no/ledger"));
  EXPECT_THAT(error_of([&] { LineFile file(folder.path()); }), HasSubstr("name a file"));
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  {
    const AsNobody nobody;
    EXPECT_THAT(error_of([&] { LineFile file(folder / "ledger"); }), HasSubstr("Permission denied"));
  }
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
}

TEST(LineFile, RefusesSeveralLinesInOne) {
  const TemporaryFolder folder;
  LineFile file(folder / "ledger");
  EXPECT_THAT(error_of([&] { file.write_line("a\nb"); }), StartsWith("internal: expected one line"));
  EXPECT_EQ(read_file(folder / "ledger"), "");
}

}  // namespace
}  // namespace lockstep
