// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/device_code.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>

namespace lockstep::device_code {
namespace {

// "elementwise_kernel<IntoInterval, InOut<float> >" of a mangled name.
std::string readable(const std::string& mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status),
                                                    std::free);
  std::string name = status == 0 ? text.get() : mangled;
  name = std::regex_replace(name, std::regex(R"(^void |lockstep::|\(anonymous namespace\)::|cuda::)"), "");
  return name.substr(0, name.find('('));
}

bool is_vector_of_128_bits(const std::string& instruction) {
  return std::regex_search(instruction, std::regex(R"(\.v4\.[bfsu]32|\.v2\.[bfsu]64)"));
}

void count_access(Kernel& kernel, const std::string& instruction) {
  if (!std::regex_search(instruction, std::regex(R"(\.(global|shared|local|param|const)\b)")))
    ++kernel.generic_accesses;
  if (instruction.find(".global") == std::string::npos) return;
  const bool is_load = instruction.starts_with("ld");
  if (is_vector_of_128_bits(instruction)) {
    (is_load ? kernel.vector_loads : kernel.vector_stores) += 1;
  } else {
    kernel.other_loads += is_load;
  }
}

// The same bits as on the CPU take one rounding to nearest for each operation, and no flush of subnormals.
void look_at_arithmetic(Kernel& kernel, const std::string& instruction) {
  const bool rounds = std::regex_search(instruction, std::regex(R"(^(add|sub|mul|div|rcp|sqrt|fma|mad)\.)"));
  const bool loose = std::regex_search(instruction, std::regex(R"(\.(approx|full|ftz)\b)"));
  if (loose || (rounds && instruction.find(".rn") == std::string::npos)) kernel.loose_arithmetic.push_back(instruction);
  if (std::regex_search(instruction, std::regex(R"(^(fma|mad)\.)"))) ++kernel.fused_operations;
}

Kernel kernel_of(const std::string& mangled, const std::string& body) {
  Kernel kernel;
  kernel.name = readable(mangled);
  const std::regex access(R"(\s(?:ld|ldu|st|atom|red)\.[\w.:]+)"), arithmetic(R"(\s[a-z0-9]+\.[a-z0-9.]*f(?:32|64)\b)");
  for (std::sregex_iterator match(body.begin(), body.end(), access), end; match != end; ++match)
    count_access(kernel, match->str().substr(1));
  for (std::sregex_iterator match(body.begin(), body.end(), arithmetic), end; match != end; ++match)
    look_at_arithmetic(kernel, match->str().substr(1));
  return kernel;
}

// By mangled name and architecture.
std::map<std::string, std::map<std::string, Resources>> resources_in(const std::string& log) {
  const std::regex begins(R"(Compiling entry function '(\w+)' for '(\w+)')");
  const std::regex memory(R"((\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads)");
  const std::regex registers(R"(Used (\d+) registers)");
  std::map<std::string, std::map<std::string, Resources>> all;
  Resources* current = nullptr;
  std::istringstream lines(log);
  std::smatch match;
  for (std::string line; std::getline(lines, line);) {
    if (std::regex_search(line, match, begins)) current = &all[match[1]][match[2]];
    if (!current) continue;
    if (std::regex_search(line, match, registers)) current->registers = std::stoi(match[1]);
    if (!std::regex_search(line, match, memory)) continue;
    current->stack_bytes = std::stoi(match[1]);
    current->spill_store_bytes = std::stoi(match[2]);
    current->spill_load_bytes = std::stoi(match[3]);
  }
  return all;
}

// 128-bit accesses of an elementwise kernel: all operands are moved in packs in which the narrowest takes 16 bytes.
int moves_of_operands(const std::string& kernel, const std::regex& kinds) {
  const std::map<std::string, int> bytes = {{"float", 4}, {"bfloat16", 2}, {"float16", 2}};
  const std::regex operand(R"(\b(In|Out|InOut)<(\w+)>)");
  int narrowest = 16, asked = 0;
  for (std::sregex_iterator match(kernel.begin(), kernel.end(), operand), end; match != end; ++match)
    narrowest = std::min(narrowest, bytes.at((*match)[2]));
  for (std::sregex_iterator match(kernel.begin(), kernel.end(), operand), end; match != end; ++match)
    if (std::regex_match((*match)[1].str(), kinds)) asked += bytes.at((*match)[2]) / narrowest;
  return asked;
}

void compare_count(const std::string& what, int expected, int got, const std::string& kernel, Findings& findings) {
  if (expected == got) return;
  findings.push_back(kernel + ": expected " + std::to_string(expected) + " " + what + ", got " + std::to_string(got));
}

