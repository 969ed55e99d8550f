// SPDX-License-Identifier: Apache-2.0
// Ranks that are MPI processes, with shared memory from MPI windows and messages by MPI.
#include "collectives/host/mpi_ranks.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <thread>
#include <utility>

#include "collectives/host/mpi_runtime.h"
#include "collectives/host/transport.h"

namespace lockstep {

namespace {

// MPI counts in int, so longer messages travel in pieces.
constexpr int64_t kPiece = 1 << 30;

class MpiWindow final : public SharedWindow {
 public:
  MpiWindow(std::shared_ptr<MpiRuntime> runtime, MpiSegments* segments, int local_rank)
      : runtime_(std::move(runtime)), segments_(segments), local_rank_(local_rank) {}
  ~MpiWindow() override { segments_->header(local_rank_).let_go = 1; }
  void* segment(int local_rank) const override { return segments_->segment(local_rank); }
  int64_t bytes(int local_rank) const override { return segments_->header(local_rank).bytes; }

 private:
  std::shared_ptr<MpiRuntime> runtime_;
  MpiSegments* segments_;
  int local_rank_;
};

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    case DType::i32:
      return MPI_INT32_T;
    case DType::i64:
      return MPI_INT64_T;
    case DType::bf16:
    case DType::f16:
      break;
  }
  fail(ErrorCode::usage, str("MPI_Allreduce cannot add ", to_string(dtype), "; reduce by 'tree' or 'fast'"));
}

MPI_Op mpi_op(ReduceOp op) {
  if (op == ReduceOp::sum) return MPI_SUM;
  return op == ReduceOp::max ? MPI_MAX : MPI_MIN;
}

class MpiCarrier final : public Transport {
 public:
  MpiCarrier(std::shared_ptr<MpiRuntime> runtime, MPI_Comm comm, Roster roster)
      : runtime_(std::move(runtime)), comm_(comm), roster_(std::move(roster)) {
    MPI_Comm_rank(comm, &rank_);
    MPI_Comm_rank(MPI_COMM_WORLD, &job_rank_);
    mpi_check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    runtime_->bound("the other ranks to form nodes", [&] {
      mpi_check(MPI_Comm_split(comm, roster_.node_of[size_t(rank_)], rank_, &node_), "MPI_Comm_split");
    });
    MPI_Comm_rank(node_, &local_rank_);
  }

  std::string_view name() const override { return "mpi"; }
  int rank() const override { return rank_; }
  const Roster& roster() const override { return roster_; }
  JobControl& job() const override { return runtime_->job(); }
  int job_rank() const override { return job_rank_; }

  std::unique_ptr<SharedWindow> share(int64_t bytes, Deadline deadline) override {
    runtime_->set_timeout(deadline.timeout());
    return std::make_unique<MpiWindow>(runtime_, runtime_->allocate(node_, bytes), local_rank_);
  }

