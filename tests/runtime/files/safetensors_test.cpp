// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/safetensors.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "tests/runtime/files/safetensors_files.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

const float kKernel[] = {1.0f, -2.5f, 3.0f, 0.0f, 1e-30f, 1e30f};
const uint16_t kHalf[] = {0x3f80, 0xc000, 0x0001};
const int64_t kCounter[] = {int64_t(1) << 40};

std::vector<NamedTensor> small_model() {
  return {{"dense/kernel", DType::f32, {2, 3}, kKernel},
          {"half", DType::bf16, {3}, kHalf},
          {"iteration", DType::i64, {}, kCounter},
          {"nothing", DType::i32, {0, 7}, nullptr}};
}

TEST(Safetensors, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", small_model(), {{"model", "mlp"}, {"note", "a \"quote\"\nand ü"}});
  const SafetensorsFile file(folder / "f");
  EXPECT_THAT(file.metadata(), ElementsAre(Pair("model", "mlp"), Pair("note", "a \"quote\"\nand ü")));
  ASSERT_EQ(file.tensors().size(), 4u);
  for (const NamedTensor& tensor : small_model()) {
    const StoredTensor* stored = file.find(tensor.name);
    ASSERT_NE(stored, nullptr) << tensor.name;
    EXPECT_EQ(stored->dtype, tensor.dtype);
    EXPECT_EQ(stored->shape, tensor.shape);
    std::vector<std::byte> bytes(size_t(stored->bytes));
    file.read(tensor.name, bytes);
    const auto* expected = static_cast<const std::byte*>(tensor.data);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), expected)) << tensor.name;
  }
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Safetensors, WritesTheSameBytesWhateverTheOrderGiven) {
  const TemporaryFolder folder;
  std::vector<NamedTensor> tensors = small_model();
  write_safetensors(folder / "a", tensors, {{"y", "2"}, {"x", "1"}});
  std::reverse(tensors.begin(), tensors.end());
  write_safetensors(folder / "b", tensors, {{"x", "1"}, {"y", "2"}});
  EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
}

TEST(Safetensors, StoresBigElementsFirstAtTheirAlignment) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f",
                    std::vector<NamedTensor>{{"z", DType::f32, {1}, kKernel}, {"h", DType::bf16, {1}, kHalf}},
                    {{"k", "v"}});
  const std::string header = R"({"__metadata__":{"k":"v"},"z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                             R"("h":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(read_file(folder / "f"), file_of(padded, std::string("\0\0\x80\x3f\x80\x3f", 6)));
}

TEST(Safetensors, WritesAFileWithoutTensors) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", {});
  EXPECT_EQ(read_file(folder / "f"), file_of("{}      "));
  EXPECT_TRUE(SafetensorsFile(folder / "f").tensors().empty());
}

TEST(Safetensors, ReadsHeadersThatAreUnpaddedOrInAnotherOrder) {
  EXPECT_EQ(
      refusal(file_of(R"({"b":{"data_offsets":[4,8],"shape":[1],"dtype":"F32"}, "a":{"dtype":"F32","shape":[1,1],)"
                      R"("data_offsets":[0,4]},"e":{"dtype":"I64","shape":[0],"data_offsets":[4,4]}})",
                      "12345678")),
      "");
}

TEST(Safetensors, NamesTensorAndShapesWhenTheyDoNotFit) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", small_model());
  const SafetensorsFile file(folder / "f");
  float values[8] = {};
  const auto read_as = [&](const char* name, DType dtype, const Shape& shape) {
    return error_of([&] { file.read(name, View{values, dtype, DeviceKind::cpu, shape}); });
  };
  EXPECT_EQ(read_as("dense/kernel", DType::f32, {2, 3}), "");
  EXPECT_EQ(values[1], -2.5f);
  EXPECT_THAT(read_as("dense/kernel", DType::f32, {3, 2}),
              AllOf(HasSubstr("dense/kernel"), HasSubstr("F32 [2, 3], expected F32 [3, 2]"), HasSubstr("--model")));
  EXPECT_THAT(read_as("dense/kernel", DType::i32, {2, 3}), HasSubstr("expected I32 [2, 3]"));
  EXPECT_THAT(read_as("dense/bias", DType::f32, {3}),
              AllOf(HasSubstr("no tensor 'dense/bias'"), HasSubstr("half, iteration")));
  std::vector<std::byte> bytes(3);
  EXPECT_THAT(error_of([&] { file.read("half", bytes); }), HasSubstr("has 6 bytes, expected 3"));
}

