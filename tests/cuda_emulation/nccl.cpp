// SPDX-License-Identifier: Apache-2.0
// NCCL for machines without GPUs: the part of NVIDIA's nccl.h that Lockstep calls, for ranks that are threads or
// processes of one machine and the emulated GPUs of cuda_emulation. Loaded through LOCKSTEP_NCCL_LIBRARY.
//
// As strict as NCCL or stricter: communicators are non-blocking only, every call is in progress until it has been
// polled for, and only then goes into its stream; ranks whose calls differ are told apart and fail, instead of hanging.
// ncclCommDestroy and ncclCommAbort go on after they have returned, and touch the stream, as those of NCCL may.
//
// LOCKSTEP_EMULATED_NCCL_VERSION=21803   what ncclGetVersion says
// LOCKSTEP_EMULATED_NCCL_FAULT=what:rank that rank does, when it connects: init_error, init_hang, init_exit; or reports
//                                        an error while collectives are under way: async_error; or ends collectives,
//                                        but does not return from ncclCommAbort for 3 seconds: abort_hang
#include <nccl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "kernels/device/check.h"
#include "tests/cuda_emulation/emulation.h"
#include "tests/cuda_emulation/nccl_session.h"

using namespace lockstep::emulated_nccl;

namespace {

constexpr int kPolls = 2;  // after which an answer comes
constexpr std::chrono::milliseconds kReclaim{5};
constexpr std::chrono::seconds kHang{3};

std::atomic<int> reclaiming{0};  // communicators

// The text of ncclGetLastError.
thread_local std::string last_error;

ncclResult_t refuse(ncclResult_t result, const std::string& why) {
  last_error = why;
  return result;
}

bool has_fault(const char* what, int rank) {
  const char* fault = std::getenv("LOCKSTEP_EMULATED_NCCL_FAULT");
  return fault && lockstep::str(what, ":", rank) == fault;
}

// What goes into a stream at once: one call, or those of a group.
struct Launch {
  Session* session;
  std::vector<Operation> operations;
  bool recorded = false;  // run by a graph, any number of times
};

// To the end of the program: what graphs may still launch, and communicators, whose owners may ask for more than there
// is and whose work streams may still hold. A thread that is left behind has had the mutex when it was last at one.
template <class T>
struct Kept {
  std::mutex mutex;
  std::vector<std::unique_ptr<T>> all;
  ~Kept() { const std::lock_guard lock(mutex); }
};

template <class T>
Kept<T>& kept() {
  static Kept<T> things;
  return things;
}

template <class T>
T* keep(std::unique_ptr<T> thing) {
  const std::lock_guard lock(kept<T>().mutex);
  return kept<T>().all.emplace_back(std::move(thing)).get();
}

void CUDART_CB run_recorded(void* launch) {
  static_cast<Launch*>(launch)->session->run(static_cast<Launch*>(launch)->operations);
}

void CUDART_CB run_once(void* data) {
  const std::unique_ptr<Launch> launch(static_cast<Launch*>(data));
  launch->session->run(launch->operations);
  launch->session->leave_queue();
}

// What this thread has called since ncclGroupStart.
struct Group {
  int depth = 0;
  ncclResult_t result = ncclSuccess;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<Operation> operations;
};
thread_local Group group;

}  // namespace

struct ncclComm {
  std::unique_ptr<Session> session;
  int rank = 0, ranks = 1, device = 0;
  std::thread helper;  // connects, finalizes, reclaims
  std::atomic<bool> helper_is_done{false};
  int polls = 0;  // still to come before `queued` is launched
  std::unique_ptr<Launch> queued;
  cudaStream_t stream = nullptr;  // of all calls
  uint64_t capture = 0;           // the last one that calls were recorded in
  int32_t recordings = 0;
  bool finalizing = false, ending = false, gone = false;

  ~ncclComm() {
    if (helper.joinable()) helper.join();
  }

  template <class Body>
  void help(Body body) {
    if (helper.joinable()) helper.join();
    helper_is_done = false;
    helper = std::thread([this, body] {
      body();
      helper_is_done.store(true, std::memory_order_release);
    });
  }

  ncclResult_t poll() {
    if (gone) return refuse(ncclInvalidArgument, "the communicator has been reclaimed");
    if (!helper_is_done.load(std::memory_order_acquire)) return ncclInProgress;
    if (ending) {
      gone = true;
      helper.join();
      return ncclSuccess;
    }
    if (polls > 0) {
      if (--polls == 0) launch();
      return ncclInProgress;
    }
    return session->result();
  }

