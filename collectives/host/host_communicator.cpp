// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/host_communicator.h"

#include <unistd.h>

#include <algorithm>
#include <thread>
#include <utility>

namespace lockstep {

// Note [Turns]. Mail and staging buffers come in pairs, used in turn. A rank fills its buffer, all meet, all read. It
// may fill the other one at once, while some still read. It fills the first one again after the next meeting, to which
// every rank came only when it had read the first. So one meeting a turn is enough.
namespace {

constexpr int64_t kProcessOffset = int64_t(sizeof(MeetingSlot));
constexpr int64_t kMailOffset = 128;
constexpr int64_t kStageOffset = kMailOffset + 2 * kMailBytes;
constexpr int64_t kRecentOffset = kStageOffset + 2 * kStageBytes;
constexpr int64_t kOwnBytes = kRecentOffset + int64_t(sizeof(RecentCalls));

// A window that takes itself off the list of its communicator when it is destroyed.
class ListedWindow final : public SharedWindow {
 public:
  ListedWindow(std::unique_ptr<SharedWindow> window, std::shared_ptr<HostCommunicator::OwnSegments> list, int64_t id,
               int local_rank)
      : window_(std::move(window)), list_(std::move(list)), id_(id) {
    list_->push_back(
        {id, this, static_cast<const std::byte*>(window_->segment(local_rank)), window_->bytes(local_rank)});
  }
  ~ListedWindow() override {
    std::erase_if(*list_, [&](const HostCommunicator::OwnSegment& own) { return own.id == id_; });
  }
  void* segment(int local_rank) const override { return window_->segment(local_rank); }
  int64_t bytes(int local_rank) const override { return window_->bytes(local_rank); }

