// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/idx.h"

#include <sys/stat.h>
#include <zlib.h>

#include <array>
#include <map>
#include <numeric>

#include "runtime/data/dataset.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = uInt(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = uInt(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string idx(const std::vector<uint32_t>& sizes, const std::string& values) {
  std::string out{'\0', '\0', '\x08', char(sizes.size())};
  for (const uint32_t size : sizes)
    for (const int shift : {24, 16, 8, 0}) out.push_back(char(size >> shift));
  return out + values;
}

// What reading these bytes as a file of one or three dimensions is refused with.
std::string refusal(const std::string& bytes, int dimensions = 1) {
  const TemporaryFolder folder;
  write_file(folder / "f.gz", bytes);
  const std::string error = error_of([&] { read_idx(folder / "f.gz", dimensions); });
  if (!error.empty()) {
    EXPECT_THAT(error, AllOf(HasSubstr(folder / "f.gz"), HasSubstr("--data DIR")));
  }
  return error;
}

TEST(Idx, ReadsSizesAndValues) {
  const TemporaryFolder folder;
  write_file(folder / "f.gz", gzip(idx({2, 1, 3}, "\x01\x02\x03\xfd\xfe\xff")));
  const IdxArray array = read_idx(folder / "f.gz", 3);
  EXPECT_THAT(array.sizes, ElementsAre(2, 1, 3));
  EXPECT_THAT(array.values, ElementsAre(1, 2, 3, 253, 254, 255));
}

