// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_emulation/threads.h"

#include <memory>
#include <string>

#include "tests/cuda_emulation/grid.h"
#include "tests/cuda_emulation/sanitizers.h"

namespace cuda_emulation {
namespace {

Grid& grid() { return *current_grid(); }
Thread& self() { return *grid().self(); }

bool same(const Site& a, const Site& b) { return a.position == b.position && std::strcmp(a.file, b.file) == 0; }

// What the lanes of a mask do together.
constexpr int kWarpBarrier = -1;

// The call of this warp that the lane takes part in, begun if it is the first.
WarpCall& join(int kind, unsigned mask, const Site& site) {
  Thread& thread = self();
  Warp& warp = thread.block->warps[thread.linear / kWarp];
  const auto refuse = [&](const std::string& what) {
    grid().fail(Grid::name(thread) + " " + what + ", at " + Grid::name(site));
  };
  if (!(mask >> thread.lane & 1)) refuse("calls a warp primitive whose mask leaves it out");
  if (mask & ~warp.exists) refuse("names lanes that the block does not have");
  if (mask & warp.exited) refuse("names lanes that have returned");
  for (auto& call : warp.pending) {
    if (call->complete || !(call->mask & mask)) continue;
    if (call->mask != mask || call->kind != kind)
      refuse("calls a warp primitive that does not match the one pending at " + Grid::name(call->site));
    return *call;
  }
  warp.pending.push_back(std::move(warp.free.back()));
  warp.free.pop_back();
  WarpCall& call = *warp.pending.back();
  call.mask = mask;
  call.arrived = call.left = 0;
  call.kind = kind;
  call.complete = false;
  call.site = site;
  return call;
}

// Waits until all lanes of the mask have come.
WarpCall& meet(int kind, unsigned mask, uint64_t value, const Site& site) {
  Thread& thread = self();
  WarpCall& call = join(kind, mask, site);
  char* const mark = thread.block->warp_mark(thread.linear / kWarp, call.number);
  call.values[thread.lane] = value;
  call.arrived |= 1u << thread.lane;
  if (kind == kWarpBarrier) release_order(mark);
  if (call.arrived == mask) {
    call.complete = true;
    call.left = mask;
    const unsigned first = thread.linear / kWarp * kWarp;
    for (unsigned i = 0; i < kWarp; ++i) {
      const unsigned lane = options().order == Order::reverse ? kWarp - 1 - i : i;
      if ((mask >> lane & 1) && lane != thread.lane) grid().make_ready(&thread.block->threads[first + lane]);
    }
  } else {
    grid().wait(ThreadState::at_warp, site);
  }
  if (kind == kWarpBarrier) acquire_order(mark);
  return call;
}

void leave(WarpCall& call) {
  Thread& thread = self();
  Warp& warp = thread.block->warps[thread.linear / kWarp];
  call.left &= ~(1u << thread.lane);
  if (call.left != 0) return;
  for (size_t i = 0; i < warp.pending.size(); ++i) {
    if (warp.pending[i].get() != &call) continue;
    warp.free.push_back(std::move(warp.pending[i]));
    warp.pending.erase(warp.pending.begin() + std::ptrdiff_t(i));
    return;
  }
}

uint64_t vote(WarpKind kind, const WarpCall& call) {
  unsigned ballot = 0, sum = 0;
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (!(call.mask >> lane & 1)) continue;
    ballot |= unsigned(call.values[lane] != 0) << lane;
    sum += unsigned(call.values[lane]);
  }
  if (kind == WarpKind::ballot) return ballot;
  if (kind == WarpKind::add) return sum;
  return kind == WarpKind::any ? ballot != 0 : ballot == call.mask;
}

uint64_t shuffle(WarpKind kind, const WarpCall& call, uint64_t own, unsigned argument, unsigned width,
                 const Site& site) {
  const unsigned lane = self().lane, segment = lane & ~(width - 1);
  unsigned source = lane;
  if (kind == WarpKind::index) source = segment | (argument & (width - 1));
  if (kind == WarpKind::up && lane - segment >= argument) source = lane - argument;
  if (kind == WarpKind::down && lane - segment + argument < width) source = lane + argument;
  if (kind == WarpKind::exclusive_or && (lane ^ argument) < segment + width) source = lane ^ argument;
  if (source == lane) return own;
  if (!(call.mask >> source & 1))
    grid().fail(Grid::name(self()) + " reads lane " + std::to_string(source) + ", which its mask leaves out, at " +
                Grid::name(site));
  return call.values[source];
}

}  // namespace

