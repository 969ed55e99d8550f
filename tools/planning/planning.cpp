// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/planning.h"

#include <algorithm>
#include <cmath>

#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"
#include "runtime/data/dataset.h"
#include "tools/planning/model_file.h"
#include "tools/training/tasks/chosen_model.h"

namespace lockstep {
namespace {

constexpr int64_t kMostRanks = 10'000'000;

bool is_file(const std::string& model) { return model.ends_with(".toml") || model.find('/') != std::string::npos; }

// Without a mesh, all ranks are on the batch axis; the other axes that layout rules name have one rank.
std::vector<MeshAxis> default_mesh(int64_t ranks, const std::vector<LayoutRule>& rules) {
  std::vector<MeshAxis> mesh = {{"data", int(ranks)}};
  for (const LayoutRule& rule : rules)
    for (const std::string& axis : rule.layout.axes)
      if (!axis.empty() && std::ranges::find(mesh, axis, &MeshAxis::name) == mesh.end()) mesh.push_back({axis, 1});
  return mesh;
}

void check_ranks(const ForecastOptions& options, const PlanSettings& settings) {
  check(options.ranks == 0 || options.ranks == settings.ranks() || !options.memory_limit.empty(), ErrorCode::usage,
        [&] {
          return str("--ranks ", options.ranks, " and --mesh ", to_string(settings.mesh), ", which has ",
                     settings.ranks(), " ranks, contradict each other; give one of them");
        });
}

void check_options(const ForecastOptions& options) {
  const PlanSettings& plan = options.plan;
  check(options.device.empty() || options.device == "cpu" || options.device == "cuda", ErrorCode::usage,
        [&] { return str("--device: expected cpu or cuda, got '", options.device, "'"); });
  check(plan.zero >= 0 && plan.zero <= 3, ErrorCode::usage,
        [&] { return str("--zero: expected a stage from 0 to 3, got ", plan.zero); });
  check(plan.accumulation >= 1 && plan.accumulation <= 1'000'000, ErrorCode::usage,
        [&] { return str("--accumulation: expected 1 to 1000000 micro-batches, got ", plan.accumulation); });
  check(plan.workload.batch >= 0 && plan.workload.batch <= 1'000'000'000, ErrorCode::usage,
        [&] { return str("--batch: expected 1 to 1000000000 samples, got ", plan.workload.batch); });
  check(options.ranks >= 0 && options.ranks <= kMostRanks, ErrorCode::usage,
        [&] { return str("--ranks: expected 1 to ", kMostRanks, ", got ", options.ranks); });
  check(plan.ranks_per_node >= 0 && plan.ranks_per_node <= kMostRanks, ErrorCode::usage,
        [&] { return str("--ranks-per-node: expected 1 to ", kMostRanks, ", got ", plan.ranks_per_node); });
  check(options.images.classes >= 1 && options.images.classes <= kMostClasses, ErrorCode::usage,
        [&] { return str("--classes: expected 1 to ", kMostClasses, ", got ", options.images.classes); });
  check(options.device != "cpu" || plan.zero == 0, ErrorCode::usage, [&] {
    return str("--zero ", plan.zero,
               " with --device cpu: the CPU ranks of a node share one copy already; use --device cuda");
  });
}

}  // namespace

int64_t parse_bytes(const std::string& option, const std::string& text) {
  const size_t end = std::min(text.size(), text.find_first_not_of("+0123456789.eE"));
  const double value = real_number_in(std::string_view(text).substr(0, end)).value_or(0);
  std::string unit = text.substr(end);
  std::erase(unit, ' ');
  for (char& c : unit) c = char(std::tolower(static_cast<unsigned char>(c)));
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},      {"b", 1},        {"kb", 1e3},     {"mb", 1e6},     {"gb", 1e9},
      {"tb", 1e12}, {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}, {"tib", 0x1p40}};
  const auto known = std::find_if(std::begin(kUnits), std::end(kUnits), [&](const auto& u) { return u.first == unit; });
  check(known != std::end(kUnits) && value > 0 && value * known->second <= 0x1p50, ErrorCode::usage,
        [&] { return str(option, ": expected a size such as 80GiB or 512MB, up to 1 PiB, got '", text, "'"); });
  return std::max<int64_t>(1, std::llround(value * known->second));
}

