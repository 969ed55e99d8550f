// SPDX-License-Identifier: Apache-2.0
// What can be told about a kernel from its PTX and from what ptxas prints about it, and what a table expects of it.
#pragma once

#include <map>
#include <regex>
#include <string>
#include <vector>

namespace lockstep::device_code {

// What the assembler made of a kernel for one architecture; bytes and registers are those of a thread.
struct Resources {
  int registers = 0, stack_bytes = 0, spill_store_bytes = 0, spill_load_bytes = 0;
};

struct Kernel {
  std::string name;                            // without namespaces and parameters: "gather_kernel<MaskAt>"
  int vector_loads = 0, vector_stores = 0;     // 128-bit accesses to global memory
  int other_loads = 0;                         // narrower ones
  int generic_accesses = 0;                    // of which the compiler does not know that they go to global memory
  int fused_operations = 0;                    // contractions, unless the text calls std::fma
  std::vector<std::string> loose_arithmetic;   // instructions that may round otherwise than the CPU's
  std::map<std::string, Resources> resources;  // by architecture: "sm_90"
};

// One line of the table: what is expected of the kernels whose names match.
struct Row {
  static constexpr int kOperands = -1;  // as many as the operands in the kernel's name ask for
  static constexpr int kAny = -1;
  int line = 0;
  int loads = 0, stores = 0, registers = 0;
  int stack_bytes = 0;      // of arrays that are indexed at run time
  bool fused_math = false;  // std::fma is called
  int other_loads = kAny;   // at most
  std::string pattern;
  std::regex regex;
  bool used = false;
};
struct Table {
  std::string file;
  std::vector<Row> rows;
};
using Findings = std::vector<std::string>;

std::string read_file(const std::string& path);

// The kernels in `ptx`, with what `ptxas_log` (ptxas -v, for any number of architectures) says about them.
std::vector<Kernel> kernels_of(const std::string& ptx, const std::string& ptxas_log);

Table read_table(const std::string& path);
std::string place(const Table&, const Row&);

// Compares with the first row that matches and marks it as used. What every kernel has to keep: no spills, no generic
// accesses, no arithmetic that is rounded otherwise than on the CPU, no contraction.
void compare(Table&, const Kernel&, const std::string& source, Findings&);

std::string to_string(const Kernel&);

}  // namespace lockstep::device_code
