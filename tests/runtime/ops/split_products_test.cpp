// SPDX-License-Identifier: Apache-2.0
// Two layers as tensor parallelism splits them (Shoeybi et al. 2019) against the same layers on one rank.
#include "tests/runtime/ops/mesh_pass.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

// Two layers, the first split by columns and the second by rows.
constexpr int64_t kRows = 12, kIn = 5, kHidden = 24, kOut = 3;

struct TwoLayers {
  Values x = random_values(kRows * kIn, 1), up = random_values(kIn * kHidden, 2), bias = random_values(kHidden, 3),
         down = random_values(kHidden * kOut, 4), seed = random_values(kRows * kOut, 5);

  static Tensor run(Context& c, const Tensor& x, const Tensor& up, const Tensor& bias, const Tensor& down) {
    const Tensor hidden = linear_gelu(c, copy_to_axis(c, x, "model"), up, bias);
    return sum_over_axis(c, matmul(c, hidden, down), "model");
  }
};

// Columns [begin, end) of a matrix of `columns` columns.
Values columns_of(const Values& matrix, int64_t columns, int64_t begin, int64_t end) {
  Values part;
  for (size_t i = 0; i < matrix.size(); ++i)
    if (int64_t(i) % columns >= begin && int64_t(i) % columns < end) part.push_back(matrix[i]);
  return part;
}
Values rows_of(const Values& matrix, int64_t columns, int64_t begin, int64_t end) {
  return {matrix.begin() + begin * columns, matrix.begin() + end * columns};
}

void expect_near(const Values& actual, const Values& expected, const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 2e-5) << what << ", element " << i;
}

void check_two_layers(Communicator& ranks, int model, Device device, DeviceTransport transport) {
  const TwoLayers layers;
  const auto alone = make_serial_communicator();
  Pass whole(*alone, {{"model", 1}});
  Tensor x = whole.variable(layers.x, {kRows, kIn}), up = whole.variable(layers.up, {kIn, kHidden});
  Tensor bias = whole.variable(layers.bias, {kHidden}), down = whole.variable(layers.down, {kHidden, kOut});
  const Tensor expected = TwoLayers::run(whole.context(), x, up, bias, down);
  whole.backward(expected, layers.seed);

  const int data = ranks.size() / model;
  Pass pass(ranks, {{"data", data}, {"model", model}}, device, transport);
  const MeshGroup &batch = pass.mesh().group("data"), &split = pass.mesh().group("model");
  const int64_t rows = kRows / data, first_row = rows * batch.rank();
  const int64_t hidden = kHidden / model, first = hidden * split.rank();
  const auto my_rows = [&](const Values& all, int64_t columns) {
    return rows_of(all, columns, first_row, first_row + rows);
  };
  Tensor my_x = pass.variable(my_rows(layers.x, kIn), {rows, kIn});
  Tensor my_up = pass.variable(columns_of(layers.up, kHidden, first, first + hidden), {kIn, hidden});
  Tensor my_bias = pass.variable(rows_of(layers.bias, 1, first, first + hidden), {hidden});
  Tensor my_down = pass.variable(rows_of(layers.down, kOut, first, first + hidden), {hidden, kOut});
  const Tensor y = TwoLayers::run(pass.context(), my_x, my_up, my_bias, my_down);
  expect_near(pass.get(y), my_rows(whole.get(expected), kOut), "value");
  pass.backward(y, my_rows(layers.seed, kOut));
  expect_near(pass.get(pass.gradient(0)), my_rows(whole.get(whole.gradient(0)), kIn), "gradient of x");
  for (const size_t parameter : {1, 2, 3})
    batch.all_reduce(pass.gradient(parameter), ReduceOp::sum, pass.context().stream()).wait(pass.context().stream());
  const auto unsplit = [&](size_t parameter) { return whole.get(whole.gradient(parameter)); };
  expect_near(pass.get(pass.gradient(1)), columns_of(unsplit(1), kHidden, first, first + hidden), "gradient of up");
  expect_near(pass.get(pass.gradient(2)), rows_of(unsplit(2), 1, first, first + hidden), "gradient of bias");
  expect_near(pass.get(pass.gradient(3)), rows_of(unsplit(3), kOut, first, first + hidden), "gradient of down");
}

void check_two_layers_on_every_mesh(Communicator& ranks, Device device, DeviceTransport transport) {
  for (int model = 1; model <= ranks.size(); ++model)
    if (ranks.size() % model == 0 && kHidden % model == 0 && kRows % (ranks.size() / model) == 0) {
      SCOPED_TRACE(str("data=", ranks.size() / model, ",model=", model));
      check_two_layers(ranks, model, device, transport);
    }
}

TEST(SplitProducts, EqualTheUnsplitOnEveryMesh) { on_ranks_of_the_host(check_two_layers_on_every_mesh); }
TEST(SplitProducts, EqualTheUnsplitOnEveryMeshOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  on_ranks_with_gpus(check_two_layers_on_every_mesh);
}

}  // namespace
}  // namespace lockstep
