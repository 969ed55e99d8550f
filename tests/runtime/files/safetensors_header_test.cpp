// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/safetensors_header.h"

#include <iterator>
#include <random>
#include <utility>

#include "tests/runtime/files/safetensors_files.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

// A header with one F32 tensor `a`, whose entry is given.
std::string entry(const std::string& fields) { return "{\"a\":{" + fields + "}}"; }

TEST(SafetensorsHeader, RefusesFieldsThatAreWrongMissingOrTwice) {
  const std::string good = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  const std::string data = "1234";
  ASSERT_EQ(refusal(file_of(entry(good), data)), "");
  const std::pair<std::string, std::string> cases[] = {
      {R"("dtype":"F32","shape":[1])", "without one of dtype"},
      {R"("shape":[1],"data_offsets":[0,4])", "without one of dtype"},
      {R"("dtype":"F32","data_offsets":[0,4])", "without one of dtype"},
      {"", "without one of dtype"},
      {good + R"(,"dtype":"F32")", "'dtype' twice"},
      {good + R"(,"shape":[1])", "'shape' twice"},
      {good + R"(,"data_offsets":[0,4])", "'data_offsets' twice"},
      {good + R"(,"stride":[1])", "unknown field"},
      {R"("dtype":"F8","shape":[4],"data_offsets":[0,4])", "dtype 'F8'; Lockstep reads F32, BF16, F16, F64, I32, I64;"},
      {R"("dtype":"f32","shape":[1],"data_offsets":[0,4])", "dtype 'f32'"},
      {R"("dtype":4,"shape":[1],"data_offsets":[0,4])", "a number in its header"},
      {R"("dtype":"F32","shape":1,"data_offsets":[0,4])", "a number in its header"},
      {R"("dtype":"F32","shape":"1","data_offsets":[0,4])", "a text in its header"},
      {R"("dtype":"F32","shape":["1"],"data_offsets":[0,4])", "a text in its header"},
      {R"("dtype":"F32","shape":[[1]],"data_offsets":[0,4])", "an array in its header"},
      {R"("dtype":"F32","shape":[{}],"data_offsets":[0,4])", "an object in its header"},
      {R"("dtype":"F32","shape":{},"data_offsets":[0,4])", "an object in its header"},
      {R"("dtype":["F32"],"shape":[1],"data_offsets":[0,4])", "an array in its header"},
      {R"("dtype":null,"shape":[1],"data_offsets":[0,4])", "null in its header"},
      {R"("dtype":"F32","shape":[true],"data_offsets":[0,4])", "true or false in its header"},
      {R"("dtype":"F32","shape":[1],"data_offsets":[4])", "with 1 data_offsets"},
      {R"("dtype":"F32","shape":[1],"data_offsets":[0,4,8])", "more than 2 data_offsets"},
      {R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4])", "more than 8 dimensions"},
      {R"("dtype":"F32","shape":[1],"data_offsets":[4,0])", "ends before it begins"},
      {R"("dtype":"F32","shape":[2],"data_offsets":[0,4])", "its dtype and shape take 8"},
  };
  for (const auto& [fields, message] : cases)
    EXPECT_THAT(refusal(file_of(entry(fields), data)), AllOf(StartsWith("data: "), HasSubstr(message))) << fields;
}

TEST(SafetensorsHeader, TakesOnlyWholeNumbersOfAnInt64) {
  const auto with_size = [](const std::string& size) {
    return refusal(file_of(entry("\"dtype\":\"F32\",\"shape\":[" + size + "],\"data_offsets\":[0,4]"), "1234"));
  };
  ASSERT_EQ(with_size("1"), "");
  for (const char* size : {"-1", "-0", "1.0", "1e0", "1E0", "01", "+1", "0x1", "1.", ".1", "NaN", "Infinity", "1e999",
                           "9223372036854775808", "18446744073709551615", "18446744073709551616", "1 1", "1,"})
    EXPECT_THAT(with_size(size), StartsWith("data: ")) << size;
  EXPECT_THAT(with_size("9223372036854775807"), HasSubstr("more than 2^63 bytes"));
  EXPECT_THAT(with_size("4294967296,4294967296"), HasSubstr("more than 2^63 bytes"));
  // A product with a zero in it is zero, but not when an earlier part of it has no int64.
  EXPECT_THAT(with_size("4294967296,4294967296,0"), StartsWith("data: "));
}

