// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/variable_store.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/math.h"
#include "kernels/philox.h"
#include "kernels/pointwise.h"
#include "runtime/plan/planner.h"

namespace lockstep {
namespace {

// Uniform in [0, 1) with 24 bits, one Philox draw per four elements.
float uniform_at(uint64_t key, uint64_t path_hash, int64_t element) {
  const Philox4 draw = philox4x32(key, uint64_t(element / 4), path_hash);
  return float(draw.v[element % 4] >> 8) * 0x1p-24f;
}

// Normal with deviation 1, by the polar method (Marsaglia & Bray 1964): of the pairs that a key draws, the first inside
// the unit circle counts. It takes + - * /, sqrt and our logarithm, so that every machine has the same values.
float normal_at(uint64_t key, uint64_t path_hash, int64_t element) {
  const auto coordinate = [](uint32_t bits) { return float(bits >> 8) * 0x1p-23f - 1 + 0x1p-24f; };
  for (uint64_t attempt = 0;; ++attempt) {
    const Philox4 draw = philox4x32(key, uint64_t(element), path_hash + attempt);
    for (int pair = 0; pair < 4; pair += 2) {
      const float x = coordinate(draw.v[pair]), y = coordinate(draw.v[pair + 1]), square = x * x + y * y;
      if (square < 1) return x * std::sqrt(-2 * log_f32(square) / square);
    }
  }
}

template <class T>
void fill_with(const View& values, const VariableDeclaration& variable, uint64_t seed) {
  const Initializer& initializer = variable.initializer;
  T* out = data<T>(values);
  if (initializer.kind == Initializer::Kind::constant)
    return void(std::fill_n(out, values.size(), T(initializer.value)));
  const uint64_t path_hash = XXH3_64bits(variable.path.data(), variable.path.size());
  const float bound = float(initializer.value);
  if (initializer.kind == Initializer::Kind::normal) {
    for (int64_t i = 0; i < values.size(); ++i) out[i] = T(normal_at(seed, path_hash, i) * bound);
    return;
  }
  for (int64_t i = 0; i < values.size(); ++i) out[i] = T((uniform_at(seed, path_hash, i) * 2 - 1) * bound);
}

// Fills in the first values of a variable, in itself or in its master.
void fill_initial(const View& values, const VariableDeclaration& variable, uint64_t seed) {
  switch (values.dtype) {
    case DType::f32:
      return fill_with<float>(values, variable, seed);
    case DType::bf16:
      return fill_with<bfloat16>(values, variable, seed);
    case DType::f16:
      return fill_with<float16>(values, variable, seed);
    case DType::f64:
      return fill_with<double>(values, variable, seed);
    case DType::i32:
      return fill_with<int32_t>(values, variable, seed);
    case DType::i64:
      return fill_with<int64_t>(values, variable, seed);
  }
}

}  // namespace

HostValue::HostValue(const ConstView& view, Stream& stream) : bytes_(size_t(view.bytes())) {
  view_ = {bytes_.data(), view.dtype, DeviceKind::cpu, view.shape};
  copy(stream, {bytes_.data(), view.dtype, DeviceKind::cpu, view.shape}, view);
  stream.synchronize();
}

VariableStore::VariableStore(const Plan& plan, const VariableTable& declarations, const OptimizerSet& optimizer,
                             Communicator& communicator, Pool& pool, uint64_t seed, Stream* stream)
    : plan_(plan), pool_(pool), stream_(stream), holds_shared_copy_(communicator.place().local_rank == 0) {
  check_runnable(plan, pool.device().kind);
  check((stream != nullptr) == (device() == DeviceKind::cuda), ErrorCode::internal,
        "a variable store on a GPU needs the stream that computes there, and one on the CPU has none");
  iteration_ = &plan.at(str(optimizer.name(), "/iteration"));
  learning_rate_ = &plan.at(str(optimizer.name(), "/learning_rate"));
  if (optimizer.scaling()) loss_scale_ = optimizer.scale_scalar();
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    const PlannedBucket& bucket = plan.buckets[b];
    if (b > 0 && plan.buckets[b - 1].dtype == bucket.dtype)
      dtype_ranges_.back().end = bucket.end;
    else
      dtype_ranges_.push_back({bucket.begin, bucket.end, bucket.dtype, b == 0 ? 0 : parameter_byte(bucket.begin)});
  }
  device() == DeviceKind::cpu ? allocate_on_host(communicator) : allocate_on_device();
  fill_all(communicator, [&](const Sections& sections) { initialize(sections, declarations, optimizer, seed); });
  for (size_t i = 0; i < declarations.declarations().size(); ++i)
    values_.push_back(Tensor::borrow(view(plan.variables[i])));
}

