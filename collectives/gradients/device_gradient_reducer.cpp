// SPDX-License-Identifier: Apache-2.0
#include "collectives/gradients/device_gradient_reducer.h"

#include <algorithm>
#include <utility>

#include "kernels/device/profiling.h"
#include "kernels/device/transfer.h"
#include "kernels/pointwise.h"

namespace lockstep {

namespace {

// The subtrees that every rank holds after its last leaf, rank by rank.
std::vector<LeafRange> subtrees_held(int ranks, int leaves) {
  std::vector<LeafRange> subtrees;
  for (int rank = 0; rank < ranks; ++rank) {
    const LeafStack stack(leaves, leaves_of(rank, ranks, leaves));
    subtrees.insert(subtrees.end(), stack.held().begin(), stack.held().end());
  }
  return subtrees;
}

// The same on all ranks, so they need not be told apart. With as many ranks as leaves, each has a leaf at most.
int arenas_of_each(int ranks, int leaves) {
  int most = 1;
  if (ranks >= leaves) return most;
  for (int rank = 0; rank < ranks; ++rank) most = std::max(most, leaf_arenas(leaves, leaves_of(rank, ranks, leaves)));
  return most;
}

// How many sums all ranks together hold after their last leaves. Each has those of its earlier leaves and its last
// leaf.
int64_t sums_to_add(int ranks, int leaves) {
  if (ranks >= leaves) return leaves;
  int64_t sums = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const LeafRange own = leaves_of(rank, ranks, leaves);
    sums += sums_held(leaves, {own.begin, own.end - 1}) + 1;
  }
  return sums;
}

// The leaves of the ranks of one node.
LeafRange leaves_of_node(int node, const RankNodes& ranks, int leaves) {
  const int first = int(node * ranks.on_each), last = int(first + ranks.on_each - 1);
  return {leaves_of(first, int(ranks.ranks), leaves).begin, leaves_of(last, int(ranks.ranks), leaves).end};
}

// How many slices a rank takes from ranks of its own node: of what each of them holds, one for a rank on every node.
int64_t letters_within_node(const RankNodes& ranks, int leaves) {
  const auto total = int(ranks.ranks);
  return ranks.nodes() * ranks.on_each * arenas_of_each(total, leaves);
}

int64_t letters_across_nodes(const RankNodes& ranks, int leaves) {
  int64_t letters = 0;
  for (int node = 0; node < ranks.nodes(); ++node) letters += sums_held(leaves, leaves_of_node(node, ranks, leaves));
  return letters;
}

int64_t letter_bytes(ReduceMode mode, const RankNodes& ranks, int leaves, int64_t widest_bucket, DType dtype) {
  if (mode != ReduceMode::tree || ranks.ranks == 1) return 0;
  const int64_t letters = ranks.several() ? letters_within_node(ranks, leaves) + letters_across_nodes(ranks, leaves)
                                          : sums_to_add(int(ranks.ranks), leaves);
  return letters * (widest_bucket / ranks.ranks) * size_of(dtype);
}

int64_t packed_bytes(int64_t ranks, int leaves, int64_t widest_bucket, DType dtype) {
  if (dtype == DType::f32 || ranks == 1) return 0;
  return arenas_of_each(int(ranks), leaves) * widest_bucket * size_of(dtype);
}

int64_t arena_bytes(int64_t ranks, int leaves, int64_t elements) {
  return arenas_of_each(int(ranks), leaves) * elements * int64_t(sizeof(float));
}

int64_t widest(const std::vector<GradientBucket>& buckets) {
  int64_t most = 0;
  for (const GradientBucket& bucket : buckets) most = std::max(most, bucket.end - bucket.begin);
  return most;
}

}  // namespace

int64_t device_gradient_bytes(ReduceMode mode, RankNodes ranks, int leaves, int64_t elements, int64_t widest_bucket,
                              DType dtype) {
  return arena_bytes(ranks.ranks, leaves, elements) + packed_bytes(ranks.ranks, leaves, widest_bucket, dtype) +
         letter_bytes(mode, ranks, leaves, widest_bucket, dtype);
}

