// SPDX-License-Identifier: Apache-2.0
// Looks at the device code of this build without a GPU: compiles every file that nvcc compiles, with the flags of the
// build, to PTX and to machine code, and compares each kernel with the table in device_code.txt.
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
  std::string file, command;
};

std::string name_of(const Source& source) { return std::filesystem::path(source.file).stem().string(); }

// What nvcc compiles in this build, with the architectures and outputs taken out of the commands.
std::vector<Source> sources_of(const std::string& compile_commands) {
  const std::regex outputs(R"RE( "?(--generate-code=|-gencode[ =]|-arch=)[^ "]+"?| -o [^ ]+| -c(?= ))RE");
  std::vector<Source> sources;
  for (const auto& entry : nlohmann::json::parse(read_file(compile_commands))) {
    const Source source{entry.at("file"), entry.at("command")};
    if (!source.file.ends_with(".cu")) continue;
    sources.push_back({source.file, std::regex_replace(source.command, outputs, "")});
  }
  return sources;
}

std::vector<Kernel> compile(const Source& source, const std::filesystem::path& work) {
  const std::filesystem::path folder = work / name_of(source);
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const std::string log = (folder / "ptxas.log").string();
  const std::string command = source.command +
                              " --generate-code=arch=compute_80,code=sm_80 --generate-code=arch=compute_90,code=sm_90"
                              " -fatbin -Xptxas=-v --keep --keep-dir '" +
                              folder.string() + "' -o '" + (folder / "out.fatbin").string() + "' >'" + log + "' 2>&1";
  if (std::system(command.c_str()) != 0)
    throw std::runtime_error("nvcc failed on " + source.file + ":\n" + read_file(log));
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().string().ends_with("compute_90.ptx")) return kernels_of(read_file(entry.path()), read_file(log));
  throw std::runtime_error("nvcc left no PTX of " + source.file + " in " + folder.string());
}

// Compiles two files at a time: the result of each, or what went wrong with it, at the file's place.
struct Result {
  std::vector<Kernel> kernels;
  std::string error;
};
std::vector<Result> compile_all(const std::vector<Source>& sources, const std::filesystem::path& work) {
  std::vector<Result> results(sources.size());
  std::atomic<size_t> next = 0;
  const auto work_off = [&] {
    for (size_t i = next++; i < sources.size(); i = next++) try {
        results[i].kernels = compile(sources[i], work);
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
  const std::vector<Result> results = compile_all(sources, work);
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
