// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_emulation/nccl_segment.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "kernels/device/check.h"

namespace lockstep::emulated_nccl {

namespace {

constexpr char kPrefix[] = "lockstep_nccl.";
constexpr size_t kHeaderBytes = (sizeof(Header) + 63) / 64 * 64;

void remove_orphans() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", ignored)) {
    const std::string name = entry.path().filename();
    if (name.rfind(kPrefix, 0) != 0) continue;
    const auto maker = pid_t(std::atoi(name.c_str() + sizeof kPrefix - 1));
    if (maker > 0 && kill(maker, 0) != 0 && errno == ESRCH) shm_unlink(("/" + name).c_str());
  }
}

}  // namespace

std::string new_segment_name() {
  static std::atomic<int> made{0};
  remove_orphans();
  const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
  return str("/", kPrefix, getpid(), ".", now, ".", ++made);
}

Segment::Segment(const std::string& name, int ranks)
    : name_(name),
      ranks_(ranks),
      bytes_(kHeaderBytes + sizeof(RankBlock) * size_t(ranks) + sizeof(Mailbox) * size_t(ranks) * size_t(ranks)) {
  const int file = shm_open(name.c_str(), O_CREAT | O_RDWR, 0600);
  if (file < 0) throw std::runtime_error(str("shm_open: ", strerror(errno)));
  if (ftruncate(file, off_t(bytes_)) != 0) {
    close(file);
    throw std::runtime_error(str("no shared memory: ", strerror(errno)));
  }
  memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory_ == MAP_FAILED) throw std::runtime_error(str("mmap: ", strerror(errno)));
  char* next = static_cast<char*>(memory_) + kHeaderBytes;
  blocks_ = reinterpret_cast<RankBlock*>(next);
  mailboxes_ = reinterpret_cast<Mailbox*>(next + sizeof(RankBlock) * size_t(ranks));
}

Segment::~Segment() { munmap(memory_, bytes_); }

void Segment::unlink() const { shm_unlink(name_.c_str()); }

int64_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclBfloat16:
    case ncclFloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclFloat64:
      return 8;
    default:
      return 0;
  }
}

namespace {

const char* name_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
      return "ncclInt8";
    case ncclUint8:
      return "ncclUint8";
    case ncclBfloat16:
      return "ncclBfloat16";
    case ncclFloat16:
      return "ncclFloat16";
    case ncclInt32:
      return "ncclInt32";
    case ncclFloat32:
      return "ncclFloat32";
    case ncclInt64:
      return "ncclInt64";
    case ncclFloat64:
      return "ncclFloat64";
    default:
      return "a type the stand-in does not know";
  }
}

const char* name_of(ncclRedOp_t op) {
  if (op == ncclSum) return "ncclSum";
  return op == ncclMax ? "ncclMax" : "ncclMin";
}

}  // namespace

std::string to_string(const Call& call) {
  const std::string what = str(call.recorded > 0 ? str(" of recording ", call.recorded, ",") : std::string(), " of ",
                               call.count, " ", name_of(call.type));
  switch (call.kind) {
    case Kind::none:
      return "nothing";
    case Kind::finalize:
      return "ncclCommFinalize";
    case Kind::all_reduce:
      return str("ncclAllReduce", what, " by ", name_of(call.op));
    case Kind::reduce_scatter:
      return str("ncclReduceScatter", what, " by ", name_of(call.op));
    case Kind::all_gather:
      return str("ncclAllGather", what);
    case Kind::broadcast:
      return str("ncclBroadcast", what, " from rank ", call.peer);
    case Kind::send:
      return str("ncclSend", what, " to rank ", call.peer);
    case Kind::receive:
      return str("ncclRecv", what, " from rank ", call.peer);
  }
  return "?";
}

}  // namespace lockstep::emulated_nccl