TEST(Idx, ReadsThroughManyInputBuffers) {
  std::string values(300'000, '\0');
  uint32_t state = 1;
  for (char& value : values) value = char((state = state * 1664525u + 1013904223u) >> 24);  // hardly compresses
  const TemporaryFolder folder;
  write_file(folder / "f.gz", gzip(idx({300'000}, values)));
  const IdxArray array = read_idx(folder / "f.gz", 1);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), array.values.begin(), array.values.end(),
                         [](char a, uint8_t b) { return uint8_t(a) == b; }));
}

TEST(Idx, ReadsAFileThatIsNotGzipped) {
  const TemporaryFolder folder;
  write_file(folder / "f", idx({2, 1, 3}, "\x01\x02\x03\xfd\xfe\xff"));
  EXPECT_THAT(read_idx(folder / "f", 3).values, ElementsAre(1, 2, 3, 253, 254, 255));
  EXPECT_THAT(refusal(idx({4}, "abc")), HasSubstr("holds 3 values, expected 4"));
  EXPECT_THAT(refusal(idx({2}, "abc")), HasSubstr("more values than its header says"));
  EXPECT_THAT(refusal(idx({4'000'000'000}, "abc")), HasSubstr("announces 4000000000 values"));
}

TEST(Idx, RefusesAFileThatIsNeitherIdxNorGzip) {
  EXPECT_THAT(refusal("text, not IDX"), HasSubstr("starts with the numbers 116 101 120 116, expected 0 0 8 1"));
  EXPECT_THAT(refusal(""), HasSubstr("has 0 bytes, fewer than its header"));
  EXPECT_THAT(refusal("\x1f"), HasSubstr("has 1 bytes, fewer than its header"));
}

TEST(Idx, ReadsAFileOfSeveralGzipMembers) {
  const std::string whole = idx({6}, "abcdef");
  const TemporaryFolder folder;
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    write_file(folder / "f.gz", gzip(whole.substr(0, cut)) + gzip(whole.substr(cut)));
    EXPECT_THAT(read_idx(folder / "f.gz", 1).values, ElementsAre('a', 'b', 'c', 'd', 'e', 'f')) << cut;
  }
  std::string many;
  for (const char byte : whole) many += gzip(std::string(1, byte));
  for (int i = 0; i < 10'000; ++i) many += gzip("");  // members end at every place of the buffers, too
  write_file(folder / "f.gz", many);
  EXPECT_THAT(read_idx(folder / "f.gz", 1).sizes, ElementsAre(6));
  const std::string second = gzip(whole.substr(5));
  for (size_t bytes = 2; bytes < second.size(); ++bytes)
    EXPECT_THAT(refusal(gzip(whole.substr(0, 5)) + second.substr(0, bytes)), HasSubstr("truncated")) << bytes;
}

TEST(Idx, RefusesEveryTruncation) {
  const std::string whole = gzip(idx({40}, std::string(20, 'a') + std::string(20, 'b')));
  ASSERT_EQ(refusal(whole), "");
  for (size_t bytes = 0; bytes < whole.size(); ++bytes)
    EXPECT_THAT(refusal(whole.substr(0, bytes)), StartsWith("data: ")) << "cut to " << bytes << " bytes";
  EXPECT_THAT(refusal(whole.substr(0, whole.size() - 1)), HasSubstr("truncated"));
}

TEST(Idx, NoticesEveryChangedByteOfTheStream) {
  const std::string whole = gzip(idx({40}, std::string(20, 'a') + std::string(20, 'b')));
  constexpr size_t kGzipHeader = 10;  // its time, flags and system carry nothing
  for (size_t at = kGzipHeader; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = char(changed[at] ^ 0x04);
    EXPECT_THAT(refusal(changed), StartsWith("data: ")) << at;
  }
}

TEST(Idx, RefusesAnotherMagicOrNumberOfDimensions) {
  EXPECT_THAT(refusal(gzip(idx({1, 1, 1}, "a")), 1), HasSubstr("starts with the numbers 0 0 8 3, expected 0 0 8 1"));
  EXPECT_THAT(refusal(gzip(idx({1}, "abcdefghijkl")), 3), HasSubstr("numbers 0 0 8 1, expected 0 0 8 3"));
  std::string floats = idx({1}, "abcd");
  floats[2] = 0x0d;
  EXPECT_THAT(refusal(gzip(floats)), HasSubstr("numbers 0 0 13 1"));
  EXPECT_THAT(refusal(gzip("text, not IDX")), HasSubstr("starts with the numbers 116 101"));
  EXPECT_THAT(refusal(gzip("abc")), HasSubstr("has 3 bytes, fewer than its header"));
}

TEST(Idx, RefusesMoreOrFewerValuesThanAnnounced) {
  EXPECT_THAT(refusal(gzip(idx({4}, "abc"))), HasSubstr("holds 3 values, expected 4"));
  EXPECT_THAT(refusal(gzip(idx({2}, "abc"))), HasSubstr("more values than its header says"));
}

TEST(Idx, RefusesWhatFollowsTheStream) {
  const std::string whole = gzip(idx({3}, "abc"));
  EXPECT_THAT(refusal(whole + "x"), HasSubstr("goes on behind the end"));
  EXPECT_THAT(refusal(whole + whole), HasSubstr("more values than its header says")) << "two members are one stream";
  EXPECT_THAT(refusal(whole + std::string(200'000, '\0')), HasSubstr("goes on behind the end"));
  // Also where the stream ends with what was read at once: a name of the file inside makes it that long.
  std::string named = whole;
  named[3] = 0x08;
  named.insert(10, std::string((1 << 16) - whole.size() - 1, 'n') + '\0');
  ASSERT_EQ(named.size(), size_t(1) << 16);
  EXPECT_EQ(refusal(named), "");
  EXPECT_THAT(refusal(named + "x"), HasSubstr("goes on behind the end"));
}

TEST(Idx, SpendsNoMemoryOnSizesTheFileCannotHold) {
  EXPECT_THAT(refusal(gzip(idx({4'000'000'000}, "abc"))), HasSubstr("announces 4000000000 values, but its"));
  EXPECT_THAT(refusal(gzip(idx({~0u, ~0u, ~0u}, "abc")), 3), HasSubstr("announces more than 4294967296 values"));
  EXPECT_THAT(refusal(gzip(idx({~0u, ~0u, 0}, "")), 3), HasSubstr("announces more than 4294967296 values"));
}

TEST(Idx, StopsAtTheAnnouncedEndOfABomb) {
  EXPECT_THAT(refusal(gzip(idx({10}, std::string(50'000'000, '\0')))), HasSubstr("more values than its header says"));
}

TEST(Idx, RefusesAFolderAndAFifo) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0666), 0);
  EXPECT_THAT(error_of([&] { read_idx(folder / "fifo", 1); }), HasSubstr("FIFO"));
  EXPECT_THAT(error_of([&] { read_idx(folder.path(), 1); }), HasSubstr("folder"));
}

// Two training and one test image of 2 x 1 pixels, of which a test spoils one file.
class DatasetFolder : public testing::Test {
 protected:
  DatasetFolder() {
    put("train-images-idx3-ubyte.gz", idx({2, 2, 1}, "abcd"));
    put("train-labels-idx1-ubyte.gz", idx({2}, std::string("\x00\x09", 2)));
    put("t10k-images-idx3-ubyte.gz", idx({1, 2, 1}, "ef"));
    put("t10k-labels-idx1-ubyte.gz", idx({1}, "\x05"));
  }
  void put(const std::string& name, const std::string& bytes) { write_file(folder_ / name, gzip(bytes)); }
  std::string load() {
    return error_of([&] { dataset_ = load_dataset(folder_.path()); });
  }
  TemporaryFolder folder_;
  Dataset dataset_;
};

TEST_F(DatasetFolder, IsReadWhole) {
  ASSERT_EQ(load(), "");
  EXPECT_EQ(dataset_.train.count, 2);
  EXPECT_EQ(dataset_.train.height, 2);
  EXPECT_EQ(dataset_.train.width, 1);
  EXPECT_THAT(dataset_.train.pixels, ElementsAre('a', 'b', 'c', 'd'));
  EXPECT_THAT(dataset_.train.labels, ElementsAre(0, 9));
  EXPECT_EQ(dataset_.test.count, 1);
  EXPECT_THAT(dataset_.test.labels, ElementsAre(5));
}

TEST_F(DatasetFolder, ChangesItsHashWithAnyPixelLabelOrSize) {
  ASSERT_EQ(load(), "");
  const uint64_t hash = dataset_.content_hash;
  ASSERT_EQ(load(), "");
  EXPECT_EQ(dataset_.content_hash, hash);
  put("t10k-images-idx3-ubyte.gz", idx({1, 2, 1}, "eg"));
  ASSERT_EQ(load(), "");
  EXPECT_NE(dataset_.content_hash, hash);
  put("t10k-images-idx3-ubyte.gz", idx({1, 1, 2}, "ef"));
  put("train-images-idx3-ubyte.gz", idx({2, 1, 2}, "abcd"));
  ASSERT_EQ(load(), "");
  EXPECT_NE(dataset_.content_hash, hash);
  put("t10k-images-idx3-ubyte.gz", idx({1, 2, 1}, "ef"));
  put("train-images-idx3-ubyte.gz", idx({2, 2, 1}, "abcd"));
  put("train-labels-idx1-ubyte.gz", idx({2}, "\x01\x09"));
  ASSERT_EQ(load(), "");
  EXPECT_NE(dataset_.content_hash, hash);
}

TEST_F(DatasetFolder, NamesAMissingFileAndHowToGetIt) {
  for (const char* name : {"train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"}) {
    std::filesystem::rename(folder_ / name, folder_ / "away");
    EXPECT_THAT(load(), AllOf(StartsWith("file: expected the data file"), HasSubstr(folder_ / name),
                              HasSubstr("dataset-fashion-mnist"), HasSubstr("--data DIR")));
    std::filesystem::rename(folder_ / "away", folder_ / name);
  }
}

TEST_F(DatasetFolder, NamesALabelThatIsNoClass) {
  put("t10k-labels-idx1-ubyte.gz", idx({1}, "\x0a"));
  EXPECT_THAT(load(),
              AllOf(StartsWith("data: "), HasSubstr("t10k-labels-idx1-ubyte.gz': label 0 is 10, expected 0 to 9")));
}

TEST_F(DatasetFolder, FindsTheClassesInTheTrainingLabels) {
  ASSERT_EQ(load(), "");
  EXPECT_EQ(dataset_.classes(), 10);
  EXPECT_EQ(load_dataset(folder_.path(), 12).classes(), 12);
  EXPECT_THAT(error_of([&] { load_dataset(folder_.path(), 9); }),
              HasSubstr("label 1 is 9, expected 0 to 8 by --classes"));
  EXPECT_THAT(error_of([&] { load_dataset(folder_.path(), 257); }), StartsWith("usage: --classes"));
  put("train-labels-idx1-ubyte.gz", idx({2}, "\x01\x1a"));  // as the letters of EMNIST
  ASSERT_EQ(load(), "");
  EXPECT_EQ(dataset_.classes(), 27);
  put("t10k-labels-idx1-ubyte.gz", idx({1}, "\x1b"));
  EXPECT_THAT(load(), HasSubstr("t10k-labels-idx1-ubyte.gz': label 0 is 27, expected 0 to 26"));
}

TEST_F(DatasetFolder, FindsFilesUnderOtherNames) {
  ASSERT_EQ(load(), "");
  const uint64_t hash = dataset_.content_hash;
  const auto rename_all = [&](const std::map<std::string, std::string>& names) {
    for (const auto& [before, after] : names) std::filesystem::rename(folder_ / before, folder_ / after);
  };
  // As the first page of MNIST had them, unpacked; as EMNIST has them.
  rename_all({{"train-images-idx3-ubyte.gz", "train-images.idx3-ubyte"},
              {"train-labels-idx1-ubyte.gz", "train-labels.idx1-ubyte"},
              {"t10k-images-idx3-ubyte.gz", "emnist-letters-test-images-idx3-ubyte.gz"},
              {"t10k-labels-idx1-ubyte.gz", "emnist-letters-test-labels-idx1-ubyte.gz"}});
  EXPECT_THAT(load(), HasSubstr("expected the data file '" + folder_ / "t10k-images-idx3-ubyte.gz'"));
  rename_all({{"train-images.idx3-ubyte", "EMNIST_letters_train_images_idx3_ubyte"},
              {"train-labels.idx1-ubyte", "emnist-letters-train-labels-idx1-ubyte.gz"}});
  ASSERT_EQ(load(), "");
  EXPECT_EQ(dataset_.content_hash, hash);
  EXPECT_EQ(dataset_.files.size(), 4u);
  // A second data set in the folder: the beginning of the names chooses.
  put("emnist-digits-train-images-idx3-ubyte.gz", idx({2, 2, 1}, "abcd"));
  EXPECT_THAT(load(),
              AllOf(StartsWith("data: "), HasSubstr("several data sets: emnist-digits, emnist-letters; name one"),
                    HasSubstr("--data " + folder_ / "emnist-digits")));
  EXPECT_EQ(load_dataset(folder_ / "emnist-letters").content_hash, hash);
  EXPECT_THAT(error_of([&] { load_dataset(folder_ / "emnist-digits"); }),
              HasSubstr("expected the data file '" + folder_ / "emnist-digits-train-labels-idx1-ubyte.gz'"));
  put("emnist-letters-test-labels-idx1-ubyte", idx({1}, "\x05"));
  EXPECT_THAT(error_of([&] { load_dataset(folder_ / "emnist-letters"); }), HasSubstr("has both '"));
}

TEST_F(DatasetFolder, TellsACircleOfLinksFromAFolderThatIsMissing) {
  std::filesystem::create_symlink("circle", folder_ / "circle");
  EXPECT_THAT(error_of([&] { load_dataset(folder_ / "circle"); }),
              AllOf(StartsWith("file: cannot look at"), HasSubstr("round in a circle")));
  EXPECT_THAT(error_of([&] { load_dataset(folder_ / "nowhere"); }), HasSubstr("found nothing there"));
}

TEST_F(DatasetFolder, RefusesImagesAndLabelsOfDifferentNumber) {
  put("t10k-labels-idx1-ubyte.gz", idx({2}, "\x05\x05"));
  EXPECT_THAT(load(), AllOf(HasSubstr("t10k-labels"), HasSubstr("has 2 labels for the 1 images")));
}

TEST_F(DatasetFolder, RefusesNoImages) {
  put("train-images-idx3-ubyte.gz", idx({0, 2, 1}, ""));
  put("train-labels-idx1-ubyte.gz", idx({0}, ""));
  EXPECT_THAT(load(), HasSubstr("holds no pixels (0 images of 2 x 1)"));
}

TEST_F(DatasetFolder, RefusesTestImagesOfAnotherSize) {
  put("t10k-images-idx3-ubyte.gz", idx({1, 1, 1}, "e"));
  EXPECT_THAT(load(), HasSubstr("training images of 2 x 1 and test images of 1 x 1"));
}

TEST(FashionMnist, IsWhatDebianPacks) {
  if (!std::filesystem::exists(kDefaultDataFolder)) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  const Dataset dataset = load_dataset(kDefaultDataFolder);
  EXPECT_EQ(dataset.train.count, 60000);
  EXPECT_EQ(dataset.test.count, 10000);
  EXPECT_EQ(dataset.train.pixels_each(), 28 * 28);
  EXPECT_EQ(dataset.classes(), 10);
  std::array<int64_t, 10> counts{};
  for (const uint8_t label : dataset.test.labels) ++counts[label];
  EXPECT_THAT(counts, testing::Each(1000));
}

}  // namespace
}  // namespace lockstep
