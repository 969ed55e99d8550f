// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/plan_settings.h"

#include <type_traits>
#include <utility>

#include "kernels/device/check.h"
#include "kernels/device/number_text.h"
#include "runtime/plan/forecast.h"

namespace lockstep {
namespace {

constexpr int64_t kMostBytes = int64_t(1) << 60;  // bytes of all samples of a step

// The parts that a batch can be cut into: as many as the canonical tree adds up for few ranks, or one per rank.
constexpr int64_t most_parts(int64_t batch_ranks) { return batch_ranks > 16'384 ? batch_ranks : 16'384; }

void check_workload(const Workload& work) {
  for (const int64_t bytes : {work.activation_bytes_per_sample, work.model_parallel_bytes_per_sample})
    check(work.batch == 0 || bytes <= kMostBytes / work.batch, ErrorCode::plan, [&] {
      return str("a batch of ", work.batch, " samples of ", bytes, " B is no workload; expected at most ", kMostBytes,
                 " B together");
    });
}

void check_virtual_ranks(const PlanSettings& settings) {
  const int64_t most = most_parts(settings.batch_ranks());
  check(settings.virtual_ranks <= most, ErrorCode::plan, [&] {
    return str("expected at most ", most, " virtual ranks on the mesh ", to_string(settings.mesh), ", got ",
               settings.virtual_ranks);
  });
}

void check_numbers(const PlanSettings& settings) {
  for_each_field(settings, [](const SettingField& field, const auto& value) {
    using Value = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_integral_v<Value> && !std::is_same_v<Value, bool>)
      check(value >= field.least && value <= field.most, ErrorCode::plan, [&] {
        const bool open = field.most == std::numeric_limits<int64_t>::max();
        return str(field.name, ": expected a whole number from ", field.least, open ? "" : str(" to ", field.most),
                   ", got ", value);
      });
  });
}

std::string text_of(const std::string& text) { return text; }
std::string text_of(const std::vector<MeshAxis>& mesh) { return to_string(mesh); }
std::string text_of(bool value) { return value ? "yes" : "no"; }
std::string text_of(int value) { return std::to_string(value); }
std::string text_of(int64_t value) { return std::to_string(value); }
std::string text_of(ReduceMode mode) { return std::string(to_string(mode)); }
std::string text_of(DType dtype) { return std::string(to_string(dtype)); }
std::string text_of(Copies copies) { return std::string(to_string(copies)); }

std::string text_of(double value) { return exact(value); }

std::string text_of(const std::vector<LayoutRule>& rules) {
  std::string all;
  for (const LayoutRule& rule : rules) all += str("'", rule.pattern, "' ", to_string(rule.layout), " ");
  return all.empty() ? "none " : all;
}

}  // namespace

std::string_view to_string(Copies copies) { return copies == Copies::per_node ? "per_node" : "per_rank"; }

int64_t PlanSettings::ranks() const {
  int64_t product = 1;
  for (const MeshAxis& axis : mesh) product *= axis.size;
  return product;
}

int64_t PlanSettings::size(std::string_view name) const {
  for (const MeshAxis& axis : mesh)
    if (axis.name == name) return axis.size;
  fail(ErrorCode::plan, str("the mesh ", to_string(mesh), " has no axis '", name, "'"));
}

Distribution distribution_of(const PlanSettings& settings) {
  LayoutMap layouts;
  for (const LayoutRule& rule : settings.layout_rules) layouts.add(rule.pattern, rule.layout, rule.where);
  std::vector<MeshAxis> mesh = settings.mesh;
  if (mesh.empty()) mesh.push_back({"data", 1});
  return model_parallel(std::move(mesh), std::move(layouts), settings.batch_axis);
}

PlanSettings complete(PlanSettings settings, const Distribution& distribution) {
  settings.mesh = distribution.mesh;
  settings.batch_axis = distribution.batch_axis;
  check_numbers(settings);
  check_virtual_ranks(settings);
  check_workload(settings.workload);
  check_reduce_dtype(settings.reduce, settings.reduce_dtype);
  check(is_activation(settings.activations), ErrorCode::usage,
        [&] { return str("activations: expected f32 or bf16, got ", to_string(settings.activations)); });
  check(settings.zero == 0 || settings.copies == Copies::per_rank, ErrorCode::plan, [&] {
    return str("ZeRO stage ", settings.zero,
               " splits what every rank would hold, but the ranks of a node share one copy already; plan for ranks "
               "with memory of their own, or use stage 0");
  });
  if (settings.virtual_ranks == 0) settings.virtual_ranks = int(settings.batch_ranks());
  if (settings.bucket_bytes == 0) settings.bucket_bytes = default_bucket_bytes(settings);
  return settings;
}

std::vector<SettingText> setting_texts(const PlanSettings& settings) {
  std::vector<SettingText> texts;
  for_each_field(settings, [&](const SettingField& field, const auto& value) {
    texts.push_back({field, text_of(value), false});
  });
  size_t next = 0;
  const PlanSettings defaults;
  for_each_field(defaults, [&](const SettingField&, const auto& value) {
    texts[next].is_default = texts[next].value == text_of(value);
    ++next;
  });
  return texts;
}

bool is_told(const SettingText& setting, InRun kind) {
  return setting.field.in_run == kind && (kind == InRun::always || !setting.is_default);
}

std::string run_text(const PlanSettings& settings, InRun kind) {
  std::string text;
  for (const SettingText& setting : setting_texts(settings))
    if (is_told(setting, kind)) text += str(" ", setting.field.name, "=", setting.value);
  return text;
}

}  // namespace lockstep
