// SPDX-License-Identifier: Apache-2.0
// Files of runs: any text gives settings with a place in the file, or is refused by an Error that names it.
#include <cstdlib>

#include "kernels/device/check.h"
#include "tests/fuzz/fuzz_target.h"
#include "tools/planning/config_file.h"

namespace lockstep {

std::vector<std::string> built_in_seeds() {
  return {"[model]\npreset = \"gpt-mini\"\nn_layer = 6\ntied = false\ndropout = 0.1\n",
          "[data]\ntrain = [\"a*.bin\", \"b.bin\"]\n[train]\nbatch_tokens = 4096\n[optimizer]\nlearning_rate = 1e-3\n"};
}

}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    for (const ConfigEntry& entry : read_config_text(text, "run.toml"))
      if (entry.values.empty() || !entry.where.starts_with("run.toml:")) std::abort();
  } catch (const Error& error) {
    check_message(error.what(), "run.toml");
  }
  return 0;
}
