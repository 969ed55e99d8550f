// SPDX-License-Identifier: Apache-2.0
// Devices and memory of the emulation, by the names of the CUDA runtime.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#include "tests/cuda_emulation/device.h"
#include "tests/cuda_emulation/emulation.h"

namespace cuda_emulation {
namespace {

long long from_environment(const char* name, long long otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoll(text) : otherwise;
}

Waits waits_from_environment() {
  const char* text = std::getenv("LOCKSTEP_EMULATED_IGNORED_WAITS");
  if (text == nullptr) return Waits::none;
  if (std::string(text) == "of_copies") return Waits::of_copies;
  if (std::string(text) == "for_copies") return Waits::for_copies;
  return std::string(text) == "urgent" ? Waits::of_urgent_streams : Waits::of_other_streams;
}

Order order_from_environment() {
  const char* text = std::getenv("LOCKSTEP_EMULATED_ORDER");
  if (text == nullptr) return Order::forward;
  return std::string(text) == "reverse" ? Order::reverse : Order::random;
}

// Fills without a call that a sanitizer would take for an access.
void fill_with_ones(void* memory, size_t bytes) {
  asm volatile("rep stosb" : "+D"(memory), "+c"(bytes) : "a"(0xFF) : "memory");
}

// Not a byte more than asked for, so that the address sanitizer sees what is touched behind the end.
void* allocate_exactly(size_t bytes) {
  void* memory = nullptr;
  return posix_memalign(&memory, 256, bytes) == 0 ? memory : nullptr;
}

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

namespace {
thread_local Submitter acting_for;
}

Options& options() {
  static thread_local Options options{.order = order_from_environment(),
                                      .race_check_threads = from_environment("LOCKSTEP_EMULATED_THREAD_RACES", 0) != 0,
                                      .ignored_waits = waits_from_environment()};
  return acting_for.options ? *acting_for.options : options;
}

Counters& counters() {
  static thread_local Counters counters;
  return acting_for.counters ? *acting_for.counters : counters;
}

void act_for(const Submitter& submitter) {
  acting_for = submitter;
  current_device() = submitter.device;
}

int& current_device() {
  static thread_local int device = 0;
  return device;
}

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

Machine::Machine() : bytes_per_device_(size_t(from_environment("LOCKSTEP_EMULATED_MEMORY", 4ll << 30))) {}

namespace {
// The GPUs of the machine that this process sees, by the numbers it sees them under.
std::vector<int> visible_devices() {
  const int there = int(from_environment("LOCKSTEP_EMULATED_DEVICES", 8));
  std::vector<int> visible;
  const char* chosen = std::getenv("CUDA_VISIBLE_DEVICES");
  if (!chosen)
    for (int device = 0; device < there; ++device) visible.push_back(device);
  std::istringstream numbers(chosen ? chosen : "");
  for (std::string number; std::getline(numbers, number, ',');) {
    const int device = std::atoi(number.c_str());
    if (device < 0 || device >= there) break;  // as the driver does: the rest is not seen
    visible.push_back(device);
  }
  return visible;
}
}  // namespace

int Machine::devices() { return int(visible_devices().size()); }

// LOCKSTEP_EMULATED_MIG: the devices are parts of one GPU.
static bool are_instances() { return std::getenv("LOCKSTEP_EMULATED_MIG") != nullptr; }

Machine& Machine::get() {
  static auto* machine = new Machine;  // outlives what is freed at the end of the program
  return *machine;
}

void* Machine::allocate(int device, size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > bytes_per_device_ - used_[device]) return nullptr;
  void* memory = allocate_exactly(bytes);
  if (memory == nullptr) return nullptr;
  fill_with_ones(memory, bytes);
  used_[device] += bytes;
  memory_[static_cast<char*>(memory)] = {bytes, device, false};
  return memory;
}

void* Machine::allocate_pinned(size_t bytes) {
  const std::lock_guard lock(mutex_);
  void* memory = allocate_exactly(bytes);
  if (memory) memory_[static_cast<char*>(memory)] = {bytes, current_device(), true};
  return memory;
}

bool Machine::release(void* memory) {
  const std::lock_guard lock(mutex_);
  const auto found = memory_.find(static_cast<char*>(memory));
  if (found == memory_.end()) return false;
  if (!found->second.pinned) used_[found->second.device] -= found->second.bytes;
  memory_.erase(found);
  std::free(memory);
  return true;
}

const Memory* Machine::find(const void* address) {
  const std::lock_guard lock(mutex_);
  auto after = memory_.upper_bound(static_cast<const char*>(address));
  if (after == memory_.begin()) return nullptr;
  --after;
  return static_cast<const char*>(address) < after->first + after->second.bytes ? &after->second : nullptr;
}

size_t Machine::used(int device) {
  const std::lock_guard lock(mutex_);
  return used_[device];
}

void Machine::add(CUstream_st* stream) {
  const std::lock_guard lock(mutex_);
  streams_.insert(stream);
}

void Machine::remove(CUstream_st* stream) {
  const std::lock_guard lock(mutex_);
  streams_.erase(stream);
}

void Machine::wait_for(int device) {
  std::vector<std::shared_ptr<Backlog>> backlogs;
  {
    const std::lock_guard lock(mutex_);
    for (const CUstream_st* stream : streams_)
      if (stream->device == device) backlogs.push_back(stream->backlog);
  }
  for (const auto& backlog : backlogs) {
    backlog->drain();
    acquire_order(&backlog->done);
  }
}

cudaError_t Machine::broken(int device) {
  const std::lock_guard lock(mutex_);
  const auto found = broken_.find(device);
  return found == broken_.end() ? cudaSuccess : found->second;
}

void Machine::break_device(int device, cudaError_t error, const std::string& what) {
  const std::lock_guard lock(mutex_);
  if (!broken_.emplace(device, error).second) return;
  std::fprintf(stderr, "emulated device %d: %s\n", device, what.c_str());
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = Machine::get().devices();
  return *count > 0 ? cudaSuccess : note(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= Machine::get().devices()) return note(cudaErrorInvalidDevice);
  current_device() = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device();
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= Machine::get().devices()) return note(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "Emulated GPU (CPU)%s",
                are_instances() ? " MIG 1g.10gb" : "");
  properties->totalGlobalMem = Machine::get().bytes_per_device();
  properties->sharedMemPerBlock = 48 * 1024;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->l2CacheSize = 64 << 10;  // benchmarks read it through ahead of every sample
  properties->pciBusID = device + 1;
  properties->cooperativeLaunch = 1;
  properties->uuid.bytes[15] = char(device + 1);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  if (device < 0 || device >= Machine::get().devices()) return note(cudaErrorInvalidDevice);
  const int number = are_instances() ? 0 : visible_devices()[size_t(device)];
  std::snprintf(text, size_t(length), "EEEE:%02X:00.0", number + 1);
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  const int devices = Machine::get().devices();
  if (device < 0 || device >= devices || peer < 0 || peer >= devices) return note(cudaErrorInvalidDevice);
  const int in_group = int(from_environment("LOCKSTEP_EMULATED_LINKED", devices));
  *can = device != peer && device / in_group == peer / in_group;
  return cudaSuccess;
}

