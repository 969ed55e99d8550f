// SPDX-License-Identifier: Apache-2.0
#include "tools/checkpoint/run_changes.h"

#include <algorithm>
#include <array>
#include <set>

#include "kernels/device/check.h"
#include "runtime/data/sample_order.h"

namespace lockstep {
namespace {

struct Change {
  std::string_view name, meaning;
};

constexpr Change kAllowable[] = {
    {"accumulation", "gradients are added up in another order, and round otherwise"},
    {"batch", "from here on a step takes other samples; the epoch goes on at its next sample"},
    {"clipnorm", "gradients are clipped otherwise from here on"},
    {"clipvalue", "gradients are clipped otherwise from here on"},
    {"data", "from here on samples are others; training goes on with their next epoch where their number differs"},
    {"dropout", "other activations are dropped from here on"},
    {"global_clipnorm", "gradients are clipped otherwise from here on"},
    {"numerics", "products round otherwise on this machine or device"},
    {"optimizer", "updates are others from here on; its slots go on as they are"},
    {"ranks", "without canonical sums every number of ranks adds gradients up in an order of its own"},
    {"reduce", "gradients are added up in another order, and round otherwise"},
    {"reduce_dtype", "gradients and their sums are rounded otherwise"},
    {"schedule", "the learning rate is another one from here on"},
    {"seed", "the order of samples, dropout and stochastic rounding are others from here on"},
    {"virtual_ranks", "gradients are added up in another order, and round otherwise"},
};

constexpr std::string_view kOfVariables = "its variables are others, so it is another training";

const Change* find(const std::string& name) {
  const auto found = std::ranges::find(kAllowable, name, &Change::name);
  return found == std::end(kAllowable) ? nullptr : found;
}

std::string shown(const RunConfiguration& run, const std::string& name) {
  constexpr size_t kLongest = 200;
  const auto found = run.find(name);
  if (found == run.end()) return "not given";
  return str("'", found->second.substr(0, kLongest), found->second.size() > kLongest ? "...'" : "'");
}

}  // namespace

std::span<const std::string_view> changes_that_can_be_allowed() {
  static constexpr auto names = [] {
    std::array<std::string_view, std::size(kAllowable)> all;
    for (size_t i = 0; i < all.size(); ++i) all[i] = kAllowable[i].name;
    return all;
  }();
  return names;
}

bool check_changes(const std::string& checkpoint, const RunConfiguration& before, const RunConfiguration& now,
                   const std::vector<std::string>& allowed) {
  std::set<std::string> names;
  for (const auto& [name, value] : before) names.insert(name);
  for (const auto& [name, value] : now) names.insert(name);
  bool differs = false;
  std::string refused, options;
  bool all_allowable = true;
  for (const std::string& name : names) {
    const auto was = before.find(name), is = now.find(name);
    if (was != before.end() && is != now.end() && was->second == is->second) continue;
    differs = true;
    if (std::ranges::find(allowed, name) != allowed.end()) continue;
    const Change* change = find(name);
    refused += str(refused.empty() ? "" : "; ", name, " was ", shown(before, name), " and is ", shown(now, name), " (",
                   change ? change->meaning : kOfVariables, ")");
    all_allowable = all_allowable && change != nullptr;
    options += " --allow-change " + name;
  }
  check(refused.empty(), ErrorCode::usage, [&] {
    return str("'", checkpoint, "' is of a run with other options: ", refused, "; give the options of that run",
               all_allowable ? str(", or go on with other numbers by", options) : std::string(", or begin a new one"));
  });
  return differs;
}

int64_t batch_to_go_on_with(const DataPosition& position, int64_t batch, int64_t samples) {
  const int64_t per_epoch = steps_per_epoch(samples, batch);
  if (samples != position.samples) return (position.epoch + (position.step_in_epoch > 0 ? 1 : 0)) * per_epoch;
  if (batch == position.batch) return position.epoch * per_epoch + position.step_in_epoch;
  const int64_t next = std::min(position.step_in_epoch * position.batch, samples);
  check(next % batch == 0, ErrorCode::usage, [&] {
    return str("--batch ", batch, ": the checkpoint is ", next, " samples into an epoch, where no step of ", batch,
               " samples begins; expected a divisor of ", next, ", or go on from the end of an epoch");
  });
  return position.epoch * per_epoch + next / batch;
}

}  // namespace lockstep
