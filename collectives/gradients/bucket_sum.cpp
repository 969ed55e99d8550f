// SPDX-License-Identifier: Apache-2.0
#include "collectives/gradients/bucket_sum.h"

#include <algorithm>

#include "kernels/granule.h"
#include "kernels/parallel.h"

namespace lockstep {

namespace {
bool inside(LeafRange part, LeafRange whole) { return part.begin >= whole.begin && part.end <= whole.end; }

// Sums as they travel between nodes: the array of f32 itself, or its bf16, which has the same values.
class OnTheWire {
 public:
  OnTheWire(DType dtype, float* values, int64_t n)
      : values_(values), n_(n), narrow_(dtype == DType::bf16 ? size_t(n) : 0), packs_(dtype == DType::bf16) {}
  void* data() { return packs_ ? static_cast<void*>(narrow_.data()) : values_; }
  int64_t bytes() const { return n_ * size_of(packs_ ? DType::bf16 : DType::f32); }
  // Call this before sending.
  void pack(int threads) {
    if (packs_) convert(narrow_.data(), values_, threads);
  }
  // Call this after receiving.
  void unpack(int threads) {
    if (packs_) convert(values_, narrow_.data(), threads);
  }

 private:
  template <class To, class From>
  void convert(To* to, const From* from, int threads) const {
    cpu::parallel_ranges(n_ < cpu::kParallelElements ? 1 : threads, n_, kGranule, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) to[i] = To(float(from[i]));
    });
  }

  float* values_;
  int64_t n_;
  std::vector<bfloat16> narrow_;
  bool packs_;
};

}  // namespace

int leaf_arenas(int leaves, LeafRange own) {
  int most = 1;
  for (int leaf = own.begin; leaf < own.end; ++leaf) most = std::max(most, sums_held(leaves, {own.begin, leaf}) + 1);
  return most;
}

LeafStack::LeafStack(int leaves, LeafRange own, DType dtype) : own_(own), arenas_(leaf_arenas(leaves, own)) {
  for (int leaf = own.begin; leaf < own.end; ++leaf) {
    const LeafRange done{own.begin, leaf}, now{own.begin, leaf + 1}, alone{leaf, leaf + 1};
    std::vector<LeafRange> before = maximal_subtrees(leaves, {&done, 1});
    const std::vector<LeafRange> after = maximal_subtrees(leaves, {&now, 1});
    levels_.push_back(int(before.size()));
    before.push_back(alone);
    if (leaf + 1 == own.end) {
      held_ = before;
    } else {
      // A finished leaf completes at most one new subtree, from the sums on top of the stack.
      targets_.push_back(int(after.size()) - 1);
      merges_.emplace_back(after.back(), std::span(before).subspan(after.size() - 1), dtype);
    }
  }
}

LeafStack::Merge LeafStack::merge_after(int leaf) const {
  if (leaf + 1 == own_.end) return {};
  const auto i = size_t(leaf - own_.begin);
  return {targets_[i], &merges_[i]};
}

void LeafStack::merge(int leaf, const Arenas& arenas, int local_rank, Range elements, int threads) const {
  const auto [target, sum] = merge_after(leaf);
  if (sum == nullptr || sum->inputs() == 1) return;
  std::vector<const float*> inputs;
  for (size_t k = 0; k < sum->inputs(); ++k) inputs.push_back(arenas.at(local_rank, target + int(k)) + elements.begin);
  sum->run(arenas.at(local_rank, target) + elements.begin, inputs, elements.size(), threads);
}

BucketSum::BucketSum(const Communicator& comm, int leaves, DType dtype)
    : place_(comm.place()), dtype_(dtype), rank_(comm.rank()) {
  std::vector<std::vector<int>> ranks(static_cast<size_t>(place_.nodes));
  for (int rank = 0; rank < comm.size(); ++rank) ranks[size_t(comm.node_of()[size_t(rank)])].push_back(rank);
  const bool has_peers = place_.local_rank < int(std::ranges::min(ranks, {}, &std::vector<int>::size).size());
  for (const std::vector<int>& members : ranks) {
    std::vector<LeafRange> owned;
    for (const int rank : members) owned.push_back(leaves_of(rank, comm.size(), leaves));
    nodes_.push_back({maximal_subtrees(leaves, owned), has_peers ? members[size_t(place_.local_rank)] : -1});
  }
  for (const LeafRange& subtree : nodes_[size_t(place_.node)].subtrees) {
    std::vector<LeafRange> inputs;
    std::vector<Held> held;
    for (int local_rank = 0; local_rank < place_.local_size; ++local_rank) {
      const int rank = ranks[size_t(place_.node)][size_t(local_rank)];
      const LeafStack stack(leaves, leaves_of(rank, comm.size(), leaves));
      for (size_t arena = 0; arena < stack.held().size(); ++arena) {
        if (!inside(stack.held()[arena], subtree)) continue;
        inputs.push_back(stack.held()[arena]);
        held.push_back({local_rank, int(arena)});
      }
    }
    partials_.push_back({TreeSum(subtree, inputs, dtype), std::move(held)});
  }
  if (place_.nodes == 1) return;
  std::vector<LeafRange> all;
  for (const Node& node : nodes_) all.insert(all.end(), node.subtrees.begin(), node.subtrees.end());
  across_.emplace_back(LeafRange{0, leaves}, all, dtype);
}

