// SPDX-License-Identifier: Apache-2.0
// What can go wrong between ranks with GPUs: every rank ends in time with an error that says what to do. With the
// stand-in for NCCL, which fails in chosen ways.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <optional>

#include "tests/support/device_ranks.h"
#include "tests/support/files.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

// An environment variable for the time of a test.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* before = getenv(name)) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() { before_ ? setenv(name_, before_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

constexpr std::chrono::seconds kSoon{1}, kLate{30};

// "<code>: <message>" of the Error that each rank ends with; empty where it ends well.
std::vector<std::string> errors_of_ranks(int ranks, std::chrono::seconds timeout,
                                         const std::function<void(Communicator&)>& body) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  const auto run = [&](Communicator& comm) {
    try {
      body(comm);
    } catch (const Error& error) {
      errors[size_t(comm.rank())] = str(to_string(error.code()), ": ", error.what());
      throw;
    }
  };
  static_cast<void>(error_of([&] { run_thread_ranks({.ranks = ranks, .node_of = {}, .timeout = timeout}, run); }));
  return errors;
}

std::vector<std::string> errors_by_nccl(int ranks, std::chrono::seconds timeout,
                                        const std::function<void(DeviceRank&)>& body) {
  return errors_of_ranks(ranks, timeout, [&](Communicator& comm) { with_device(comm, DeviceTransport::nccl, body); });
}

void nothing(DeviceRank&) {}

void reduce(DeviceRank& on, size_t elements) {
  DeviceVector<float> values(on, elements, 1);
  on.comm.all_reduce(values.view(), ReduceOp::sum, on.compute).wait(on.compute);
  on.comm.synchronize(on.compute);
}

class DeviceFaults : public testing::Test {
 protected:
  void SetUp() override {
    if (find_cuda_devices().count() < 4)
      GTEST_SKIP() << "needs 4 GPUs, emulated ones do: " << find_cuda_devices().detail;
    const char* library = getenv("LOCKSTEP_NCCL_LIBRARY");
    if (!library || !std::string_view(library).ends_with("libnccl_emulated.so"))
      GTEST_SKIP() << "needs the stand-in for NCCL, whose faults can be chosen";
  }
};

TEST_F(DeviceFaults, WithoutGpuEveryRankSaysWhoHasNone) {
  const Variable none("LOCKSTEP_EMULATED_DEVICES", "0");
  for (const DeviceTransport transport : {DeviceTransport::automatic, DeviceTransport::nccl, DeviceTransport::staged})
    EXPECT_THAT(
        errors_of_ranks(2, kLate, [&](Communicator& ranks) { with_device(ranks, transport, nothing); }),
        Each(MatchesRegex("device: no GPU for rank 0 .*, rank 1 .*: this machine has no .*; use --device cpu.*")));
}

TEST_F(DeviceFaults, RanksThatWouldShareAGpuSeeWhoSitsWhere) {
  const Variable two("LOCKSTEP_EMULATED_DEVICES", "2");
  // The library is not even looked for.
  const Variable missing("LOCKSTEP_NCCL_LIBRARY", "/nonexistent/libnccl.so");
  for (const DeviceTransport transport : {DeviceTransport::automatic, DeviceTransport::nccl})
    EXPECT_THAT(errors_of_ranks(3, kLate, [&](Communicator& ranks) { with_device(ranks, transport, nothing); }),
                Each(AllOf(StartsWith("launch: ranks 0 and 2 would share one GPU"),
                           HasSubstr("has 3 ranks, and rank 2 sees 2 GPUs"), HasSubstr("--transport staged"),
                           HasSubstr("\n  rank  host"), HasSubstr("\n  2  "))));
  EXPECT_THAT(errors_of_ranks(3, kLate,
                              [&](Communicator& ranks) {
                                const Device device = choose_device(ranks, DeviceTransport::staged);
                                EXPECT_EQ(device.index, ranks.rank() % 2);
                              }),
              Each(""));
}

