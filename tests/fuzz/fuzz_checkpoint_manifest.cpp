// SPDX-License-Identifier: Apache-2.0
// Manifests of checkpoints: any text is refused by an Error that names the file, or is exactly what the manifest that
// was read is written as. Mutated texts that are still JSON also get the hash of their content, so that more than the
// hash is tested.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <nlohmann/json.hpp>

#include "kernels/device/check.h"
#include "runtime/checkpoint/manifest.h"
#include "tests/fuzz/fuzz_target.h"

namespace lockstep {
namespace {

void read(std::string_view text) {
  try {
    const CheckpointManifest manifest = manifest_from_text(text, "'m.json'");
    if (manifest_to_text(manifest) != text) throw std::logic_error("a manifest was read that is written differently");
    for (const ManifestTensor& tensor : manifest.tensors) {
      int64_t end = 0;
      for (const ManifestChunk& chunk : tensor.chunks) {
        if (chunk.offset != end || chunk.size < 1 || size_t(chunk.file) >= manifest.files.size())
          throw std::logic_error("a chunk was read that is not behind the one before, or in no file");
        end += chunk.size;
      }
      if (end != tensor.elements()) throw std::logic_error("chunks are not the whole tensor");
    }
  } catch (const Error& error) {
    check_message(error.what(), "m.json");
  }
}

}  // namespace

std::vector<std::string> built_in_seeds() {
  CheckpointManifest m;
  m.run = {.step = 7,
           .configuration = {{"batch", "128"}, {"model", "mlp"}},
           .position = {.epoch = 1, .step_in_epoch = 2, .batch = 128, .samples = 600},
           .ledger = LinePosition{4711, 0x123}};
  m.optimizer = {7, "0.001", "32768"};
  m.mesh = {{"data", 2}};
  m.files = {{shard_name(0), 4096}, {shard_name(1), 1 << 20}};
  m.tensors = {{"adam/iteration", Role::counter, DType::i64, {}, {{0, 0, 1, 7}}},
               {"w", Role::parameter, DType::bf16, {4, 8}, {{0, 0, 12, 0xabc}, {1, 12, 20, 1}}}};
  const std::string one = manifest_to_text(m);
  m.tensors.clear();
  m.files.clear();
  return {one, manifest_to_text(m)};
}

}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read(text);
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return 0;
  json.erase("xxh3");
  const auto dump = [&] { return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"; };
  const std::string content = dump();
  json["xxh3"] = hash_digits(XXH3_64bits(content.data(), content.size()));
  read(dump());
  return 0;
}
