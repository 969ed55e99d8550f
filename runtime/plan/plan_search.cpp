// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/plan_search.h"

#include <algorithm>
#include <cstdio>
#include <tuple>

#include "kernels/device/check.h"
#include "runtime/plan/plan_text.h"

namespace lockstep {
namespace {

constexpr size_t kMostMeshes = 10'000;

// The part of a model that decides sizes: planned once, cut anew for every mesh.
struct SizedVariable {
  std::string path;
  Shape shape;
  DType dtype;
  Role role;
  Layout layout;
  bool by_rule;
};

std::vector<SizedVariable> sized_variables(const Plan& plan) {
  std::vector<SizedVariable> variables;
  for (const PlannedVariable& v : plan.variables)
    if (v.role != Role::slot)
      variables.push_back({v.path, v.shape, v.dtype, v.role, v.layout, !v.layout_given && v.layout_rule >= 0});
  return variables;
}

struct MeshSizes {
  std::vector<BucketItem> items;
  StateSizes state;
};

// Empty, with the reason in `problem`, when a layout does not fit this mesh.
std::optional<MeshSizes> sizes_on(const PlanSettings& settings, const std::vector<SizedVariable>& variables,
                                  std::string& problem) {
  MeshSizes sizes;
  for (const SizedVariable& v : variables) {
    const std::string wrong = layout_problem(settings, v.layout, v.shape);
    const bool replicated = !wrong.empty() && v.by_rule && settings.replicate_indivisible;
    if (!wrong.empty() && !replicated) {
      problem = str(to_string(settings.mesh), ": variable ", v.path, " of shape ", to_string(v.shape), ": ", wrong);
      return std::nullopt;
    }
    int64_t elements = v.shape.size();
    bool split_by_batch = false;
    for (const std::string& axis : v.layout.axes) {
      if (axis.empty() || replicated) continue;
      elements /= settings.size(axis);
      split_by_batch |= axis == settings.batch_axis;
    }
    if (v.role == Role::parameter)
      sizes.items.push_back({elements, v.dtype, split_by_batch});
    else if (v.role == Role::frozen_parameter)
      sizes.state.frozen_bytes = next_frozen_offset(sizes.state.frozen_bytes, elements * size_of(v.dtype));
    else
      sizes.state.local_bytes = next_local_offset(sizes.state.local_bytes, elements * size_of(v.dtype));
  }
  return sizes;
}

auto order(const Candidate& c, std::string_view batch_axis) {
  int64_t batch_ranks = 1;
  for (const MeshAxis& axis : c.mesh)
    if (axis.name == batch_axis) batch_ranks = axis.size;
  return std::tuple(c.seconds, c.zero, c.accumulation, -batch_ranks, c.bytes, c.bucket_bytes);
}

class Search {
 public:
  Search(const PlannerInput& input, const SearchSpace& space, int64_t memory_limit, const MachineProfile& profile)
      : space_(space), limit_(memory_limit), profile_(profile), smallest_(plan_on_one_rank(input)) {
    variables_ = sized_variables(smallest_);
    settings_ = smallest_.settings;
    virtual_ranks_ = input.settings.virtual_ranks;
  }

  SearchResult run() {
    for (const std::vector<MeshAxis>& mesh : space_.meshes) {
      settings_.mesh = mesh;
      settings_.virtual_ranks = virtual_ranks_ > 0 ? virtual_ranks_ : int(settings_.batch_ranks());
      std::string problem;
      const std::optional<MeshSizes> sizes = sizes_on(settings_, variables_, problem);
      if (!sizes) {
        result_.excluded.push_back(problem);
        continue;
      }
      const int64_t samples = settings_.workload.batch;
      if (samples > 0 && samples < settings_.batch_ranks() * std::ranges::min(space_.accumulation)) {
        // This comes first, because a larger batch would help here, and more ranks or rules would not.
        result_.excluded.insert(result_.excluded.begin(),
                                str(to_string(mesh), ": a batch of ", samples, " has no sample for each of the ",
                                    settings_.batch_ranks(), " ranks of the axis ", settings_.batch_axis));
        continue;
      }
      for (const int64_t bucket_bytes : space_.bucket_bytes) {
        settings_.bucket_bytes = bucket_bytes;
        try_buckets(fill_buckets(settings_, sizes->items).buckets, sizes->state);
      }
    }
    const auto by = [&](auto key) {
      return [key, this](const Candidate& a, const Candidate& b) { return key(a, *this) < key(b, *this); };
    };
    std::sort(result_.fitting.begin(), result_.fitting.end(),
              by([](const Candidate& c, const Search& s) { return order(c, s.settings_.batch_axis); }));
    std::sort(result_.too_large.begin(), result_.too_large.end(), by([](const Candidate& c, const Search& s) {
                return std::tuple(c.bytes, order(c, s.settings_.batch_axis));
              }));
    return std::move(result_);
  }

