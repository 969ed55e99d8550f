// SPDX-License-Identifier: Apache-2.0
#include "collectives/ordered_sum.h"

#include <algorithm>
#include <vector>

#include "collectives/gradients/tree_sum.h"
#include "collectives/partition.h"
#include "kernels/granule.h"
#include "kernels/pointwise.h"

namespace lockstep {

namespace {

constexpr int64_t kWidth = sizeof(float);

std::vector<TreeSum::Addition> additions_over(int ranks) {
  std::vector<LeafRange> leaves;
  for (int rank = 0; rank < ranks; ++rank) leaves.push_back({rank, rank + 1});
  return TreeSum({0, ranks}, leaves).additions();
}

// For each rank, the range of the whole that it adds up.
using Ranges = std::vector<Range>;

Ranges ranges_of(const MeshGroup& group, int64_t elements, int64_t grain) {
  Ranges ranges;
  for (int rank = 0; rank < group.size(); ++rank) ranges.push_back(part_of(elements, rank, group.size(), grain));
  return ranges;
}

void begin(const MeshGroup& group, CollectiveKind kind, const ConstView& whole, const View& result, const View& scratch,
           const std::source_location& where) {
  check(whole.dtype == DType::f32 && result.dtype == DType::f32 && scratch.dtype == DType::f32, ErrorCode::collective,
        [&] { return str(to_string(kind), " over '", group.name(), "': ordered sums are of f32"); });
  check(scratch.size() >= ordered_sum_scratch(group.size(), whole.size()), ErrorCode::collective, [&] {
    return str(to_string(kind), " over '", group.name(), "': ", scratch.size(), " elements of scratch are fewer than ",
               ordered_sum_scratch(group.size(), whole.size()));
  });
  group.host().log().enter({.kind = kind, .dtype = DType::f32, .bytes = whole.bytes()}, where);
}

// Every rank sends each other rank its piece of that one's range, and adds up its own. Returns the sum, in scratch.
View sum_own_range(const MeshGroup& group, const ConstView& in, const Ranges& ranges, const View& scratch,
                   Stream& stream) {
  const Range own = ranges[size_t(group.rank())];
  const auto letter = [&](int rank) { return slice(scratch, rank * own.size(), (rank + 1) * own.size()); };
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (int rank = 0; rank < group.size(); ++rank) {
    if (rank == group.rank()) continue;
    const Range theirs = ranges[size_t(rank)];
    sends.push_back({rank, slice(in, theirs.begin, theirs.end).data, theirs.size() * kWidth});
    receives.push_back({rank, letter(rank).data, own.size() * kWidth});
  }
  launch(stream, Copy{letter(group.rank()), slice(in, own.begin, own.end)});
  group.exchange(sends, receives, stream).wait(stream);
  for (const auto [into, from] : additions_over(group.size())) launch(stream, AddInto{letter(into), letter(from)});
  return letter(0);
}

// Every rank hands its range of `out` to all others.
void share_ranges(const MeshGroup& group, const View& out, const Ranges& ranges, Stream& stream) {
  const auto part = [&](int rank) { return slice(out, ranges[size_t(rank)].begin, ranges[size_t(rank)].end); };
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (int rank = 0; rank < group.size(); ++rank) {
    if (rank == group.rank()) continue;
    sends.push_back({rank, part(group.rank()).data, part(group.rank()).bytes()});
    receives.push_back({rank, part(rank).data, part(rank).bytes()});
  }
  group.exchange(sends, receives, stream).wait(stream);
}

}  // namespace

int64_t ordered_sum_scratch(int ranks, int64_t elements) {
  const int64_t granules = (elements + kGranule - 1) / kGranule;
  return ranks * ((granules + ranks - 1) / ranks * kGranule);
}

void ordered_all_reduce(const MeshGroup& group, const ConstView& in, const View& out, const View& scratch,
                        Stream& stream, std::source_location where) {
  if (stream.rehearses()) return;
  check(in.size() == out.size(), ErrorCode::collective, [&] {
    return str("all_reduce over '", group.name(), "': ", in.size(), " elements come in, and ", out.size(), " go out");
  });
  begin(group, CollectiveKind::all_reduce, in, out, scratch, where);
  const Ranges ranges = ranges_of(group, in.size(), kGranule);
  const Range own = ranges[size_t(group.rank())];
  launch(stream, Copy{slice(out, own.begin, own.end), sum_own_range(group, in, ranges, scratch, stream)});
  share_ranges(group, out, ranges, stream);
}

void ordered_reduce_scatter(const MeshGroup& group, const ConstView& whole, const View& part, const View& scratch,
                            Stream& stream, std::source_location where) {
  if (stream.rehearses()) return;
  check(whole.size() == group.size() * part.size(), ErrorCode::collective, [&] {
    return str("reduce_scatter over '", group.name(), "': ", whole.size(), " elements of all ranks are not ",
               group.size(), " x ", part.size());
  });
  begin(group, CollectiveKind::reduce_scatter, whole, part, scratch, where);
  const Ranges ranges = ranges_of(group, whole.size(), std::max<int64_t>(1, part.size()));
  launch(stream, Copy{part, sum_own_range(group, whole, ranges, scratch, stream)});
}

}  // namespace lockstep
