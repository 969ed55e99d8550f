// SPDX-License-Identifier: Apache-2.0
// Devices and streams: where memory lives and in which order work on it happens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace lockstep {

// Overload tags: run(Cpu, ...) and run(Cuda, ...) are the two halves of a kernel.
struct Cpu {};
struct Cuda {};

enum class DeviceKind : uint8_t { cpu, cuda };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};

std::string to_string(Device device);

// One GPU as its driver describes it.
struct CudaDevice {
  std::string name;
  std::string bus_id;        // tells the GPUs of a machine apart, whatever numbers a process gives them
  int major = 0, minor = 0;  // compute capability
  int64_t memory_bytes = 0;
  int64_t l2_bytes = 0;
  int processors = 0;
};

// What the CUDA half found on this machine. Without the CUDA backend there are no devices, and `detail` has the reason.
struct CudaDevices {
  std::vector<CudaDevice> devices;
  std::string detail;  // names of the devices, or why there are none
  int count() const { return int(devices.size()); }
};
CudaDevices find_cuda_devices();

// Versions as CUDA writes them (13000 is 13.0, 0 is none). `driver` is the newest CUDA that the driver serves.
struct CudaVersions {
  int runtime = 0, driver = 0;
};
CudaVersions cuda_versions();

class KernelTimes;
class Stream;

// A place in a stream's queue that other streams and the host can wait for. Owns the vendor's event; move-only. On the
// CPU work is done before it can be marked, so every event has been reached.
class Event {
 public:
  enum class Timing : uint8_t { off, on };  // timed events cost more
  explicit Event(Device device, Timing timing = Timing::off);
  Event(Event&& other) noexcept : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}
  Event& operator=(Event&&) = delete;
  ~Event();

  void record(Stream& stream);
  bool reached() const;  // whether everything before the last record() is done; true before the first
  void synchronize();    // returns when that is so
  // Seconds between two events recorded with timing, both of which must have been reached.
  double seconds_since(const Event& begin) const;
  void* handle() const { return handle_; }

 private:
  Device device_;
  void* handle_ = nullptr;
};

// Ordered work on one device. On the CPU the caller does the work before a launch returns, with up to `threads`
// threads; results never depend on `threads`. Owns its device queue; move-only.
class Stream {
 public:
  static Stream cpu(int threads = 1);
  // Urgent work runs before anything else that waits on the device. Throws Error(device) when the build or the machine
  // has no such device.
  static Stream cuda(int index, bool urgent = false);
  // A CPU stream on which launch() runs nothing and scratch() only counts: forecasts of memory work with it.
  static Stream rehearsal(int threads = 1);

  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&&) = delete;
  ~Stream();

  Device device() const { return device_; }
  int threads() const { return threads_; }
  void* handle() const { return handle_; }  // the vendor's queue; null on the CPU
  void synchronize();                       // returns when everything queued is done
  bool idle() const;                        // whether that is so already; throws what the device reports
  void wait(const Event& event);            // what is queued from here on comes after `event`
  bool rehearses() const { return rehearses_; }

  // Has launch() enter how long each kernel takes; null: none. For CPU streams, whose kernels are done when they
  // return.
  void time_kernels(KernelTimes* times) { kernel_times_ = times; }
  KernelTimes* kernel_times() const { return kernel_times_; }

  // Memory for the next kernel and no longer: 64-byte aligned, contents undefined; null in a rehearsal. A stream has
  // one piece, which grows to the most that any kernel asked for, so scratch_bytes() is both what the stream holds and
  // the peak. Throws Error(device) when memory runs out.
  std::byte* scratch(int64_t bytes) {
    if (bytes > scratch_bytes_) [[unlikely]]
      grow_scratch(bytes);
    return scratch_;
  }
  int64_t scratch_bytes() const { return scratch_bytes_; }

  // State that a vendor's library keeps between calls on this stream (primitives, handles): one T per stream, made on
  // first use.
  template <class T>
  T& state() {
    static const char key = 0;  // its address is T's identity
    for (auto& [known, value] : states_)
      if (known == &key) return *static_cast<T*>(value.get());
    states_.emplace_back(&key, std::make_shared<T>());
    return *static_cast<T*>(states_.back().second.get());
  }

 private:
  Stream(Device device, int threads, void* handle) : device_(device), threads_(threads), handle_(handle) {}
  void grow_scratch(int64_t bytes);
  void release_scratch() noexcept;

  Device device_;
  bool rehearses_ = false;
  KernelTimes* kernel_times_ = nullptr;
  int threads_;
  void* handle_;
  std::byte* scratch_ = nullptr;
  int64_t scratch_bytes_ = 0;
  std::vector<std::pair<const void*, std::shared_ptr<void>>> states_;
};

}  // namespace lockstep
