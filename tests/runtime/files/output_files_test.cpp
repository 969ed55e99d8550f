// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "runtime/files/atomic_file.h"
#include "runtime/files/file_identity.h"
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

TEST(AtomicFile, RemovesWhatAKilledRunLeft) {
  const TemporaryFolder folder;
  write_file(folder / str("weights.", ::getpid(), "-0.partial"), "half");
  write_file(folder / "weights.4711-12.partial", "half");
  // Names that only look like one of them are somebody else's.
  const std::vector<std::string> others = {"weights.partial",         "weights.a-0.partial",    "weights.4711-.partial",
                                           "weights.4711-0.partial.", "weights.-0.partial",     "weights.4711.partial",
                                           "other.4711-0.partial",    "weightsx.4711-0.partial"};
  for (const std::string& name : others) write_file(folder / name, "kept");
  save(folder / "weights", "new");
  EXPECT_EQ(read_file(folder / "weights"), "new");
  std::vector<std::string> expected = others;
  expected.push_back("weights");
  EXPECT_THAT(folder.names(), testing::UnorderedElementsAreArray(expected));
}

TEST(AtomicFile, LeavesTheFileOfARunThatStillWrites) {
  const TemporaryFolder folder;
  AtomicFile first(folder / "weights");
  first.write("first", 5);
  save(folder / "weights", "second");
  EXPECT_EQ(read_file(folder / "weights"), "second");
  first.commit();
  EXPECT_EQ(read_file(folder / "weights"), "first");
  EXPECT_THAT(folder.names(), ElementsAre("weights"));
}

TEST(AtomicFile, HandsThePermissionsOfTheOldFileOn) {
  const TemporaryFolder folder;
  for (const mode_t mode : {0600, 0640, 0755}) {
    write_file(folder / "weights", "old");
    ASSERT_EQ(::chmod((folder / "weights").c_str(), mode), 0);
    AtomicFile file(folder / "weights");
    for (const std::string& name : folder.names()) {
      struct stat status;
      ASSERT_EQ(::stat((folder / name).c_str(), &status), 0);
      EXPECT_EQ(status.st_mode & 07777, mode) << name << ": not even for a moment may others read it";
    }
    file.commit();
    struct stat status;
    ASSERT_EQ(::stat((folder / "weights").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, mode);
  }
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

TEST(LineFile, RefusesALinkToAFileAndFollowsOneToADevice) {
  const TemporaryFolder folder;
  write_file(folder / "precious", "old");
  std::filesystem::create_symlink("precious", folder / "link");
  EXPECT_THAT(error_of([&] { LineFile file(folder / "link"); }), HasSubstr("symbolic link"));
  EXPECT_EQ(read_file(folder / "precious"), "old");
  std::filesystem::create_symlink("new", folder / "dangling");
  EXPECT_THAT(error_of([&] { LineFile file(folder / "dangling"); }), HasSubstr("symbolic link"));
  std::filesystem::create_symlink("/dev/null", folder / "device");
  EXPECT_EQ(error_of([&] { LineFile(folder / "device").write_line("text"); }), "");
}

TEST(LineFile, DoesNotWaitForEverForTheReaderOfAPipe) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0666), 0);
  EXPECT_THAT(error_of([&] { LineFile file(folder / "pipe", std::chrono::milliseconds(20)); }),
              AllOf(StartsWith("file: cannot write"), HasSubstr(folder / "pipe"), HasSubstr("nobody reads it")));
  // One that comes late is waited for.
  std::thread reader([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(read_file(folder / "pipe"), "first\n");
  });
  LineFile(folder / "pipe").write_line("first");
  reader.join();
}

TEST(LineFile, DoesNotWaitForEverForAPipeThatIsFull) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0666), 0);
  const FileDescriptor reader(::open((folder / "pipe").c_str(), O_RDONLY | O_NONBLOCK));
  LineFile file(folder / "pipe", std::chrono::milliseconds(20));
  EXPECT_THAT(error_of([&] { file.write_line(std::string(1 << 20, 'x')); }), HasSubstr("takes nothing any more"));
}

TEST(LineFile, SaysThatTheReaderOfAPipeHasGone) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0666), 0);
  FileDescriptor reader(::open((folder / "pipe").c_str(), O_RDONLY | O_NONBLOCK));
  LineFile file(folder / "pipe");
  reader.close();
  // The signal, which would end the process, is not even pending.
  EXPECT_THAT(error_of([&] { file.write_line("text"); }), AllOf(HasSubstr(folder / "pipe"), HasSubstr("Broken pipe")));
  sigset_t pending;
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGPIPE), 0);
}

TEST(LineFile, RefusesSeveralLinesInOne) {
  const TemporaryFolder folder;
  LineFile file(folder / "ledger");
  EXPECT_THAT(error_of([&] { file.write_line("a\nb"); }), StartsWith("internal: expected one line"));
  EXPECT_EQ(read_file(folder / "ledger"), "");
}

std::string separate(std::vector<NamedFile> outputs, std::vector<NamedFile> inputs = {}) {
  return error_of([&] { check_separate(outputs, inputs); });
}

TEST(CheckSeparate, KnowsAFileByAnyOfItsNames) {
  const TemporaryFolder folder;
  write_file(folder / "file", "");
  std::filesystem::create_hard_link(folder / "file", folder / "hard");
  std::filesystem::create_symlink("file", folder / "soft");
  std::filesystem::create_symlink(".", folder / "here");
  std::filesystem::create_symlink("new", folder / "dangling");
  const std::string path = folder.path();
  for (const std::string& other : {folder / "./file", folder / "hard", folder / "soft", folder / "here/file"}) {
    EXPECT_THAT(separate({{"--ledger", folder / "file"}, {"--save", other}}),
                AllOf(StartsWith("usage: --ledger"), HasSubstr("and --save '" + other + "' are the same file")));
    EXPECT_THAT(separate({{"--save", other}}, {{"--data", folder / "file"}}),
                AllOf(StartsWith("usage: --save"), HasSubstr("--data")));
  }
  for (const std::string& other : {folder / "./new", folder / "here/new", folder / "dangling", path + "//new"})
    EXPECT_THAT(separate({{"--ledger", folder / "new"}, {"--metrics", other}}), HasSubstr("the same file"));
  EXPECT_THAT(separate({{"--ledger", folder / "file"}, {"--save", folder / "file"}}), HasSubstr("both name"));
}

TEST(CheckSeparate, LetsDifferentFilesAndSharedDevicesBe) {
  const TemporaryFolder folder;
  write_file(folder / "file", "");
  write_file(folder / "data", "");
  EXPECT_EQ(separate({{"--ledger", folder / "file"}, {"--metrics", folder / "new"}, {"--save", folder / "newer"}},
                     {{"--data", folder / "data"}}),
            "");
  EXPECT_EQ(separate({{"--ledger", "/dev/null"}, {"--metrics", "/dev/null"}}), "");
  EXPECT_EQ(separate({{"--ledger", ""}, {"--metrics", ""}}), "");
  // What cannot be opened is reported by whoever opens it.
  EXPECT_EQ(separate({{"--ledger", folder / "no/a"}, {"--metrics", folder / "no/b"}}), "");
  std::filesystem::create_symlink("circle", folder / "circle");
  EXPECT_EQ(separate({{"--ledger", folder / "circle"}, {"--metrics", folder / "new"}}), "");
}

}  // namespace
}  // namespace lockstep
