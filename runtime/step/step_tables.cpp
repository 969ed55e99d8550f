// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/step_tables.h"

#include <algorithm>

#include "kernels/chunk_squares.h"
#include "runtime/plan/buckets.h"

namespace lockstep {
namespace {

template <class T>
Buffer upload(const std::vector<T>& values, Pool& pool, Stream& stream) {
  const int64_t bytes = int64_t(values.size() * sizeof(T));
  Buffer buffer(pool, std::max<int64_t>(bytes, 1), Purpose::scratch);
  // As i32, whatever it is: all of it is copied.
  const Shape cells{bytes / size_of(DType::i32)};
  copy(stream, buffer.view(DType::i32, cells), ConstView{values.data(), DType::i32, DeviceKind::cpu, cells});
  return buffer;
}

ConstView i64_view(const Buffer& buffer, int64_t n) { return buffer.view(DType::i64, Shape{n}); }

}  // namespace

StepTables::StepTables(const Plan& plan, const OptimizerSet& optimizer, int64_t cells, Pool& pool, Stream& stream)
    : count_(cells), fetched_(pool.device(), sizeof(StepOutcome)) {
  std::vector<int64_t> begins, ends, first_chunk{0};
  // What lies between variables is padding: it belongs to the one before it, and holds zeros.
  std::vector<uint32_t> variable_of(size_t(plan.arena_elements / kGranule), 0);
  for (size_t v = 0; v < plan.variables.size(); ++v) {
    const PlannedVariable& variable = plan.variables[v];
    if (!variable.in_gradient_sync) continue;
    const int64_t n = variable.shape.size();
    for (int64_t at = 0; at < n; at += kSquareChunk) {
      begins.push_back(variable.offset + at);
      ends.push_back(variable.offset + std::min(n, at + kSquareChunk));
    }
    const int64_t first = variable.offset / kGranule, last = (variable.offset + n + kGranule - 1) / kGranule;
    std::fill(variable_of.begin() + first, variable_of.begin() + last, uint32_t(variables_.size()));
    variables_.push_back(int32_t(v));
    first_chunk.push_back(int64_t(begins.size()));
  }
  chunks_ = int64_t(begins.size());
  const auto bytes_of = [](size_t n, size_t size) { return int64_t(std::max<size_t>(n * size, 1)); };
  cells_ = Buffer(pool, bytes_of(size_t(cells), sizeof(double)), Purpose::scratch);
  squares_ = Buffer(pool, bytes_of(begins.size(), sizeof(double)), Purpose::scratch);
  for (int32_t group = 0; group < optimizer.groups(); ++group) {
    constants_.emplace_back(pool, optimizer.group(group).optimizer->constants_bytes(), Purpose::scratch);
    first_scalar_.push_back(optimizer.first_scalar(group));
  }
  for (const int32_t v : variables_) group_of_.push_back(uint32_t(optimizer.group_of(plan.variables[size_t(v)].path)));
  groups_ = upload(group_of_, pool, stream);
  grouped_ = optimizer.groups() > 1;
  // Granules are numbered over variables; here less their places in the arena.
  const std::vector<int64_t> first_granules = granule_numbers(plan);
  std::vector<int64_t> numbers;
  for (const int32_t v : variables_)
    numbers.push_back(first_granules[size_t(v)] - plan.variables[size_t(v)].offset / kGranule);
  numbers_ = upload(numbers, pool, stream);
  begins_ = upload(begins, pool, stream);
  ends_ = upload(ends, pool, stream);
  first_chunk_ = upload(first_chunk, pool, stream);
  variable_of_ = upload(variable_of, pool, stream);
  factors_ = upload(std::vector<float>(variables_.size(), 1.0f), pool, stream);
  decision_ = upload(std::vector<StepScalars>(1), pool, stream);
  outcome_ = upload(std::vector<StepOutcome>(1), pool, stream);
  stream.synchronize();  // the vectors go
}

void StepTables::measure(Stream& stream, const View& gradients) const {
  launch(stream, ChunkSquares{.sums = squares_.view(DType::f64, Shape{chunks_}),
                              .values = gradients,
                              .begins = i64_view(begins_, chunks_),
                              .ends = i64_view(ends_, chunks_)});
}

StepVerdict StepTables::verdict(int leaves, int64_t global_count, const ClipOptions& clip) const {
  StepVerdict verdict{.squares = static_cast<const double*>(squares_.data()),
                      .first_chunk = static_cast<const int64_t*>(first_chunk_.data()),
                      .variables = int32_t(variables_.size()),
                      .cells = static_cast<double*>(cells_.data()),
                      .leaves = leaves,
                      .global_count = global_count,
                      .clip = ClipKind::none,
                      .limit = 0,
                      .factors = factors(),
                      .decision = static_cast<StepScalars*>(decision_.data()),
                      .outcome = static_cast<StepOutcome*>(outcome_.data())};
  if (clip.clipnorm > 0) verdict.clip = ClipKind::each_variable, verdict.limit = clip.clipnorm;
  if (clip.global_clipnorm > 0) verdict.clip = ClipKind::all_variables, verdict.limit = clip.global_clipnorm;
  if (clip.clipvalue > 0) verdict.clip = ClipKind::values, verdict.limit = clip.clipvalue;
  return verdict;
}

GranuleMap StepTables::granule_map(int32_t group, int64_t begin) const {
  return {.variable_of = static_cast<const uint32_t*>(variable_of_.data()) + begin / kGranule,
          .factors = factors(),
          .groups = grouped_ ? static_cast<const uint32_t*>(groups_.data()) : nullptr,
          .group = uint32_t(group),
          .numbers = static_cast<const int64_t*>(numbers_.data()),
          .first = begin / kGranule};
}

void StepTables::set_group(Stream& stream, int32_t variable, std::optional<int32_t> group) {
  constexpr uint32_t kNone = ~0u;
  const auto found = std::ranges::find(variables_, variable);
  group_of_[size_t(found - variables_.begin())] = group ? uint32_t(*group) : kNone;
  grouped_ = constants_.size() > 1 || std::ranges::any_of(group_of_, [](uint32_t g) { return g != 0; });
  ++generation_;
  const Shape all{int64_t(group_of_.size())};
  copy(stream, groups_.view(DType::i32, all), ConstView{group_of_.data(), DType::i32, DeviceKind::cpu, all});
  stream.synchronize();  // the numbers may change again
}

StepState StepTables::state(const VariableStore& variables, int32_t group, uint64_t seed) const {
  return {.iteration = variables.iteration_cell(),
          .learning_rate = variables.learning_rate_cell(),
          .scalars = variables.scalar_cells() + first_scalar_[size_t(group)],
          .decision = static_cast<StepScalars*>(decision_.data()),
          .constants = constants_[size_t(group)].data(),
          .seed = seed};
}

void StepTables::fetch_outcome(Stream& stream) {
  const Shape cells{int64_t(sizeof(StepOutcome)) / size_of(DType::i32)};
  copy(stream, fetched_.view(DType::i32, cells), outcome_.view(DType::i32, cells));
}

RateTable::RateTable(const Schedule* schedule, const VariableStore& variables, Pool& pool, Stream& stream)
    : schedule_(schedule), variables_(variables), stream_(stream) {
  if (schedule) table_ = Buffer(pool, kRates * size_of(DType::f64), Purpose::scratch);
}

void RateTable::cover_next_step() {
  if (schedule_ == nullptr || left_-- > 0) return;
  first_ = variables_.iteration();
  std::vector<double> rates;
  for (int64_t i = 0; i < kRates; ++i) rates.push_back(schedule_->at(first_ + i));
  copy(stream_, table_.view(DType::f64, Shape{kRates}),
       ConstView{rates.data(), DType::f64, DeviceKind::cpu, Shape{kRates}});
  stream_.synchronize();
  left_ = kRates - 1;
  ++generation_;
}

LearningRates RateTable::rates() const {
  if (schedule_ == nullptr) return {};
  return {static_cast<const double*>(table_.data()), first_, kRates};
}

}  // namespace lockstep
