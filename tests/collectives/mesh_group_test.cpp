// SPDX-License-Identifier: Apache-2.0
// Collectives by the name of an axis, over memory of the host and of devices: the groups must be the right ranks.
#include "collectives/mesh_group.h"

#include <gmock/gmock.h>

#include "collectives/device_mesh.h"
#include "tests/support/device_ranks.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Two axes; the second has two ranks where the number of ranks allows.
std::vector<MeshAxis> two_axes(int ranks) {
  const int model = ranks % 2 == 0 ? 2 : 1;
  return {{"data", ranks / model}, {"model", model}};
}

// One rank of a mesh, with vectors in the memory that its collectives are to use.
class MeshRank {
 public:
  MeshRank(Communicator& ranks, Device device, DeviceTransport transport)
      : ranks_(ranks),
        stream_(device.kind == DeviceKind::cpu ? Stream::cpu() : Stream::cuda(device.index)),
        pool_(device),
        mesh_(ranks, two_axes(ranks.size()), device, transport) {}

  const DeviceMesh& mesh() const { return mesh_; }
  Stream& stream() { return stream_; }
  int rank() const { return ranks_.rank(); }
  View put(const std::vector<int32_t>& values) {
    const auto n = int64_t(values.size());
    memory_.emplace_back(pool_, std::max<int64_t>(1, n) * 4, Purpose::data);
    const View view = memory_.back().view(DType::i32, Shape{n});
    copy(stream_, view.data, values.data(), n * 4);
    stream_.synchronize();
    return view;
  }
  std::vector<int32_t> get(const View& view) {
    std::vector<int32_t> values(static_cast<size_t>(view.size()));
    copy(stream_, values.data(), view.data, view.bytes());
    stream_.synchronize();
    return values;
  }
  // The ranks of this rank's group along an axis, in the order of the group.
  std::vector<int32_t> members(std::string_view axis) const {
    const std::vector<int> mine = mesh_coordinates(mesh_.axes(), rank());
    std::vector<int32_t> found;
    for (int other = 0; other < ranks_.size(); ++other) {
      const std::vector<int> theirs = mesh_coordinates(mesh_.axes(), other);
      bool together = true;
      for (size_t i = 0; i < mine.size(); ++i) together &= mesh_.axes()[i].name == axis || mine[i] == theirs[i];
      if (together) found.push_back(other);
    }
    return found;
  }

 private:
  Communicator& ranks_;
  Stream stream_;
  Pool pool_;
  DeviceMesh mesh_;
  std::vector<Buffer> memory_;
};

void check_every_collective(MeshRank& on, const MeshGroup& group) {
  SCOPED_TRACE(str("rank ", on.rank(), ", axis ", group.name()));
  Stream& stream = on.stream();
  const std::vector<int32_t> members = on.members(group.name());
  ASSERT_EQ(group.size(), int(members.size()));
  ASSERT_EQ(members[size_t(group.rank())], on.rank());

  const View one = on.put({on.rank()}), all = on.put(std::vector<int32_t>(members.size(), -1));
  group.all_gather(one, all, stream).wait(stream);
  EXPECT_EQ(on.get(all), members);

  int32_t sum = 0;
  for (const int32_t member : members) sum += member;
  const View added = on.put({on.rank(), 1});
  group.all_reduce(added, ReduceOp::sum, stream).wait(stream);
  EXPECT_EQ(on.get(added), (std::vector<int32_t>{sum, group.size()}));

  std::vector<int32_t> parts;
  for (int part = 0; part < group.size(); ++part) parts.push_back(on.rank() + 100 * part);
  const View whole = on.put(parts), part = on.put({-1});
  group.reduce_scatter(whole, part, ReduceOp::max, stream).wait(stream);
  EXPECT_EQ(on.get(part), std::vector<int32_t>{members.back() + 100 * group.rank()});

  const View told = on.put({on.rank()});
  group.broadcast(told, group.size() - 1, stream).wait(stream);
  EXPECT_EQ(on.get(told), std::vector<int32_t>{members.back()});

  if (group.size() == 1) return;
  const int next = (group.rank() + 1) % group.size(), previous = (group.rank() + group.size() - 1) % group.size();
  const View sent = on.put({on.rank()}), received = on.put({-1});
  group.exchange(std::vector{Outgoing{next, sent.data, 4}}, std::vector{Incoming{previous, received.data, 4}}, stream)
      .wait(stream);
  EXPECT_EQ(on.get(received), std::vector<int32_t>{members[size_t(previous)]});
}

void check_every_axis(Communicator& ranks, Device device, DeviceTransport transport) {
  MeshRank on(ranks, device, transport);
  for (const MeshGroup& group : on.mesh().groups()) {
    EXPECT_EQ(group.device() != nullptr, device.kind == DeviceKind::cuda);
    check_every_collective(on, group);
  }
}

TEST(MeshGroup, RunsEveryCollectiveOverEveryAxisOnTheHost) {
  on_every_group([](Communicator& ranks) { check_every_axis(ranks, {}, DeviceTransport::automatic); });
}

TEST(MeshGroup, RunsEveryCollectiveOverEveryAxisOnDevices) {
  LOCKSTEP_NEEDS_GPU();
  for (const DeviceTransport transport : {DeviceTransport::nccl, DeviceTransport::staged}) {
    const auto on_ranks = [&](Communicator& ranks) {
      check_every_axis(ranks, choose_device(ranks, transport), transport);
    };
    if (Communicator* ranks = launched_ranks()) {
      if (can_run(transport, ranks->size())) on_ranks(*ranks);
      continue;
    }
    for (const int ranks : {1, 3, 4})
      if (can_run(transport, ranks)) run_ranks(ranks, on_ranks);
  }
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(MeshGroup, SendsNothingForAStreamThatRehearses) {
  const MeshGroup group = MeshGroup::rehearsal({"model", 4}, 3);
  EXPECT_EQ(group.size(), 4);
  EXPECT_EQ(group.rank(), 3);
  Stream rehearsal = Stream::rehearsal(), real = Stream::cpu();
  const View nowhere{nullptr, DType::f32, DeviceKind::cpu, Shape{8}};
  group.all_reduce(nowhere, ReduceOp::sum, rehearsal).wait(rehearsal);
  group.exchange(std::vector{Outgoing{0, nullptr, 4}}, {}, rehearsal).wait(rehearsal);
  EXPECT_THAT(error_of([&] { group.all_reduce(nowhere, ReduceOp::sum, real).wait(real); }),
              HasSubstr("'model' only rehearses"));
}

TEST(MeshGroup, RefusesMemoryOfADeviceThatTheMeshKnowsNothingOf) {
  run_ranks(2, [](Communicator& ranks) {
    const DeviceMesh mesh(ranks, {{"data", 2}});
    float cell = 0;
    Stream stream = Stream::cpu();
    const View view{&cell, DType::f32, DeviceKind::cuda, Shape{1}};
    EXPECT_THAT(error_of([&] { mesh.group("data").all_reduce(view, ReduceOp::sum, stream).wait(stream); }),
                AllOf(HasSubstr("all_reduce over 'data'"), HasSubstr("made without one")));
  });
}

}  // namespace
}  // namespace lockstep