  void launch() {
    cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
    cudaError_t status = cudaStreamIsCapturing(stream, &capturing);
    if (status == cudaSuccess && capturing == cudaStreamCaptureStatusNone) {
      session->enter_queue();
      status = cudaLaunchHostFunc(stream, run_once, queued.get());
      if (status == cudaSuccess) static_cast<void>(queued.release());
      if (status != cudaSuccess) session->leave_queue();
    } else if (status == cudaSuccess) {
      // All ranks have to launch the recording that they have made together.
      const uint64_t number = cuda_emulation::capture_number(stream);
      if (std::exchange(capture, number) != number) ++recordings;
      for (Operation& operation : queued->operations) operation.call.recorded = recordings;
      status = cudaLaunchHostFunc(stream, run_recorded, keep(std::move(queued)));
    }
    if (status != cudaSuccess) session->fail(ncclUnhandledCudaError, cudaGetErrorString(status));
  }

  // Frees what the communicator holds, after a while, and uses its stream for the last time. What was given up stays,
  // because its stream may hold work.
  ncclResult_t reclaim(bool was_given_up) {
    ending = true;
    ++reclaiming;
    help([this, was_given_up] {
      std::this_thread::sleep_for(kReclaim);
      int device_of_stream = 0;
      if (stream) cudaStreamGetDevice(stream, &device_of_stream);
      if (!was_given_up) session.reset();
      --reclaiming;
    });
    return ncclInProgress;
  }

  ncclResult_t queue(std::vector<Operation> operations, cudaStream_t into) {
    if (stream != nullptr && stream != into)
      return refuse(ncclInvalidUsage, "the stand-in for NCCL knows one stream per communicator");
    stream = into;
    queued = std::make_unique<Launch>(Launch{session.get(), std::move(operations)});
    polls = kPolls;
    return ncclInProgress;
  }
};

namespace {

ncclResult_t check_ready(ncclComm_t comm) {
  if (comm == nullptr) return refuse(ncclInvalidArgument, "the communicator is null");
  if (!comm->helper_is_done.load(std::memory_order_acquire) || comm->polls > 0)
    return refuse(ncclInvalidArgument,
                  "Attempt to use communicator before the previous operation returned ncclSuccess");
  const ncclResult_t result = comm->session->result();
  return result == ncclSuccess ? ncclSuccess : refuse(result, comm->session->why());
}

ncclResult_t check_call(const Operation& operation, const ncclComm& comm) {
  const Call& call = operation.call;
  const bool reduces = call.kind == Kind::all_reduce || call.kind == Kind::reduce_scatter;
  if (size_of(call.type) == 0 || (reduces && size_of(call.type) == 1))
    return refuse(ncclInvalidArgument, "a type that the stand-in for NCCL does not reduce");
  if (reduces && call.op != ncclSum && call.op != ncclMax && call.op != ncclMin)
    return refuse(ncclInvalidArgument, "an operator that the stand-in for NCCL does not know");
  if (call.peer < 0 || call.peer >= comm.ranks) return refuse(ncclInvalidArgument, "no such rank");
  const bool is_message = call.kind == Kind::send || call.kind == Kind::receive;
  if (is_message && call.peer == comm.rank) return refuse(ncclInvalidArgument, "a message to the rank itself");
  const bool reads = call.kind != Kind::receive && !(call.kind == Kind::broadcast && call.peer != comm.rank);
  if ((reads && operation.in == nullptr) || (call.kind != Kind::send && operation.out == nullptr))
    return refuse(ncclInvalidArgument, "a buffer is null");
  return ncclSuccess;
}

ncclResult_t add_to_group(const Operation& operation, ncclComm_t comm, cudaStream_t stream) {
  if (group.comm != nullptr && (group.comm != comm || group.stream != stream))
    return refuse(ncclInvalidUsage, "the stand-in for NCCL knows one communicator and stream per group");
  group.comm = comm;
  group.stream = stream;
  group.operations.push_back(operation);
  return ncclSuccess;
}

ncclResult_t call(const Operation& operation, ncclComm_t comm, cudaStream_t stream) {
  ncclResult_t result = check_ready(comm);
  if (result == ncclSuccess) result = check_call(operation, *comm);
  if (result == ncclSuccess && operation.call.count == 0) return ncclSuccess;
  if (result == ncclSuccess && group.depth == 0) return comm->queue({operation}, stream);
  if (result == ncclSuccess) result = add_to_group(operation, comm, stream);
  if (group.depth > 0 && group.result == ncclSuccess) group.result = result;
  return result;
}

}  // namespace

