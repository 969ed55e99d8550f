// SPDX-License-Identifier: Apache-2.0
#include "tools/commands/svg_plot.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <string>

#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::DoubleEq;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

Plot plot_of(std::vector<PlotPoint> points) {
  return {.title = "a title", .x_label = "step", .y_label = "rate", .points = std::move(points)};
}

std::vector<PlotPoint> drawn_points(const std::string& svg) {
  const std::string opening = "<polyline points=\"";
  const size_t begin = svg.find(opening) + opening.size();
  std::istringstream text(svg.substr(begin, svg.find('"', begin) - begin));
  std::vector<PlotPoint> points;
  PlotPoint point{};
  char comma = 0;
  while (text >> point.x >> comma >> point.y) points.push_back(point);
  return points;
}

TEST(RoundTicks, AreMultiplesOfOneTwoOrFiveThatCoverTheRange) {
  EXPECT_THAT(round_ticks(0, 1, 5), ElementsAre(0, DoubleEq(0.2), DoubleEq(0.4), DoubleEq(0.6), DoubleEq(0.8), 1));
  EXPECT_THAT(round_ticks(0, 2345, 8), ElementsAre(0, 500, 1000, 1500, 2000, 2500));
  EXPECT_THAT(round_ticks(0, 8, 8), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(round_ticks(0, 8.1, 8), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(round_ticks(-3, 7, 4), ElementsAre(-5, 0, 5, 10));
  EXPECT_THAT(round_ticks(-1, 1, 2), ElementsAre(-1, 0, 1));
  EXPECT_THAT(round_ticks(0, 1e-3, 8),
              ElementsAre(0, DoubleEq(2e-4), DoubleEq(4e-4), DoubleEq(6e-4), DoubleEq(8e-4), DoubleEq(1e-3)));
}

TEST(RoundTicks, CoverRangesOfAnySizeWithNoMoreGapsThanAllowed) {
  for (const double size : {1e-300, 3e-12, 0.07, 0.1, 0.3, 1.0, 9.99, 1e5, 123456.0, 7e15, 1e300})
    for (const double lowest : {0.0, -size, -size / 3})
      for (const int most : {2, 3, 5, 8, 10}) {
        const std::vector<double> ticks = round_ticks(lowest, lowest + size, most);
        ASSERT_THAT(ticks.size(), testing::AllOf(testing::Ge(2u), testing::Le(size_t(most) + 1)));
        const double gap = ticks[1] - ticks[0];
        EXPECT_LE(ticks.front(), lowest + 1e-6 * gap);
        EXPECT_GE(ticks.back(), lowest + size - 1e-6 * gap);
        // No tick is of no use.
        EXPECT_GT(ticks[1], lowest);
        EXPECT_LT(ticks[ticks.size() - 2], lowest + size);
      }
}

TEST(SvgPlot, DrawsTheLineBetweenTheCornersOfTheFrame) {
  const std::vector<PlotPoint> points = drawn_points(svg_plot(plot_of({{0, 0}, {50, 1}, {100, 0.25}})));
  ASSERT_EQ(points.size(), 3u);
  EXPECT_DOUBLE_EQ(points[0].x, 90);
  EXPECT_DOUBLE_EQ(points[0].y, 390);  // down is positive in a picture
  EXPECT_DOUBLE_EQ(points[1].x, 430);
  EXPECT_DOUBLE_EQ(points[1].y, 50);
  EXPECT_DOUBLE_EQ(points[2].x, 770);
  EXPECT_DOUBLE_EQ(points[2].y, 305);
}

TEST(SvgPlot, TheHeightAxisBeginsAtZeroUnlessTheLineGoesBelow) {
  const std::vector<PlotPoint> high = drawn_points(svg_plot(plot_of({{0, 8}, {1, 10}})));
  EXPECT_DOUBLE_EQ(high[0].y, 390 - 340 * 0.8);
  EXPECT_DOUBLE_EQ(high[1].y, 50);
  const std::vector<PlotPoint> low = drawn_points(svg_plot(plot_of({{0, -10}, {1, 10}})));
  EXPECT_DOUBLE_EQ(low[0].y, 390);
  EXPECT_DOUBLE_EQ(low[1].y, 50);
}

TEST(SvgPlot, ShowsTitleLabelsAndRoundNumbers) {
  const std::string svg = svg_plot(plot_of({{0, 0}, {1000, 3e-4}}));
  EXPECT_THAT(svg, StartsWith("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"450\""));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  for (const char* word : {">a title<", ">step<", ">rate<", ">0<", ">1000<", ">0.0001<", ">0.0003<"})
    EXPECT_THAT(svg, HasSubstr(word));
  EXPECT_THAT(svg, Not(HasSubstr("0.00030000")));
}

TEST(SvgPlot, EscapesWhatWouldBeMarkup) {
  Plot plot = plot_of({{0, 1}});
  plot.title = "a<b & c>d";
  EXPECT_THAT(svg_plot(plot), HasSubstr(">a&lt;b &amp; c&gt;d<"));
}

TEST(SvgPlot, LongTitlesBecomeSmallerAndStayInThePicture) {
  Plot plot = plot_of({{0, 1}});
  EXPECT_THAT(svg_plot(plot), HasSubstr("font-size=\"15.0\">a title<"));
  plot.title = std::string(130, 'x');
  EXPECT_THAT(svg_plot(plot), HasSubstr("font-size=\"10.0\">xxx"));
}

TEST(SvgPlot, DrawsConstantsZerosSinglePointsAndTheSmallestAndLargestNumbers) {
  const double tiny = std::numeric_limits<double>::denorm_min();
  for (const double y : {0.0, 1e-3, -1e-3, tiny, 1e-300, 1e300, -1e300})
    for (const double end : {0.0, 1.0, 1e12}) {
      const std::string svg = svg_plot(plot_of({{0, y}, {end, y}}));
      EXPECT_THAT(svg, testing::AllOf(Not(HasSubstr("nan")), Not(HasSubstr("inf")))) << y << " to " << end;
      for (const PlotPoint& point : drawn_points(svg)) {
        EXPECT_THAT(point.x, testing::AllOf(testing::Ge(90), testing::Le(770)));
        EXPECT_THAT(point.y, testing::AllOf(testing::Ge(50), testing::Le(390)));
      }
    }
}

TEST(SvgPlot, NothingToDrawAndNumbersWithoutAPlaceAreErrors) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const PlotPoint bad : {PlotPoint{5, infinity}, PlotPoint{5, std::nan("")}, PlotPoint{infinity, 1}}) {
    try {
      svg_plot(plot_of({{0, 1}, bad}));
      ADD_FAILURE() << "expected an error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::numbers);
      EXPECT_THAT(error.what(), HasSubstr("plot 'a title': expected finite numbers up to 1e+300, got rate "));
    }
  }
  EXPECT_THROW(svg_plot(plot_of({})), Error);
}

}  // namespace
}  // namespace lockstep
