// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

namespace lockstep {
namespace {

struct StoredDType {
  DType dtype;
  std::string_view name;
};
constexpr StoredDType kStoredDTypes[] = {{DType::f32, "F32"}, {DType::bf16, "BF16"}, {DType::f16, "F16"},
                                         {DType::f64, "F64"}, {DType::i32, "I32"},   {DType::i64, "I64"}};
constexpr std::string_view kMetadataKey = "__metadata__";

std::optional<DType> dtype_named(std::string_view name) {
  for (const StoredDType& stored : kStoredDTypes)
    if (stored.name == name) return stored.dtype;
  return std::nullopt;
}

std::string dtype_names() {
  std::string names;
  for (const StoredDType& stored : kStoredDTypes) names += str(names.empty() ? "" : ", ", stored.name);
  return names;
}

// Writes a value as JSON text. The library's own exception would not name the file.
std::string json_text(const nlohmann::json& value) {
  try {
    return value.dump();
  } catch (const nlohmann::json::exception&) {
    fail(ErrorCode::data, "a tensor name or metadata text to be saved is no valid UTF-8; use plain names");
  }
}

// Receives the events of a streaming JSON parse; the grammar of a header is the small state machine below:
//   { "__metadata__": {string: string...}, name: {"dtype": string, "shape": [int...], "data_offsets": [int, int]}... }
// Each event costs constant time, so the whole parse is linear in the text whatever it says.
class HeaderParser {
 public:
  explicit HeaderParser(std::string path) : path_(std::move(path)) {}

  SafetensorsHeader take_header() { return std::move(header_); }

  bool start_object(size_t) {
    switch (place_) {
      case Place::start:
        return go(Place::names);
      case Place::metadata_value:
        return go(Place::metadata);
      case Place::tensor_value:
        return go(Place::fields);
      default:
        refuse("an object");
    }
  }

  bool end_object() {
    switch (place_) {
      case Place::names:
        return go(Place::end);
      case Place::metadata:
        return go(Place::names);
      default:
        finish_tensor();
        return go(Place::names);
    }
  }

  bool key(std::string& text) {
    if (place_ == Place::metadata) {
      metadata_key_ = text;
      return go(Place::metadata_text);
    }
    return place_ == Place::names ? start_entry(text) : start_field(text);
  }

  bool string(std::string& text) {
    if (place_ == Place::metadata_text) {
      check(header_.metadata.emplace(metadata_key_, text).second, ErrorCode::data,
            [&] { return about(str("has two metadata texts named '", metadata_key_, "'")); });
      return go(Place::metadata);
    }
    if (place_ != Place::dtype) refuse("a text");
    const std::optional<DType> dtype = dtype_named(text);
    check(dtype.has_value(), ErrorCode::data, [&] {
      return about(
          str("has tensor '", tensor_.name, "' of dtype '", text.substr(0, 16), "'; Lockstep reads ", dtype_names()));
    });
    tensor_.dtype = *dtype;
    return go(Place::fields);
  }

  bool start_array(size_t) {
    if (in_array_ || (place_ != Place::shape && place_ != Place::offsets)) refuse("an array");
    in_array_ = true;
    return true;
  }

  bool end_array() {
    in_array_ = false;
    check(place_ == Place::shape || offsets_.size() == 2, ErrorCode::data, [&] {
      return about(str("has tensor '", tensor_.name, "' with ", offsets_.size(), " data_offsets; two are expected"));
    });
    return go(Place::fields);
  }

  bool number_unsigned(uint64_t value) {
    if (!in_array_) refuse("a number");
    check(value <= uint64_t(std::numeric_limits<int64_t>::max()), ErrorCode::data,
          [&] { return about(str("has the number ", value, ", which is over 2^63 - 1")); });
    std::vector<int64_t>& numbers = place_ == Place::shape ? tensor_.shape : offsets_;
    const size_t limit = place_ == Place::shape ? kMaxStoredRank : 2;
    check(numbers.size() < limit, ErrorCode::data, [&] {
      return about(str("has tensor '", tensor_.name, "' with more than ", limit,
                       place_ == Place::shape ? " dimensions" : " data_offsets"));
    });
    numbers.push_back(int64_t(value));
    return true;
  }

