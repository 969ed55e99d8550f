// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/plan_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/plan/plan_text.h"

namespace lockstep {
namespace {

// Longer lists are cut in the middle; --json has all of them.
constexpr size_t kMostRows = 48;

template <class Row>
std::string rows(size_t count, Row&& row) {
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    if (count > kMostRows && i == kMostRows / 2) {
      text += fmt::format("  ... {} more, listed by --json\n", count - kMostRows);
      i = count - kMostRows / 2;
    }
    text += row(i);
  }
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

std::string buckets(const Plan& plan) {
  return fmt::format("\nbuckets, in the order they are summed\n  {:>4}  {:>12}  {:>14}  {:5}  {}\n", "", "elements",
                     "gradient bytes", "dtype", "variables") +
         rows(plan.buckets.size(), [&](size_t i) {
           const PlannedBucket& b = plan.buckets[i];
           std::string names;
           for (size_t k = 0; k < b.variables.size(); ++k) {
             if (k == 4 && b.variables.size() > 5) {
               names += fmt::format(", and {} more", b.variables.size() - 4);
               break;
             }
             names += (k ? ", " : "") + plan.variables[size_t(b.variables[k])].path;
           }
           return fmt::format("  {:>4}  {:>12}  {:>14}  {:5}  {}{}\n", i, b.elements(), b.elements() * 4,
                              to_string(b.dtype), names, b.split_by_batch ? " (split by the batch axis)" : "");
         });
}

std::string collectives(const Plan& plan, const MachineProfile& profile) {
  std::string text = fmt::format("\ncollectives of one step, in order; times by profile {}\n", profile.name);
  if (plan.collectives.empty()) return text + "  none: one rank has nobody to ask\n";
  text += fmt::format("  {:14}  {:5}  {:8}  {:>14}  {:>12}  {:11}  {}\n", "kind", "dtype", "group", "bytes",
                      "forecast us", "once per", "what");
  return text + rows(plan.collectives.size(), [&](size_t i) {
           const PlannedCollective& c = plan.collectives[i];
           const auto axis = std::find_if(plan.settings.mesh.begin(), plan.settings.mesh.end(),
                                          [&](const MeshAxis& each) { return each.name == c.group; });
           const double seconds = collective_seconds(c.kind, c.bytes, group_shape(plan.settings, *axis), profile);
           return fmt::format("  {:14}  {:5}  {:8}  {:>14}  {:>12.1f}  {:11}  {}\n", to_string(c.kind),
                              to_string(c.dtype), c.group, c.bytes, seconds * 1e6, to_string(c.phase), c.what);
         });
}

std::string memory(const Planning& planning, const Plan& plan) {
  std::string text =
      fmt::format("\nmemory per rank, in bytes\n  {:>9}  {:>14}  {:>14}  {:>14}  {:>9}  {:>14}  {:>14}  {}\n", "ranks",
                  "parameters", "slots", "gradients", "scalars", "gathered", "total", "");
  for (const RankClass& c : plan.classes) {
    const PlannedMemory& m = c.memory;
    const char* kind = plan.settings.copies == Copies::per_rank ? "every rank"
                       : c.node_copy                            ? "first of its node: holds the copy"
                                                                : "others of a node";
    text += fmt::format("  {:>9}  {:>14}  {:>14}  {:>14}  {:>9}  {:>14}  {:>14}  {} ({})\n", c.ranks, m.parameters,
                        m.slots, m.gradients, m.scalars, m.gathered, m.total(), kind, readable_bytes(m.total()));
  }
  if (planning.leaf())
    text += fmt::format(
        "  while a leaf of {} samples runs, at the peak: activations {} B, scratch of kernels {} B (rehearsed)\n",
        planning.leaf()->samples, planning.leaf()->memory.activations, planning.leaf()->memory.scratch);
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

std::string plan_report(const Planning& planning, const Plan& plan) {
  const MachineProfile& profile = planning.profile();
  std::string text = head(planning.name(), plan) + "\n" + plan_table(plan) + buckets(plan) +
                     collectives(plan, profile) + memory(planning, plan) + time(plan, profile);
  if (!plan.warnings.empty()) text += "\nwarnings\n";
  for (const std::string& warning : plan.warnings) text += "  " + warning + "\n";
  return text;
}

}  // namespace lockstep
