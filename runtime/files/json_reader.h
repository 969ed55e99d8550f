// SPDX-License-Identifier: Apache-2.0
// Reads JSON from files that anyone may have written: strict parsing, and typed access whose messages say where.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/device/check.h"

namespace lockstep {

using Json = nlohmann::json;

// Throws Error(data) for text that is no JSON, has a key twice in an object, a NUL, or more than kDeepestJson levels.
inline constexpr int kDeepestJson = 16;
Json parse_json(std::string_view text, const std::string& where);

// The first place where two documents differ, "where.a[3].b: expected 1, got 2"; empty when they are equal.
std::string first_difference(const Json& expected, const Json& got, const std::string& where);

// A value as a message can show it: short, and in printable ASCII.
std::string shown(const Json& value);

// Reads one object.
class JsonReader {
 public:
  // Throws Error(data) when `json` is no object.
  JsonReader(const Json& json, std::string where);

  const std::string& where() const { return where_; }
  const Json& at(const char* key) const;
  std::string text(const char* key) const;
  bool flag(const char* key) const;
  double real(const char* key) const;
  int64_t number(const char* key, int64_t least, int64_t most) const;
  const Json& list(const char* key) const;

  // Calls `read` with a JsonReader for each object of a list.
  template <class Read>
  void each(const char* key, Read&& read) const {
    const Json& all = list(key);
    for (size_t i = 0; i < all.size(); ++i) read(JsonReader(all[i], str(where_, ".", key, "[", i, "]")));
  }
  // Calls `read` with each number of a list.
  template <class Read>
  void each_number(const char* key, int64_t least, int64_t most, Read&& read) const {
    for (const Json& value : list(key)) read(as_number(value, key, least, most));
  }
  template <class Enum, size_t N>
  Enum name(const char* key, const Enum (&values)[N]) const {
    const std::string given = text(key);
    std::string known;
    for (const Enum value : values) {
      if (to_string(value) == given) return value;
      known += str(known.empty() ? "" : ", ", to_string(value));
    }
    wrong("one of " + known, at(key), key);
  }

  // Throws Error(data): "<where>.<key>: expected <expected>, got <got>".
  [[noreturn]] void wrong(const std::string& expected, const Json& got, const char* key) const;

 private:
  int64_t as_number(const Json& value, const char* key, int64_t least, int64_t most) const;

  const Json& json_;
  std::string where_;
};

}  // namespace lockstep
