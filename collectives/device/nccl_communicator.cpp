// SPDX-License-Identifier: Apache-2.0
// Collectives by NCCL. Its communicator never blocks the host, because only then can it be aborted: every answer is
// polled for, with the ranks' deadline and an eye on ranks that have failed.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <thread>
#include <utility>

#include "collectives/device/nccl_library.h"

namespace lockstep {

namespace {

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::bf16:
      return ncclBfloat16;
    case DType::f16:
      return ncclFloat16;
    case DType::f64:
      return ncclFloat64;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
  }
  fail(ErrorCode::internal, str("no dtype of NCCL for ", int(dtype)));
}

ncclRedOp_t nccl_op(ReduceOp op) {
  if (op == ReduceOp::sum) return ncclSum;
  return op == ReduceOp::max ? ncclMax : ncclMin;
}

// Owns NCCL's communicator, and aborts it unless somebody has destroyed it in peace. NCCL reclaims what a communicator
// holds in calls that may block, also where the communicator does not, or answer ncclInProgress and go on in a thread
// of NCCL's; both must be over before streams and memory of the device go. So a thread of its own makes the call and
// asks for the answer, and whoever ends the communicator waits for it no longer than `patience`: NCCL is known to hang
// there, and then the thread is left behind.
class Connection {
 public:
  Connection(std::shared_ptr<const NcclLibrary> library, std::chrono::milliseconds patience)
      : library_(std::move(library)), patience_(patience) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { abort(); }
  const NcclLibrary& nccl() const { return *library_; }
  // Returns what NCCL answers in the end, ncclInProgress where it has not in time; the communicator is gone in any
  // case.
  ncclResult_t destroy() { return end(library_->comm_destroy); }
  void abort() noexcept {
    if (comm) (void)end(library_->comm_abort);
  }

  ncclComm_t comm = nullptr;  // null before it is made and after its end

 private:
  using EndCall = decltype(&ncclCommAbort);
  struct Ending {
    ncclResult_t result = ncclInProgress;  // written before is_over
    std::atomic<bool> is_over{false};
  };
  ncclResult_t end(EndCall call) noexcept;

  std::shared_ptr<const NcclLibrary> library_;
  std::chrono::milliseconds patience_;
  std::shared_ptr<Ending> ending_ = std::make_shared<Ending>();  // made before, for memory may have run out by then
};

// NCCL says how a communicator that is being reclaimed does until it is gone; then asking is an error.
ncclResult_t Connection::end(EndCall call) noexcept {
  static constexpr std::chrono::microseconds kPause(200);
  const auto deadline = std::chrono::steady_clock::now() + patience_;
  const auto in_time = [deadline] { return std::chrono::steady_clock::now() < deadline; };
  const auto reclaim = [ending = ending_, in_time, call, library = library_, comm = std::exchange(comm, nullptr)] {
    ending->result = call(comm);
    while (ending->result == ncclInProgress && in_time()) {
      std::this_thread::sleep_for(kPause);
      if (library->comm_get_async_error(comm, &ending->result) != ncclSuccess) ending->result = ncclSuccess;
    }
    ending->is_over.store(true, std::memory_order_release);
  };
  std::thread helper;
  try {
    helper = std::thread(reclaim);
  } catch (const std::exception&) {
    reclaim();
    return ending_->result;
  }
  while (!ending_->is_over.load(std::memory_order_acquire)) {
    if (in_time()) {
      std::this_thread::sleep_for(kPause);
      continue;
    }
    helper.detach();
    return ncclInProgress;
  }
  helper.join();
  return ending_->result;
}

// The call that was issued last, for messages to those who wait in vain.
struct LastCall {
  int64_t number = 0;
  std::string_view kind;
  int64_t bytes = 0;
};

class NcclCommunicator final : public DeviceCommunicator {
 public:
  NcclCommunicator(Communicator& ranks, Device device, std::shared_ptr<const NcclLibrary> library);
  ~NcclCommunicator() override;

  std::string_view transport() const override { return "nccl"; }
  bool recordable() const override { return true; }
  void abandon() noexcept override { connection_.abort(); }
  // Collective. Returns why NCCL could not connect one of the ranks, on all of them alike; empty when it has.
  std::string connect();