DeviceGradientReducer::DeviceGradientReducer(DeviceCommunicator& data_axis, std::vector<GradientBucket> buckets,
                                             int64_t elements, ReduceMode mode, int virtual_ranks, Pool& pool,
                                             Stream& compute, DType dtype, int64_t ranks_of_node)
    : comm_(data_axis),
      nodes_{data_axis.size(), ranks_of_node},
      mode_(mode),
      dtype_(dtype),
      elements_(elements),
      stack_(parts_of_batch(mode, virtual_ranks, data_axis.size()),
             leaves_of(data_axis.rank(), data_axis.size(), parts_of_batch(mode, virtual_ranks, data_axis.size()))),
      buckets_(std::move(buckets), elements, stack_.own(), data_axis.ranks().describe(data_axis.rank())),
      tree_({0, parts_of_batch(mode, virtual_ranks, data_axis.size())},
            subtrees_held(data_axis.size(), parts_of_batch(mode, virtual_ranks, data_axis.size()))),
      works_(buckets_.size()) {
  check(mode != ReduceMode::mpi, ErrorCode::usage,
        "--reduce mpi sums in memory of the host; with --device cuda reduce by 'tree' or 'fast'");
  check_reduce_dtype(mode, dtype);
  const int ranks = comm_.size(), leaves = parts_of_batch(mode, virtual_ranks, ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    const LeafStack stack(leaves, leaves_of(rank, ranks, leaves));
    for (int arena = 0; arena < int(stack.held().size()); ++arena) held_.push_back({rank, arena});
  }
  if (nodes_.several()) plan_nodes(leaves);
  std::vector<GradientBucket> all;
  for (size_t b = 0; b < buckets_.size(); ++b) all.push_back(buckets_[b]);
  arenas_ = Buffer(pool, arena_bytes(ranks, leaves, elements), Purpose::gradients);
  if (const int64_t bytes = packed_bytes(ranks, leaves, widest(all), dtype); bytes > 0)
    packed_ = Buffer(pool, bytes, Purpose::gradients);
  if (const int64_t bytes = letter_bytes(mode, nodes_, leaves, widest(all), dtype); bytes > 0)
    letters_ = Buffer(pool, bytes, Purpose::gradients);
  clear(compute, arenas_.view(DType::f32, Shape{arenas_.bytes() / int64_t(sizeof(float))}));
}

void DeviceGradientReducer::plan_nodes(int leaves) {
  first_letter_across_ = letters_within_node(nodes_, leaves);
  std::vector<LeafRange> of_all;
  for (int node = 0; node < nodes_.nodes(); ++node) {
    const LeafRange range = leaves_of_node(node, nodes_, leaves);
    const std::vector<LeafRange> subtrees = maximal_subtrees(leaves, std::span(&range, 1));
    sums_of_nodes_.push_back(int(subtrees.size()));
    of_all.insert(of_all.end(), subtrees.begin(), subtrees.end());
    if (node != own_node()) continue;
    // Ranks, and what each holds, ascend like the subtrees that they are parts of.
    std::vector<LeafRange> held;
    for (const int first = peer_on(node) - comm_.rank() % int(nodes_.on_each); const Held& sum : held_)
      if (sum.rank >= first && sum.rank < first + nodes_.on_each) {
        const LeafStack stack(leaves, leaves_of(sum.rank, comm_.size(), leaves));
        held.push_back(stack.held()[size_t(sum.arena)]);
        node_held_.push_back(sum);
      }
    for (size_t at = 0; const LeafRange& subtree : subtrees) {
      size_t end = at;
      while (end < held.size() && held[end].end <= subtree.end) ++end;
      partials_.push_back({at, TreeSum(subtree, std::span(held).subspan(at, end - at))});
      at = end;
    }
  }
  across_.emplace_back(LeafRange{0, leaves}, of_all);
}

View DeviceGradientReducer::arena(int index) const {
  return slice(arenas_.view(DType::f32, Shape{arenas_.bytes() / int64_t(sizeof(float))}), index * elements_,
               (index + 1) * elements_);
}

View DeviceGradientReducer::bucket_of(int index, size_t bucket) const {
  return slice(arena(index), buckets_[bucket].begin, buckets_[bucket].end);
}

View DeviceGradientReducer::on_the_wire(int index, size_t bucket) const {
  if (packed_.bytes() == 0) return bucket_of(index, bucket);
  const int64_t elements = buckets_[bucket].end - buckets_[bucket].begin;
  return slice(packed_.view(dtype_, Shape{packed_.bytes() / size_of(dtype_)}), index * elements,
               (index + 1) * elements);
}

// The part of a bucket, which lies in `whole`, that one rank adds up.
View DeviceGradientReducer::part(size_t bucket, const View& whole, int rank) const {
  const Range sums = buckets_[bucket].sums[size_t(rank)];
  return slice(whole, sums.begin - buckets_[bucket].begin, sums.end - buckets_[bucket].begin);
}

View DeviceGradientReducer::begin_part(int leaf, Stream& compute) {
  buckets_.begin_part(leaf);
  publish(compute);
  return arena(stack_.arena_of(leaf));
}