TEST_F(DeviceFaults, RanksWithPartsOfOneGpuHearThatNcclDoesNotConnectThem) {
  const Variable parts("LOCKSTEP_EMULATED_MIG", "1");
  EXPECT_THAT(
      errors_of_ranks(2, kLate, [&](Communicator& ranks) { with_device(ranks, DeviceTransport::automatic, nothing); }),
      Each(AllOf(StartsWith("launch: ranks 0 and 1 have parts of one GPU (MIG)"),
                 HasSubstr("switch MIG off, or let ranks exchange gradients by --transport staged"))));
  EXPECT_THAT(
      errors_of_ranks(2, kLate, [&](Communicator& ranks) { with_device(ranks, DeviceTransport::staged, nothing); }),
      Each(""));
}

TEST_F(DeviceFaults, TwoRanksOnOneGpuAreRefusedByNcclToo) {
  const auto on_the_first = [](Communicator& ranks) {
    make_device_communicator(ranks, {DeviceKind::cuda, 0}, DeviceTransport::nccl);
  };
  EXPECT_THAT(errors_of_ranks(2, kLate, on_the_first),
              Contains(AllOf(HasSubstr("NCCL cannot connect the ranks"), HasSubstr("Duplicate GPU detected"))));
}

TEST_F(DeviceFaults, WithoutNcclTheRanksSaySoOrStage) {
  const Variable missing("LOCKSTEP_NCCL_LIBRARY", "/nonexistent/libnccl.so");
  EXPECT_THAT(errors_by_nccl(2, kLate, nothing),
              Each(AllOf(StartsWith("device: rank 0 "), HasSubstr("/nonexistent/libnccl.so"),
                         HasSubstr("LOCKSTEP_NCCL_LIBRARY"), HasSubstr("--transport staged"))));
  EXPECT_THAT(describe_nccl(), HasSubstr("NCCL cannot be loaded"));
  const auto staged = [](DeviceRank& on) { EXPECT_EQ(on.comm.transport(), "staged"); };
  EXPECT_THAT(
      errors_of_ranks(2, kLate, [&](Communicator& ranks) { with_device(ranks, DeviceTransport::automatic, staged); }),
      Each(""));
}

TEST_F(DeviceFaults, AnOldNcclIsRefusedWithBothVersions) {
  {
    const Variable old("LOCKSTEP_EMULATED_NCCL_VERSION", "21805");
    EXPECT_THAT(
        errors_by_nccl(2, kLate, nothing),
        Each(MatchesRegex("device: rank 0 .*libnccl_emulated.so is NCCL 2.18.5, but Lockstep was built for NCCL "
                          "[0-9.]* and cannot use an older one.*")));
    const Variable very_old("LOCKSTEP_EMULATED_NCCL_VERSION", "2708");
    EXPECT_THAT(describe_nccl(), HasSubstr("is NCCL 2.7.8, but"));
  }
  const Variable next("LOCKSTEP_EMULATED_NCCL_VERSION", "29901");
  EXPECT_THAT(describe_nccl(), MatchesRegex("NCCL 2.99.1 \\(.*libnccl_emulated.so\\)"));
}

TEST_F(DeviceFaults, ALibraryThatIsNotNcclIsRefused) {
  const Variable other("LOCKSTEP_NCCL_LIBRARY", "libm.so.6");
  EXPECT_THAT(describe_nccl(), HasSubstr("libm.so.6 has no function ncclGetVersion"));
}

// The others wait for it in NCCL meanwhile.
TEST_F(DeviceFaults, ARankThatNcclCannotConnectIsToldByAll) {
  const Variable fault("LOCKSTEP_EMULATED_NCCL_FAULT", "init_error:1");
  EXPECT_THAT(errors_by_nccl(3, kLate, nothing),
              Each(AllOf(StartsWith("collective: rank 1 "), HasSubstr("NCCL cannot connect the ranks: "),
                         HasSubstr("system error: emulated failure"), HasSubstr("NCCL_DEBUG=INFO"))));
}

TEST_F(DeviceFaults, RanksThatNcclCannotConnectGoThroughTheHost) {
  for (const auto& [fault, reason] :
       {std::pair{"init_error:1", "rank 1 ("}, std::pair{"init_hang:0", "waited 1 s for NCCL to connect the ranks"}}) {
    const Variable variable("LOCKSTEP_EMULATED_NCCL_FAULT", fault);
    const auto stage = [&](DeviceRank& on) {
      EXPECT_EQ(on.comm.transport(), "staged");
      EXPECT_THAT(on.comm.remark(), AllOf(StartsWith("gradients go through memory of the host"), HasSubstr(reason)));
      reduce(on, 100);
    };
    EXPECT_THAT(
        errors_of_ranks(3, kSoon, [&](Communicator& ranks) { with_device(ranks, DeviceTransport::automatic, stage); }),
        Each(""));
  }
}