VariableStore::~VariableStore() {
  if (device() == DeviceKind::cuda) return;  // buffers leave the memory ledger by themselves
  pool_.enter(Purpose::parameters, -memory().parameters);
  pool_.enter(Purpose::slots, -memory().slots);
  pool_.enter(Purpose::scalars, -memory().scalars);
}

void VariableStore::allocate_on_host(Communicator& communicator) {
  shared_ = communicator.allocate_shared(holds_shared_copy_ ? node_copy().parameters + node_copy().slots : 0);
  local_.resize(size_t(plan_.local_bytes / 8));
  auto* base = static_cast<char*>(shared_->segment(0));
  sections_ = {base, base + node_copy().parameters, reinterpret_cast<char*>(local_.data())};
  pool_.enter(Purpose::parameters, memory().parameters);
  pool_.enter(Purpose::slots, memory().slots);
  pool_.enter(Purpose::scalars, memory().scalars);
}

void VariableStore::allocate_on_device() {
  device_parameters_ = Buffer(pool_, node_copy().parameters, Purpose::parameters);
  device_slots_ = Buffer(pool_, node_copy().slots, Purpose::slots);
  device_local_ = Buffer(pool_, plan_.local_bytes, Purpose::scalars);
  sections_ = {static_cast<char*>(device_parameters_.data()), static_cast<char*>(device_slots_.data()),
               static_cast<char*>(device_local_.data())};
}

// What this rank's ledger carries; one rank of the node enters the node's copy.
PlannedMemory VariableStore::memory() const {
  PlannedMemory memory = holds_shared_copy_ ? node_copy() : PlannedMemory{};
  memory.scalars = plan_.local_bytes;
  return memory;
}

PlannedMemory VariableStore::node_copy() const {
  return {.parameters = plan_.parameter_bytes() + plan_.frozen_bytes,
          .slots = plan_.arena_elements * size_of(DType::f32) * plan_.slots};
}

View VariableStore::view_in(const Sections& sections, const PlannedVariable& variable, DeviceKind device) const {
  const auto at = [&]() -> char* {
    switch (variable.section) {
      case Section::trainable:
        return sections.parameters + parameter_byte(variable.offset);
      case Section::frozen:
        return sections.parameters + plan_.parameter_bytes() + variable.offset;
      case Section::slot:
        return sections.slots + (plan_.arena_elements * variable.slot + variable.offset) * size_of(DType::f32);
      case Section::local:
        return sections.local + variable.offset;
    }
    return nullptr;
  };
  return {at(), variable.dtype, device, variable.shape};
}

View VariableStore::view(const PlannedVariable& variable) const { return view_in(sections_, variable, device()); }

HostValue VariableStore::host(const PlannedVariable& variable) const {
  return stream_ ? HostValue(view(variable), *stream_) : HostValue(view(variable));
}

// Finds the last range that begins at or before the element; what lies behind all of them is empty.
const VariableStore::DtypeRange& VariableStore::dtype_range_of(int64_t element) const {
  size_t s = dtype_ranges_.size() - 1;
  while (s > 0 && dtype_ranges_[s].begin > element) --s;
  return dtype_ranges_[s];
}

int64_t VariableStore::parameter_byte(int64_t element) const {
  const DtypeRange& range = dtype_range_of(element);
  return range.byte + (element - range.begin) * size_of(range.dtype);
}

View VariableStore::parameters(int64_t begin, int64_t end) const {
  return {sections_.parameters + parameter_byte(begin), dtype_range_of(begin).dtype, device(), Shape{end - begin}};
}

bool VariableStore::has_masters(int64_t element) const {
  return plan_.master_slot >= 0 && is_narrow(dtype_range_of(element).dtype);
}

void VariableStore::round_masters_into_parameters(Stream& stream, int64_t begin, int64_t end) const {
  if (const View copy = working_copy(begin, end); copy.data != nullptr)
    launch(stream, Copy{copy, master_or_parameter(begin, end)});
}

View VariableStore::master_or_parameter(int64_t begin, int64_t end) const {
  return has_masters(begin) ? slot(plan_.master_slot, begin, end) : parameters(begin, end);
}

View VariableStore::working_copy(int64_t begin, int64_t end) const {
  return has_masters(begin) ? parameters(begin, end) : View{};
}

View VariableStore::slot(int32_t slot, int64_t begin, int64_t end) const {
  char* arena = sections_.slots + plan_.arena_elements * slot * size_of(DType::f32);
  return {arena + begin * size_of(DType::f32), DType::f32, device(), Shape{end - begin}};
}

int64_t VariableStore::iteration() const { return *data<int64_t>(host(*iteration_).view()); }
double VariableStore::learning_rate() const { return *data<double>(host(*learning_rate_).view()); }
void VariableStore::set_iteration(int64_t iteration) { write(*iteration_, &iteration); }
void VariableStore::set_learning_rate(double rate) { write(*learning_rate_, &rate); }