void DeviceGradientReducer::gradient_ready(size_t bucket, Stream& compute) {
  if (buckets_.gradient_ready(bucket)) publish(compute);
}

void DeviceGradientReducer::without_parts(Stream& compute) {
  buckets_.begin_without_parts();
  publish(compute);
}

// Sends buckets that have become final on, in plan order: into the sums of earlier leaves, or out to the other ranks.
void DeviceGradientReducer::publish(Stream& compute) {
  const size_t news = buckets_.advance();
  for (size_t b = buckets_.filled() - news; b < buckets_.filled(); ++b) {
    if (!buckets_.last_part()) {
      const auto [target, sum] = stack_.merge_after(buckets_.current_part());
      for (const auto [into, from] : sum->additions())
        add(compute, bucket_of(target + into, b), bucket_of(target + from, b));
    } else {
      works_[b] = start(b, compute);
    }
  }
}

Work DeviceGradientReducer::start(size_t bucket, Stream& compute) {
  const ProfilerRange range("bucket", int64_t(bucket));
  const View whole = bucket_of(0, bucket);
  if (comm_.size() == 1) {
    // A leaf that nothing is added to is rounded too, because leaves decide the bits, not ranks.
    if (dtype_ == DType::bf16 && held_.size() == 1) launch(compute, RoundToBf16{whole});
    add_slice(bucket, compute);
    return Work();
  }
  comm_.ranks().log().enter(
      {.kind = CollectiveKind::all_reduce, .dtype = dtype_, .bytes = whole.size() * size_of(dtype_)});
  if (mode_ == ReduceMode::fast && dtype_ == DType::f32) return sum_over_ranks(bucket, compute);
  const auto begin = [this, bucket, &compute] {
    return dtype_ == DType::f32 ? sum_over_ranks(bucket, compute) : start_packed(bucket, compute);
  };
  if (comm_.recordable()) return begin();
  // The host takes part between the phases, so everything waits until the backward pass is queued.
  return Work([begin](Stream& stream) { begin().wait(stream); });
}

// Buckets are packed into the same memory, so the stream of communication packs and widens one after another.
Work DeviceGradientReducer::start_packed(size_t bucket, Stream& compute) {
  Stream& stream = comm_.stream();
  comm_.follow(compute);
  for (int held = 0; held < int(stack_.held().size()); ++held)
    launch(stream, Copy{on_the_wire(held, bucket), bucket_of(held, bucket)});
  sum_over_ranks(bucket, stream).wait(stream);
  launch(stream, Copy{bucket_of(0, bucket), on_the_wire(0, bucket)});
  return comm_.work_of_stream();
}

Work DeviceGradientReducer::sum_over_ranks(size_t bucket, Stream& after) {
  const CallLog::Parts parts(comm_.ranks().log());
  const View whole = on_the_wire(0, bucket), mine = part(bucket, whole, comm_.rank());
  if (mode_ == ReduceMode::fast) return comm_.all_reduce(whole, ReduceOp::sum, after);
  if (nodes_.several()) {
    sum_within_node(bucket, after);
    sum_across_nodes(bucket);
    return comm_.all_gather(mine, whole, comm_.stream());
  }
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  for (size_t input = 0; input < held_.size(); ++input) {
    const Held& held = held_[input];
    if (held.rank != comm_.rank()) {
      receives.push_back({held.rank, slice_of(held, bucket, input).data, mine.bytes()});
      continue;
    }
    for (int other = 0; other < comm_.size(); ++other)
      if (other != comm_.rank())
        sends.push_back({other, part(bucket, on_the_wire(held.arena, bucket), other).data, mine.bytes()});
  }
  comm_.exchange(sends, receives, after).wait(comm_.stream());
  add_slice(bucket, comm_.stream());
  return comm_.all_gather(mine, whole, comm_.stream());
}

// Every rank of the node gathers what the others hold of the slices that ranks in its place of any node add up, and
// makes sums of this node's leaves of it, where the first of them lies.
void DeviceGradientReducer::sum_within_node(size_t bucket, Stream& after) {
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  const int first = int(own_node() * nodes_.on_each);
  for (size_t input = 0; input < node_held_.size(); ++input)
    for (int node = 0; node < nodes_.nodes(); ++node) {
      const Held& held = node_held_[input];
      if (held.rank != comm_.rank()) {
        const View room = held_in_node(bucket, input, node);
        receives.push_back({held.rank, room.data, room.bytes()});
        continue;
      }
      for (int place = 0; place < nodes_.on_each; ++place) {
        const View slice = part(bucket, on_the_wire(held.arena, bucket), int(node * nodes_.on_each) + place);
        if (first + place != comm_.rank()) sends.push_back({first + place, slice.data, slice.bytes()});
      }
    }
  comm_.exchange(sends, receives, after).wait(comm_.stream());
  for (int node = 0; node < nodes_.nodes(); ++node)
    for (const Partial& partial : partials_) {
      std::vector<View> inputs;
      for (size_t i = 0; i < partial.tree.inputs(); ++i)
        inputs.push_back(held_in_node(bucket, partial.first + i, node));
      add_up(comm_.stream(), partial.tree, inputs, inputs[0]);
    }
}