 private:
  std::unique_ptr<SharedWindow> window_;
  std::shared_ptr<HostCommunicator::OwnSegments> list_;
  int64_t id_;
};

}  // namespace

HostCommunicator::HostCommunicator(std::unique_ptr<Transport> transport, std::chrono::milliseconds timeout)
    : Communicator(transport->rank(), transport->roster()),
      transport_(std::move(transport)),
      memory_(transport_->share(kOwnBytes, Deadline(transport_->job(), timeout, 0))),
      ranks_of_node_(size_t(place().nodes)) {
  set_timeout(timeout);
  for (int rank = 0; rank < size(); ++rank) ranks_of_node_[size_t(node_of()[size_t(rank)])].push_back(rank);
  lanes_ = int(std::ranges::min(ranks_of_node_, {}, &std::vector<int>::size).size());
  std::vector<MeetingSlot*> slots;
  std::vector<const RecentCalls*> recent;
  std::vector<const std::atomic<int32_t>*> processes;
  process(place().local_rank) = int32_t(getpid());
  // Zeroed memory is a slot at which nobody has arrived yet, and an empty list of calls.
  for (int i = 0; i < place().local_size; ++i) {
    slots.push_back(static_cast<MeetingSlot*>(memory_->segment(i)));
    recent.push_back(&recent_calls(i));
    processes.push_back(&process(i));
  }
  node_ =
      std::make_unique<NodeGroup>(*this, transport_->job(), std::move(slots), std::move(recent), std::move(processes));
  log().publish_in(recent_calls(place().local_rank));
}

std::unique_ptr<Communicator> make_communicator(std::unique_ptr<Transport> transport,
                                                std::chrono::milliseconds timeout) {
  return std::make_unique<HostCommunicator>(std::move(transport), timeout);
}

bool HostCommunicator::claim_error_report() noexcept {
  if (!claim(transport_->job().report_claimed, transport_->job_rank())) return false;
  constexpr std::chrono::milliseconds kHeadStart{300};
  if (place().node > 0) std::this_thread::sleep_for(kHeadStart);
  return true;
}

void HostCommunicator::abort(int exit_code) noexcept {
  JobControl& job = transport_->job();
  claim(job.ended_by, transport_->job_rank());
  if (job.report_claimed == transport_->job_rank() + 1) job.reported = 1;
  transport_->abort(exit_code);
}

std::atomic<int32_t>& HostCommunicator::process(int local_rank) const {
  return *reinterpret_cast<std::atomic<int32_t>*>(static_cast<std::byte*>(memory_->segment(local_rank)) +
                                                  kProcessOffset);
}

RecentCalls& HostCommunicator::recent_calls(int local_rank) const {
  return *reinterpret_cast<RecentCalls*>(static_cast<std::byte*>(memory_->segment(local_rank)) + kRecentOffset);
}

std::byte* HostCommunicator::mail(int local_rank) const {
  return static_cast<std::byte*>(memory_->segment(local_rank)) + kMailOffset + int64_t(mail_turn_ % 2) * kMailBytes;
}

int64_t HostCommunicator::next_stage() { return kStageOffset + int64_t(++stage_turn_ % 2) * kStageBytes; }

void HostCommunicator::do_barrier() {
  node_->barrier();
  if (place().nodes == 1) return;
  if (place().local_rank == 0) compare_logs_of_nodes();
  node_->barrier();
}

// The first ranks of the nodes meet. Those that find each other's log different show each other their latest calls.
void HostCommunicator::compare_logs_of_nodes() {
  std::vector<int> others;
  for (int node = 0; node < place().nodes; ++node)
    if (node != place().node) others.push_back(ranks_of_node_[size_t(node)][0]);
  const auto swap_with = [&](const std::vector<int>& peers, const void* mine, void* theirs, size_t bytes) {
    std::vector<Outgoing> sends;
    std::vector<Incoming> receives;
    for (size_t i = 0; i < peers.size(); ++i) {
      sends.push_back({peers[i], mine, int64_t(bytes)});
      receives.push_back({peers[i], static_cast<std::byte*>(theirs) + i * bytes, int64_t(bytes)});
    }
    do_exchange(sends, receives);
  };
  const uint64_t hash = log().hash();
  std::vector<uint64_t> hashes(others.size());
  swap_with(others, &hash, hashes.data(), sizeof hash);
  std::vector<int> different;
  for (size_t i = 0; i < others.size(); ++i)
    if (hashes[i] != hash) different.push_back(others[i]);
  if (different.empty()) return;
  const RecentCalls& mine = recent_calls(0);
  std::vector<RecentCalls> theirs(different.size());
  swap_with(different, &mine, theirs.data(), sizeof mine);
  node_->refuse_logs(different[0],
                     describe_mismatch(log().name(), mine, describe(rank()), theirs[0], describe(different[0])));
}

void HostCommunicator::do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) {
  const std::vector<int> late = transport_->exchange(sends, receives, node_->deadline());
  if (!late.empty()) node_->give_up("messages", late);
}

void HostCommunicator::do_vendor_all_reduce(View inout, ReduceOp op) {
  if (size() > 1) transport_->vendor_all_reduce(inout, op);
}

Work HostCommunicator::do_all_gather(ConstView in, View out, Stream&) {
  gather(in.data, in.bytes(), out.data, {.kind = CollectiveKind::all_gather, .dtype = in.dtype, .count = in.size()});
  return Work();
}

void HostCommunicator::gather(const void* in, int64_t bytes, void* out, const CollectiveCall& call) {
  const auto* from = static_cast<const std::byte*>(in);
  auto* to = static_cast<std::byte*>(out);
  const std::vector<int>& neighbours = ranks_of_node_[size_t(place().node)];
  int64_t done = 0;
  do {
    const int64_t offset = next_stage(), n = std::min(kStageBytes, bytes - done);
    const auto stage = [&](size_t i) { return static_cast<std::byte*>(memory_->segment(int(i))) + offset; };
    std::copy_n(from + done, n, stage(size_t(place().local_rank)));
    node_->meet(call);
    for (size_t i = 0; i < neighbours.size(); ++i) std::copy_n(stage(i), n, to + neighbours[i] * bytes + done);
    done += n;
  } while (done < bytes);
  if (place().nodes == 1) return;
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (int rank = 0; rank < size(); ++rank) {
    if (node_of()[size_t(rank)] == place().node) continue;
    sends.push_back({rank, in, bytes});
    receives.push_back({rank, to + rank * bytes, bytes});
  }
  do_exchange(sends, receives);
}

