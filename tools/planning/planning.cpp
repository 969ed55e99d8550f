// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/planning.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kernels/device/known_name.h"
#include "tools/planning/model_file.h"

namespace lockstep {
namespace {

constexpr int64_t kMostRanks = 10'000'000;

bool is_file(const std::string& model) { return model.ends_with(".toml") || model.find('/') != std::string::npos; }

// Without a mesh all ranks are on the batch axis; the other axes that layout rules name have one rank.
std::vector<MeshAxis> default_mesh(int64_t ranks, const LayoutMap& layouts) {
  std::vector<MeshAxis> mesh = {{"data", int(ranks)}};
  for (const LayoutRule& rule : layouts.rules())
    for (const std::string& axis : rule.layout.axes)
      if (!axis.empty() && std::ranges::find(mesh, axis, &MeshAxis::name) == mesh.end()) mesh.push_back({axis, 1});
  return mesh;
}

std::vector<MeshAxis> read_mesh(const PlanningOptions& options, const LayoutMap& layouts) {
  check(options.ranks >= 0 && options.ranks <= kMostRanks, ErrorCode::usage,
        [&] { return str("--ranks: expected 1 to ", kMostRanks, ", got ", options.ranks); });
  if (options.mesh.empty()) return default_mesh(options.ranks > 0 ? options.ranks : 2, layouts);
  return parse_mesh(options.mesh);
}

void check_ranks(const PlanningOptions& options, const Distribution& distribution) {
  check(options.ranks == 0 || options.ranks == distribution.ranks() || !options.memory_limit.empty(), ErrorCode::usage,
        [&] {
          return str("--ranks ", options.ranks, " and --mesh ", options.mesh, ", which has ", distribution.ranks(),
                     " ranks, contradict each other; give one of them");
        });
}

void check_options(const PlanningOptions& options) {
  check(options.indivisible == "error" || options.indivisible == "replicate", ErrorCode::usage,
        [&] { return str("--indivisible: expected error or replicate, got '", options.indivisible, "'"); });
  check(options.device.empty() || options.device == "cpu" || options.device == "cuda", ErrorCode::usage,
        [&] { return str("--device: expected cpu or cuda, got '", options.device, "'"); });
  check(options.zero.value_or(0) >= 0 && options.zero.value_or(0) <= 3, ErrorCode::usage,
        [&] { return str("--zero: expected a stage from 0 to 3, got ", *options.zero); });
  check(options.accumulation.value_or(1) >= 1 && options.accumulation.value_or(1) <= 1'000'000, ErrorCode::usage,
        [&] { return str("--accumulation: expected 1 to 1000000 micro-batches, got ", *options.accumulation); });
  check(options.batch >= 0 && options.batch <= 1'000'000'000, ErrorCode::usage,
        [&] { return str("--batch: expected 1 to 1000000000 samples, got ", options.batch); });
  check(options.ranks_per_node >= 0 && options.ranks_per_node <= kMostRanks, ErrorCode::usage,
        [&] { return str("--ranks-per-node: expected 1 to ", kMostRanks, ", got ", options.ranks_per_node); });
  check(options.device != "cpu" || options.zero.value_or(0) == 0, ErrorCode::usage, [&] {
    return str("--zero ", *options.zero,
               " with --device cpu: the CPU ranks of a node share one copy already; use --device cuda");
  });
}

}  // namespace

int64_t parse_bytes(const std::string& option, const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string unit(end, text.data() + text.size());
  std::erase(unit, ' ');
  for (char& c : unit) c = char(std::tolower(static_cast<unsigned char>(c)));
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},      {"b", 1},        {"kb", 1e3},     {"mb", 1e6},     {"gb", 1e9},
      {"tb", 1e12}, {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}, {"tib", 0x1p40}};
  const auto known = std::find_if(std::begin(kUnits), std::end(kUnits), [&](const auto& u) { return u.first == unit; });
  check(error == std::errc() && known != std::end(kUnits) && value > 0 && value * known->second <= 0x1p50,
        ErrorCode::usage,
        [&] { return str(option, ": expected a size such as 80GiB or 512MB, up to 1 PiB, got '", text, "'"); });
  return std::max<int64_t>(1, std::llround(value * known->second));
}

