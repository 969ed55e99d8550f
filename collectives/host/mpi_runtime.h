// SPDX-License-Identifier: Apache-2.0
// MPI from start to end, and the shared windows made with it. Only mpi_*.cpp include this.
#pragma once

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/host/job_control.h"
#include "collectives/host/mpi_ranks.h"
#include "collectives/host/shared_file.h"
#include "collectives/host/watchdog.h"

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
  SharedMapping mapping;  // instead of a window where there is no room for one
  MPI_Comm node = MPI_COMM_NULL;
  std::vector<char*> headers;  // one per local rank
  void* segment(int local_rank) const { return headers[size_t(local_rank)] + sizeof(Header); }
  Header& header(int local_rank) const { return *reinterpret_cast<Header*>(headers[size_t(local_rank)]); }
};

// Every communicator and window holds this; MPI is finalized when the last has gone. Calls of MPI that wait for other
// ranks in a way that cannot be bounded go through bound(): when one takes too long, the process tells what it waits
// for, unless another rank has told why the run ends, and ends.
class MpiRuntime {
 public:
  explicit MpiRuntime(const MpiStart& start);
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;
  ~MpiRuntime();

  // Runs `call`, which is to return within the ranks' timeout; `what` names it in "waited 60 s for ...".
  template <class Call>
  auto bound(std::string what, const Call& call) {
    return watchdog_.bound(std::move(what), timeout_, call);
  }
  // How long a rank waits from now on.
  void set_timeout(std::chrono::milliseconds timeout) { timeout_ = timeout; }

  // Collective over `node`, the ranks of one node.
  MpiSegments* allocate(MPI_Comm node, int64_t bytes);
  // Ends all processes of the job, this one at the latest after some seconds.
  void abort(int exit_code) noexcept;
  JobControl& job() const { return *job_; }
  void share_job(MPI_Comm machine);
  // For a failure on the way to the first communicator: MPI stays as it is, and the launcher ends the other ranks when
  // this process exits.
  void give_up() noexcept { given_up_ = true; }

 private:
  MpiSegments* allocate_unbounded(MPI_Comm node, int64_t bytes);
  bool fits_into_windows(MPI_Comm node, const std::vector<int64_t>& sizes) const;
  static void open_window(MpiSegments& segments, int64_t whole);
  static void map_file(MpiSegments& segments, const std::vector<int64_t>& sizes);
  void free_abandoned(MPI_Comm node);
  void free(MpiSegments& segments);
  void expired(const std::string& what, std::chrono::milliseconds timeout);

  std::chrono::milliseconds timeout_;
  std::function<void(const std::exception&)> report_;
  std::vector<std::unique_ptr<MpiSegments>> windows_;  // in order of allocation
  std::atomic<JobControl*> job_ = nullptr;
  int rank_ = 0;
  bool given_up_ = false;
  Watchdog watchdog_;  // last, so that it ends before what it looks at
};

}  // namespace lockstep
