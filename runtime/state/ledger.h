// SPDX-License-Identifier: Apache-2.0
// The ledger has one line per step with hashes of all state. Two runs took the same steps exactly when their ledgers
// are equal, whatever the number of ranks and threads, because the hashes cover whole, unsharded values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/state/variable_store.h"

namespace lockstep {

inline constexpr std::string_view kLedgerFormat = "lockstep-ledger 1";  // what its first line begins with
// "lockstep-ledger 1 config=0123456789abcdef numerics=...". `config` describes the run without ranks, threads, devices
// and buckets; `numerics` says what decided the bits on the machine (kernels/numerics.h), so that of two ledgers that
// differ one can tell whether they had to be equal.
std::string ledger_header(const std::string& config, const std::string& numerics);
// "step=17 loss=0x1.8p-1 parameters=... slots=... scalars=... data=..."
std::string ledger_line(int64_t step, float loss, const VariableStore& variables, uint64_t data_hash);

// Whether ranks count it each for themselves, so that it is not the same for any number of them.
bool differs_by_rank(const PlannedVariable& variable);
// Hash of the values of one variable, and of its name.
uint64_t variable_hash(const VariableStore& variables, const PlannedVariable& variable);
// Hash of all values of the variables of one section: independent of their order, but not of which value is where.
uint64_t section_hash(const VariableStore& variables, Section section);

}  // namespace lockstep