void VariableStore::write(const PlannedVariable& variable, const void* value) {
  const ConstView from{value, variable.dtype, DeviceKind::cpu, variable.shape};
  if (stream_) {
    copy(*stream_, view(variable), from);
    stream_->synchronize();
  } else {
    std::memcpy(view(variable).data, value, size_t(from.bytes()));
  }
}

void VariableStore::initialize(const Sections& sections, const VariableTable& declarations,
                               const OptimizerSet& optimizer, uint64_t seed) {
  const auto at = [&](const PlannedVariable& variable) { return view_in(sections, variable, DeviceKind::cpu); };
  Stream stream = Stream::cpu();
  std::vector<View> updated;  // for each variable of the model: its master or itself
  for (size_t i = 0; i < declarations.declarations().size(); ++i) {
    updated.push_back(at(plan_.variables[i]));
    fill_initial(updated.back(), declarations.declarations()[i], seed);
  }
  for (const PlannedVariable& variable : plan_.variables) {
    if (variable.section != Section::slot || variable.slot != plan_.master_slot) continue;
    updated[size_t(variable.parameter)] = at(variable);
    fill_initial(at(variable), declarations.declarations()[size_t(variable.parameter)], seed);
  }
  for (const PlannedVariable& variable : plan_.variables) {
    if (variable.section != Section::slot || variable.slot == plan_.master_slot) continue;
    const int32_t group = optimizer.group_of(plan_.variables[size_t(variable.parameter)].path);
    const Slot slot = optimizer.slot(group, variable.slot);
    if (slot.starts_as_parameter)
      launch(stream, Copy{at(variable), updated[size_t(variable.parameter)]});
    else
      launch(stream, lockstep::Fill{at(variable), slot.initial});
  }
  double* rate = data<double>(at(*learning_rate_));
  *rate = optimizer.learning_rate();
  for (size_t i = 0; i < optimizer.scalars().size(); ++i) rate[1 + i] = optimizer.scalars()[i].initial;
}

void VariableStore::fill_all(Communicator& communicator, const FillSections& fill) {
  if (device() != DeviceKind::cpu) return broadcast_to_device(communicator, fill);
  if (communicator.rank() == 0) fill(sections_);
  broadcast_on_host(communicator);
}

void VariableStore::fill(Communicator& communicator, const Fill& fill) {
  communicator.barrier();  // nobody still reads the old values
  fill_all(communicator, [&](const Sections& sections) {
    for (const PlannedVariable& variable : plan_.variables)
      fill(variable, view_in(sections, variable, DeviceKind::cpu));
  });
}

void VariableStore::broadcast_on_host(Communicator& communicator) {
  Stream stream = Stream::cpu();
  // The window is one per node: the first rank of each node receives for all of it.
  const std::unique_ptr<Communicator> leaders = communicator.split(holds_shared_copy_ ? 0 : 1, communicator.rank());
  const int64_t elements = (node_copy().parameters + node_copy().slots) / size_of(DType::f32);
  if (holds_shared_copy_)
    leaders->broadcast(View{sections_.parameters, DType::f32, DeviceKind::cpu, Shape{elements}}, 0, stream)
        .wait(stream);
  const View cells{local_.data(), DType::i64, DeviceKind::cpu, Shape{int64_t(local_.size())}};
  communicator.broadcast(cells, 0, stream).wait(stream);
  communicator.barrier();
}

// It goes through memory of the host: the same bytes as on CPU ranks, whatever carries gradients later.
void VariableStore::broadcast_to_device(Communicator& communicator, const FillSections& fill) {
  Stream host = Stream::cpu();
  const PlannedMemory bytes = node_copy();
  std::vector<int64_t> image(size_t((bytes.parameters + bytes.slots + plan_.local_bytes) / 8));
  auto* base = reinterpret_cast<char*>(image.data());
  const Sections sections{base, base + bytes.parameters, base + bytes.parameters + bytes.slots};
  if (communicator.rank() == 0) fill(sections);
  communicator.broadcast(View{base, DType::i64, DeviceKind::cpu, Shape{int64_t(image.size())}}, 0, host).wait(host);
  const auto upload = [&](const Buffer& to, const char* from) {
    const Shape all{to.bytes() / 8};
    if (to.bytes() > 0) copy(*stream_, to.view(DType::i64, all), ConstView{from, DType::i64, DeviceKind::cpu, all});
  };
  upload(device_parameters_, sections.parameters);
  upload(device_slots_, sections.slots);
  upload(device_local_, sections.local);
  stream_->synchronize();
}

}  // namespace lockstep