 private:
  // Layouts by rule are the same on every mesh that has the axes, and an axis of size 1 divides everything.
  static Plan plan_on_one_rank(const PlannerInput& input) {
    PlannerInput one = input;
    for (MeshAxis& axis : one.settings.mesh) axis.size = 1;
    one.settings.zero = 0;
    one.settings.accumulation = 1;
    return make_plan(one);
  }

  void try_buckets(const std::vector<PlannedBucket>& buckets, StateSizes state) {
    state.slots = smallest_.slots;
    for (const int zero : space_.zero) {
      if (zero > 0 && settings_.copies == Copies::per_node) continue;  // nothing is held twice on a node
      settings_.zero = zero;
      settings_.accumulation = 1;
      const int64_t persistent = rank_classes(settings_, buckets, state).front().memory.total();
      for (const int64_t accumulation : space_.accumulation) {
        settings_.accumulation = accumulation;
        // Every rank needs a sample in every micro-batch.
        if (settings_.workload.batch > 0 && settings_.workload.batch < settings_.batch_ranks() * accumulation) continue;
        const StepForecast step = forecast_step(settings_, buckets, profile_);
        add({settings_.mesh, zero, accumulation, settings_.bucket_bytes, persistent + activation_bytes(settings_),
             step.seconds(), step.exposed_seconds});
      }
    }
  }

  void add(Candidate candidate) {
    ++result_.evaluated;
    (candidate.bytes <= limit_ ? result_.fitting : result_.too_large).push_back(std::move(candidate));
  }

