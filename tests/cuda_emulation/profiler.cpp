// SPDX-License-Identifier: Apache-2.0
// A profiler for tests: NVTX loads it where NVTX_INJECTION64_PATH names it, and it writes the ranges that it hears of
// into the file LOCKSTEP_EMULATED_PROFILER.
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <cstdlib>

namespace {

int write_line(const char* what, const char* name) {
  const char* file = std::getenv("LOCKSTEP_EMULATED_PROFILER");
  FILE* log = file ? std::fopen(file, "a") : nullptr;
  if (log == nullptr) return 0;
  std::fprintf(log, "%s%s\n", what, name);
  std::fclose(log);
  return 0;
}

int NVTX_API push(const char* name) { return write_line("push ", name); }
int NVTX_API pop() { return write_line("pop", ""); }

}  // namespace

extern "C" int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable functions = nullptr;
  unsigned size = 0;
  if (callbacks == nullptr || callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &functions, &size) == 0) return 0;
  *functions[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(push);
  *functions[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
  return 1;
}