void parse_image_size(const std::string& option, const std::string& text, ModelSettings& images) {
  constexpr int64_t kMostPixels = 4096;  // of a side
  const size_t by = text.find('x');
  const auto side = [&](std::string_view digits) {
    const std::optional<int64_t> size = by == text.npos ? std::nullopt : whole_number_in(digits);
    check(size && *size >= 1 && *size <= kMostPixels, ErrorCode::usage, [&] {
      return str(option, ": expected HEIGHTxWIDTH, each from 1 to ", kMostPixels, ", such as 28x28, got '", text, "'");
    });
    return *size;
  };
  images.height = side(std::string_view(text).substr(0, by));
  images.width = side(std::string_view(text).substr(by == text.npos ? 0 : by + 1));
}

Planning::Planning(const ForecastOptions& options) : settings_(options.plan), options_(options) {
  check_options(options);
  check_plan_options(options.model, settings_);
  read_model();
  optimizer_ = choose_optimizers(options.model, variables_);
  if (settings_.mesh.empty())
    settings_.mesh = default_mesh(options.ranks > 0 ? options.ranks : 2, settings_.layout_rules);
  settings_.batch_axis = distribution_of(settings_).batch_axis;
  check_ranks(options, settings_);
  const bool own_memory =
      options.device == "cuda" ||
      (options.device.empty() && (settings_.zero > 0 || !model_ || !settings_.layout_rules.empty()));
  settings_.copies = own_memory ? Copies::per_rank : Copies::per_node;
  profile_ = machine_profile(options.profile.empty() ? (own_memory ? "h200" : "cpu") : options.profile);
  if (model_) rehearse_activations();
  if (!options.memory_limit.empty()) search_best();
}

void Planning::read_model() {
  const ModelOptions& chosen = options_.model;
  LayoutMap layouts;  // refuses two rules for one pattern
  if (is_file(chosen.name)) {
    DescribedModel described = read_model_file(chosen.name);
    name_ = std::move(described.name);
    variables_ = std::move(described.variables);
    settings_.workload = described.workload;
    layouts = std::move(described.layouts);
  } else {
    model_ = make_chosen_model(chosen, options_.images);
    name_ = model_->name;
    variables_ = model_->variables;
    settings_.workload = {.batch = 128, .flops_per_sample = double(model_->flops_per_sample())};
  }
  if (options_.plan.workload.batch > 0) settings_.workload.batch = options_.plan.workload.batch;
  if (!options_.rules.empty())
    for (const LayoutMap rules = read_rules_file(options_.rules); const LayoutRule& rule : rules.rules())
      layouts.add(rule.pattern, rule.layout, rule.where);
  settings_.layout_rules = layouts.rules();
}

void Planning::rehearse_activations() {
  const int64_t samples = std::max<int64_t>(1, settings_.workload.batch / settings_.parts());
  const int64_t micro_batches = settings_.accumulation;
  part_ = {samples,
           rehearse_part(
               variables_, [&](Context& context, const Batch& batch) { return model_->forward(context, batch); },
               {model_->columns, samples, micro_batches, settings_.activations}, 1)};
  const int64_t at_once = (samples + micro_batches - 1) / micro_batches;
  settings_.workload.activation_bytes_per_sample = (part_->memory.activations + at_once - 1) / at_once;
}

void Planning::search_best() {
  memory_limit_ = parse_bytes("--memory-limit", options_.memory_limit);
  const int64_t ranks = options_.ranks > 0 ? options_.ranks : settings_.ranks();
  std::vector<std::string> axes;
  for (const MeshAxis& axis : settings_.mesh) axes.push_back(axis.name);
  space_.meshes = mesh_factorisations(ranks, axes);
  settings_.mesh = space_.meshes.back();
  const ForecastOptions::Fixed& fixed = options_.fixed;
  space_.zero = fixed.zero ? std::vector<int>{settings_.zero} : std::vector<int>{0, 1, 2, 3};
  space_.accumulation = {settings_.accumulation};
  if (!fixed.accumulation && settings_.workload.batch > 0) space_.accumulation = {1, 2, 4, 8, 16, 32, 64};
  space_.bucket_bytes = {settings_.bucket_bytes};
  if (!fixed.bucket_bytes) space_.bucket_bytes = {1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20};
  search_ = search_plans(input(), space_, memory_limit_, profile_);
}

std::string Planning::report() const { return search_report(input(), space_, *search_, memory_limit_, profile_); }

Plan Planning::plan() const {
  if (!search_ || search_->fitting.empty()) return make_plan(input());
  return make_plan(planner_input(input(), search_->fitting.front()));
}

}  // namespace lockstep
