// SPDX-License-Identifier: Apache-2.0
#include "collectives/device_mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/ranks.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(DeviceMesh, NumbersRanksRowByRow) {
  const std::vector<MeshAxis> axes{{"data", 2}, {"model", 3}};
  EXPECT_THAT(mesh_coordinates(axes, 0), ElementsAre(0, 0));
  EXPECT_THAT(mesh_coordinates(axes, 2), ElementsAre(0, 2));
  EXPECT_THAT(mesh_coordinates(axes, 3), ElementsAre(1, 0));
  EXPECT_THAT(mesh_coordinates(axes, 5), ElementsAre(1, 2));
}

TEST(DeviceMesh, GivesEachAxisItsRanks) {
  run_ranks(6, [](Communicator& comm) {
    const DeviceMesh mesh(comm, {{"data", 2}, {"model", 3}});
    EXPECT_EQ(mesh.size("data"), 2);
    EXPECT_EQ(mesh.coordinate("data"), comm.rank() / 3);
    EXPECT_EQ(mesh.coordinate("model"), comm.rank() % 3);
    for (const char* name : {"data", "model"}) {
      Communicator& axis = mesh.group(name).host();
      EXPECT_EQ(axis.size(), mesh.size(name));
      EXPECT_EQ(axis.rank(), mesh.coordinate(name));
    }
    std::string members;
    for (const std::string& rank : mesh.group("model").host().all_gather_bytes(str(comm.rank()))) members += rank;
    EXPECT_EQ(members, comm.rank() < 3 ? "012" : "345");
    members.clear();
    for (const std::string& rank : mesh.group("data").host().all_gather_bytes(str(comm.rank()))) members += rank;
    EXPECT_EQ(members, str(comm.rank() % 3, comm.rank() % 3 + 3));
  });
}

TEST(DeviceMesh, OneAxisHoldsAllRanksInOrder) {
  on_every_group([](Communicator& comm) {
    const DeviceMesh mesh(comm, {{"data", comm.size()}});
    EXPECT_EQ(mesh.group("data").size(), comm.size());
    EXPECT_EQ(mesh.group("data").rank(), comm.rank());
  });
}

TEST(DeviceMesh, RefusesAxesThatMakeNoMesh) {
  const auto refusal = [](std::vector<MeshAxis> axes, int ranks) -> std::string {
    try {
      check_mesh(axes, ranks);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::plan);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal({{"data", 2}, {"model", 3}}, 6), "accepted");
  EXPECT_THAT(refusal({}, 1), HasSubstr("at least one axis"));
  EXPECT_THAT(refusal({{"", 2}}, 2), HasSubstr("has no name"));
  EXPECT_THAT(refusal({{"data", 2}, {"data", 2}}, 4), HasSubstr("two axes named 'data'"));
  EXPECT_THAT(refusal({{"data", 0}}, 1), HasSubstr("size 0"));
  EXPECT_THAT(refusal({{"data", 2}}, 3), HasSubstr("room for 2 ranks, but there are 3"));
  EXPECT_THAT(refusal({{"data", 4}}, 3), HasSubstr("more ranks than the 3"));
  EXPECT_THAT(refusal({{"a", 1 << 30}, {"b", 1 << 30}, {"c", 1 << 30}}, 8), HasSubstr("more ranks than the 8"));
}

TEST(CollectiveKind, IsReadFromItsName) {
  for (const CollectiveKind kind : kCollectiveKinds) EXPECT_EQ(parse_collective_kind(to_string(kind)), kind);
  try {
    (void)parse_collective_kind("allreduce");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("one of all_gather, all_reduce, barrier, broadcast, reduce_scatter; got 'all"));
  }
}

TEST(DeviceMesh, NamesAnUnknownAxis) {
  run_ranks(1, [](Communicator& comm) {
    const DeviceMesh mesh(comm, {{"data", 1}});
    try {
      (void)mesh.group("model");
      FAIL() << "expected an error";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("'data=1' has no axis 'model'"));
    }
  });
}

}  // namespace
}  // namespace lockstep