// It would take seconds, memory and a network interface.
TEST_F(DeviceFaults, OneRankNeedsNoNcclUnlessAskedTo) {
  const Variable fault("LOCKSTEP_EMULATED_NCCL_FAULT", "init_error:0");
  const auto alone = [](DeviceRank& on) {
    EXPECT_EQ(on.comm.transport(), "staged");
    EXPECT_EQ(on.comm.remark(), "");
    reduce(on, 100);
  };
  EXPECT_THAT(
      errors_of_ranks(1, kSoon, [&](Communicator& ranks) { with_device(ranks, DeviceTransport::automatic, alone); }),
      Each(""));
  EXPECT_THAT(errors_by_nccl(1, kSoon, nothing), Each(HasSubstr("NCCL cannot connect the ranks")));
}

TEST_F(DeviceFaults, ConnectingHasADeadline) {
  const Variable fault("LOCKSTEP_EMULATED_NCCL_FAULT", "init_hang:0");
  // Who comes first to the deadline ends the others.
  EXPECT_THAT(errors_by_nccl(2, kSoon, nothing), Contains(HasSubstr("waited 1 s for NCCL to connect the ranks")));
}

TEST_F(DeviceFaults, ARankThatDiesBeforeACollectiveEndsTheOthers) {
  const auto errors = errors_by_nccl(3, kLate, [](DeviceRank& on) {
    reduce(on, 100);
    if (on.rank() == 2) fail(ErrorCode::data, "a broken batch");
    reduce(on, 200);
  });
  EXPECT_THAT(errors, ElementsAre(HasSubstr("rank 2 failed and ended the run"),
                                  HasSubstr("rank 2 failed and ended the run"), "data: a broken batch"));
}

TEST_F(DeviceFaults, TheDeadlineOfACollectiveNamesTheLastCall) {
  const auto errors = errors_by_nccl(2, kSoon, [](DeviceRank& on) {
    reduce(on, 100);
    if (on.rank() == 1) return on.comm.ranks().barrier();
    reduce(on, 200);
  });
  EXPECT_THAT(errors, Contains(AnyOf(HasSubstr("waited 1 s for its GPU (last call: number 2, all_reduce of 800 bytes)"),
                                     HasSubstr("waited 1 s for barrier"))));
}

TEST_F(DeviceFaults, AnErrorOfNcclIsFoundWhileWaiting) {
  const Variable fault("LOCKSTEP_EMULATED_NCCL_FAULT", "async_error:1");
  const auto errors = errors_by_nccl(2, kLate, [](DeviceRank& on) { reduce(on, 100); });
  EXPECT_THAT(errors[1], AllOf(HasSubstr("(last call: number 1, all_reduce of 400 bytes)"),
                               HasSubstr("emulated failure of a connection")));
  EXPECT_THAT(errors[0], HasSubstr("rank 1 failed and ended the run"));
}

// Communicators of the stand-in for NCCL that are being reclaimed.
int reclaiming() {
  void* library = dlopen(getenv("LOCKSTEP_NCCL_LIBRARY"), RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return 0;  // with its last user it was closed
  const auto count = reinterpret_cast<int (*)()>(dlsym(library, "ncclEmulatedReclaiming"));
  const int communicators = count();
  dlclose(library);
  return communicators;
}

// Streams and memory go after a communicator has, and the program may end.
TEST_F(DeviceFaults, NcclReclaimsNothingBehindTheBackOfThoseWhoEndACommunicator) {
  for (const bool fails : {false, true}) {
    std::atomic<int> found{0};
    errors_of_ranks(2, kLate, [&](Communicator& ranks) {
      const Device device = choose_device(ranks, DeviceTransport::nccl);
      Stream compute = Stream::cuda(device.index);
      Pool pool(device);
      auto comm = make_device_communicator(ranks, device, DeviceTransport::nccl);
      DeviceRank on{*comm, compute, pool};
      reduce(on, 100);
      const auto library = dlopen(getenv("LOCKSTEP_NCCL_LIBRARY"), RTLD_NOW);
      if (fails) comm->abandon();
      if (!fails) comm.reset();
      ranks.barrier();
      found += reclaiming();
      dlclose(library);
    });
    EXPECT_EQ(found, 0) << (fails ? "given up" : "ended");
  }
}

// The others end for a reason of their own meanwhile.
TEST_F(DeviceFaults, ARankDoesNotWaitForeverForNcclToGiveUp) {
  const Variable fault("LOCKSTEP_EMULATED_NCCL_FAULT", "abort_hang:1");
  const auto begin = std::chrono::steady_clock::now();
  const auto errors = errors_by_nccl(2, kSoon, [](DeviceRank& on) {
    reduce(on, 100);
    if (on.rank() == 1) fail(ErrorCode::data, "a broken batch");
    reduce(on, 200);
  });
  EXPECT_EQ(errors[1], "data: a broken batch");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2)) << "NCCL hangs for 3 seconds";
}

