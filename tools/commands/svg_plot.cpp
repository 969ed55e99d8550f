// SPDX-License-Identifier: Apache-2.0
#include "tools/commands/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

// The picture in pixels, and the frame of the axes in it.
constexpr double kWidth = 800, kHeight = 450;
// Magnitudes whose ticks are doubles, too.
constexpr double kLargest = 1e300;
constexpr double kLeft = 90, kRight = 770, kTop = 50, kBottom = 390;

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&')
      safe += "&amp;";
    else if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else
      safe += c;
  }
  return safe;
}

// One direction: maps values between the outer ticks to pixels.
struct Axis {
  std::vector<double> ticks;
  double first_pixel, last_pixel;

  double pixel(double value) const {
    const double share = (value - ticks.front()) / (ticks.back() - ticks.front());
    return first_pixel + share * (last_pixel - first_pixel);
  }
};

Axis make_axis(double lowest, double highest, double first_pixel, double last_pixel) {
  // A single value needs some room beside it; so do values that no step could tell apart.
  if (highest - lowest < 1 / kLargest) highest = lowest + std::max(1.0, std::abs(lowest));
  return {round_ticks(lowest, highest, 8), first_pixel, last_pixel};
}

std::string line(double x1, double y1, double x2, double y2, const char* color) {
  return fmt::format(R"(<line x1="{:.2f}" y1="{:.2f}" x2="{:.2f}" y2="{:.2f}" stroke="{}"/>)", x1, y1, x2, y2, color) +
         "\n";
}

std::string words(double x, double y, const char* anchor, double size, const std::string& text,
                  const std::string& more = "") {
  return fmt::format(R"(<text x="{:.2f}" y="{:.2f}" text-anchor="{}" font-size="{:.1f}"{}>{}</text>)", x, y, anchor,
                     size, more, escaped(text)) +
         "\n";
}

// Multiples of a step carry its rounding: 3 * 1e-4 is 0.00030000000000000003.
std::string tick_text(double tick) { return fmt::format("{:.10g}", tick); }

std::string draw_axes(const Axis& x, const Axis& y) {
  std::string svg;
  for (const double tick : x.ticks) {
    svg += line(x.pixel(tick), kTop, x.pixel(tick), kBottom, "#ddd");
    svg += words(x.pixel(tick), kBottom + 18, "middle", 12, tick_text(tick));
  }
  for (const double tick : y.ticks) {
    svg += line(kLeft, y.pixel(tick), kRight, y.pixel(tick), "#ddd");
    svg += words(kLeft - 8, y.pixel(tick) + 4, "end", 12, tick_text(tick));
  }
  svg += line(kLeft, kBottom, kRight, kBottom, "#333");
  return svg + line(kLeft, kTop, kLeft, kBottom, "#333");
}

std::string draw_words(const Plot& plot) {
  // Letters are about 0.6 of their size wide; a long title becomes smaller.
  const double title_size = std::min(15.0, (kWidth - 20) / (0.6 * double(std::max<size_t>(1, plot.title.size()))));
  const double middle = (kTop + kBottom) / 2;
  return words(kWidth / 2, 30, "middle", title_size, plot.title) +
         words((kLeft + kRight) / 2, kHeight - 15, "middle", 13, plot.x_label) +
         words(20, middle, "middle", 13, plot.y_label, fmt::format(" transform=\"rotate(-90 20 {})\"", middle));
}

std::string draw_curve(const Plot& plot, const Axis& x, const Axis& y) {
  std::string places;
  for (const PlotPoint& point : plot.points)
    places += fmt::format("{}{:.2f},{:.2f}", places.empty() ? "" : " ", x.pixel(point.x), y.pixel(point.y));
  return fmt::format(R"(<polyline points="{}" fill="none" stroke="#1f6fb4" stroke-width="2"/>)", places) + "\n";
}

std::string draw_mark(const Plot::Mark& mark, const Axis& x) {
  const double at = x.pixel(mark.x);
  return fmt::format(
             R"(<line x1="{0:.2f}" y1="{1:.2f}" x2="{0:.2f}" y2="{2:.2f}" stroke="#333" stroke-dasharray="4"/>)", at,
             kTop, kBottom) +
         "\n" + words(at - 4, kTop - 6, "end", 12, mark.text);
}

void check_points(const Plot& plot) {
  check(!plot.points.empty(), ErrorCode::numbers,
        [&] { return str("plot '", plot.title, "': expected points, got none"); });
  for (const PlotPoint& point : plot.points)
    check(std::abs(point.x) <= kLargest && std::abs(point.y) <= kLargest, ErrorCode::numbers, [&] {
      return str("plot '", plot.title, "': expected finite numbers up to ", kLargest, ", got ", plot.y_label, " ",
                 point.y, " at ", plot.x_label, " ", point.x, "; plot a part that ends before");
    });
}

}  // namespace

std::vector<double> round_ticks(double lowest, double highest, int most) {
  // Takes the smallest round step of which `most` cover the range; rounding must not cost one more.
  constexpr double kRounding = 1e-9;
  double step = std::pow(10, std::floor(std::log10((highest - lowest) / most)));
  const auto first = [&] { return std::floor(lowest / step + kRounding); };
  const auto steps = [&] { return std::ceil(highest / step - kRounding) - first(); };
  for (int i = 0; steps() > most; ++i) step *= i % 3 == 1 ? 2.5 : 2;  // 1, 2, 5, 10, ...
  std::vector<double> ticks;
  for (double i = 0; i <= steps(); ++i) ticks.push_back((first() + i) * step);
  return ticks;
}

std::string svg_plot(const Plot& plot) {
  check_points(plot);
  const auto [left, right] = std::ranges::minmax(plot.points, {}, &PlotPoint::x);
  const auto [low, high] = std::ranges::minmax(plot.points, {}, &PlotPoint::y);
  const Axis x = make_axis(left.x, right.x, kLeft, kRight);
  const Axis y = make_axis(std::min(0.0, low.y), high.y, kBottom, kTop);
  return fmt::format(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" )"
                     R"(font-family="sans-serif" fill="#333">)",
                     kWidth, kHeight) +
         "\n" + R"(<rect width="100%" height="100%" fill="white"/>)" + "\n" + draw_axes(x, y) + draw_words(plot) +
         draw_curve(plot, x, y) + (plot.mark ? draw_mark(*plot.mark, x) : "") + "</svg>\n";
}

}  // namespace lockstep