// Nodes exchange these sums, and every rank adds up those of the slice that is its own.
void DeviceGradientReducer::sum_across_nodes(size_t bucket) {
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  std::vector<View> inputs;
  const int own = own_node();
  for (int node = 0; node < nodes_.nodes(); ++node)
    for (int sum = 0; sum < sums_of_nodes_[size_t(node)]; ++sum) {
      if (node == own) {
        inputs.push_back(held_in_node(bucket, partials_[size_t(sum)].first, node));
        continue;
      }
      inputs.push_back(letter(bucket, first_letter_across_ + int64_t(inputs.size())));
      receives.push_back({peer_on(node), inputs.back().data, inputs.back().bytes()});
    }
  for (int node = 0; node < nodes_.nodes(); ++node)
    for (const Partial& partial : partials_) {
      const View sum = held_in_node(bucket, partial.first, node);
      if (node != own) sends.push_back({peer_on(node), sum.data, sum.bytes()});
    }
  comm_.exchange(sends, receives, comm_.stream()).wait(comm_.stream());
  add_up(comm_.stream(), across_[0], inputs, part(bucket, on_the_wire(0, bucket), comm_.rank()));
}

// What a rank of this node holds of the slice of the rank on `node` in this rank's place.
View DeviceGradientReducer::held_in_node(size_t bucket, size_t input, int node) const {
  const Held& held = node_held_[input];
  if (held.rank == comm_.rank()) return part(bucket, on_the_wire(held.arena, bucket), peer_on(node));
  return letter(bucket, int64_t(input) * nodes_.nodes() + node);
}

View DeviceGradientReducer::letter(size_t bucket, int64_t number) const {
  const View letters = letters_.view(dtype_, Shape{letters_.bytes() / size_of(dtype_)});
  const int64_t elements = buckets_[bucket].sums[size_t(comm_.rank())].size();
  return slice(letters, number * elements, (number + 1) * elements);
}

// The part that one rank holds of the slice that this rank adds up.
View DeviceGradientReducer::slice_of(const Held& held, size_t bucket, size_t input) const {
  if (held.rank == comm_.rank()) return part(bucket, on_the_wire(held.arena, bucket), comm_.rank());
  return letter(bucket, int64_t(input));
}

// In bf16, packed operands are rounded already, and storing their sum rounds it.
void DeviceGradientReducer::add(Stream& stream, const View& into, const View& from) const {
  if (into.dtype == dtype_)
    launch(stream, AddInto{into, from});
  else
    launch(stream, AddIntoBf16{into, from});
}

// One pass over all inputs, of which `out` may be one. More than a kernel takes are added pair by pair, in place.
void DeviceGradientReducer::add_up(Stream& stream, const TreeSum& tree, std::span<const View> inputs,
                                   const View& out) const {
  if (inputs.size() > 1 && inputs.size() <= size_t(AdditionTree::kMostInputs)) {
    AddAlongTree sum{.out = out, .tree = tree.for_kernel(), .to_bf16 = dtype_ == DType::bf16};
    for (size_t i = 0; i < inputs.size(); ++i) sum.tree.inputs[i] = inputs[i].data;
    return launch(stream, sum);
  }
  for (const auto [into, from] : tree.additions()) add(stream, inputs[size_t(into)], inputs[size_t(from)]);
  // The first input holds the first leaf, and therefore the sum.
  if (inputs[0].data != out.data) copy(stream, out, inputs[0]);
}

void DeviceGradientReducer::add_slice(size_t bucket, Stream& stream) {
  std::vector<View> inputs;
  for (size_t i = 0; i < held_.size(); ++i) inputs.push_back(slice_of(held_[i], bucket, i));
  add_up(stream, tree_, inputs, part(bucket, on_the_wire(0, bucket), comm_.rank()));
}

void DeviceGradientReducer::wait(Stream& compute) {
  buckets_.end_step();
  for (Work& work : works_) std::exchange(work, Work()).wait(compute);
}

}  // namespace lockstep