int read_count(const std::string& text) { return text == "operands" ? Row::kOperands : std::stoi(text); }

}  // namespace

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<Kernel> kernels_of(const std::string& ptx, const std::string& ptxas_log) {
  const std::regex entry(R"(\.entry (\w+)\()");
  const auto resources = resources_in(ptxas_log);
  std::vector<Kernel> kernels;
  for (std::sregex_iterator match(ptx.begin(), ptx.end(), entry), end; match != end;) {
    const std::string mangled = (*match)[1];
    const auto begin = (*match)[0].second;
    const auto next = std::next(match) == end ? ptx.end() : std::next(match)->prefix().second;
    kernels.push_back(kernel_of(mangled, std::string(begin, next)));
    const auto found = resources.find(mangled);
    if (found == resources.end()) throw std::runtime_error("ptxas says nothing about " + kernels.back().name);
    kernels.back().resources = found->second;
    ++match;
  }
  return kernels;
}

Table read_table(const std::string& path) {
  Table table{.file = path, .rows = {}};
  std::istringstream lines(read_file(path));
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string loads, stores, word;
    Row row;
    row.line = number;
    words >> loads >> stores >> row.registers;
    while (words >> word && (word == "fma" || word.starts_with("stack=") || word.starts_with("other="))) {
      if (word == "fma") row.fused_math = true;
      if (word.starts_with("other=")) row.other_loads = std::stoi(word.substr(6));
      if (word.starts_with("stack=")) row.stack_bytes = std::stoi(word.substr(6));
    }
    std::getline(words, row.pattern);
    row.pattern = word + row.pattern;
    if (row.pattern.empty())
      throw std::runtime_error(place(table, row) +
                               ": expected LOADS STORES REGISTERS [fma] [stack=BYTES] [other=LOADS] PATTERN, got '" +
                               line + "'");
    row.loads = read_count(loads);
    row.stores = read_count(stores);
    row.regex = std::regex(row.pattern);
    table.rows.push_back(row);
  }
  return table;
}

std::string place(const Table& table, const Row& row) { return table.file + ":" + std::to_string(row.line); }

void compare(Table& table, const Kernel& kernel, const std::string& source, Findings& findings) {
  const std::string where = source + ": " + kernel.name;
  const auto row = std::find_if(table.rows.begin(), table.rows.end(),
                                [&](const Row& r) { return std::regex_search(kernel.name, r.regex); });
  if (row == table.rows.end()) {
    findings.push_back(where + ": no row of " + table.file + " matches; add one");
    return;
  }
  row->used = true;
  const auto expected = [&](int count, const char* kinds) {
    return count == Row::kOperands ? moves_of_operands(kernel.name, std::regex(kinds)) : count;
  };
  compare_count("128-bit loads", expected(row->loads, "In|InOut"), kernel.vector_loads, where, findings);
  compare_count("128-bit stores", expected(row->stores, "Out|InOut"), kernel.vector_stores, where, findings);
  if (row->other_loads != Row::kAny && kernel.other_loads > row->other_loads)
    findings.push_back(where + ": expected at most " + std::to_string(row->other_loads) + " narrower loads, got " +
                       std::to_string(kernel.other_loads) +
                       "; what is the same for all elements is loaded once a thread");
  compare_count("generic accesses", 0, kernel.generic_accesses, where, findings);
  if (!kernel.loose_arithmetic.empty())
    findings.push_back(where + ": " + std::to_string(kernel.loose_arithmetic.size()) +
                       " instructions need not round as on the CPU, the first is " + kernel.loose_arithmetic[0]);
  if (!row->fused_math) compare_count("fused multiply-adds", 0, kernel.fused_operations, where, findings);
  for (const auto& [architecture, r] : kernel.resources) {
    const std::string here = where + " on " + architecture;
    if (r.registers > row->registers)
      findings.push_back(here + ": expected at most " + std::to_string(row->registers) + " registers, got " +
                         std::to_string(r.registers));
    if (r.stack_bytes > row->stack_bytes || r.spill_store_bytes + r.spill_load_bytes > 0)
      findings.push_back(here + ": expected at most " + std::to_string(row->stack_bytes) +
                         " bytes of stack and no spills, got " + std::to_string(r.stack_bytes) +
                         " bytes of stack, spill stores of " + std::to_string(r.spill_store_bytes) +
                         " and spill loads of " + std::to_string(r.spill_load_bytes) + " bytes");
  }
}

std::string to_string(const Kernel& kernel) {
  std::ostringstream text;
  text << "  " << kernel.vector_loads << " loads, " << kernel.vector_stores << " stores";
  for (const auto& [architecture, r] : kernel.resources)
    text << ", " << r.registers << " registers on " << architecture;
  text << "  " << kernel.name;
  return text.str();
}

}  // namespace lockstep::device_code
