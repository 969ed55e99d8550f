// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/batch_upload.h"

#include <cstring>
#include <utility>

namespace lockstep {
namespace {

constexpr int64_t kAlignment = 256;  // alignment of every array, for vector loads

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

BatchUpload::BatchUpload(Stream& stream, Pool& pool, std::function<void(Event&)> wait_for)
    : stream_(stream),
      copies_(stream.device().kind == DeviceKind::cpu ? Stream::cpu() : Stream::cuda(stream.device().index)),
      pool_(pool),
      wait_for_(std::move(wait_for)) {}

// The key comes first, so that it stays where it is.
void BatchUpload::place(std::span<const BatchPart> parts) {
  on_device_.parts.assign(parts.begin(), parts.end());
  pieces_.clear();
  bytes_ = kAlignment;
  for (BatchPart& part : on_device_.parts)
    for (const ConstView* view : views_of(part.batch)) {
      pieces_.emplace_back(*view, bytes_);
      bytes_ += aligned(view->bytes());
    }
}

std::vector<ConstView*> BatchUpload::views_of(Batch& batch) {
  std::vector<ConstView*> views;
  for (Column& column : batch.columns_) views.push_back(&column.values);
  views.push_back(&batch.sample_ids_);
  return views;
}

void BatchUpload::reserve(int64_t bytes) {
  if (!stages_.empty() && bytes <= stages_[0].device.bytes()) return;
  for (Stage& stage : stages_) wait_for_(stage.copied);
  stages_.clear();
  const Device device = stream_.device();
  for (int i = 0; i < 2; ++i) {
    stages_.push_back({PinnedBuffer(device, bytes), Buffer(pool_, bytes, Purpose::data), Event(device), Event(device)});
    stages_.back().read.record(stream_);  // the pool may have given what work that is queued still uses
  }
  ++generation_;
}

const BatchUpload::OnDevice& BatchUpload::bring(std::span<const BatchPart> parts, uint64_t dropout_key) {
  if (stream_.device().kind == DeviceKind::cpu) {
    key_ = dropout_key;
    on_device_.dropout_key = {&key_, DType::i64, DeviceKind::cpu, Shape{}};
    on_device_.parts.assign(parts.begin(), parts.end());
    return on_device_;
  }
  place(parts);
  if (!stages_.empty()) stages_[turn_ % 2].read.record(stream_);  // all that reads the batch before has been queued
  reserve(bytes_);
  Stage& stage = stages_[++turn_ % 2];
  wait_for_(stage.copied);
  auto* host = static_cast<std::byte*>(stage.host.data());
  std::memcpy(host, &dropout_key, sizeof dropout_key);
  for (const auto& [view, offset] : pieces_)
    if (view.bytes() > 0) std::memcpy(host + offset, view.data, size_t(view.bytes()));
  const Shape all{bytes_ / size_of(DType::i64)};
  copies_.wait(stage.read);
  copy(copies_, {stage.device.data(), DType::i64, DeviceKind::cuda, all}, {host, DType::i64, DeviceKind::cpu, all});
  stage.copied.record(copies_);
  stream_.wait(stage.copied);

  auto* base = static_cast<std::byte*>(stage.device.data());
  on_device_.dropout_key = {base, DType::i64, DeviceKind::cuda, Shape{}};
  size_t piece = 0;
  for (BatchPart& part : on_device_.parts)
    for (ConstView* view : views_of(part.batch)) {
      view->data = base + pieces_[piece++].second;
      view->device = DeviceKind::cuda;
    }
  return on_device_;
}

}  // namespace lockstep
