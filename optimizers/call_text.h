// SPDX-License-Identifier: Apache-2.0
// The short text that names a value of a family: "cosine(steps=1000, alpha=0.1)". Values are numbers, true, false, and
// lists of numbers in brackets.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

struct CallText {
  std::string name;
  std::map<std::string, double> numbers;  // true is 1, false 0
  std::map<std::string, std::vector<double>> lists;
};

// Throws Error(usage) that shows the place where the text is not as expected. `what` names the text in the message.
CallText parse_call(std::string_view what, std::string_view text);

}  // namespace lockstep