 private:
  void do_wait(const std::function<bool()>& done, const std::string& what) override;
  Work do_all_reduce(View inout, ReduceOp op, Stream& after) override;
  Work do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) override;
  Work do_all_gather(ConstView in, View out, Stream& after) override;
  Work do_broadcast(View inout, int root, Stream& after) override;
  Work do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after) override;

  std::string share_id(ncclUniqueId& id);
  // Asks NCCL, for a moment, for its answer to a request that it answered with `result`.
  void poll(ncclResult_t& result) const;
  // Queues what call(stream) asks of NCCL.
  template <class Call>
  Work issue(std::string_view kind, int64_t bytes, Stream& after, const Call& call);
  // Returns when NCCL has accepted the request that it answered with `result`.
  void settle(ncclResult_t result, std::string_view what);
  void check_alive() const;
  void check_health();
  ncclResult_t send_and_receive(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                                cudaStream_t stream) const;
  std::string complaint(ncclResult_t result, std::string_view what) const;
  [[noreturn]] void fail_with(ncclResult_t result, std::string_view what) const;
  std::string last_call() const;
  // Gives up NCCL's communicator when `body` fails, before any other destructor runs: freeing memory of the device
  // waits for its streams, and those wait for ranks that will not come.
  template <class Body>
  void guard(const Body& body);

  const NcclLibrary& nccl() const { return connection_.nccl(); }

  Connection connection_;
  LastCall last_;
  int exceptions_ = std::uncaught_exceptions();
};

NcclCommunicator::NcclCommunicator(Communicator& ranks, Device device, std::shared_ptr<const NcclLibrary> library)
    : DeviceCommunicator(ranks, device), connection_(std::move(library), ranks.timeout() / 2) {}

// Aborts when something failed above, because the other ranks do not come to a peaceful end then.
NcclCommunicator::~NcclCommunicator() {
  if (connection_.comm == nullptr || std::uncaught_exceptions() > exceptions_) return;
  try {
    settle(nccl().comm_finalize(connection_.comm), "end");
    if (const ncclResult_t result = connection_.destroy(); result != ncclSuccess) fail_with(result, "end");
  } catch (const std::exception&) {
    // It was given up.
  }
}

// Returns why rank 0 has none.
std::string NcclCommunicator::share_id(ncclUniqueId& id) {
  std::string mine;
  if (rank() == 0) {
    const ncclResult_t result = nccl().get_unique_id(&id);
    mine = result == ncclSuccess ? str("+", std::string_view(id.internal, sizeof id.internal))
                                 : str("-", complaint(result, "make an id"));
  }
  const std::string first = ranks().all_gather_bytes(mine)[0];
  if (first[0] == '-') return first.substr(1);
  std::copy(first.begin() + 1, first.end(), id.internal);
  return "";
}

void NcclCommunicator::poll(ncclResult_t& result) const {
  constexpr std::chrono::microseconds kPause(500);
  for (int looks = 0; looks < 20 && result == ncclInProgress; ++looks) {
    const ncclResult_t asked = nccl().comm_get_async_error(connection_.comm, &result);
    if (asked != ncclSuccess) result = asked;
    if (result == ncclInProgress) std::this_thread::sleep_for(kPause);
  }
}

// A rank that cannot be connected leaves the others waiting in NCCL. So they tell each other again and again how it
// goes, until all are connected or one is not to be.
std::string NcclCommunicator::connect() {
  ncclUniqueId id{};
  if (std::string problem = share_id(id); !problem.empty()) return problem;
  // Nobody may wait for NCCL's connections while another rank still needs the host's messages to get here.
  ranks().barrier();
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.commName = "lockstep";
  ncclResult_t result = nccl().comm_init_rank_config(&connection_.comm, size(), id, rank(), &config);
  const auto deadline = std::chrono::steady_clock::now() + ranks().timeout();
  for (;;) {
    poll(result);
    std::string mine = "+";
    if (result == ncclInProgress) {
      const bool late = std::chrono::steady_clock::now() > deadline;
      mine = late ? str("-", ranks().describe(rank()), " waited ", double(ranks().timeout().count()) / 1000,
                        " s for NCCL to connect the ranks; run again with NCCL_DEBUG=INFO to see more")
                  : "";
    } else if (result != ncclSuccess) {
      mine = str("-", complaint(result, "connect the ranks"));
    }
    const std::vector<std::string> all = ranks().all_gather_bytes(mine);
    const auto failed = std::ranges::find_if(all, [](const std::string& text) { return text.starts_with('-'); });
    if (failed != all.end()) {
      connection_.abort();
      return failed->substr(1);
    }
    if (std::ranges::all_of(all, [](const std::string& text) { return text == "+"; })) return "";
  }
}

template <class Body>
void NcclCommunicator::guard(const Body& body) {
  try {
    body();
  } catch (...) {
    connection_.abort();
    throw;
  }
}

void NcclCommunicator::settle(ncclResult_t result, std::string_view what) {
  guard([&] {
    const auto answered = [&] {
      if (result != ncclInProgress) return true;
      const ncclResult_t asked = nccl().comm_get_async_error(connection_.comm, &result);
      if (asked != ncclSuccess) result = asked;
      return result != ncclInProgress;
    };
    wait_until(answered, [&] { return str("NCCL to ", what, last_call()); });
    if (result != ncclSuccess) fail_with(result, str(what, last_call()));
  });
}