  bool number_integer(int64_t) { refuse("a negative number"); }
  bool number_float(double, const std::string&) { refuse("a number that is not a whole one below 2^63"); }
  bool boolean(bool) { refuse("true or false"); }
  bool null() {
    if (place_ != Place::metadata_value) refuse("null");
    return go(Place::names);  // as if there were no metadata
  }
  bool binary(std::vector<uint8_t>&) { refuse("binary data"); }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) {
    fail(ErrorCode::data, about(str("has a header that is no valid JSON at byte ", position, " of it")));
  }

 private:
  enum class Place {
    start,
    names,
    metadata_value,
    metadata,
    metadata_text,
    tensor_value,
    fields,
    dtype,
    shape,
    offsets,
    end
  };

  bool go(Place place) {
    place_ = place;
    return true;
  }

  std::string about(const std::string& what) const {
    return str("safetensors file '", path_, "' ", what, "; it is damaged or of another format");
  }

  [[noreturn]] void refuse(std::string_view what) {
    fail(ErrorCode::data, about(str("has ", what, " in its header where none may be",
                                    tensor_.name.empty() ? "" : " (at or after tensor '" + tensor_.name + "')")));
  }

  bool start_entry(const std::string& name) {
    if (name == kMetadataKey) {
      check(!std::exchange(has_metadata_, true), ErrorCode::data, [&] { return about("has __metadata__ twice"); });
      return go(Place::metadata_value);
    }
    check(name.size() <= kMaxNameBytes, ErrorCode::data,
          [&] { return about(str("has a tensor name of ", name.size(), " bytes, more than ", kMaxNameBytes)); });
    // Names are printed, and a control character could rewrite what the terminal shows.
    check(std::none_of(name.begin(), name.end(), [](char c) { return uint8_t(c) < 0x20 || c == 0x7f; }),
          ErrorCode::data, [&] { return about("has a control character in a tensor name"); });
    check(header_.tensors.size() < kMaxTensorsInFile, ErrorCode::data,
          [&] { return about(str("has more than ", kMaxTensorsInFile, " tensors")); });
    tensor_ = StoredTensor{};
    tensor_.name = name;
    offsets_.clear();
    has_dtype_ = has_shape_ = has_offsets_ = false;
    return go(Place::tensor_value);
  }

  bool start_field(const std::string& field) {
    if (field == "dtype") return start_field_once(field, has_dtype_, Place::dtype);
    if (field == "shape") return start_field_once(field, has_shape_, Place::shape);
    if (field == "data_offsets") return start_field_once(field, has_offsets_, Place::offsets);
    fail(ErrorCode::data, about(str("has an unknown field for tensor '", tensor_.name, "'")));
  }

  bool start_field_once(const std::string& field, bool& seen, Place place) {
    check(!std::exchange(seen, true), ErrorCode::data,
          [&] { return about(str("has '", field, "' twice for tensor '", tensor_.name, "'")); });
    return go(place);
  }

  void finish_tensor() {
    check(has_dtype_ && has_shape_ && has_offsets_, ErrorCode::data,
          [&] { return about(str("has tensor '", tensor_.name, "' without one of dtype, shape and data_offsets")); });
    check(offsets_[0] <= offsets_[1], ErrorCode::data,
          [&] { return about(str("has tensor '", tensor_.name, "' that ends before it begins")); });
    tensor_.begin = offsets_[0];
    tensor_.bytes = offsets_[1] - offsets_[0];
    const int64_t expected = stored_bytes(path_, tensor_);
    check(tensor_.bytes == expected, ErrorCode::data, [&] {
      return about(
          str("gives tensor '", tensor_.name, "' ", tensor_.bytes, " bytes; its dtype and shape take ", expected));
    });
    header_.tensors.push_back(std::move(tensor_));
  }

