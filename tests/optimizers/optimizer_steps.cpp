// SPDX-License-Identifier: Apache-2.0
// Takes steps of an optimizer with the numbers on standard input and writes the parameter after each step, for
// torch_test.py. Input, separated by white space: name, number of options, pairs of option and value, number of
// dimensions, dimensions, steps, first values, gradients step by step.
#include <iomanip>
#include <iostream>
#include <string>

#include "tests/optimizers/flat_variables.h"

namespace lockstep {
namespace {

template <class T>
T next() {
  T value;
  if (!(std::cin >> value)) fail(ErrorCode::usage, "standard input ends too early, or has a word for a number");
  return value;
}

void take_steps() {
  const auto name = next<std::string>();
  std::map<std::string, double> options;
  for (auto left = next<int64_t>(); left > 0; --left) {
    const auto option = next<std::string>();
    options[option] = next<double>();
  }
  std::vector<int64_t> sizes(size_t(next<int64_t>()));
  for (int64_t& size : sizes) size = next<int64_t>();
  const Shape shape{std::span<const int64_t>(sizes)};
  const auto steps = next<int64_t>();
  std::vector<float> initial(size_t(shape.size()));
  for (float& value : initial) value = next<float>();

  const auto optimizer = make_optimizer(name, options);
  FlatVariables variables(*optimizer, initial, shape);
  std::cout << std::setprecision(9);
  for (int64_t step = 1; step <= steps; ++step) {
    for (float& value : variables.grad) value = next<float>();
    variables.update(*optimizer, step);
    for (const float value : variables.param) std::cout << value << ' ';
    std::cout << '\n';
  }
}

}  // namespace
}  // namespace lockstep

int main() {
  try {
    lockstep::take_steps();
    return 0;
  } catch (const lockstep::Error& error) {
    std::cerr << "optimizer_steps: " << error.what() << "\n";
    return 2;
  }
}