TEST(SafetensorsHeader, RefusesHolesOverlapsAndForeignOffsets) {
  const auto two = [](const std::string& a, const std::string& b) {
    return refusal(file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" + a +
                               "]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" + b + "]}}",
                           "12345678"));
  };
  ASSERT_EQ(two("0,4", "4,8"), "");
  ASSERT_EQ(two("4,8", "0,4"), "");
  EXPECT_THAT(two("0,4", "0,4"), HasSubstr("no hole and no overlap"));
  EXPECT_THAT(two("0,4", "3,7"), HasSubstr("no hole and no overlap"));
  EXPECT_THAT(two("0,4", "5,9"), HasSubstr("no hole and no overlap"));
  EXPECT_THAT(two("1,5", "5,9"), HasSubstr("no hole and no overlap"));
  EXPECT_THAT(two("0,4", "9223372036854775803,9223372036854775807"), HasSubstr("no hole and no overlap"));
}

TEST(SafetensorsHeader, RefusesNamesSaidTwiceEvenOfEmptyTensors) {
  const std::string empty = R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  ASSERT_EQ(refusal(file_of("{\"a\":" + empty + ",\"b\":" + empty + "}")), "");
  EXPECT_THAT(refusal(file_of("{\"a\":" + empty + ",\"a\":" + empty + "}")), HasSubstr("two tensors named 'a'"));
  EXPECT_THAT(refusal(file_of("{\"a\":" + empty + ",\"\\u0061\":" + empty + "}")), HasSubstr("two tensors named 'a'"));
  // With bytes, one of them overlaps the other or leaves a hole.
  for (const char* other : {"0,4", "4,8"}) {
    const std::string a = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[)";
    EXPECT_THAT(refusal(file_of("{" + a + "0,4]}," + a + other + "]}}", "1234")), HasSubstr("two tensors named 'a'"));
  }
}

TEST(SafetensorsHeader, TakesOnlyTextsAsMetadata) {
  ASSERT_EQ(refusal(file_of(R"({"__metadata__":{"a":"b","c":""}})")), "");
  for (const char* value : {"1", "null", "true", "[]", "{}", "1.5", "-1"})
    EXPECT_THAT(refusal(file_of(str(R"({"__metadata__":{"a":)", value, "}}"))), StartsWith("data: ")) << value;
  EXPECT_EQ(refusal(file_of(R"({"__metadata__":null})")), "") << "other writers say so that there is none";
  for (const char* whole : {"1", "\"text\"", "[]"})
    EXPECT_THAT(refusal(file_of(str("{\"__metadata__\":", whole, "}"))), StartsWith("data: ")) << whole;
  EXPECT_THAT(refusal(file_of(R"({"__metadata__":{"a":"b","a":"b"}})")), HasSubstr("two metadata texts"));
  EXPECT_THAT(refusal(file_of(R"({"__metadata__":{},"__metadata__":{}})")), HasSubstr("__metadata__ twice"));
}

TEST(SafetensorsHeader, TakesAnyWhiteSpaceAsPadding) {
  for (const char* padding : {"\n", " \n", "\r\n\t  "}) EXPECT_EQ(refusal(file_of(str("{}", padding))), "");
}

TEST(SafetensorsHeader, RefusesHeadersThatAreNoPlainJson) {
  for (const std::string& header : {std::string("\xef\xbb\xbf{}"),
                                    std::string(" {}"),
                                    std::string("[]"),
                                    std::string("{"),
                                    std::string("{}}"),
                                    std::string("{} x"),
                                    std::string("{}\0", 3),
                                    std::string("{}\0}", 4),
                                    std::string("{}{}"),
                                    std::string("{\"a\":}"),
                                    std::string("{'a':1}"),
                                    std::string("{/**/}"),
                                    std::string("{\"a\xff\":{}}"),
                                    std::string("{\"\xed\xa0\x80\":{}}"),
                                    std::string("{\"\\ud800\":{}}"),
                                    std::string("{\"\xc0\xaf\":{}}"),
                                    std::string("{\"a\n\":{}}"),
                                    std::string("{\"a\":1}"),
                                    std::string("{\"a\":\"F32\"}"),
                                    std::string("{,}")})
    EXPECT_THAT(refusal(file_of(header)), StartsWith("data: ")) << header;
  EXPECT_EQ(refusal(file_of("{}   ")), "");
}

