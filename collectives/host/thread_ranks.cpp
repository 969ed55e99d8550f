// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/thread_ranks.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "collectives/host/copy_bytes.h"
#include "collectives/host/transport.h"
#include "kernels/device/start_thread.h"

namespace lockstep {

namespace {

constexpr std::align_val_t kSegmentAlignment{128};

// The segments of one window, freed when the last rank lets go.
struct Segments {
  explicit Segments(int ranks) : data(size_t(ranks)), bytes(size_t(ranks)) {}
  Segments(const Segments&) = delete;
  Segments& operator=(const Segments&) = delete;
  ~Segments() {
    for (void* segment : data) ::operator delete(segment, kSegmentAlignment);
  }
  std::vector<void*> data;
  std::vector<int64_t> bytes;
  std::atomic<int> filled{0};
};

class ThreadWindow final : public SharedWindow {
 public:
  explicit ThreadWindow(std::shared_ptr<Segments> segments) : segments_(std::move(segments)) {}
  void* segment(int local_rank) const override { return segments_->data[size_t(local_rank)]; }
  int64_t bytes(int local_rank) const override { return segments_->bytes[size_t(local_rank)]; }

 private:
  std::shared_ptr<Segments> segments_;
};

// A message on its way: the receiver copies it, then clears `data`.
struct Letter {
  std::atomic<const void*> data{nullptr};  // null: none; this letter: it is being read
  int64_t bytes = 0;

  // For the receiver: what was sent, which stays until `was_read`; null if there is nothing.
  const void* take() {
    const void* sent = data.load(std::memory_order_acquire);
    return sent && data.compare_exchange_strong(sent, this, std::memory_order_acquire) ? sent : nullptr;
  }
  void was_read() { data.store(nullptr, std::memory_order_release); }
  // For the sender, whose memory may go then: nobody reads it any more.
  void withdraw() {
    const void* sent = data.load(std::memory_order_acquire);
    while (sent && (sent == this || !data.compare_exchange_weak(sent, nullptr, std::memory_order_acquire))) {
      std::this_thread::yield();
      sent = data.load(std::memory_order_acquire);
    }
  }
};

// Keeps what several ranks make together: the first to come makes one, the last to come takes it off the shelf.
template <class T>
class Shelf {
 public:
  template <class Make>
  std::shared_ptr<T> take(std::pair<int64_t, int64_t> key, int takers, const Make& make) {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[key];
    if (!entry.thing) entry = {make(), takers};
    const std::shared_ptr<T> thing = entry.thing;
    if (--entry.to_come == 0) entries_.erase(key);
    return thing;
  }

 private:
  struct Entry {
    std::shared_ptr<T> thing;
    int to_come = 0;
  };
  std::mutex mutex_;
  std::map<std::pair<int64_t, int64_t>, Entry> entries_;
};

// What the ranks of one communicator share.
struct Team {
  Team(Roster ranks, std::vector<int> ranks_in_job, std::shared_ptr<JobControl> control)
      : roster(std::move(ranks)),
        job_ranks(std::move(ranks_in_job)),
        job(std::move(control)),
        letters(roster.hosts.size() * roster.hosts.size()) {}
  Letter& letter(int from, int to) { return letters[size_t(from) * roster.hosts.size() + size_t(to)]; }

  Roster roster;
  std::vector<int> job_ranks;
  std::shared_ptr<JobControl> job;
  std::vector<Letter> letters;
  Shelf<Segments> windows;  // key: (sequence, node)
  Shelf<Team> parts;        // key: (sequence, color)
};

class ThreadCarrier final : public Transport {
 public:
  ThreadCarrier(std::shared_ptr<Team> team, int rank) : team_(std::move(team)), rank_(rank) {
    const std::vector<int>& node_of = team_->roster.node_of;
    node_ = node_of[size_t(rank)];
    for (int other = 0; other < int(node_of.size()); ++other) {
      if (node_of[size_t(other)] != node_) continue;
      if (other < rank) ++local_rank_;
      ++local_size_;
    }
  }

  std::string_view name() const override { return "threads"; }
  int rank() const override { return rank_; }
  const Roster& roster() const override { return team_->roster; }
  JobControl& job() const override { return *team_->job; }
  int job_rank() const override { return team_->job_ranks[size_t(rank_)]; }
  void abort(int) noexcept override {}

  std::unique_ptr<SharedWindow> share(int64_t bytes, Deadline deadline) override {
    const auto segments =
        team_->windows.take({windows_++, node_}, local_size_, [&] { return std::make_shared<Segments>(local_size_); });
    void* mine = ::operator new(size_t(bytes), kSegmentAlignment);
    std::memset(mine, 0, size_t(bytes));
    segments->data[size_t(local_rank_)] = mine;
    segments->bytes[size_t(local_rank_)] = bytes;
    segments->filled.fetch_add(1, std::memory_order_release);
    while (segments->filled.load(std::memory_order_acquire) < local_size_) {
      check(deadline.pause(), ErrorCode::collective,
            [&] { return str("rank ", rank_, " waited in vain for the others to allocate shared memory"); });
    }
    return std::make_unique<ThreadWindow>(segments);
  }