  std::string path_;
  SafetensorsHeader header_;
  Place place_ = Place::start;
  StoredTensor tensor_;
  std::vector<int64_t> offsets_;
  std::string metadata_key_;
  bool in_array_ = false;
  bool has_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

void check_text(const std::string& path, std::string_view text) {
  check(!text.empty() && text.front() == '{', ErrorCode::data, [&] {
    return str("'", path, "' is no safetensors file: expected a header that starts with '{'; name the file that ",
               "`lockstep train --save` wrote");
  });
  // The JSON parser takes a NUL for the end. The format pads with spaces; other writers use any white space.
  check(text.find('\0') == text.npos && text[text.find_last_not_of(" \t\n\r")] == '}', ErrorCode::data, [&] {
    return str("safetensors file '", path, "' has more than white space behind its header; it is damaged");
  });
}

void check_contiguous(const std::string& path, const std::vector<StoredTensor>& tensors, int64_t data_bytes) {
  std::vector<const StoredTensor*> in_order;
  in_order.reserve(tensors.size());
  for (const StoredTensor& tensor : tensors) in_order.push_back(&tensor);
  std::ranges::sort(in_order, {}, [](const StoredTensor* tensor) { return std::pair(tensor->begin, tensor->bytes); });
  int64_t end = 0;
  for (const StoredTensor* tensor : in_order) {
    check(tensor->begin == end, ErrorCode::data, [&] {
      return str("safetensors file '", path, "': tensor '", tensor->name, "' begins at byte ", tensor->begin,
                 " of the data, expected ", end, " (no hole and no overlap); the file is damaged");
    });
    end = tensor->begin + tensor->bytes;
  }
  check(end == data_bytes, ErrorCode::data, [&] {
    return str("safetensors file '", path, "' holds ", data_bytes, " bytes of data, expected ", end,
               " by its header; it is ", data_bytes < end ? "truncated" : "damaged", ", use another copy");
  });
}

}  // namespace

std::string_view safetensors_name(DType dtype) {
  for (const StoredDType& stored : kStoredDTypes)
    if (stored.dtype == dtype) return stored.name;
  fail(ErrorCode::internal, "a dtype without a name in safetensors");
}

int64_t stored_bytes(const std::string& path, const StoredTensor& tensor) {
  int64_t bytes = size_of(tensor.dtype);
  for (const int64_t size : tensor.shape)
    check(size >= 0 && !__builtin_mul_overflow(bytes, size, &bytes), ErrorCode::data, [&] {
      return str("safetensors file '", path, "': the dimensions of tensor '", tensor.name,
                 "' are negative or multiply to more than 2^63 bytes");
    });
  return bytes;
}

SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view text, int64_t data_bytes) {
  check_text(path, text);
  HeaderParser parser(path);
  nlohmann::json::sax_parse(text.begin(), text.end(), &parser);
  SafetensorsHeader header = parser.take_header();
  // Two tensors of one name often share their bytes too, and then the name says more.
  std::ranges::sort(header.tensors, {}, &StoredTensor::name);
  const auto twin = std::ranges::adjacent_find(header.tensors, {}, &StoredTensor::name);
  check(twin == header.tensors.end(), ErrorCode::data,
        [&] { return str("safetensors file '", path, "' has two tensors named '", twin->name, "'; it is damaged"); });
  check_contiguous(path, header.tensors, data_bytes);
  return header;
}

std::string format_safetensors_header(std::span<const StoredTensor> tensors,
                                      const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) text += str('"', kMetadataKey, "\":", json_text(metadata));
  for (const StoredTensor& tensor : tensors) {
    if (text.size() > 1) text += ',';
    text += str(json_text(tensor.name), ":{\"dtype\":\"", safetensors_name(tensor.dtype),
                "\",\"shape\":", json_text(tensor.shape), ",\"data_offsets\":[", tensor.begin, ",",
                tensor.begin + tensor.bytes, "]}");
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace lockstep