TEST(SafetensorsHeader, RefusesNamesThatAreTooLongOrControlTheTerminal) {
  const auto named = [](const std::string& name) {
    return refusal(file_of("{\"" + name + R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})"));
  };
  EXPECT_EQ(named(std::string(kMaxNameBytes, 'n')), "");
  EXPECT_THAT(named(std::string(kMaxNameBytes + 1, 'n')), HasSubstr("name of 1025 bytes"));
  for (const char* name : {"\\u0000", "a\\n", "\\u001b[2J", "\\u007f"})
    EXPECT_THAT(named(name), HasSubstr("control character")) << name;
}

TEST(SafetensorsHeader, RefusesHeaderLengthsBeyondTheFileOrTheLimit) {
  for (const uint64_t bytes : {uint64_t(3), uint64_t(100'000'001), ~uint64_t(0), uint64_t(1) << 63})
    EXPECT_THAT(refusal(file_of("{}", "", bytes)), HasSubstr("announces a header of")) << bytes;
  EXPECT_THAT(refusal(file_of("", "", 0)), HasSubstr("starts with '{'"));
  // A sparse file has room for any header; the limit must hold all the same.
  const TemporaryFolder folder;
  write_file(folder / "f", file_of("{}", "", uint64_t(kMaxHeaderBytes) + 1));
  std::filesystem::resize_file(folder / "f", 200'000'000);
  EXPECT_THAT(read_everything(folder / "f"), HasSubstr("announces a header of"));
}

TEST(SafetensorsHeader, RefusesNestingHoweverDeep) {
  for (const char* opening : {"[", "{\"a\":"}) {
    std::string header = "{\"a\":{\"shape\":";
    for (int i = 0; i < 1'000'000; ++i) header += opening;
    EXPECT_THAT(refusal(file_of(header + "}")), StartsWith("data: "));
  }
}

std::string header_with_tensors(int count) {
  std::string header = "{";
  for (int i = 0; i < count; ++i)
    header += str(i == 0 ? "" : ",", "\"t", i, "\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}");
  return header + "}";
}

TEST(SafetensorsHeader, ReadsAHundredThousandTensors) {
  const SafetensorsHeader header = parse_safetensors_header("f", header_with_tensors(100'000), 0);
  EXPECT_EQ(header.tensors.size(), 100'000u);
}

TEST(SafetensorsHeader, StopsAtAMillionTensors) {
  const std::string header = header_with_tensors(1'000'001);
  EXPECT_THAT(error_of([&] { parse_safetensors_header("f", header, 0); }), HasSubstr("more than 1000000 tensors"));
}

TEST(SafetensorsHeader, SurvivesRandomHeaders) {
  const char* pieces[] = {"{",
                          "}",
                          "[",
                          "]",
                          ",",
                          ":",
                          "\"a\"",
                          "\"dtype\"",
                          "\"shape\"",
                          "\"data_offsets\"",
                          "\"F32\"",
                          "0",
                          "4",
                          "1",
                          "-1",
                          "1e9",
                          "\"__metadata__\"",
                          "null",
                          "{\"a\":{\"dtype\":\"F32\",\"shape\":["};
  std::mt19937 random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string header = "{";
    for (uint32_t n = random() % 20; n > 0; --n) header += pieces[random() % std::size(pieces)];
    const std::string error = error_of([&] { parse_safetensors_header("f", header + "}", 4); });
    EXPECT_TRUE(error.empty() || error.starts_with("data: ")) << header << "\n" << error;
  }
}

}  // namespace
}  // namespace lockstep
