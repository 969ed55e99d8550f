// SPDX-License-Identifier: Apache-2.0
#include "tools/record/run_record.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/files/json_reader.h"
#include "runtime/state/element_text.h"
#include "runtime/state/ledger.h"

namespace lockstep {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string digits_of(uint64_t hash) { return fmt::format("{:016x}", hash); }

// The lines of steps before `first_step`, behind the header, which has to be this one.
std::vector<std::string> lines_to_keep(const std::string& path, const std::string& header, int64_t first_step) {
  std::vector<std::string> lines;
  std::error_code ignored;
  if (first_step == 0 || !std::filesystem::is_regular_file(path, ignored)) return lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line) && !file.eof();) {
    if (lines.empty()) {
      check(line == header, ErrorCode::data, [&] {
        return str("--record '", path,
                   "' does not begin as the record of this run; name the one of the run that is "
                   "resumed, or a new one");
      });
      lines.push_back(line);
      continue;
    }
    const Json json = parse_json(line, "'" + path + "'");
    if (JsonReader(json, "'" + path + "'").number("step", 0, INT64_MAX) >= first_step) break;
    lines.push_back(line);
  }
  return lines;
}

}  // namespace

RunRecord::RunRecord(Communicator& ranks, const VariableStore& variables, const std::string& path, int64_t first_step,
                     std::chrono::milliseconds patience)
    : ranks_(ranks), variables_(variables) {
  if (ranks.rank() != 0) return;
  std::vector<std::string> lines = lines_to_keep(path, header(), first_step);
  if (lines.empty()) lines.push_back(header());
  file_.emplace(path, patience);
  for (const std::string& line : lines) file_->write_line(line);
}

std::string RunRecord::header() const {
  OrderedJson trained = OrderedJson::array(), names = OrderedJson::array();
  for (const PlannedVariable& variable : variables_.plan().variables) {
    if (variable.in_gradient_sync) trained.push_back(variable.path);
    if (!differs_by_rank(variable)) names.push_back(variable.path);
  }
  return OrderedJson{{"format", kRecordFormat}, {"version", 1}, {"trained", trained}, {"variables", names}}.dump();
}

void RunRecord::write(int64_t step, uint64_t data_hash, const std::vector<PartFacts>& mine) {
  std::string text;
  for (const PartFacts& facts : mine) {
    OrderedJson gradients = OrderedJson::array();
    for (const uint64_t hash : facts.gradients) gradients.push_back(digits_of(hash));
    const OrderedJson part{{"part", facts.part},
                           {"rank", ranks_.rank()},
                           {"samples", facts.samples},
                           {"loss", hex_float(facts.loss)},
                           {"gradients", gradients}};
    text += (text.empty() ? "" : ",") + part.dump();
  }
  std::string parts;
  for (const std::string& each : ranks_.all_gather_bytes(text))
    parts += (parts.empty() || each.empty() ? "" : ",") + each;
  if (!file_) return;
  OrderedJson state = OrderedJson::array();
  for (const PlannedVariable& variable : variables_.plan().variables)
    if (!differs_by_rank(variable)) state.push_back(digits_of(variable_hash(variables_, variable)));
  file_->write_line(fmt::format(R"({{"step":{},"ranks":{},"data":"{}","parts":[{}],"state":{}}})", step, ranks_.size(),
                                digits_of(data_hash), parts, state.dump()));
}

}  // namespace lockstep
