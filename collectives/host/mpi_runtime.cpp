// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/mpi_runtime.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <numeric>
#include <thread>

#include "collectives/host/job_processes.h"

namespace lockstep {

namespace {

const char* const kWindowFolder = "/dev/shm";
const char* const kAbort = "the end of the job";

// Room for the header, and for moving it to the next multiple of its alignment, because MPI promises less.
constexpr auto kAlignment = int64_t(alignof(MpiSegments::Header));
constexpr int64_t kOverhead = int64_t(sizeof(MpiSegments::Header)) + kAlignment;

// Windows begin on pages in every process, so all processes move the pointer by the same bytes.
char* aligned(char* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return pointer + (kAlignment - int64_t(address % kAlignment)) % kAlignment;
}

}  // namespace

void mpi_check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail(ErrorCode::collective, str(call, " failed: ", std::string(text, size_t(length))));
}

MpiRuntime::MpiRuntime(const MpiStart& start)
    : timeout_(start.timeout),
      report_(start.report),
      rank_(start.claim.rank),
      watchdog_([this](const std::string& what, std::chrono::milliseconds timeout) { expired(what, timeout); }) {
  int provided = MPI_THREAD_SINGLE;
  bound("the other ranks to start (MPI_Init_thread)",
        [&] { mpi_check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread"); });
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  check(provided >= MPI_THREAD_FUNNELED, ErrorCode::launch,
        "this MPI library cannot work beside other threads (MPI_THREAD_FUNNELED); use one that can");
  mpi_check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

MpiRuntime::~MpiRuntime() {
  if (given_up_) return;
  // Finalizing waits for all ranks, which will not come if this one is here because it failed.
  if (std::uncaught_exceptions() > 0) abort(1);
  job_ = nullptr;  // it lies in a window, and the watchdog may look for it until the end
  bound("the other ranks to end (MPI_Finalize)", [&] {
    for (const auto& segments : windows_) free(*segments);
    MPI_Finalize();
  });
}

void MpiRuntime::abort(int exit_code) noexcept {
  constexpr std::chrono::seconds kAtMost{2};
  watchdog_.bound(kAbort, kAtMost, [&] { MPI_Abort(MPI_COMM_WORLD, exit_code); });
}

// Runs on the watchdog's thread, which ends the process afterwards. The launcher then ends the other ranks, so whoever
// has something to say is given time to say it.
void MpiRuntime::expired(const std::string& what, std::chrono::milliseconds timeout) {
  if (what == kAbort) return;
  JobControl* job = job_;
  const Spokesman spokesman;
  if (spokesman.may_speak() && (!job || claim(job->report_claimed, rank_))) {
    report_(Error(ErrorCode::collective,
                  str("rank ", rank_, " waited ", double(timeout.count()) / 1000, " s for ", what, ": ",
                      trouble_of_job(), "; see whether they failed or are stopped"),
                  std::source_location::current()));
    if (job) job->reported = 1;
  }
  // The others' time is up in the same moment: they are to find that this has been told.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  if (job) claim(job->ended_by, rank_);
}

void MpiRuntime::share_job(MPI_Comm machine) {
  job_ = static_cast<JobControl*>(allocate(machine, sizeof(JobControl))->segment(0));
}

MpiSegments* MpiRuntime::allocate(MPI_Comm node, int64_t bytes) {
  return bound("the ranks of this machine to share memory", [&] { return allocate_unbounded(node, bytes); });
}

MpiSegments* MpiRuntime::allocate_unbounded(MPI_Comm node, int64_t bytes) {
  free_abandoned(node);
  int rank = 0, size = 1;
  MPI_Comm_rank(node, &rank);
  MPI_Comm_size(node, &size);
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t whole = (kOverhead + bytes + page - 1) / page * page;
  std::vector<int64_t> sizes(static_cast<size_t>(size));
  mpi_check(MPI_Allgather(&whole, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, node), "MPI_Allgather");
  auto segments = std::make_unique<MpiSegments>();
  segments->node = node;
  if (fits_into_windows(node, sizes))
    open_window(*segments, whole);
  else
    map_file(*segments, sizes);
  segments->header(rank).bytes = bytes;
  mpi_check(MPI_Barrier(node), "MPI_Barrier");
  windows_.push_back(std::move(segments));
  return windows_.back().get();
}

// MPI fails with an internal error, or the process with a bus error, where the file system of its windows is too small.
bool MpiRuntime::fits_into_windows(MPI_Comm node, const std::vector<int64_t>& sizes) const {
  constexpr int64_t kOfMpi = 64 * 1024;  // what it keeps of its own beside a window
  const Room room = room_of(kWindowFolder);
  const int64_t segments = std::accumulate(sizes.begin(), sizes.end(), int64_t(0));
  const int64_t needed = segments + segments / 16 + kOfMpi;  // Open MPI wants a twentieth more than it takes
  // One rank looks, so that all do the same. Without the folder MPI has another one.
  int fits = room.all == 0 || needed <= room.free;
  mpi_check(MPI_Bcast(&fits, 1, MPI_INT, 0, node), "MPI_Bcast");
  return fits != 0;
}

void MpiRuntime::open_window(MpiSegments& segments, int64_t whole) {
  int size = 1;
  MPI_Comm_size(segments.node, &size);
  // Every rank's segment gets its own pages, so that it is aligned and near the rank's core.
  MPI_Info info = MPI_INFO_NULL;
  MPI_Info_create(&info);
  MPI_Info_set(info, "alloc_shared_noncontig", "true");
  char* base = nullptr;
  mpi_check(MPI_Win_allocate_shared(MPI_Aint(whole), 1, info, segments.node, &base, &segments.window),
            "MPI_Win_allocate_shared");
  MPI_Info_free(&info);
  mpi_check(MPI_Win_lock_all(MPI_MODE_NOCHECK, segments.window), "MPI_Win_lock_all");
  for (int i = 0; i < size; ++i) {
    MPI_Aint held = 0;
    int unit = 1;
    char* theirs = nullptr;
    mpi_check(MPI_Win_shared_query(segments.window, i, &held, &unit, &theirs), "MPI_Win_shared_query");
    segments.headers.push_back(aligned(theirs));
  }
  std::memset(base, 0, size_t(whole));
}

void MpiRuntime::map_file(MpiSegments& segments, const std::vector<int64_t>& sizes) {
  int rank = 0;
  MPI_Comm_rank(segments.node, &rank);
  const int64_t all = std::accumulate(sizes.begin(), sizes.end(), int64_t(0));
  const std::string folder = temporary_folder();
  std::array<char, 4096> path{};
  if (rank == 0) make_shared_file(folder, all).copy(path.data(), path.size() - 1);
  mpi_check(MPI_Bcast(path.data(), int(path.size()), MPI_CHAR, 0, segments.node), "MPI_Bcast");
  check(path[0] != '\0', ErrorCode::device, [&] {
    return str("the ", sizes.size(), " ranks of this machine share ", (all >> 20) + 1, " MiB, for which there is room ",
               "neither in ", describe(room_of(kWindowFolder)), " nor in ", describe(room_of(folder)), "; make ",
               kWindowFolder,
               " larger (docker run --shm-size, mount -o remount,size=...), let TMPDIR name a folder of ",
               "this machine with room, or use fewer ranks");
  });
  segments.mapping = SharedMapping(path.data(), all);
  char* next = segments.mapping.data();
  for (const int64_t size : sizes) {
    segments.headers.push_back(next);  // pages are aligned
    next += size;
  }
  mpi_check(MPI_Barrier(segments.node), "MPI_Barrier");
  // The mappings stay, and nothing is left behind however the ranks end.
  if (rank == 0) unlink(path.data());
}

void MpiRuntime::free_abandoned(MPI_Comm node) {
  int rank = 0, size = 1;
  MPI_Comm_rank(node, &rank);
  MPI_Comm_size(node, &size);
  // One rank looks, so that all free the same windows.
  std::vector<char> abandoned;
  for (const auto& segments : windows_) {
    if (segments->node != node) continue;
    int holders = 0;
    for (int i = 0; i < size; ++i) holders += segments->header(i).let_go == 0;
    abandoned.push_back(holders == 0);
  }
  mpi_check(MPI_Bcast(abandoned.data(), int(abandoned.size()), MPI_CHAR, 0, node), "MPI_Bcast");
  size_t next = 0;
  std::erase_if(windows_, [&](const std::unique_ptr<MpiSegments>& segments) {
    if (segments->node != node || !abandoned[next++]) return false;
    free(*segments);
    return true;
  });
}

void MpiRuntime::free(MpiSegments& segments) {
  if (segments.window == MPI_WIN_NULL) return;  // the mapping goes with its owner
  MPI_Win_unlock_all(segments.window);
  MPI_Win_free(&segments.window);
}

}  // namespace lockstep