  std::vector<int> exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                            Deadline deadline) override {
    std::vector<MPI_Request> requests;
    std::vector<int> peers;
    for (const Incoming& receive : receives)
      for (int64_t done = 0; done < receive.bytes || done == 0; done += kPiece) {
        const int n = int(std::min(kPiece, receive.bytes - done));
        mpi_check(MPI_Irecv(static_cast<char*>(receive.data) + done, n, MPI_BYTE, receive.rank, 0, comm_,
                            &requests.emplace_back()),
                  "MPI_Irecv");
        peers.push_back(receive.rank);
      }
    const size_t incoming = requests.size();
    for (const Outgoing& send : sends)
      for (int64_t done = 0; done < send.bytes || done == 0; done += kPiece) {
        const int n = int(std::min(kPiece, send.bytes - done));
        mpi_check(MPI_Isend(static_cast<const char*>(send.data) + done, n, MPI_BYTE, send.rank, 0, comm_,
                            &requests.emplace_back()),
                  "MPI_Isend");
        peers.push_back(send.rank);
      }
    std::vector<MPI_Status> statuses(requests.size());
    for (int all_done = 0; !all_done;) {
      const int code = MPI_Testall(int(requests.size()), requests.data(), &all_done, statuses.data());
      check_lengths(code, statuses, peers, incoming);
      if (!all_done && !deadline.pause()) return late_peers(requests, peers);
    }
    size_t next = 0;
    for (const Incoming& receive : receives)
      for (int64_t done = 0; done < receive.bytes || done == 0; done += kPiece, ++next) {
        int got = 0;
        MPI_Get_count(&statuses[next], MPI_BYTE, &got);
        check(got == std::min(kPiece, receive.bytes - done), ErrorCode::collective, [&] {
          return str("rank ", rank_, " expected a message of ", receive.bytes, " bytes from rank ", receive.rank,
                     ", got ", got, "; the two are not in the same collective");
        });
      }
    return {};
  }

  void vendor_all_reduce(View inout, ReduceOp op) override {
    for (int64_t begin = 0; begin < inout.size(); begin += kPiece) {
      const View piece = slice(inout, begin, std::min(inout.size(), begin + kPiece));
      runtime_->bound("MPI_Allreduce", [&] {
        mpi_check(MPI_Allreduce(MPI_IN_PLACE, piece.data, int(piece.size()), mpi_type(piece.dtype), mpi_op(op), comm_),
                  "MPI_Allreduce");
      });
    }
  }

  std::unique_ptr<Transport> split(std::span<const int> colors, std::span<const int> keys) override {
    const std::vector<int> members = split_members(rank_, colors, keys);
    const int position = int(std::ranges::find(members, rank_) - members.begin());
    MPI_Comm part = MPI_COMM_NULL;
    runtime_->bound("the other ranks to form groups",
                    [&] { mpi_check(MPI_Comm_split(comm_, members[0], position, &part), "MPI_Comm_split"); });
    return std::make_unique<MpiCarrier>(runtime_, part, split_roster(roster_, members));
  }

  void abort(int exit_code) noexcept override {
    std::fflush(nullptr);
    // MPI_Abort also ends the rank that has something to say, so give it time to say it.
    const JobControl& job = runtime_->job();
    for (int i = 0; i < 1000 && job.report_claimed != 0 && job.reported == 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    runtime_->abort(exit_code);
  }

 private:
  void check_lengths(int code, const std::vector<MPI_Status>& statuses, const std::vector<int>& peers,
                     size_t incoming) const {
    if (code == MPI_SUCCESS) return;
    for (size_t i = 0; code == MPI_ERR_IN_STATUS && i < incoming; ++i) {
      int kind = MPI_SUCCESS;
      MPI_Error_class(statuses[i].MPI_ERROR, &kind);
      check(kind != MPI_ERR_TRUNCATE, ErrorCode::collective, [&] {
        return str("rank ", rank_, " got a longer message from rank ", peers[i],
                   " than expected; the two are not in the same collective");
      });
    }
    mpi_check(code, "MPI_Testall");
  }

  static std::vector<int> late_peers(std::vector<MPI_Request>& requests, const std::vector<int>& peers) {
    std::vector<int> late;
    for (size_t i = 0; i < requests.size(); ++i) {
      int done = 0;
      MPI_Test(&requests[i], &done, MPI_STATUS_IGNORE);
      if (!done && std::ranges::find(late, peers[i]) == late.end()) late.push_back(peers[i]);
    }
    return late;
  }

  std::shared_ptr<MpiRuntime> runtime_;
  MPI_Comm comm_, node_ = MPI_COMM_NULL;
  Roster roster_;
  int rank_ = 0, job_rank_ = 0, local_rank_ = 0;
};

// Finds who runs on which machine, each machine cut into `pretended_nodes` nodes.
Roster find_roster(MPI_Comm machine, int pretended_nodes, int rank, int size) {
  int leader = rank, local_rank = 0, local_size = 1;
  MPI_Comm_rank(machine, &local_rank);
  MPI_Comm_size(machine, &local_size);
  mpi_check(MPI_Bcast(&leader, 1, MPI_INT, 0, machine), "MPI_Bcast");
  struct Entry {
    int leader, piece;
    char host[MPI_MAX_PROCESSOR_NAME];
  };
  Entry mine{leader, local_rank * pretended_nodes / local_size, ""};
  int length = 0;
  MPI_Get_processor_name(mine.host, &length);
  std::vector<Entry> all(static_cast<size_t>(size));
  mpi_check(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE, MPI_COMM_WORLD),
            "MPI_Allgather");
  Roster roster;
  std::map<std::pair<int, int>, int> numbers;
  for (const Entry& entry : all) {
    roster.node_of.push_back(numbers.try_emplace({entry.leader, entry.piece}, int(numbers.size())).first->second);
    roster.hosts.emplace_back(entry.host);
  }
  return roster;
}

}  // namespace

std::string mpi_library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  return text;
}

std::unique_ptr<Communicator> connect_mpi(const MpiStart& start) {
  auto runtime = std::make_shared<MpiRuntime>(start);
  const std::string others = "the other ranks to join";
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  std::vector<RankClaim> claims(static_cast<size_t>(size));
  runtime->bound(others, [&] {
    mpi_check(MPI_Allgather(&start.claim, sizeof(RankClaim), MPI_BYTE, claims.data(), sizeof(RankClaim), MPI_BYTE,
                            MPI_COMM_WORLD),
              "MPI_Allgather");
  });
  std::exception_ptr disagreement;
  try {
    start.check_claims(claims, rank);
  } catch (...) {
    disagreement = std::current_exception();
  }
  if (disagreement) {
    // Every process finds the same disagreement, and finalizes MPI here, outside of unwinding.
    runtime.reset();
    std::rethrow_exception(disagreement);
  }
  try {
    MPI_Comm machine = MPI_COMM_NULL, comm = MPI_COMM_NULL;
    runtime->bound(others, [&] {
      mpi_check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine),
                "MPI_Comm_split_type");
      mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
    });
    runtime->share_job(machine);
    Roster roster = runtime->bound(others, [&] { return find_roster(machine, start.pretended_nodes, rank, size); });
    return make_communicator(std::make_unique<MpiCarrier>(runtime, comm, std::move(roster)), start.timeout);
  } catch (...) {
    runtime->give_up();
    throw;
  }
}

}  // namespace lockstep
