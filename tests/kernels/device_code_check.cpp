// SPDX-License-Identifier: Apache-2.0
// Looks at the device code of this build without a GPU: has ptxas tell what it makes of the PTX of every file that nvcc
// compiles, and compares each kernel with the table in device_code.txt.
// usage: device_code_check COMPILE_COMMANDS.json TABLE WORK_FOLDER
// Exit code 0: every kernel is as the table says; 1: findings, or nothing to look at; 2: wrong usage.
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "tests/kernels/device_code.h"

namespace lockstep::device_code {
namespace {

struct Source {
  std::string file, command;   // the command without architectures and outputs
  std::filesystem::path kept;  // where nvcc left what it made on the way, or empty
};

std::string name_of(const Source& source) { return std::filesystem::path(source.file).stem().string(); }

// What nvcc compiles in this build.
std::vector<Source> sources_of(const std::string& compile_commands) {
  const std::regex keep_dir(R"RE( --keep --keep-dir=([^ ]+))RE");
  const std::regex outputs(R"RE( "?(--generate-code=|-gencode[ =]|-arch=)[^ "]+"?| -o [^ ]+| -c(?= ))RE");
  std::vector<Source> sources;
  for (const auto& entry : nlohmann::json::parse(read_file(compile_commands))) {
    const std::string file = entry.at("file"), command = entry.at("command");
    if (!file.ends_with(".cu")) continue;
    std::smatch match;
    const std::string kept = std::regex_search(command, match, keep_dir) ? match[1].str() : "";
    sources.push_back({file, std::regex_replace(std::regex_replace(command, keep_dir, ""), outputs, ""), kept});
  }
  return sources;
}

void run(const std::string& command, const std::string& log) {
  if (std::system((command + " >>'" + log + "' 2>&1").c_str()) != 0)
    throw std::runtime_error("failed: " + command + "\n" + read_file(log));
}

// The PTX that the build has kept; where it was built for other architectures, it is made here. One is enough: no
// source asks for the architecture (a rule of tools/cmake/check_layers.cmake), so that nvcc makes the same PTX for all.
std::string ptx_of(const Source& source, const std::filesystem::path& folder, const std::string& log) {
  const std::string name = name_of(source) + ".compute_80.ptx";
  if (std::filesystem::exists(source.kept / name)) return source.kept / name;
  run(source.command + " -ptx -arch=compute_80 -o '" + (folder / name).string() + "'", log);
  return folder / name;
}

std::vector<Kernel> kernels_in(const Source& source, const std::filesystem::path& work) {
  const std::filesystem::path folder = work / name_of(source);
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const std::string log = (folder / "ptxas.log").string();
  const std::string nvcc = source.command.substr(0, source.command.find(' '));
  const std::string ptx = ptx_of(source, folder, log);
  for (const std::string architecture : {"80", "90"}) {
    run(nvcc + " -cubin -arch=sm_" + architecture + " -Xptxas=-v -o '" + (folder / "cubin").string() + "' '" + ptx +
            "'",
        log);
  }
  return kernels_of(read_file(ptx), read_file(log));
}

// Looks at two files at a time: the result of each, or what went wrong with it, at the file's place.
struct Result {
  std::vector<Kernel> kernels;
  std::string error;
};
std::vector<Result> look_at_all(const std::vector<Source>& sources, const std::filesystem::path& work) {
  std::vector<Result> results(sources.size());
  std::atomic<size_t> next = 0;
  const auto work_off = [&] {
    for (size_t i = next++; i < sources.size(); i = next++) try {
        results[i].kernels = kernels_in(sources[i], work);
      } catch (const std::exception& error) {
        results[i].error = error.what();
      }
  };
  std::jthread other(work_off);
  work_off();
  other.join();
  return results;
}

int check(const std::string& compile_commands, const std::string& table_file, const std::string& work) {
  const std::vector<Source> sources = sources_of(compile_commands);
  const std::vector<Result> results = look_at_all(sources, work);
  Table table = read_table(table_file);
  Findings findings;
  size_t count = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    std::cout << name_of(sources[i]) << "\n";
    if (!results[i].error.empty()) findings.push_back(results[i].error);
    for (const Kernel& kernel : results[i].kernels) {
      std::cout << to_string(kernel) << "\n";
      compare(table, kernel, name_of(sources[i]), findings);
    }
    count += results[i].kernels.size();
  }
  for (const Row& row : table.rows)
    if (!row.used)
      findings.push_back(place(table, row) + ": no kernel has a name like '" + row.pattern + "'; delete the row");
  if (count == 0) findings.push_back("found no kernel that nvcc compiles in " + compile_commands);
  for (const std::string& finding : findings) std::cout << "FINDING " << finding << "\n";
  std::cout << count << " kernels of " << sources.size() << " files, " << findings.size() << " findings\n";
  return findings.empty() ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace
}  // namespace lockstep::device_code

int main(int count, char** arguments) {
  if (count != 4) {
    std::cerr << "usage: device_code_check COMPILE_COMMANDS.json TABLE WORK_FOLDER\n";
    return 2;
  }
  try {
    return lockstep::device_code::check(arguments[1], arguments[2], arguments[3]);
  } catch (const std::exception& error) {
    std::cerr << "device_code_check: error: " << error.what() << "\n";
    return EXIT_FAILURE;
  }
}
