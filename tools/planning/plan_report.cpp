// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/plan_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/plan/table_rows.h"

namespace lockstep {
namespace {

// Bytes for reading, or exactly.
std::string bytes_text(int64_t bytes, Rows shown) { return shown == Rows::all ? str(bytes) : readable_bytes(bytes); }

// Longer lists are cut in the middle; --all and --json have all of them.
std::string joined(std::vector<TableRow> rows, Rows shown, size_t width) {
  constexpr size_t kMostRows = 48;
  if (shown == Rows::folded) rows = fold_rows(std::move(rows));
  const size_t left_out = shown == Rows::folded && rows.size() > kMostRows ? rows.size() - kMostRows : 0;
  std::string text;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (left_out > 0 && i == kMostRows / 2) {
      text += fmt::format("  ... {} more rows, listed by --all\n", left_out);
      i += left_out;
    }
    text += fmt::format("  {:{}}  {}\n", rows[i].name, width, rows[i].text);
  }
  return text;
}

// A text whose numbers do not count.
std::string without_digits(std::string text) {
  std::ranges::replace_if(
      text, [](char c) { return c >= '0' && c <= '9'; }, '0');
  return text;
}

std::string head(const std::string& model, const Plan& plan) {
  const PlanSettings& s = plan.settings;
  int64_t parameters = 0;
  for (const PlannedVariable& v : plan.variables)
    if (v.role == Role::parameter || v.role == Role::frozen_parameter) parameters += v.shape.size();
  return fmt::format(
      "plan {:016x} of {}: {} parameters, optimizer {}, mesh {} ({} ranks, batch over {}), ZeRO {}, {} micro-batch{}, "
      "{}\n",
      plan.hash(), model, parameters, s.optimizer, to_string(s.mesh), s.ranks(), s.batch_axis, s.zero, s.accumulation,
      s.accumulation == 1 ? "" : "es",
      s.copies == Copies::per_node ? "one copy per node" : "ranks with memory of their own");
}

std::string buckets(const Plan& plan, Rows shown) {
  std::vector<TableRow> rows;
  for (size_t i = 0; i < plan.buckets.size(); ++i) {
    const PlannedBucket& b = plan.buckets[i];
    std::string names;
    for (size_t k = 0; k < b.variables.size(); ++k) {
      if (k == 4 && b.variables.size() > 5 && shown == Rows::folded) {
        names += fmt::format(", and {} more", b.variables.size() - 4);
        break;
      }
      names += (k ? ", " : "") + plan.variables[size_t(b.variables[k])].path;
    }
    if (b.split_by_batch) names += " (split by the batch axis)";
    rows.push_back({str(i), str(b.elements(), " ", to_string(b.dtype), " ", without_digits(names)),
                    fmt::format("{:>12}  {:>14}  {:5}  {}", b.elements(), bytes_text(b.elements() * 4, shown),
                                to_string(b.dtype), names)});
  }
  return fmt::format("\nbuckets, in the order they are summed; {}\n  {:10}  {:>12}  {:>14}  {:5}  {}\n",
                     bucket_reason(plan.settings), "", "elements", "gradient bytes", "dtype",
                     shown == Rows::folded ? "variables of the first of them" : "variables") +
         joined(std::move(rows), shown, 10);
}

std::string collectives(const Plan& plan, const MachineProfile& profile, Rows shown) {
  std::string text = fmt::format("\ncollectives of one step, in order; times by profile {}\n", profile.name);
  if (plan.collectives.empty()) return text + "  none: one rank has nobody to ask\n";
  text += fmt::format("  {:44}  {:14}  {:5}  {:8}  {:>14}  {:>12}  {}\n", "what", "kind", "dtype", "group", "bytes",
                      "forecast us", "once per");
  std::vector<TableRow> rows;
  for (const PlannedCollective& c : plan.collectives) {
    const auto axis = std::find_if(plan.settings.mesh.begin(), plan.settings.mesh.end(),
                                   [&](const MeshAxis& each) { return each.name == c.group; });
    const double seconds = collective_seconds(c.kind, c.bytes, group_shape(plan.settings, *axis), profile);
    rows.push_back({c.what, str(to_string(c.kind), to_string(c.dtype), c.group, c.bytes, to_string(c.phase)),
                    fmt::format("{:14}  {:5}  {:8}  {:>14}  {:>12.1f}  {}", to_string(c.kind), to_string(c.dtype),
                                c.group, bytes_text(c.bytes, shown), seconds * 1e6, to_string(c.phase))});
  }
  return text + joined(std::move(rows), shown, 44);
}

std::string memory(const Planning& planning, const Plan& plan, Rows shown) {
  std::string text = fmt::format("\nmemory per rank{}\n  {:>9}  {:>14}  {:>14}  {:>14}  {:>9}  {:>14}  {:>14}  {}\n",
                                 shown == Rows::all ? ", in bytes" : "", "ranks", "parameters", "slots", "gradients",
                                 "scalars", "gathered", "total", "");
  for (const RankClass& c : plan.classes) {
    const PlannedMemory& m = c.memory;
    const auto of = [&](int64_t bytes) { return bytes_text(bytes, shown); };
    const char* kind = plan.settings.copies == Copies::per_rank ? "every rank"
                       : c.node_copy                            ? "first of its node: holds the copy"
                                                                : "others of a node";
    text += fmt::format("  {:>9}  {:>14}  {:>14}  {:>14}  {:>9}  {:>14}  {:>14}  {} ({})\n", c.ranks, of(m.parameters),
                        of(m.slots), of(m.gradients), of(m.scalars), of(m.gathered), of(m.total()), kind,
                        readable_bytes(m.total()));
  }
  if (planning.part())
    text += fmt::format(
        "  while a part of {} samples runs, at the peak: activations {} B, scratch of kernels {} B (rehearsed)\n",
        planning.part()->samples, planning.part()->memory.activations, planning.part()->memory.scratch);
  else if (plan.activation_bytes > 0)
    text += fmt::format("  while a micro-batch runs, by the model file's figure per sample: {} B of activations ({})\n",
                        plan.activation_bytes, readable_bytes(plan.activation_bytes));
  return text;
}

std::string time(const Plan& plan, const MachineProfile& profile) {
  const StepForecast step = forecast_step(plan.settings, plan.buckets, profile);
  std::string text = fmt::format(
      "\ntime of one step by profile {} (node: {:.1f} us, {:.1f} GB/s; network: {:.1f} us, {:.1f} GB/s)\n"
      "  communication {:.3f} ms, of which {:.3f} ms are not hidden by the backward pass\n",
      profile.name, profile.node.alpha_seconds * 1e6, 1e-9 / profile.node.seconds_per_byte,
      profile.network.alpha_seconds * 1e6, 1e-9 / profile.network.seconds_per_byte, step.communication_seconds * 1e3,
      step.exposed_seconds * 1e3);
  if (step.compute_seconds > 0)
    text += fmt::format("  computing {:.3f} ms at {:.0f} Gflop/s a rank; step {:.3f} ms\n", step.compute_seconds * 1e3,
                        profile.flops_per_rank / 1e9, step.seconds() * 1e3);
  return text;
}

}  // namespace

std::string plan_report(const Planning& planning, const Plan& plan, Rows shown) {
  const MachineProfile& profile = planning.profile();
  std::string text = head(planning.name(), plan) + memory(planning, plan, shown) + time(plan, profile);
  if (!plan.warnings.empty()) text += "\nwarnings\n";
  for (const std::string& warning : plan.warnings) text += "  " + warning + "\n";
  text += str("\n", plan_table(plan, shown), buckets(plan, shown), collectives(plan, profile, shown));
  return text + (shown == Rows::folded ? "\nalike rows are folded; --all lists every one, with exact bytes\n" : "");
}

}  // namespace lockstep
