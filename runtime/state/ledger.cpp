// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/ledger.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdio>

namespace lockstep {

std::string ledger_header(const std::string& config, const std::string& numerics) {
  char hash[17];
  std::snprintf(hash, sizeof hash, "%016llx",
                static_cast<unsigned long long>(XXH3_64bits(config.data(), config.size())));
  return str(kLedgerFormat, " config=", hash, " numerics=", numerics);
}

bool differs_by_rank(const PlannedVariable& variable) {
  return variable.aggregation == Aggregation::sum || variable.aggregation == Aggregation::mean ||
         variable.aggregation == Aggregation::max;
}

uint64_t variable_hash(const VariableStore& variables, const PlannedVariable& variable) {
  const uint64_t name = XXH3_64bits(variable.path.data(), variable.path.size());
  return XXH3_64bits_withSeed(variables.host(variable).view().data, size_t(variable.local_bytes()), name);
}

uint64_t section_hash(const VariableStore& variables, Section section) {
  uint64_t sum = 0;
  for (const PlannedVariable& variable : variables.plan().variables) {
    if (variable.section == section && !differs_by_rank(variable)) sum += variable_hash(variables, variable);
  }
  return sum;
}

std::string ledger_line(int64_t step, float loss, const VariableStore& variables, uint64_t data_hash) {
  const auto hex = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  const uint64_t parameters = section_hash(variables, Section::trainable) + section_hash(variables, Section::frozen);
  char line[192];
  std::snprintf(line, sizeof line, "step=%lld loss=%a parameters=%016llx slots=%016llx scalars=%016llx data=%016llx",
                static_cast<long long>(step), double(loss), hex(parameters),
                hex(section_hash(variables, Section::slot)), hex(section_hash(variables, Section::local)),
                hex(data_hash));
  return line;
}

}  // namespace lockstep
