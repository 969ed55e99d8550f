// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/safetensors.h"

#include <algorithm>
#include <bit>
#include <tuple>
#include <utility>

#include "kernels/device/check.h"
#include "runtime/files/atomic_file.h"

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format is little-endian, and bytes are stored as they are");

constexpr int64_t kLengthBytes = 8;  // the length of the header, which precedes it

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += str(i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

// Orders the tensors as their bytes lie in the file, each with its place.
std::vector<std::pair<StoredTensor, const void*>> place(const std::string& path, std::span<const NamedTensor> tensors) {
  std::vector<std::pair<StoredTensor, const void*>> placed;
  placed.reserve(tensors.size());
  for (const NamedTensor& tensor : tensors)
    placed.push_back({{.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape}, tensor.data});
  std::ranges::sort(placed, {}, [](const auto& one) {
    return std::tuple(-size_of(one.first.dtype), std::string_view(one.first.name));
  });
  int64_t end = 0;
  for (auto& [tensor, data] : placed) {
    tensor.begin = end;
    tensor.bytes = stored_bytes(path, tensor);
    end += tensor.bytes;
  }
  return placed;
}

}  // namespace

int64_t SafetensorsLayout::bytes() const {
  auto sum = int64_t(head.size());
  for (const std::span<const std::byte> piece : data) sum += int64_t(piece.size());
  return sum;
}

SafetensorsLayout lay_out_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                                      const std::map<std::string, std::string>& metadata) {
  const auto placed = place(path, tensors);
  std::vector<StoredTensor> entries;
  entries.reserve(placed.size());
  SafetensorsLayout layout;
  for (const auto& [tensor, data] : placed) {
    entries.push_back(tensor);
    layout.data.emplace_back(static_cast<const std::byte*>(data), size_t(tensor.bytes));
  }
  const std::string header = format_safetensors_header(entries, metadata);
  // We do not write what we would refuse to read: repeated names, control characters, ranks over the limit.
  const int64_t data_bytes = entries.empty() ? 0 : entries.back().begin + entries.back().bytes;
  parse_safetensors_header(path, header, data_bytes);
  const uint64_t header_bytes = header.size();
  layout.head.assign(reinterpret_cast<const char*>(&header_bytes), kLengthBytes);
  layout.head += header;
  return layout;
}

void write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const SafetensorsLayout layout = lay_out_safetensors(path, tensors, metadata);
  AtomicFile file(path);
  file.write(layout.head.data(), int64_t(layout.head.size()));
  for (const std::span<const std::byte> piece : layout.data) file.write(piece.data(), int64_t(piece.size()));
  file.commit();
}

SafetensorsFile::SafetensorsFile(std::string path) : path_(std::move(path)) {
  ReadableFile opened = open_to_read(path_, Links::refuse);
  file_ = std::move(opened.descriptor);
  bytes_ = opened.bytes;
  uint64_t header_bytes = 0;
  check(read_at(file_, path_, &header_bytes, kLengthBytes, 0) == kLengthBytes, ErrorCode::data, [&] {
    return str("'", path_, "' is no safetensors file: expected at least ", kLengthBytes, " bytes, got ", opened.bytes,
               "; use another copy");
  });
  check(header_bytes <= uint64_t(std::min(kMaxHeaderBytes, opened.bytes - kLengthBytes)), ErrorCode::data, [&] {
    return str("'", path_, "' is no safetensors file, or truncated: it announces a header of ", header_bytes,
               " bytes, and has ", opened.bytes, " (headers end at ", kMaxHeaderBytes, "); use another copy");
  });
  std::string text(header_bytes, '\0');
  data_offset_ = kLengthBytes + int64_t(header_bytes);
  check(read_at(file_, path_, text.data(), int64_t(header_bytes), kLengthBytes) == int64_t(header_bytes),
        ErrorCode::file, [&] { return str("'", path_, "' shrank while it was read; load it when nothing writes it"); });
  header_ = parse_safetensors_header(path_, text, opened.bytes - data_offset_);
}

const StoredTensor* SafetensorsFile::find(const std::string& name) const {
  const auto found = std::ranges::lower_bound(header_.tensors, name, {}, &StoredTensor::name);
  return found != header_.tensors.end() && found->name == name ? &*found : nullptr;
}

const StoredTensor& SafetensorsFile::at(const std::string& name) const {
  const StoredTensor* tensor = find(name);
  check(tensor != nullptr, ErrorCode::data, [&] {
    std::string have;
    for (size_t i = 0; i < std::min<size_t>(header_.tensors.size(), 8); ++i)
      have += str(i == 0 ? "" : ", ", header_.tensors[i].name);
    return str("'", path_, "' has no tensor '", name, "'; it has ", header_.tensors.size(), " tensors: ", have,
               header_.tensors.size() > 8 ? ", ..." : "", "; use weights of the same --model");
  });
  return *tensor;
}

void SafetensorsFile::read(const std::string& name, std::span<std::byte> destination) const {
  const StoredTensor& tensor = at(name);
  check(int64_t(destination.size()) == tensor.bytes, ErrorCode::data, [&] {
    return str("'", path_, "': tensor '", name, "' has ", tensor.bytes, " bytes, expected ", destination.size(),
               "; use weights of the same --model");
  });
  const int64_t got = read_at(file_, path_, destination.data(), tensor.bytes, data_offset_ + tensor.begin);
  check(got == tensor.bytes, ErrorCode::file,
        [&] { return str("'", path_, "' shrank while it was read; load it when nothing writes it"); });
}

void SafetensorsFile::read(const std::string& name, const View& destination) const {
  const StoredTensor& tensor = at(name);
  check(tensor.dtype == destination.dtype && std::ranges::equal(tensor.shape, destination.shape.sizes()),
        ErrorCode::data, [&] {
          return str("'", path_, "': tensor '", name, "' is ", safetensors_name(tensor.dtype), " ",
                     shape_text(tensor.shape), ", expected ", safetensors_name(destination.dtype), " ",
                     shape_text(destination.shape.sizes()), "; use weights of the same --model");
        });
  check(destination.device == DeviceKind::cpu, ErrorCode::internal, "tensors are read from files into host memory");
  read(name, std::span(static_cast<std::byte*>(destination.data), size_t(destination.bytes())));
}

}  // namespace lockstep