// A profiler would hear of it; tests read it in the file LOCKSTEP_EMULATED_PROFILER.
static cudaError_t tell_profiler(const char* what) {
  const char* file = std::getenv("LOCKSTEP_EMULATED_PROFILER");
  if (FILE* log = file ? std::fopen(file, "a") : nullptr) {
    std::fprintf(log, "%s\n", what);
    std::fclose(log);
  }
  return cudaSuccess;
}
cudaError_t cudaProfilerStart() { return tell_profiler("start"); }
cudaError_t cudaProfilerStop() { return tell_profiler("stop"); }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = properties.l2CacheSize;
      return cudaSuccess;
    default:
      return note(cudaErrorNotSupported);
  }
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  *total = Machine::get().bytes_per_device();
  *free_bytes = *total - Machine::get().used(current_device());
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  if (const cudaError_t error = Machine::get().broken(current_device()); error != cudaSuccess) return note(error);
  if (current_device() >= Machine::get().devices()) return note(cudaErrorNoDevice);
  if (const cudaError_t error = forbid_unsafe_call(); error != cudaSuccess) return error;
  *memory = Machine::get().allocate(current_device(), bytes);
  return *memory || bytes == 0 ? cudaSuccess : note(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (const cudaError_t error = forbid_unsafe_call(); error != cudaSuccess) return error;
  const Memory* found = Machine::get().find(memory);
  if (found == nullptr) return note(cudaErrorInvalidValue);
  Machine::get().wait_for(found->device);  // as on a real one
  return Machine::get().release(memory) ? cudaSuccess : note(cudaErrorInvalidValue);
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  if (const cudaError_t error = forbid_unsafe_call(); error != cudaSuccess) return error;
  *memory = Machine::get().allocate_pinned(bytes);
  return *memory ? cudaSuccess : note(cudaErrorMemoryAllocation);
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) { return cudaMallocHost(memory, bytes); }

cudaError_t cudaFreeHost(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (const cudaError_t error = forbid_unsafe_call(); error != cudaSuccess) return error;
  const Memory* found = Machine::get().find(memory);
  if (found == nullptr) return note(cudaErrorInvalidValue);
  Machine::get().wait_for(found->device);  // the one that was current when it was allocated
  return Machine::get().release(memory) ? cudaSuccess : note(cudaErrorInvalidValue);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  const Memory* found = Machine::get().find(address);
  *attributes = {};
  attributes->type =
      found == nullptr ? cudaMemoryTypeUnregistered : (found->pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice);
  attributes->device = found ? found->device : 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = forbid_unsafe_call(); error != cudaSuccess) return error;
  ++counters().synchronizations;
  Machine::get().wait_for(current_device());
  return note(Machine::get().broken(current_device()));
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  // What has broken the device stays.
  last_error = Machine::get().broken(current_device());
  return error;
}

cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
}
