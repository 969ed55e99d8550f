// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "collectives/bootstrap.h"
#include "collectives/device/device_communicator.h"
#include "collectives/usable_cores.h"
#include "kernels/config.h"
#include "kernels/device/gpu_report.h"
#include "kernels/matmul.h"
#include "kernels/numerics.h"
#include "runtime/data/dataset.h"
#include "runtime/files/standard_output.h"
#include "tools/commands/command_line.h"
#include "tools/training/training_run.h"

namespace lockstep {
namespace {

struct Finding {
  std::string name, value;
};

std::string gibibytes(double bytes) { return fmt::format("{:.1f} GiB", bytes / double(1 << 30)); }

std::string shared_memory() {
  struct statvfs fs;
  if (statvfs("/dev/shm", &fs) != 0) return "no /dev/shm: ranks of one machine cannot share memory";
  return fmt::format("/dev/shm {} free of {}", gibibytes(double(fs.f_bavail) * double(fs.f_frsize)),
                     gibibytes(double(fs.f_blocks) * double(fs.f_frsize)));
}

// An mpirun that is killed cannot remove them.
std::string left_by_mpi() {
  int files = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", ignored))
    files += entry.path().filename().string().starts_with("vader_segment");
  if (files == 0) return "nothing in /dev/shm";
  return fmt::format(
      "{} files /dev/shm/vader_segment*, of running jobs or of an mpirun that was killed: remove them when "
      "no job runs",
      files);
}

std::string data_set() {
  try {
    const Dataset data = load_dataset(kDefaultDataFolder);
    return fmt::format("{}: {} training and {} test images", kDefaultDataFolder, data.train.count, data.test.count);
  } catch (const Error& error) {
    return error.what();
  }
}

std::string cuda_version(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

// `driver` is the newest CUDA that the driver serves.
std::string cuda() {
  if (!config::cuda) return "not in this build";
  const auto [runtime, driver] = cuda_versions();
  return fmt::format("kernels built in, for CUDA {}; {}", cuda_version(runtime),
                     driver == 0        ? std::string("no driver")
                     : driver < runtime ? fmt::format("the driver serves CUDA {} only: a newer one may be needed",
                                                      cuda_version(driver))
                                        : fmt::format("the driver serves CUDA {}", cuda_version(driver)));
}

std::vector<Finding> examine(const Communicator& communicator, int threads) {
  const CudaDevices found = find_cuda_devices();
  const std::vector<GpuReport> gpus = report_gpus();
  const LauncherClaim launcher = read_launcher();
  const double memory = double(sysconf(_SC_PHYS_PAGES)) * double(sysconf(_SC_PAGE_SIZE));
  const Place& place = communicator.place();
  return {
      {"version", config::version},
      {"compiler", fmt::format("{}, {}, -march={}", config::compiler, config::build_type, config::architecture)},
      {"matrix products", std::string(matmul_library())},
      {"numerics", numerics({})},
      {"mpi", config::mpi ? mpi_name() : "not in this build: ranks are threads of one process (train --ranks N)"},
      {"nccl", config::nccl ? describe_nccl() : "not in this build"},
      {"cuda", cuda()},
      {"gpus", found.count() > 0 ? found.detail : fmt::format("none: {}", found.detail)},
      {"each gpu", gpus.empty() ? "none" : gpu_lines(gpus)},
      {"gpu links", gpus.empty() ? "none" : gpu_links(gpus)},
      {"launcher", launcher.launcher.empty() ? "none" : launcher.launcher},
      {"ranks",
       fmt::format("{} over {}, {} on this node", communicator.size(), communicator.transport(), place.local_size)},
      {"cores", fmt::format("{}, {} for each rank here", describe(find_usable_cores()), threads)},
      {"memory", gibibytes(memory)},
      {"shared memory", shared_memory()},
      {"left by Open MPI", left_by_mpi()},
      {"data set", data_set()},
  };
}

constexpr size_t kValueColumn = 18;

// The lines of a value one below the other.
std::string in_column(std::string_view value) {
  std::string lines;
  for (const char c : value) {
    lines += c;
    if (c == '\n') lines.append(kValueColumn, ' ');
  }
  return lines;
}

void run_doctor(bool json, Communicator& communicator) {
  const int threads = default_threads(communicator);
  if (communicator.rank() != 0) return;
  const std::vector<Finding> findings = examine(communicator, threads);
  if (json) {
    nlohmann::json object;
    for (const Finding& finding : findings) object[finding.name] = finding.value;
    print_output(object.dump(2) + "\n");
    return;
  }
  for (const Finding& finding : findings)
    print_output(fmt::format("{:<{}}{}\n", finding.name, kValueColumn, in_column(finding.value)));
}

}  // namespace

void add_doctor_command(CLI::App& app, Command& chosen) {
  auto json = std::make_shared<bool>(false);
  CLI::App& command = *app.add_subcommand("doctor", "Say what this build and this machine have to train with");
  command.add_flag("--json", *json, "print a JSON object");
  command.callback([&chosen, json] { chosen = [json](Communicator& c) { return run_doctor(*json, c), 0; }; });
}

}  // namespace lockstep
