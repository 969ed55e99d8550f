// SPDX-License-Identifier: Apache-2.0
// Manifests are read as they were written, and nothing else is taken for one.
#include "runtime/checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <nlohmann/json.hpp>

#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

CheckpointManifest example() {
  CheckpointManifest m;
  m.run = {.step = 500,
           .configuration = {{"batch", "128"}, {"model", "mlp"}},
           .position = {.epoch = 1, .step_in_epoch = 31, .batch = 128, .samples = 60000},
           .scored = false,
           .ledger = LinePosition{4711, 0x123},
           .metrics = std::nullopt};
  m.optimizer = {498, "0.001", "32768"};
  m.plan_hash = 0xfedcba9876543210;
  m.mesh = {{"data", 2}};
  m.virtual_ranks = 8;
  m.files = {{shard_name(0), 4096}, {shard_name(1), 1 << 20}};
  m.tensors = {{"adam/iteration", Role::counter, DType::i64, {}, {{0, 0, 1, 7}}},
               {"empty", Role::frozen_parameter, DType::f32, {0, 3}, {}},
               {"w", Role::parameter, DType::bf16, {4, 8}, {{0, 0, 12, 0xabc}, {1, 12, 20, 1}}}};
  return m;
}

std::string refusal(std::string_view text) {
  return error_of([&] { manifest_from_text(text, "'m'"); });
}

// What is wrong with a manifest whose hash is right.
std::string refusal_of(const std::function<void(nlohmann::json&)>& change) {
  nlohmann::json json = nlohmann::json::parse(manifest_to_text(example()));
  change(json);
  json.erase("xxh3");
  const std::string content = json.dump() + "\n";
  json["xxh3"] = hash_digits(XXH3_64bits(content.data(), content.size()));
  return refusal(json.dump() + "\n");
}

TEST(Manifest, IsReadAsItWasWritten) {
  const std::string text = manifest_to_text(example());
  EXPECT_EQ(manifest_from_text(text, "'m'"), example());
  EXPECT_EQ(refusal_of([](nlohmann::json&) {}), "");
}

TEST(Manifest, IsRefusedWhereverItIsCutOrChangedByOneBit) {
  const std::string text = manifest_to_text(example());
  for (size_t length = 0; length < text.size(); ++length)
    EXPECT_THAT(refusal(std::string_view(text).substr(0, length)), StartsWith("data: 'm'")) << length;
  for (size_t byte = 0; byte < text.size(); ++byte)
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = text;
      changed[byte] = char(changed[byte] ^ (1 << bit));
      EXPECT_THAT(refusal(changed), StartsWith("data: 'm'")) << "bit " << bit << " of byte " << byte;
    }
  EXPECT_THAT(refusal(text + "\n"), HasSubstr("changed or damaged"));
}

TEST(Manifest, IsRefusedByNameForWhatNoWriterWrites) {
  using Change = std::function<void(nlohmann::json&)>;
  const std::pair<Change, const char*> cases[] = {
      {[](auto& m) { m["format"] = "other"; }, "'m'.format: expected 'lockstep checkpoint', got \"other\""},
      {[](auto& m) { m["version"] = 2; }, "'m'.version: expected a whole number from 1 to 1, got 2"},
      {[](auto& m) { m["step"] = -1; }, "'m'.step"},
      {[](auto& m) { m["step"] = 1.5; }, "'m'.step"},
      {[](auto& m) { m.erase("position"); }, "'m' has no 'position'"},
      {[](auto& m) { m["position"]["batch"] = 0; }, "'m'.position.batch"},
      {[](auto& m) { m["position"]["step_in_epoch"] = 469; }, "'m'.position.step_in_epoch"},
      {[](auto& m) { m["position"]["epoch"] = int64_t(1) << 40; }, "'m'.position.epoch"},
      {[](auto& m) { m["configuration"]["x"] = 1; }, "'m'.configuration.x: expected a text"},
      {[](auto& m) { m["configuration"]["\x1b[2J"] = "1"; }, "without control characters"},
      {[](auto& m) { m["surplus"] = 1; }, "\"surplus\" is unknown"},
      {[](auto& m) { m["ledger"]["xxh3"] = "123"; }, "'m'.ledger.xxh3: expected a hash of 16 hexadecimal digits"},
      {[](auto& m) { m["ledger"]["bytes"] = -4; }, "'m'.ledger.bytes"},
      {[](auto& m) { m["mesh"][0]["size"] = 0; }, "'m'.mesh[0].size"},
      {[](auto& m) { m["files"][0]["name"] = "../shard"; }, "expected the plain name of a file in this folder"},
      {[](auto& m) { m["files"][0]["name"] = "/etc/passwd"; }, "'m'.files[0].name"},
      {[](auto& m) { m["files"][0]["name"] = ".."; }, "'m'.files[0].name"},
      {[](auto& m) { m["files"][0]["name"] = "manifest.json"; }, "'m'.files[0].name"},
      {[](auto& m) { m["files"][1]["name"] = shard_name(0); }, "expected different names"},
      {[](auto& m) { m["files"][1]["bytes"] = -1; }, "'m'.files[1].bytes"},
      {[](auto& m) { m["tensors"]["w"]["role"] = "weight"; }, "'m'.tensors.w.role"},
      {[](auto& m) { m["tensors"]["w"]["dtype"] = "f8"; }, "'m'.tensors.w.dtype"},
      {[](auto& m) {
         m["tensors"]["w"]["shape"] = {1 << 30, 1 << 30, 1 << 30};
       },
       "2^48 elements"},
      {[](auto& m) { m["tensors"]["w"]["shape"] = std::vector<int>(9, 1); }, "at most 8 dimensions"},
      {[](auto& m) {
         m["tensors"]["w"]["shape"] = {4, 9};
       },
       "expected chunks of 36 elements together, got 32"},
      {[](auto& m) { m["tensors"]["w"]["chunks"][1]["offset"] = 11; }, "'m'.tensors.w.chunks[1].offset"},
      {[](auto& m) { m["tensors"]["w"]["chunks"][1]["offset"] = 13; }, "'m'.tensors.w.chunks[1].offset"},
      {[](auto& m) { m["tensors"]["w"]["chunks"][1]["size"] = 21; }, "'m'.tensors.w.chunks[1].size"},
      {[](auto& m) { m["tensors"]["w"]["chunks"][1]["size"] = 0; }, "'m'.tensors.w.chunks[1].size"},
      {[](auto& m) { m["tensors"]["w"]["chunks"][1]["file"] = 2; }, "'m'.tensors.w.chunks[1].file"},
      {[](auto& m) { m["tensors"]["w"]["chunks"] = nlohmann::json::array(); }, "expected chunks of 32 elements"},
      {[](auto& m) { m["tensors"] = nlohmann::json::array(); }, "'m'.tensors: expected an object"},
      {[](auto& m) { m["tensors"][""] = m["tensors"]["w"]; }, "names of 1 to"},
      {[](auto& m) { m["scored"] = 1; }, "'m'.scored: expected true or false"},
  };
  for (const auto& [change, expected] : cases)
    EXPECT_THAT(refusal_of(change), AllOf(StartsWith("data: 'm'"), HasSubstr(expected)));
}

}  // namespace
}  // namespace lockstep
