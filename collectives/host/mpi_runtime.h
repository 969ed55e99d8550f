// SPDX-License-Identifier: Apache-2.0
// MPI from start to end, and the shared windows made with it. Only mpi_*.cpp include this.
#pragma once

#include <mpi.h>

#include <atomic>
#include <memory>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/host/job_control.h"

namespace lockstep {

// Throws Error(collective) with MPI's own words.
void mpi_check(int code, const char* call);

// A window of MPI. MPI frees windows collectively, but ranks let go of them one by one. So each rank leaves a mark, and
// windows that nobody holds are freed when the ranks of the node next come together.
struct MpiSegments {
  // Lies in front of each segment.
  struct alignas(128) Header {
    std::atomic<int32_t> let_go{0};
    int64_t bytes = 0;  // as asked for; MPI rounds up
  };
  MPI_Win window = MPI_WIN_NULL;
  MPI_Comm node = MPI_COMM_NULL;
  std::vector<char*> headers;  // one per local rank
  void* segment(int local_rank) const { return headers[size_t(local_rank)] + sizeof(Header); }
  Header& header(int local_rank) const { return *reinterpret_cast<Header*>(headers[size_t(local_rank)]); }
};

// Every communicator and window holds this; MPI is finalized when the last has gone.
class MpiRuntime {
 public:
  MpiRuntime();
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;
  ~MpiRuntime();

  // Collective over `node`, the ranks of one node.
  MpiSegments* allocate(MPI_Comm node, int64_t bytes);
  JobControl& job() const { return *job_; }
  void share_job(MPI_Comm machine);
  // For a failure on the way to the first communicator: MPI stays as it is, and the launcher ends the other ranks when
  // this process exits.
  void give_up() noexcept { given_up_ = true; }

 private:
  void free_abandoned(MPI_Comm node);

  std::vector<std::unique_ptr<MpiSegments>> windows_;  // in order of allocation
  JobControl* job_ = nullptr;
  bool given_up_ = false;
};

}  // namespace lockstep
