// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/device/device_timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/device/check.h"
#include "kernels/device/graph.h"
#include "kernels/device/transfer.h"
#include "kernels/reduction.h"

namespace lockstep {
namespace {

constexpr int kCallsBeforeRecording = 3;  // memory and plans of products exist after these
constexpr int kFewestRounds = 3;
// The duration of a batch of warm calls: far longer than the clock's resolution of half a microsecond.
constexpr double kBatchSeconds = 200e-6;
constexpr int kMostCalls = 64;

int64_t cache_bytes(const Stream& stream) {
  check(stream.device().kind == DeviceKind::cuda, ErrorCode::usage,
        "a GPU's clock times the work of a GPU; this stream runs on the CPU");
  return find_cuda_devices().devices.at(size_t(stream.device().index)).l2_bytes;
}

std::string version(int cuda) { return str(cuda / 1000, ".", cuda % 1000 / 10); }

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

std::string describe_gpu(int index) {
  const CudaDevice gpu = find_cuda_devices().devices.at(size_t(index));
  const CudaVersions versions = cuda_versions();
  return str(gpu.name.starts_with("Emulated") ? "emulated: not a measurement of a GPU; " : "", gpu.name, ", CUDA ",
             version(versions.runtime), ", driver for CUDA ", version(versions.driver));
}

// One launch for a batch of calls.
class DeviceTimer::Recorded {
 public:
  Recorded(Stream& stream, const DeviceCall& call, int calls)
      : before_(call.before), calls_(calls), graph_(Graph::record(stream, [&] {
          for (int i = 0; i < calls; ++i) call.work();
        })) {}
  int calls() const { return calls_; }
  void prepare() const {
    if (before_) before_();
  }
  void launch(Stream& stream) { graph_.launch(stream); }

 private:
  std::function<void()> before_;
  int calls_;
  Graph graph_;
};

DeviceTimer::DeviceTimer(Stream& stream, const DeviceTimingOptions& options)
    : stream_(stream),
      options_(options),
      pool_(stream.device()),
      other_(pool_, std::max<int64_t>(1 << 10, 2 * cache_bytes(stream)), Purpose::scratch),
      sum_(pool_, size_of(DType::f32), Purpose::scratch),
      begin_(stream.device(), Event::Timing::on),
      end_(stream.device(), Event::Timing::on) {
  check(options.rounds > 0, ErrorCode::usage, [&] { return str("expected at least one round, got ", options.rounds); });
  const View other = other_.view(DType::f32, Shape{other_.bytes() / size_of(DType::f32)});
  clear(stream_, other);
  read_through_cache();  // recorded calls hold the stream's scratch, which must not grow any more
}

void DeviceTimer::read_through_cache() {
  launch(stream_, Sum{.out = sum_.view(DType::f32, Shape{1}),
                      .in = other_.view(DType::f32, Shape{other_.bytes() / size_of(DType::f32)})});
}

// The work queued ahead of begin_ keeps the device busy until the host has queued all of the sample.
double DeviceTimer::sample(Recorded& recorded) {
  recorded.prepare();
  if (options_.cache == Cache::cold) {
    read_through_cache();
  } else {
    recorded.launch(stream_);
  }
  begin_.record(stream_);
  recorded.launch(stream_);
  end_.record(stream_);
  end_.synchronize();
  return end_.seconds_since(begin_) / recorded.calls();
}

InterleavedTimes DeviceTimer::time(std::span<const DeviceCall> alternatives) {
  // All calls run before recording, which holds the stream's scratch: it must not grow any more.
  std::vector<int> calls;
  for (const DeviceCall& call : alternatives) {
    for (int i = 0; i < kCallsBeforeRecording; ++i) call.work();
    begin_.record(stream_);
    call.work();
    end_.record(stream_);
    end_.synchronize();
    const double batch = kBatchSeconds / std::max(1e-9, end_.seconds_since(begin_));
    calls.push_back(options_.cache == Cache::cold ? 1 : int(std::clamp(std::ceil(batch), 1.0, double(kMostCalls))));
  }
  std::vector<Recorded> recorded;
  for (size_t i = 0; i < alternatives.size(); ++i) recorded.emplace_back(stream_, alternatives[i], calls[i]);
  std::vector<std::vector<double>> seconds(alternatives.size());
  const double start = now();
  for (int round = -options_.warmup_rounds; round < options_.rounds; ++round) {
    if (round >= kFewestRounds && now() - start > options_.most_seconds) break;
    for (size_t i = 0; i < recorded.size(); ++i) {
      const double taken = sample(recorded[i]);
      if (round >= 0) seconds[i].push_back(taken);
    }
  }
  return InterleavedTimes(std::move(seconds));
}

}  // namespace lockstep
