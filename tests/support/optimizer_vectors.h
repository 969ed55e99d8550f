// SPDX-License-Identifier: Apache-2.0
// The numbers of Keras' own tests and float64 evaluations of its formulas (tests/optimizers/vectors.json), for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/device/view.h"

namespace lockstep::vectors {

using nlohmann::json;

inline json read() {
  std::ifstream file(OPTIMIZER_VECTORS);
  EXPECT_TRUE(file) << OPTIMIZER_VECTORS;
  return json::parse(file).at("vectors");
}

// Our name of the optimizer that a vector is about; empty where it is about none.
inline std::string optimizer_of(const json& vector) {
  const json& from = vector.contains("inner") ? vector.at("inner") : vector;
  std::string name = from.value("optimizer", vector.at("kind") == "muon" ? "muon" : "");
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
  return name == "schedulefreeadamw" ? "schedule_free_adamw" : name;
}

inline std::vector<double> numbers(const json& value) {
  if (value.is_number()) return {value.get<double>()};
  std::vector<double> all;
  for (const json& part : value)
    for (const double x : numbers(part)) all.push_back(x);
  return all;
}

inline std::vector<float> floats(const json& value) {
  const std::vector<double> all = numbers(value);
  return {all.begin(), all.end()};
}

inline Shape shape_of(const json& value) {
  std::vector<int64_t> sizes;
  for (const json* part = &value; part->is_array(); part = &part->at(0)) sizes.push_back(int64_t(part->size()));
  return Shape(std::span<const int64_t>(sizes));
}

// |actual - expected| <= absolute + relative * |expected|
template <class Actual>
void expect_close(const Actual& actual, const json& expected, double absolute, double relative,
                  const std::string& what) {
  const std::vector<double> wanted = numbers(expected);
  ASSERT_EQ(actual.size(), wanted.size()) << what;
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_NEAR(actual[i], wanted[i], absolute + relative * std::abs(wanted[i])) << what << " element " << i;
}

// Against float64: a step rounds the parameter once or twice (2^-24 relative each) and the move a few times; the
// vectors have at most five steps of moves below one.
inline constexpr double kReferenceTolerance = 6e-7;

}  // namespace lockstep::vectors