ncclResult_t ncclGetVersion(int* version) {
  const char* pretended = std::getenv("LOCKSTEP_EMULATED_NCCL_VERSION");
  *version = pretended ? std::atoi(pretended) : NCCL_VERSION_CODE;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  *id = {};
  new_segment_name().copy(id->internal, sizeof id->internal - 1);
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  constexpr const char* kTexts[] = {"no error",
                                    "unhandled cuda error",
                                    "unhandled system error",
                                    "internal error",
                                    "invalid argument",
                                    "invalid usage",
                                    "remote process exited or there was a network error",
                                    "NCCL operation in progress"};
  return result >= 0 && result < ncclNumResults ? kTexts[result] : "unknown result code";
}

const char* ncclGetLastError(ncclComm_t comm) {
  if (comm && comm->helper_is_done.load(std::memory_order_acquire) && comm->session->result() != ncclSuccess)
    last_error = comm->session->why();
  return last_error.c_str();
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  *comm = nullptr;
  if (config == nullptr || config->magic != 0xcafebeef || config->blocking != 0)
    return refuse(ncclInvalidArgument, "the stand-in for NCCL makes non-blocking communicators only");
  if (ranks < 1 || ranks > kMaxRanks || rank < 0 || rank >= ranks)
    return refuse(ncclInvalidArgument, "ranks or rank out of range");
  int device = 0;
  char bus_id[32] = "";
  if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, device) != cudaSuccess)
    return refuse(ncclUnhandledCudaError, "no current device");
  if (has_fault("init_exit", rank)) _exit(3);
  auto* made = keep(std::make_unique<ncclComm>());
  made->rank = rank;
  made->ranks = ranks;
  made->device = device;
  made->session = std::make_unique<Session>(id.internal, rank, ranks, bus_id);
  made->help([session = made->session.get(), rank] {
    if (has_fault("init_error", rank)) return session->fail(ncclSystemError, "emulated failure to connect");
    if (has_fault("init_hang", rank)) return session->hang();
    session->join();
    if (has_fault("async_error", rank)) session->break_in_use();
  });
  *comm = made;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* result) {
  if (comm == nullptr) return refuse(ncclInvalidArgument, "the communicator is null");
  *result = comm->poll();
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  const ncclResult_t result = check_ready(comm);
  if (result != ncclSuccess) return result;
  if (comm->finalizing) return refuse(ncclInvalidArgument, "finalized twice");
  comm->finalizing = true;
  comm->help([session = comm->session.get()] { session->finalize(); });
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const ncclResult_t result = check_ready(comm);
  if (result != ncclSuccess) return result;
  if (!comm->finalizing) return refuse(ncclInvalidUsage, "destroyed before it was finalized");
  return comm->reclaim(/*was_given_up=*/false);
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm == nullptr) return refuse(ncclInvalidArgument, "the communicator is null");
  comm->session->abort();
  if (has_fault("abort_hang", comm->rank)) {
    kept<ncclComm>().mutex.lock();
    kept<ncclComm>().mutex.unlock();
    std::this_thread::sleep_for(kHang);
    return ncclSuccess;  // nobody waits for it any more, and the program may be at its end
  }
  return comm->reclaim(/*was_given_up=*/true);
}

// For tests: communicators that are being reclaimed.
extern "C" int ncclEmulatedReclaiming() { return reclaiming; }

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) { return *count = comm->ranks, ncclSuccess; }
ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) { return *device = comm->device, ncclSuccess; }
ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) { return *rank = comm->rank, ncclSuccess; }

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return call({{Kind::all_reduce, type, op, 0, int64_t(count)}, in, out}, comm, stream);
}

ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  return call({{Kind::reduce_scatter, type, op, 0, int64_t(count)}, in, out}, comm, stream);
}

ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return call({{Kind::all_gather, type, ncclSum, 0, int64_t(count)}, in, out}, comm, stream);
}

ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return call({{Kind::broadcast, type, ncclSum, root, int64_t(count)}, in, out}, comm, stream);
}

ncclResult_t ncclSend(const void* in, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return call({{Kind::send, type, ncclSum, peer, int64_t(count)}, in, nullptr}, comm, stream);
}

ncclResult_t ncclRecv(void* out, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return call({{Kind::receive, type, ncclSum, peer, int64_t(count)}, nullptr, out}, comm, stream);
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--group.depth > 0) return ncclSuccess;
  const Group ended = std::exchange(group, {});
  if (ended.result != ncclSuccess || ended.operations.empty()) return ended.result;
  return ended.comm->queue(ended.operations, ended.stream);
}