float* BucketSum::result(const Arenas& arenas) const {
  // With several nodes, lanes bring the sums in. They are not slices if nodes differ in size, so all use one place.
  return arenas.at(place_.nodes == 1 ? place_.local_rank : 0, 0);
}

bool BucketSum::run(Communicator& comm, const Arenas& arenas, const GradientBucket& bucket, int threads) const {
  if (place_.nodes > 1) return nodes_[0].peer < 0 || run_across_nodes(comm, arenas, bucket, threads);
  const Range slice = bucket.sums[size_t(rank_)];
  return partials_[0].sum.run_and_look(result(arenas) + slice.begin, inputs_of(partials_[0], arenas, slice),
                                       slice.size(), threads);
}

std::vector<const float*> BucketSum::inputs_of(const Partial& partial, const Arenas& arenas, Range elements) const {
  std::vector<const float*> inputs;
  for (const Held& held : partial.held) inputs.push_back(arenas.at(held.local_rank, held.arena) + elements.begin);
  return inputs;
}

// Every rank sends its peers the sums of its node's subtrees, to each the elements that this peer adds up. It then
// finishes the tree for its own elements and hands the result to all.
bool BucketSum::run_across_nodes(Communicator& comm, const Arenas& arenas, const GradientBucket& bucket,
                                 int threads) const {
  const Range mine = bucket.sums[size_t(rank_)];
  float* sums = result(arenas);
  OnTheWire sum_out(dtype_, sums + mine.begin, mine.size());
  std::vector<OnTheWire> wires_out, wires_in, sum_parts_in;
  std::vector<Outgoing> sends, sums_out;
  std::vector<Incoming> receives, sums_in;
  std::vector<std::vector<float>> letters_out(nodes_.size()), letters_in(nodes_.size());
  std::vector<const float*> inputs;
  for (int node = 0; node < place_.nodes; ++node) {
    const auto& [subtrees, peer] = nodes_[size_t(node)];
    const Range theirs = bucket.sums[size_t(peer)];
    std::vector<float>& out = letters_out[size_t(node)];
    out.resize(partials_.size() * size_t(theirs.size()));
    for (size_t k = 0; k < partials_.size(); ++k)
      partials_[k].sum.run(out.data() + int64_t(k) * theirs.size(), inputs_of(partials_[k], arenas, theirs),
                           theirs.size(), threads);
    std::vector<float>& in = node == place_.node ? out : letters_in[size_t(node)];
    in.resize(subtrees.size() * size_t(mine.size()));
    for (size_t k = 0; k < subtrees.size(); ++k) inputs.push_back(in.data() + int64_t(k) * mine.size());
    if (node == place_.node) continue;
    OnTheWire& wire_out = wires_out.emplace_back(dtype_, out.data(), int64_t(out.size()));
    OnTheWire& wire_in = wires_in.emplace_back(dtype_, in.data(), int64_t(in.size()));
    OnTheWire& sum_in = sum_parts_in.emplace_back(dtype_, sums + theirs.begin, theirs.size());
    wire_out.pack(threads);
    sends.push_back({peer, wire_out.data(), wire_out.bytes()});
    receives.push_back({peer, wire_in.data(), wire_in.bytes()});
    sums_out.push_back({peer, sum_out.data(), sum_out.bytes()});
    sums_in.push_back({peer, sum_in.data(), sum_in.bytes()});
  }
  comm.exchange(sends, receives);
  for (OnTheWire& wire : wires_in) wire.unpack(threads);
  const bool finite = across_[0].run_and_look(sums + mine.begin, inputs, mine.size(), threads);
  sum_out.pack(threads);
  comm.exchange(sums_out, sums_in);
  for (OnTheWire& part : sum_parts_in) part.unpack(threads);
  return finite;
}

}  // namespace lockstep
