// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/plan.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <type_traits>

#include "kernels/device/check.h"
#include "kernels/device/known_name.h"

namespace lockstep {

std::string_view to_string(Section section) {
  constexpr std::string_view names[] = {"trainable", "frozen", "slot", "local"};
  return names[size_t(section)];
}

std::string_view to_string(Question question) {
  constexpr std::string_view names[] = {"layout", "tape", "gradient sync", "aggregation", "residence"};
  return names[size_t(question)];
}

std::string_view to_string(Residence residence) {
  constexpr std::string_view names[] = {"each_rank", "one_per_node", "one_per_rank", "split"};
  return names[size_t(residence)];
}

std::string_view to_string(Phase phase) { return phase == Phase::micro_batch ? "micro_batch" : "step"; }

int64_t bytes_per_rank(const PlanSettings& settings, const PlannedVariable& variable) {
  if (variable.residence != Residence::split) return variable.local_bytes();
  return (variable.local_bytes() + settings.batch_ranks() - 1) / settings.batch_ranks();
}

bool has_master(const PlanSettings& settings, const PlannedVariable& variable) {
  return variable.in_gradient_sync && is_narrow(variable.dtype) && !settings.stochastic_rounding;
}

int64_t Plan::parameter_bytes() const {
  int64_t bytes = 0;
  for (const PlannedBucket& bucket : buckets) bytes += bucket.elements() * size_of(bucket.dtype);
  return bytes;
}

const PlannedVariable& Plan::at(std::string_view path) const {
  const auto found = std::find_if(variables.begin(), variables.end(), [&](const auto& v) { return v.path == path; });
  check(found != variables.end(), ErrorCode::plan, [&] {
    std::vector<std::string_view> known;
    for (const PlannedVariable& v : variables) known.push_back(v.path);
    return str("no variable is called ", path, "; ", did_you_mean(path, known), " The plan has ", known.size(),
               " variables");
  });
  return *found;
}

std::vector<PlannedCollective> Plan::sequence() const {
  std::vector<PlannedCollective> all;
  for (int64_t i = 0; i < settings.accumulation; ++i)
    for (const PlannedCollective& collective : collectives)
      if (collective.phase == Phase::micro_batch) all.push_back(collective);
  for (const PlannedCollective& collective : collectives)
    if (collective.phase == Phase::step) all.push_back(collective);
  return all;
}

namespace {

// Feeds values into a hash so that different contents give different streams: texts and lists carry their length.
class ContentHash {
 public:
  ContentHash() { XXH3_64bits_reset(&state_); }
  void number(int64_t value) { XXH3_64bits_update(&state_, &value, sizeof value); }
  void text(std::string_view value) {
    number(int64_t(value.size()));
    XXH3_64bits_update(&state_, value.data(), value.size());
  }
  void layout(const Layout& layout) {
    number(int64_t(layout.axes.size()));
    for (const std::string& axis : layout.axes) text(axis);
  }
  template <class Number>
  requires std::is_integral_v<Number> || std::is_enum_v<Number>
  void add(Number value) { number(int64_t(value)); }
  void add(double value) { number(std::bit_cast<int64_t>(value)); }
  void add(const std::string& value) { text(value); }
  void add(const std::vector<MeshAxis>& mesh) {
    number(int64_t(mesh.size()));
    for (const MeshAxis& axis : mesh) text(axis.name), number(axis.size);
  }
  void add(const std::vector<LayoutRule>& rules) {
    number(int64_t(rules.size()));
    for (const LayoutRule& rule : rules) text(rule.pattern), layout(rule.layout);
  }
  uint64_t digest() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

// The place of a rule is left out: files lie in other places on other machines.
void add(ContentHash& hash, const PlanSettings& settings) {
  for_each_field(settings, [&](const SettingField&, const auto& value) { hash.add(value); });
}

void add(ContentHash& hash, const PlannedVariable& v) {
  hash.text(v.path);
  hash.number(v.shape.rank());
  for (const int64_t size : v.shape.sizes()) hash.number(size);
  hash.layout(v.layout);
  for (const int64_t value : {int64_t(v.dtype), int64_t(v.role), int64_t(v.by_optimizer), int64_t(v.layout_given),
                              int64_t(v.aggregation_given), int64_t(v.layout_rule), int64_t(v.parameter),
                              int64_t(v.slot), int64_t(v.on_tape), int64_t(v.in_gradient_sync), int64_t(v.aggregation),
                              int64_t(v.residence), int64_t(v.section), int64_t(v.bucket), v.offset, v.local_elements})
    hash.number(value);
  for (const std::string_view rule : v.rules) hash.text(rule);
}

void add(ContentHash& hash, const PlannedMemory& memory) {
  for (const int64_t bytes : {memory.parameters, memory.slots, memory.gradients, memory.scalars, memory.gathered})
    hash.number(bytes);
}

}  // namespace

// Warnings are left out: they name files, whose places differ between machines.
uint64_t Plan::hash() const {
  ContentHash hash;
  add(hash, settings);
  hash.number(int64_t(variables.size()));
  for (const PlannedVariable& variable : variables) add(hash, variable);
  hash.number(int64_t(pending.size()));
  for (const std::string& path : pending) hash.text(path);
  hash.number(int64_t(buckets.size()));
  for (const PlannedBucket& bucket : buckets) {
    for (const int64_t value : {bucket.begin, bucket.end, int64_t(bucket.dtype), int64_t(bucket.split_by_batch),
                                int64_t(bucket.variables.size())})
      hash.number(value);
    for (const int32_t variable : bucket.variables) hash.number(variable);
  }
  for (const int64_t value : {arena_elements, frozen_bytes, local_bytes, int64_t(slots), int64_t(master_slot),
                              activation_bytes, int64_t(collectives.size()), int64_t(classes.size())})
    hash.number(value);
  for (const PlannedCollective& c : collectives) {
    hash.text(to_string(c.kind)), hash.text(c.group), hash.text(c.what);
    for (const int64_t value : {int64_t(c.dtype), c.bytes, int64_t(c.phase)}) hash.number(value);
  }
  for (const RankClass& members : classes) {
    for (const int64_t value : {members.ranks, members.first_rank, int64_t(members.node_copy)}) hash.number(value);
    add(hash, members.memory);
  }
  return hash.digest();
}

}  // namespace lockstep