  const SearchSpace& space_;
  int64_t limit_;
  const MachineProfile& profile_;
  Plan smallest_;
  std::vector<SizedVariable> variables_;
  PlanSettings settings_;
  int virtual_ranks_ = 1;
  SearchResult result_;
};

std::string described(const Candidate& c) {
  char time[64];
  std::snprintf(time, sizeof time, "%.3f ms a step, %.3f ms of it waiting for collectives", c.seconds * 1e3,
                c.exposed_seconds * 1e3);
  return str("mesh ", to_string(c.mesh), ", ZeRO ", c.zero, ", ", c.accumulation, " micro-batch",
             c.accumulation == 1 ? "" : "es", ", buckets of ", readable_bytes(c.bucket_bytes), ": ",
             readable_bytes(c.bytes), " a rank, ", time);
}

// Runners-up that differ in mesh or stage from one already shown say more than those that differ in buckets.
bool says_the_same(const Candidate& a, const Candidate& b) { return a.mesh == b.mesh && a.zero == b.zero; }

std::string why_lost(const Candidate& c, const Candidate& best) {
  char text[96];
  if (c.seconds > best.seconds) {
    std::snprintf(text, sizeof text, "slower by %.1f %%", (c.seconds / best.seconds - 1) * 100);
    return text;
  }
  if (c.zero != best.zero) return "no faster, with a higher ZeRO stage";
  if (c.accumulation != best.accumulation) return "no faster, with more micro-batches";
  return "no faster, with a shorter batch axis, more bytes or larger buckets";
}

// Doubles the ranks until something fits.
std::string more_ranks(const PlannerInput& input, SearchSpace space, int64_t limit, const MachineProfile& profile) {
  std::vector<std::string> axes;
  for (const MeshAxis& axis : input.settings.mesh) axes.push_back(axis.name);
  int64_t ranks = input.settings.ranks();
  for (int doubling = 0; doubling < 10 && ranks <= 1'000'000; ++doubling) {
    ranks *= 2;
    space.meshes = mesh_factorisations(ranks, axes);
    const SearchResult result = search_plans(input, space, limit, profile);
    if (!result.fitting.empty()) return str(ranks, " ranks: ", described(result.fitting.front()));
  }
  return "";
}

}  // namespace

namespace {

std::vector<int64_t> divisors(int64_t n) {
  std::vector<int64_t> low, high;
  for (int64_t i = 1; i * i <= n; ++i) {
    if (n % i != 0) continue;
    low.push_back(i);
    if (i != n / i) high.push_back(n / i);
  }
  low.insert(low.end(), high.rbegin(), high.rend());
  return low;
}

void factorise(int64_t ranks, std::span<const std::string> axes, std::vector<MeshAxis>& mesh,
               std::vector<std::vector<MeshAxis>>& all) {
  if (axes.size() == 1) {
    check(all.size() < kMostMeshes, ErrorCode::usage, [&] {
      return str("there are more than ", kMostMeshes, " ways to cut the ranks into ", mesh.size() + 1,
                 " axes; search over fewer axes");
    });
    mesh.push_back({axes[0], int(ranks)});
    all.push_back(mesh);
    mesh.pop_back();
    return;
  }
  for (const int64_t size : divisors(ranks)) {
    mesh.push_back({axes[0], int(size)});
    factorise(ranks / size, axes.subspan(1), mesh, all);
    mesh.pop_back();
  }
}

}  // namespace

std::vector<std::vector<MeshAxis>> mesh_factorisations(int64_t ranks, const std::vector<std::string>& axes) {
  std::vector<MeshAxis> mesh;
  std::vector<std::vector<MeshAxis>> all;
  if (!axes.empty()) factorise(ranks, axes, mesh, all);
  return all;
}

SearchResult search_plans(const PlannerInput& input, const SearchSpace& space, int64_t memory_limit,
                          const MachineProfile& profile) {
  check(!input.settings.mesh.empty(), ErrorCode::plan, "a search needs a mesh that names the axes");
  return Search(input, space, memory_limit, profile).run();
}

PlannerInput planner_input(const PlannerInput& input, const Candidate& candidate) {
  PlannerInput chosen = input;
  chosen.settings.mesh = candidate.mesh;
  chosen.settings.zero = candidate.zero;
  chosen.settings.accumulation = candidate.accumulation;
  chosen.settings.bucket_bytes = candidate.bucket_bytes;
  return chosen;
}

std::string search_report(const PlannerInput& input, const SearchSpace& space, const SearchResult& result,
                          int64_t memory_limit, const MachineProfile& profile) {
  std::string text = str("searched ", result.evaluated, " plans for ", input.settings.ranks(), " ranks and at most ",
                         readable_bytes(memory_limit), " a rank, times by profile ", profile.name, ": ",
                         result.fitting.size(), " fit\n");
  if (result.fitting.empty()) {
    if (result.too_large.empty()) {
      text += "  no plan is possible:\n";
    } else {
      const Candidate& least = result.too_large.front();
      text += str("  none fits. The smallest takes ", readable_bytes(least.bytes - memory_limit), " (",
                  least.bytes - memory_limit, " B) more than the limit: ", described(least), "\n");
      const std::string ranks = more_ranks(input, space, memory_limit, profile);
      text += ranks.empty() ? std::string("  more ranks would not help: what is left is on every rank\n")
                            : "  it would fit with " + ranks + "\n";
    }
  } else {
    const Candidate& best = result.fitting.front();
    text += "  best     " + described(best) + "\n";
    std::vector<const Candidate*> shown = {&best};
    for (const Candidate& c : result.fitting) {
      if (std::any_of(shown.begin(), shown.end(), [&](const Candidate* each) { return says_the_same(*each, c); }))
        continue;
      text += "  next     " + described(c) + " - " + why_lost(c, best) + "\n";
      shown.push_back(&c);
      if (shown.size() == 4) break;
    }
    for (size_t i = 0; i < std::min<size_t>(3, result.too_large.size()); ++i)
      text += str("  too big  ", described(result.too_large[i]), " - ",
                  readable_bytes(result.too_large[i].bytes - memory_limit), " over the limit\n");
  }
  for (size_t i = 0; i < std::min<size_t>(5, result.excluded.size()); ++i)
    text += "  excluded " + result.excluded[i] + "\n";
  if (result.excluded.size() > 5) text += str("  excluded ", result.excluded.size() - 5, " more meshes\n");
  return text;
}

}  // namespace lockstep
