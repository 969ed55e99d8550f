// SPDX-License-Identifier: Apache-2.0
#include "collectives/device/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "kernels/config.h"

namespace lockstep {

namespace {

std::string version_text(int version) {
  // Up to 2.8 the minor version had one digit less.
  if (version < 10'000) return str(version / 1000, ".", version / 100 % 10, ".", version % 100);
  return str(version / 10'000, ".", version / 100 % 100, ".", version % 100);
}

// Lists the file that the user names, or the system's and the one beside the header that this was built with.
std::vector<std::string> candidates() {
  if (const char* named = std::getenv("LOCKSTEP_NCCL_LIBRARY")) return {named};
  std::vector<std::string> files{"libnccl.so.2"};
  if (*config::nccl_library != '\0') files.emplace_back(config::nccl_library);
  return files;
}

void open(NcclLibrary& library) {
  std::string problems;
  for (const std::string& file : candidates()) {
    // Never unloaded: NCCL's threads may outlive their communicators.
    if (void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)) {
      library.file = file;
      library.handle = {handle, [](void* opened) { dlclose(opened); }};
      return;
    }
    problems += str(problems.empty() ? "" : "; ", dlerror());
  }
  fail(ErrorCode::device, str("NCCL cannot be loaded: ", problems,
                              "; install NCCL, name its file by LOCKSTEP_NCCL_LIBRARY, or use --transport staged"));
}

template <class Function>
void find(const NcclLibrary& library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library.handle.get(), name));
  check(function != nullptr, ErrorCode::device, [&] {
    return str(library.file, " has no function ", name,
               ", so it is no NCCL that Lockstep can use; see LOCKSTEP_NCCL_LIBRARY, or use --transport staged");
  });
}

void check_version(const NcclLibrary& library) {
  // A newer library serves programs built with an older header; an older one does not know what it is asked for.
  check(library.version / 100 >= NCCL_VERSION_CODE / 100, ErrorCode::device, [&] {
    return str(library.file, " is NCCL ", version_text(library.version), ", but Lockstep was built for NCCL ",
               version_text(NCCL_VERSION_CODE),
               " and cannot use an older one; install that or a newer one, name it by "
               "LOCKSTEP_NCCL_LIBRARY, or use --transport staged");
  });
}

void find_functions(NcclLibrary& library) {
  find(library, "ncclGetUniqueId", library.get_unique_id);
  find(library, "ncclGetErrorString", library.get_error_string);
  find(library, "ncclGetLastError", library.get_last_error);
  find(library, "ncclCommInitRankConfig", library.comm_init_rank_config);
  find(library, "ncclCommGetAsyncError", library.comm_get_async_error);
  find(library, "ncclCommFinalize", library.comm_finalize);
  find(library, "ncclCommDestroy", library.comm_destroy);
  find(library, "ncclCommAbort", library.comm_abort);
  find(library, "ncclAllReduce", library.all_reduce);
  find(library, "ncclReduceScatter", library.reduce_scatter);
  find(library, "ncclAllGather", library.all_gather);
  find(library, "ncclBroadcast", library.broadcast);
  find(library, "ncclSend", library.send);
  find(library, "ncclRecv", library.recv);
  find(library, "ncclGroupStart", library.group_start);
  find(library, "ncclGroupEnd", library.group_end);
}

}  // namespace

std::shared_ptr<const NcclLibrary> load_nccl() {
  auto library = std::make_shared<NcclLibrary>();
  open(*library);
  find(*library, "ncclGetVersion", library->get_version);
  const ncclResult_t result = library->get_version(&library->version);
  check(result == ncclSuccess, ErrorCode::device,
        [&] { return str(library->file, " does not tell its version (error ", int(result), ")"); });
  check_version(*library);  // first: an old library lacks functions too
  find_functions(*library);
  return library;
}

std::string describe(const NcclLibrary& library) {
  return str("NCCL ", version_text(library.version), " (", library.file, ")");
}

}  // namespace lockstep