const uint3& thread_index() { return self().thread_index; }
const uint3& block_index() { return self().block_index; }
const dim3& block_size() { return grid().launch().block; }
const dim3& grid_size() { return grid().launch().grid; }

int block_barrier(BarrierKind kind, int predicate, const Site& site) {
  Thread& thread = self();
  Block& block = *thread.block;
  const unsigned phase = block.phase & 1;
  if (block.arrived == 0) {
    block.barrier_site = site;
    block.barrier_kind = kind;
    block.verdict[phase] = kind == BarrierKind::all;
  } else if (!same(block.barrier_site, site)) {
    grid().fail("divergent __syncthreads: " + Grid::name(thread) + " at " + Grid::name(site) + ", others at " +
                Grid::name(block.barrier_site));
  }
  int& verdict = block.verdict[phase];
  if (kind == BarrierKind::count) verdict += predicate != 0;
  if (kind == BarrierKind::any) verdict |= predicate != 0;
  if (kind == BarrierKind::all) verdict &= predicate != 0;
  release_order(block.barrier_mark(phase));
  if (++block.arrived == block.live) {
    grid().release_barrier(block);
  } else {
    grid().wait(ThreadState::at_barrier, site);
  }
  acquire_order(block.barrier_mark(phase));
  return block.verdict[phase];
}

void grid_barrier(const Site& site) {
  if (!grid().all_resident()) grid().fail("a barrier of the grid in a launch that is not cooperative");
  char* const mark = grid().grid_mark(grid().grid_phase() & 1);
  release_order(mark);
  if (!grid().arrive_at_grid_barrier()) grid().wait(ThreadState::at_grid, site);
  acquire_order(mark);
}

void warp_barrier(unsigned mask, const Site& site) { leave(meet(kWarpBarrier, mask, 0, site)); }

uint64_t warp_exchange(WarpKind kind, unsigned mask, uint64_t value, int argument, int width, const Site& site) {
  WarpCall& call = meet(int(kind), mask, value, site);
  const bool shuffles = kind <= WarpKind::exclusive_or;
  const uint64_t result =
      shuffles ? shuffle(kind, call, value, unsigned(argument), unsigned(width), site) : vote(kind, call);
  leave(call);
  return result;
}

void* shared_memory(const void* tag, size_t bytes, size_t alignment) {
  Block& block = *self().block;
  for (const SharedArray& array : block.arrays)
    if (array.tag == tag) return array.at;
  const size_t aligned_to = alignment < 16 ? 16 : alignment;
  const size_t at = (block.used + aligned_to - 1) / aligned_to * aligned_to;
  if (at + bytes - block.dynamic_bytes > kStaticSharedBytes || block.arrays.size() == block.arrays.capacity())
    grid().fail("a block shares more than 48 KiB of static memory");
  char* const memory = block.arena + at;
  if (has_asan()) __asan_unpoison_memory_region(memory, bytes);
  paint(memory, bytes);
  block.used = at + bytes + (has_asan() ? 16 : 0);  // what lies between arrays may not be touched
  block.arrays.push_back({tag, memory});
  return memory;
}

void* dynamic_shared_memory() { return self().block->arena; }

void fence() {
  Thread& thread = self();
  thread.fenced = true;
  if (thread.last_atomic) acquire_order(thread.last_atomic);
}

void before_atomic(const void* address) {
  if (self().fenced) release_order(address);
}

void after_atomic(const void* address) { self().last_atomic = address; }

}  // namespace cuda_emulation