std::vector<std::string> HostCommunicator::do_all_gather_bytes(std::string_view mine) {
  const auto length = int64_t(mine.size());
  std::vector<int64_t> lengths(static_cast<size_t>(size()));
  gather(&length, sizeof length, lengths.data(), {.kind = CollectiveKind::all_gather, .dtype = DType::i64, .count = 1});
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::string padded(mine);
  padded.resize(size_t(longest));
  std::string all(size_t(longest * size()), '\0');
  gather(padded.data(), longest, all.data(),
         {.kind = CollectiveKind::all_gather, .dtype = DType::i32, .count = longest});
  std::vector<std::string> texts;
  for (int rank = 0; rank < size(); ++rank)
    texts.push_back(all.substr(size_t(rank * longest), size_t(lengths[size_t(rank)])));
  return texts;
}

Work HostCommunicator::do_broadcast(View inout, int root, Stream&) {
  auto* bytes = static_cast<std::byte*>(inout.data);
  const CollectiveCall call{
      .kind = CollectiveKind::broadcast, .dtype = inout.dtype, .root = root, .count = inout.size()};
  const int root_node = node_of()[size_t(root)];
  const std::vector<int>& neighbours = ranks_of_node_[size_t(place().node)];
  const int source = place().node == root_node ? root : neighbours[0];
  const int local_source = int(std::ranges::find(neighbours, source) - neighbours.begin());
  for (int64_t done = 0; done < inout.bytes() || done == 0; done += kStageBytes) {
    const int64_t offset = next_stage(), n = std::min(kStageBytes, inout.bytes() - done);
    auto* stage = static_cast<std::byte*>(memory_->segment(local_source)) + offset;
    if (rank() == root) {
      std::vector<Outgoing> sends;
      for (int node = 0; node < place().nodes; ++node)
        if (node != root_node) sends.push_back({ranks_of_node_[size_t(node)][0], bytes + done, n});
      do_exchange(sends, {});
    } else if (rank() == source) {
      do_exchange({}, std::vector{Incoming{root, bytes + done, n}});
    }
    if (rank() == source) std::copy_n(bytes + done, n, stage);
    node_->meet(call);
    if (rank() != source) std::copy_n(stage, n, bytes + done);
  }
  return Work();
}

std::unique_ptr<Communicator> HostCommunicator::do_split(int color, int key) {
  const int32_t mine[2] = {color, key};
  std::vector<int32_t> all(2 * size_t(size()));
  gather(mine, sizeof mine, all.data(), {.kind = CollectiveKind::all_gather, .dtype = DType::i32, .count = 2});
  std::vector<int> colors, keys;
  for (size_t i = 0; i < all.size(); i += 2) {
    colors.push_back(all[i]);
    keys.push_back(all[i + 1]);
  }
  return make_communicator(transport_->split(colors, keys), timeout());
}

std::unique_ptr<SharedWindow> HostCommunicator::do_allocate_shared(int64_t bytes) {
  node_->barrier();  // names missing ranks, for which the allocation might wait forever
  auto window = std::make_unique<ListedWindow>(transport_->share(bytes, node_->deadline()), windows_, windows_made_++,
                                               place().local_rank);
  node_->barrier();  // every segment is zeroed
  return window;
}

const HostCommunicator::OwnSegment* HostCommunicator::find_window(const View& view) const {
  const auto* begin = static_cast<const std::byte*>(view.data);
  for (const OwnSegment& own : *windows_)
    if (begin >= own.begin && begin + view.bytes() <= own.begin + own.bytes) return &own;
  return nullptr;
}

}  // namespace lockstep