// Every rank hears of the difference, or of the rank that heard of it first.
void expect_difference(const std::string& first, const std::string& second,
                       const std::function<void(DeviceRank&)>& body) {
  const auto errors = errors_by_nccl(3, kLate, body);
  EXPECT_THAT(errors, Contains(AllOf(HasSubstr("invalid usage"), HasSubstr("call different things"), HasSubstr(first),
                                     HasSubstr(second))));
  EXPECT_THAT(errors, Each(AnyOf(HasSubstr("invalid usage"), HasSubstr("failed and ended the run"))));
}

TEST_F(DeviceFaults, DifferentSequencesAreToldApart) {
  expect_difference("rank 0: ncclAllReduce of 100 ncclFloat32", "rank 2: ncclAllReduce of 102 ncclFloat32",
                    [](DeviceRank& on) { reduce(on, size_t(100 + on.rank())); });
  expect_difference("rank 0: ncclAllReduce of 8 ncclFloat32 by ncclMin",
                    "rank 1: ncclBroadcast of 8 ncclFloat32 from rank 1", [](DeviceRank& on) {
                      DeviceVector<float> values(on, 8);
                      Work work = on.rank() == 0 ? on.comm.all_reduce(values.view(), ReduceOp::min, on.compute)
                                                 : on.comm.broadcast(values.view(), 1, on.compute);
                      work.wait(on.compute);
                      on.comm.synchronize(on.compute);
                    });
  expect_difference("rank 0: ncclRecv of 4 ncclUint8 from rank 1", "rank 1: ncclAllReduce of 8 ncclFloat32 by ncclSum",
                    [](DeviceRank& on) {
                      DeviceVector<float> values(on, 8);
                      if (on.rank() > 0) return reduce(on, 8);
                      on.comm.exchange({}, std::vector{Incoming{1, values.data(), 4}}, on.compute).wait(on.compute);
                      on.comm.synchronize(on.compute);
                    });
}

TEST_F(DeviceFaults, ARankThatLeavesTheLastCollectiveOutIsNamed) {
  const auto errors = errors_by_nccl(3, kLate, [](DeviceRank& on) {
    if (on.rank() != 1) reduce(on, 8);
  });
  EXPECT_THAT(errors, Contains(AllOf(HasSubstr("rank 1: ncclCommFinalize"),
                                     HasSubstr("rank 2: ncclAllReduce of 8 ncclFloat32"))));
  EXPECT_EQ(errors[1], "");
}

TEST_F(DeviceFaults, MessagesOfDifferentLengthsAreToldApart) {
  const auto errors = errors_by_nccl(2, kLate, [](DeviceRank& on) {
    DeviceVector<float> values(on, 8);
    const int peer = 1 - on.rank();
    const std::vector<Outgoing> sends{{peer, values.data(), 16 + on.rank() * 4}};
    const std::vector<Incoming> receives{{peer, values.data() + 4, 16}};
    on.comm.exchange(sends, receives, on.compute).wait(on.compute);
    on.comm.synchronize(on.compute);
  });
  EXPECT_THAT(errors, Contains(AllOf(HasSubstr("messages differ"), HasSubstr("ncclSend of 20"))));
}

}  // namespace
}  // namespace lockstep