void NcclCommunicator::check_alive() const {
  check(connection_.comm != nullptr, ErrorCode::collective, [&] {
    return str(ranks().describe(rank()), " gave NCCL up after a failure", last_call(), "; start the ranks again");
  });
}

void NcclCommunicator::check_health() {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = nccl().comm_get_async_error(connection_.comm, &state);
  const ncclResult_t result = asked != ncclSuccess ? asked : state;
  if (result != ncclSuccess && result != ncclInProgress) fail_with(result, str("go on", last_call()));
}

std::string NcclCommunicator::complaint(ncclResult_t result, std::string_view what) const {
  const char* detail = nccl().get_last_error(connection_.comm);
  return str(ranks().describe(rank()), ": NCCL cannot ", what, ": ", nccl().get_error_string(result),
             detail && *detail ? str(": ", detail) : std::string(), "; run again with NCCL_DEBUG=INFO to see more");
}

void NcclCommunicator::fail_with(ncclResult_t result, std::string_view what) const {
  fail(ErrorCode::collective, complaint(result, what));
}

std::string NcclCommunicator::last_call() const {
  if (last_.number == 0) return "";
  return str(" (last call: number ", last_.number, ", ", last_.kind, " of ", last_.bytes, " bytes)");
}

void NcclCommunicator::do_wait(const std::function<bool()>& done, const std::string& what) {
  check_alive();
  guard([&] {
    const auto done_in_health = [&] {
      const bool is_done = done();
      check_health();  // also at the end, because an aborted collective ends like a finished one
      return is_done;
    };
    wait_until(done_in_health, [&] { return str(what, last_call()); });
  });
}

template <class Call>
Work NcclCommunicator::issue(std::string_view kind, int64_t bytes, Stream& after, const Call& call) {
  check_alive();
  follow(after);
  if (bytes == 0) return work_of_stream();
  last_ = {last_.number + 1, kind, bytes};
  settle(call(static_cast<cudaStream_t>(stream().handle())), "queue a call");
  return work_of_stream();
}

Work NcclCommunicator::do_all_reduce(View inout, ReduceOp op, Stream& after) {
  return issue("all_reduce", inout.bytes(), after, [&](cudaStream_t stream) {
    return nccl().all_reduce(inout.data, inout.data, size_t(inout.size()), nccl_type(inout.dtype), nccl_op(op),
                             connection_.comm, stream);
  });
}

Work NcclCommunicator::do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) {
  return issue("reduce_scatter", in.bytes(), after, [&](cudaStream_t stream) {
    return nccl().reduce_scatter(in.data, out.data, size_t(out.size()), nccl_type(out.dtype), nccl_op(op),
                                 connection_.comm, stream);
  });
}

Work NcclCommunicator::do_all_gather(ConstView in, View out, Stream& after) {
  return issue("all_gather", out.bytes(), after, [&](cudaStream_t stream) {
    return nccl().all_gather(in.data, out.data, size_t(in.size()), nccl_type(in.dtype), connection_.comm, stream);
  });
}

Work NcclCommunicator::do_broadcast(View inout, int root, Stream& after) {
  return issue("broadcast", inout.bytes(), after, [&](cudaStream_t stream) {
    return nccl().broadcast(inout.data, inout.data, size_t(inout.size()), nccl_type(inout.dtype), root,
                            connection_.comm, stream);
  });
}

ncclResult_t NcclCommunicator::send_and_receive(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                                                cudaStream_t stream) const {
  ncclResult_t result = nccl().group_start();
  if (result != ncclSuccess) return result;
  const auto keep_error = [&](ncclResult_t next) {
    if (result == ncclSuccess && next != ncclInProgress) result = next;
  };
  for (const Outgoing& send : sends)
    if (send.bytes > 0)
      keep_error(nccl().send(send.data, size_t(send.bytes), ncclUint8, send.rank, connection_.comm, stream));
  for (const Incoming& receive : receives)
    if (receive.bytes > 0)
      keep_error(nccl().recv(receive.data, size_t(receive.bytes), ncclUint8, receive.rank, connection_.comm, stream));
  const ncclResult_t end = nccl().group_end();
  return result != ncclSuccess ? result : end;
}

Work NcclCommunicator::do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after) {
  int64_t bytes = 0;
  for (const Outgoing& send : sends) bytes += send.bytes;
  for (const Incoming& receive : receives) bytes += receive.bytes;
  return issue("exchange", bytes, after,
               [&](cudaStream_t stream) { return send_and_receive(sends, receives, stream); });
}

}  // namespace

NcclAttempt connect_by_nccl(Communicator& ranks, Device device, std::shared_ptr<const NcclLibrary> library) {
  auto communicator = std::make_unique<NcclCommunicator>(ranks, device, std::move(library));
  std::string problem = communicator->connect();
  if (!problem.empty()) return {nullptr, std::move(problem)};
  return {std::move(communicator), ""};
}

}  // namespace lockstep