Planning::Planning(const PlanningOptions& options) : options_(options) {
  check_options(options);
  check_plan_options(options.plan);
  read_model(options);
  optimizer_ = choose_optimizers(options.plan, variables_);
  distribution_ = model_parallel(read_mesh(options, layouts_), layouts_);
  check_ranks(options, distribution_);
  const bool own_memory = options.device == "cuda" ||
                          (options.device.empty() && (options.zero.value_or(0) > 0 || !model_ || !layouts_.empty()));
  copies_ = own_memory ? Copies::per_rank : Copies::per_node;
  profile_ = machine_profile(options.profile.empty() ? (own_memory ? "h200" : "cpu") : options.profile);
  read_workload(options);
  if (!options.memory_limit.empty()) search_best(options);
}

void Planning::read_model(const PlanningOptions& options) {
  if (is_file(options.plan.model)) {
    DescribedModel described = read_model_file(options.plan.model);
    name_ = std::move(described.name);
    variables_ = std::move(described.variables);
    workload_ = described.workload;
    layouts_ = std::move(described.layouts);
  } else {
    model_ = make_model(options.plan.model, {.dropout = float(options.plan.dropout)});
    name_ = model_->name;
    variables_ = model_->variables;
    workload_ = {.batch = 128, .flops_per_sample = double(model_->flops_per_sample())};
  }
  if (options.rules.empty()) return;
  const LayoutMap rules = read_rules_file(options.rules);
  for (const LayoutRule& rule : rules.rules()) layouts_.add(rule.pattern, rule.layout, rule.where);
}

void Planning::read_workload(const PlanningOptions& options) {
  if (options.batch > 0) workload_.batch = options.batch;
  if (!model_) return;
  const int64_t leaves = std::max<int64_t>(input().virtual_ranks, distribution_.size(distribution_.batch_axis));
  const int64_t samples = std::max<int64_t>(1, workload_.batch / leaves);
  const int64_t micro_batches = options.accumulation.value_or(1);
  const ModelSettings settings;
  leaf_ = {samples,
           rehearse_leaf(
               variables_, [&](Context& context, const LeafInput& leaf) { return model_->forward(context, leaf); },
               {{settings.height, settings.width, 1}, samples, micro_batches}, 1)};
  const int64_t at_once = (samples + micro_batches - 1) / micro_batches;
  workload_.activation_bytes_per_sample = (leaf_->memory.activations + at_once - 1) / at_once;
}

PlannerInput Planning::input() const {
  return {.variables = variables_,
          .optimizer = *optimizer_,
          .ranks = distribution_.ranks(),
          .reduce = parse_reduce(options_.plan.reduce),
          .reduce_dtype = parse_reduce_dtype(options_.plan.reduce_dtype),
          .virtual_ranks = int(options_.plan.virtual_ranks),
          .bucket_bytes = bucket_bytes(options_.plan),
          .distribution = distribution_,
          .zero = int(options_.zero.value_or(0)),
          .accumulation = options_.accumulation.value_or(1),
          .copies = copies_,
          .ranks_per_node = options_.ranks_per_node,
          .replicate_indivisible = options_.indivisible == "replicate",
          .stochastic_rounding = parse_precision(options_.plan.precision).stochastic_rounding,
          .workload = workload_};
}

void Planning::search_best(const PlanningOptions& options) {
  memory_limit_ = parse_bytes("--memory-limit", options.memory_limit);
  const int64_t ranks = options.ranks > 0 ? options.ranks : distribution_.ranks();
  std::vector<std::string> axes;
  for (const MeshAxis& axis : distribution_.mesh) axes.push_back(axis.name);
  space_.meshes = mesh_factorisations(ranks, axes);
  distribution_.mesh = space_.meshes.back();
  space_.zero = options.zero ? std::vector<int>{int(*options.zero)} : std::vector<int>{0, 1, 2, 3};
  space_.accumulation = {options.accumulation.value_or(1)};
  if (!options.accumulation && workload_.batch > 0) space_.accumulation = {1, 2, 4, 8, 16, 32, 64};
  space_.bucket_bytes = {bucket_bytes(options.plan)};
  if (!options.bucket_given) space_.bucket_bytes = {1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20};
  search_ = search_plans(input(), space_, memory_limit_, profile_);
}

std::string Planning::report() const { return search_report(input(), space_, *search_, memory_limit_, profile_); }

Plan Planning::plan() const {
  if (!search_ || search_->fitting.empty()) return make_plan(input());
  return make_plan(planner_input(input(), search_->fitting.front()));
}

}  // namespace lockstep