TEST(Safetensors, RefusesEveryTruncationAndEveryExtraByte) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", small_model(), {{"k", "v"}});
  const std::string whole = read_file(folder / "f");
  for (size_t bytes = 0; bytes < whole.size(); ++bytes)
    EXPECT_THAT(refusal(whole.substr(0, bytes)), StartsWith("data: ")) << "cut to " << bytes << " bytes";
  EXPECT_THAT(refusal(whole + '\0'), HasSubstr("bytes of data, expected"));
}

TEST(Safetensors, SurvivesEveryChangeOfOneHeaderByte) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", small_model(), {{"k", "v"}});
  const std::string whole = read_file(folder / "f");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, whole.data(), 8);
  int refused = 0, tried = 0;
  for (size_t at = 0; at < 8 + header_bytes; ++at) {
    for (const int flip : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
      std::string changed = whole;
      changed[at] = char(changed[at] ^ flip);
      // Only names and texts can change unnoticed; the layout of the bytes then still adds up.
      // In memory, for speed; only a changed length needs a file.
      const std::string header = changed.substr(8, header_bytes);
      const int64_t data_bytes = int64_t(whole.size() - 8 - header_bytes);
      const std::string error =
          at < 8 ? refusal(changed) : error_of([&] { parse_safetensors_header("f", header, data_bytes); });
      EXPECT_TRUE(error.empty() || error.starts_with("data: ")) << error;
      refused += !error.empty();
      ++tried;
    }
  }
  EXPECT_GT(refused, tried * 3 / 4);
}

TEST(Safetensors, RefusesWhatIsNoRegularFile) {
  const TemporaryFolder folder;
  EXPECT_THAT(read_everything(folder / "missing"), AllOf(StartsWith("file: "), HasSubstr(folder / "missing")));
  EXPECT_THAT(read_everything(folder.path()), HasSubstr("name a file"));
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0666), 0);
  EXPECT_THAT(read_everything(folder / "fifo"), HasSubstr("FIFO"));
  EXPECT_THAT(read_everything("/dev/zero"), HasSubstr("device"));
  write_safetensors(folder / "f", small_model());
  std::filesystem::create_symlink(folder / "f", folder / "link");
  EXPECT_THAT(read_everything(folder / "link"), HasSubstr("symbolic link"));
  EXPECT_THAT(refusal(""), HasSubstr("expected at least 8 bytes, got 0"));
}

TEST(Safetensors, SaysThatAFileShrankWhileItWasRead) {
  const TemporaryFolder folder;
  write_safetensors(folder / "f", small_model());
  const SafetensorsFile file(folder / "f");
  std::filesystem::resize_file(folder / "f", 60);
  std::vector<std::byte> bytes(6);
  EXPECT_THAT(error_of([&] { file.read("half", bytes); }), HasSubstr("shrank while it was read"));
}

TEST(Safetensors, WritesNothingThatItWouldNotRead) {
  const TemporaryFolder folder;
  const auto written = [&](const std::vector<NamedTensor>& tensors,
                           const std::map<std::string, std::string>& metadata) {
    return error_of([&] { write_safetensors(folder / "f", tensors, metadata); });
  };
  const NamedTensor good{"a", DType::f32, {1}, kKernel};
  EXPECT_THAT(written({good, good}, {}), HasSubstr("two tensors named 'a'"));
  EXPECT_THAT(written({{"__metadata__", DType::f32, {1}, kKernel}}, {}), StartsWith("data: "));
  EXPECT_THAT(written({{"a\n", DType::f32, {1}, kKernel}}, {}), HasSubstr("control character"));
  EXPECT_THAT(written({{"a\xff", DType::f32, {1}, kKernel}}, {}), HasSubstr("UTF-8"));
  EXPECT_THAT(written({good}, {{"k", "\xff"}}), HasSubstr("UTF-8"));
  EXPECT_THAT(written({{"a", DType::f32, {-1}, kKernel}}, {}), HasSubstr("negative"));
  EXPECT_TRUE(folder.names().empty());
}

}  // namespace
}  // namespace lockstep
