// SPDX-License-Identifier: Apache-2.0
// A curve as an SVG picture: axes with round ticks, a title, one line. Writing it needs nothing but text.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace lockstep {

struct PlotPoint {
  double x, y;
};

struct Plot {
  std::string title, x_label, y_label;
  std::vector<PlotPoint> points;  // in the order in which the line joins them
  // A dashed line across the picture at this x, with a word beside it.
  struct Mark {
    double x;
    std::string text;
  };
  std::optional<Mark> mark = {};
};

// A whole SVG document. The y axis begins at zero where nothing is below it. Throws Error(numbers) for points that are
// not finite (or above 1e300), and when there are none.
std::string svg_plot(const Plot& plot);

// Neighbouring multiples of 1, 2 or 5 times a power of ten, with at most `most` (from 2) gaps between them. Apart from
// rounding, the first is not above `lowest`, the last not below `highest`. Needs lowest < highest.
std::vector<double> round_ticks(double lowest, double highest, int most);

}  // namespace lockstep