  std::vector<int> exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                            Deadline deadline) override {
    std::vector<int> late;
    const auto wait_until = [&](int peer, const auto& done) {
      while (!done())
        if (!deadline.pause()) {
          late.push_back(peer);
          return false;
        }
      return true;
    };
    // A rank that is told of another's failure leaves, while a third one may be reading what it has sent.
    struct Withdrawal {
      ThreadCarrier& carrier;
      std::span<const Outgoing> sends;
      ~Withdrawal() {
        for (const Outgoing& send : sends) carrier.team_->letter(carrier.rank_, send.rank).withdraw();
      }
    };
    const Withdrawal withdrawal{*this, sends};
    for (const Outgoing& send : sends) {
      Letter& letter = team_->letter(rank_, send.rank);
      letter.bytes = send.bytes;
      // An empty message may have no memory, but a letter must have a pointer.
      letter.data.store(send.data ? send.data : this, std::memory_order_release);
    }
    for (const Incoming& receive : receives) {
      Letter& letter = team_->letter(receive.rank, rank_);
      const void* sent = nullptr;
      if (!wait_until(receive.rank, [&] { return (sent = letter.take()) != nullptr; })) continue;
      const int64_t bytes = letter.bytes;
      if (bytes == receive.bytes) copy_bytes(receive.data, sent, bytes);
      letter.was_read();
      check(bytes == receive.bytes, ErrorCode::collective, [&] {
        return str("rank ", rank_, " expected a message of ", receive.bytes, " bytes from rank ", receive.rank,
                   ", got ", bytes, "; the two are not in the same collective");
      });
    }
    for (const Outgoing& send : sends) {
      const Letter& letter = team_->letter(rank_, send.rank);
      wait_until(send.rank, [&] { return letter.data.load(std::memory_order_acquire) == nullptr; });
    }
    return late;
  }

  void vendor_all_reduce(View, ReduceOp) override {
    fail(ErrorCode::usage,
         "ranks are threads here, which MPI_Allreduce does not reach; start the program with mpirun, "
         "or reduce by 'tree' or 'fast'");
  }

  std::unique_ptr<Transport> split(std::span<const int> colors, std::span<const int> keys) override {
    const std::vector<int> members = split_members(rank_, colors, keys);
    const auto part = team_->parts.take({splits_++, colors[size_t(rank_)]}, int(members.size()), [&] {
      std::vector<int> job_ranks;
      for (const int member : members) job_ranks.push_back(team_->job_ranks[size_t(member)]);
      return std::make_shared<Team>(split_roster(team_->roster, members), job_ranks, team_->job);
    });
    const auto at = std::find(members.begin(), members.end(), rank_);
    return std::make_unique<ThreadCarrier>(part, int(at - members.begin()));
  }

 private:
  std::shared_ptr<Team> team_;
  int rank_, node_ = 0, local_rank_ = 0, local_size_ = 0;
  int64_t windows_ = 0, splits_ = 0;
};

std::shared_ptr<Team> make_team(const ThreadRanks& options) {
  check(options.ranks >= 1, ErrorCode::usage, [&] { return str("expected at least 1 rank, got ", options.ranks); });
  const auto ranks = size_t(options.ranks);
  check(options.node_of.empty() || options.node_of.size() == ranks, ErrorCode::usage,
        [&] { return str("expected a node for each of ", ranks, " ranks, got ", options.node_of.size()); });
  char host[256] = "localhost";
  gethostname(host, sizeof host - 1);
  Roster roster{.node_of = options.node_of, .hosts = std::vector<std::string>(ranks, host)};
  roster.node_of.resize(ranks);
  std::vector<int> job_ranks;
  for (int rank = 0; rank < options.ranks; ++rank) job_ranks.push_back(rank);
  return std::make_shared<Team>(std::move(roster), std::move(job_ranks), std::make_shared<JobControl>());
}

}  // namespace

void run_thread_ranks(const ThreadRanks& options, const std::function<void(Communicator&)>& body) {
  const std::shared_ptr<Team> team = make_team(options);
  std::mutex mutex;
  std::exception_ptr first;
  const auto keep = [&](int rank, std::exception_ptr error) {
    const std::lock_guard lock(mutex);
    if (!first) first = std::move(error);
    claim(team->job->ended_by, rank);
  };
  const auto run = [&](int rank) {
    try {
      const std::unique_ptr<Communicator> comm =
          make_communicator(std::make_unique<ThreadCarrier>(team, rank), options.timeout);
      body(*comm);
    } catch (...) {
      keep(rank, std::current_exception());
    }
  };
  std::vector<std::thread> threads;
  try {
    for (int rank = 1; rank < options.ranks; ++rank)
      threads.push_back(start_thread(str("rank ", rank), [&run, rank] { run(rank); }));
    run(0);
  } catch (...) {
    // The ranks that have started wait for the others.
    keep(int(threads.size()) + 1, std::current_exception());
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

std::unique_ptr<Communicator> make_serial_communicator() {
  return make_communicator(std::make_unique<ThreadCarrier>(make_team({}), 0), ThreadRanks().timeout);
}

}  // namespace lockstep
