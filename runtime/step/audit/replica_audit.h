// SPDX-License-Identifier: Apache-2.0
// `--audit replicas`: copies of weights and slots that have to be equal bit by bit, one per node on CPU ranks and one
// per rank on GPUs, are compared by their hashes before every update. Memory that has changed by itself is found in the
// step that has read it, before anything has come of it: it is mended by what most copies hold, and the step is taken
// again, so that the run goes on as if nothing had happened.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/partition.h"
#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

// Copies that were mended.
struct ReplicaRepair {
  int64_t step = 0;      // before whose update, counted from 0
  std::string what;      // which copies, the first element that differed, with its values, and how much did
  int rank = 0;          // the first one of the first copy that was wrong
  std::string variable;  // of the first element
  int64_t pieces = 0;    // of kHashChunk words that differed
};

class ReplicaAudit {
 public:
  // All references outlive it. Error(usage) where there is one copy, so that there is nothing to compare.
  ReplicaAudit(Communicator& ranks, VariableStore& variables, Pool& pool, Stream& stream);

  // What ranks tell each other: f64 that one rank writes each, among zeros, and that are then added up over ranks.
  int64_t cells() const { return 2 * int64_t(ranks_.size()); }
  // Hashes what this rank answers for of its copy, which nobody writes to meanwhile. Waits for a GPU.
  void enter(double* cells);
  // Whether the copies are equal, by the sums of these cells: the same on all ranks.
  bool are_equal(const double* cells) const;

  // Collective, where they are not: writes into every copy that differs from most of them what those hold.
  // Error(numbers) on all ranks where no value is held by more than half of the copies, and when one step is to be
  // mended too often.
  ReplicaRepair repair(int64_t step);

 private:
  // A piece of a copy, in memory of the device.
  struct Piece {
    char* memory;
    int64_t bytes;
  };
  // What the copies of one piece hold.
  struct Verdict {
    std::vector<std::string> contents;  // of each copy
    std::vector<int> like;              // of each copy: the first one that is equal to it
    int most = -1;                      // what more than half of them are like; -1: none
  };
  Piece piece(int64_t chunk) const;
  std::string read(const Piece& piece) const;
  void write(const Piece& piece, const std::string& content) const;
  std::vector<std::vector<int64_t>> hashes_of_copies() const;
  Verdict compare(int64_t chunk) const;
  // Names the first element that differs within a piece, and who has which value of it.
  std::string describe(int64_t chunk, const Verdict& verdict, std::string& variable) const;
  std::string ranks_like(const Verdict& verdict, int copy) const;

  Communicator& ranks_;
  VariableStore& variables_;
  Stream& stream_;
  std::vector<int> copy_of_;  // of each rank
  int copies_;
  int64_t parameter_words_, words_;
  int64_t parameter_chunks_, chunks_;
  Range mine_;            // chunks that this rank hashes
  Buffer sums_;           // [mine] i64, on the device
  PinnedBuffer fetched_;  // the same on the host
  int64_t repaired_step_ = -1;
  int repairs_of_step_ = 0;
};

}  // namespace lockstep
