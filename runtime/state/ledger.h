// SPDX-License-Identifier: Apache-2.0
// The ledger has one line per step with hashes of all state. Two runs took the same steps exactly when their ledgers
// are equal, whatever the number of ranks and threads, because the hashes cover whole, unsharded values.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/state/variable_store.h"

namespace lockstep {

// "lockstep-ledger 1 config=0123456789abcdef numerics=...". `config` describes the run without ranks, threads, devices
// and buckets; `numerics` says what decided the bits on the machine (kernels/numerics.h), so that of two ledgers that
// differ one can tell whether they had to be equal.
std::string ledger_header(const std::string& config, const std::string& numerics);
// "step=17 loss=0x1.8p-1 parameters=... slots=... scalars=... data=..."
std::string ledger_line(int64_t step, float loss, const VariableStore& variables, uint64_t data_hash);

// Hash of all values of the variables of one section: independent of their order, but not of which value is where.
uint64_t section_hash(const VariableStore& variables, Section section);

}  // namespace lockstep
