// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/json_reader.h"

#include <cmath>
#include <vector>

namespace lockstep {
namespace {

std::string printable(const Json& value, size_t longest) {
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > longest ? text.substr(0, longest) + "..." : text;
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
  // The parser takes a NUL for the end of the text.
  check(text.find('\0') == text.npos, ErrorCode::data,
        [&] { return str(where, " is no JSON: it has a NUL at byte ", text.find('\0')); });
  std::vector<size_t> keys;  // seen so far in the objects around
  const auto watch = [&](int depth, Json::parse_event_t event, const Json& parsed) {
    check(depth <= kDeepestJson, ErrorCode::data, [&] {
      return str(where, " nests more than ", kDeepestJson, " levels deep, deeper than any file that is read here");
    });
    if (event == Json::parse_event_t::object_start) keys.push_back(0);
    if (event == Json::parse_event_t::key) ++keys.back();
    if (event == Json::parse_event_t::object_end) {
      check(parsed.size() == keys.back(), ErrorCode::data, [&] {
        return str(where, " has an object with ", keys.back(), " keys, some of them equal; its first is ",
                   shown(Json(parsed.begin().key())));
      });
      keys.pop_back();
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& error) {
    fail(ErrorCode::data, str(where, " is no JSON: ", printable(error.what(), 200)));
  }
}

std::string first_difference(const Json& expected, const Json& got, const std::string& where) {
  if (expected == got) return "";
  if (expected.is_object() && got.is_object()) {
    for (const auto& [key, value] : got.items())
      if (!expected.contains(key)) return str(where, ": the key ", shown(Json(key)), " is unknown");
    for (const auto& [key, value] : expected.items()) {
      if (!got.contains(key)) return str(where, " has no '", key, "'");
      const std::string difference = first_difference(value, got[key], where + "." + key);
      if (!difference.empty()) return difference;
    }
  }
  if (expected.is_array() && got.is_array() && expected.size() != got.size())
    return str(where, ": expected a list of ", expected.size(), ", got one of ", got.size());
  if (expected.is_array() && got.is_array())
    for (size_t i = 0; i < expected.size(); ++i) {
      const std::string difference = first_difference(expected[i], got[i], str(where, "[", i, "]"));
      if (!difference.empty()) return difference;
    }
  return str(where, ": expected ", shown(expected), ", got ", shown(got));
}

std::string shown(const Json& value) {
  if (value.is_structured()) return str("an ", value.type_name());
  return printable(value, 60);
}

JsonReader::JsonReader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
  check(json.is_object(), ErrorCode::data, [&] { return str(where_, ": expected an object, got ", shown(json)); });
}

const Json& JsonReader::at(const char* key) const {
  const auto found = json_.find(key);
  check(found != json_.end(), ErrorCode::data, [&] { return str(where_, " has no '", key, "'"); });
  return *found;
}

std::string JsonReader::text(const char* key) const {
  const Json& value = at(key);
  if (!value.is_string()) wrong("a text", value, key);
  const std::string text = value.get<std::string>();
  // Texts are printed, and a control character could rewrite what the terminal shows.
  for (const char c : text)
    if (uint8_t(c) < 0x20 || c == 0x7f) wrong("a text without control characters", value, key);
  return text;
}

bool JsonReader::flag(const char* key) const {
  const Json& value = at(key);
  if (!value.is_boolean()) wrong("true or false", value, key);
  return value.get<bool>();
}

double JsonReader::real(const char* key) const {
  const Json& value = at(key);
  if (!value.is_number() || !std::isfinite(value.get<double>())) wrong("a number", value, key);
  return value.get<double>();
}

int64_t JsonReader::as_number(const Json& value, const char* key, int64_t least, int64_t most) const {
  const bool too_large =
      value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max());
  if (!value.is_number_integer() || too_large || value.get<int64_t>() < least || value.get<int64_t>() > most)
    wrong(str("a whole number from ", least, " to ", most), value, key);
  return value.get<int64_t>();
}

int64_t JsonReader::number(const char* key, int64_t least, int64_t most) const {
  return as_number(at(key), key, least, most);
}

const Json& JsonReader::list(const char* key) const {
  const Json& value = at(key);
  if (!value.is_array()) wrong("a list", value, key);
  return value;
}

void JsonReader::wrong(const std::string& expected, const Json& got, const char* key) const {
  fail(ErrorCode::data, str(where_, ".", key, ": expected ", expected, ", got ", shown(got)));
}

}  // namespace lockstep
