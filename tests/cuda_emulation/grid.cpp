// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_emulation/grid.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <new>
#include <utility>

#include "kernels/device/check.h"
#include "tests/cuda_emulation/sanitizers.h"

namespace cuda_emulation {
namespace {

// The thread sanitizer has about 8,000 contexts, and gives the number of a destroyed one to the next, which it then
// takes for the same thread: races between blocks would hide. So they are kept as long as its limit allows.
constexpr size_t kKeptContexts = 4000;
constexpr size_t kSharedArrays = 64, kWarpCalls = 64;

// Fibers without contexts of their own serve one launch after the other, of one stream: the thread sanitizer would take
// two streams that have used one stack for a race.
struct FiberCache : std::map<void*, std::vector<Fiber*>> {
  ~FiberCache() {
    for (const auto& [context, fibers] : *this)
      for (Fiber* fiber : fibers) destroy_fiber(fiber);
  }
};
std::vector<Fiber*>& cached_fibers() {
  static thread_local FiberCache cache;
  return cache[current_context()];
}

const char* text(ThreadState state) {
  static const char* const texts[] = {"not started",        "ready",   "running", "__syncthreads", "a warp primitive",
                                      "the grid's barrier", "returned"};
  return texts[int(state)];
}

}  // namespace

Grid*& current_grid() {
  static thread_local Grid* grid = nullptr;
  return grid;
}

void ReadyQueue::reserve(size_t n) {
  if (n <= ring_.size()) return;
  std::vector<Thread*> larger(n);
  for (size_t i = 0; i < count_; ++i) larger[i] = at(i);
  ring_.swap(larger);
  head_ = 0;
}

Thread* ReadyQueue::pop() {
  Thread* thread = ring_[head_];
  head_ = (head_ + 1) % ring_.size();
  --count_;
  return thread;
}

Grid::Grid(const Launch& launch, const std::function<void()>& body)
    : launch_(launch),
      body_(body),
      threads_per_block_(launch.block.x * launch.block.y * launch.block.z),
      random_(options().seed) {
  main_.order_context = current_context();
}

Grid::~Grid() {
  for (auto& block : resident_) pool_.push_back(std::move(block));
  for (auto& block : pool_) {
    // After a failure threads are suspended for good; their stacks go with them.
    for (Thread& thread : block->threads)
      if (thread.fiber && thread.state != ThreadState::done && thread.state != ThreadState::fresh)
        destroy_fiber(thread.fiber);
    if (block->arena && has_asan()) __asan_unpoison_memory_region(block->arena, block->arena_bytes);
    std::free(block->arena);
  }
  for (char* arena : dead_arenas_) std::free(arena);
  for (Fiber* fiber : dead_) destroy_fiber(fiber);
  for (Fiber* fiber : idle_) cached_fibers().push_back(fiber);
}

bool Grid::threads_have_contexts() const { return has_tsan() && options().race_check_threads; }

uint64_t Grid::random() {  // splitmix64 (Steele, Lea & Flood 2014)
  uint64_t z = (random_ += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

std::vector<unsigned> Grid::block_order() {
  std::vector<unsigned> order(size_t(launch_.grid.x) * launch_.grid.y * launch_.grid.z);
  for (size_t i = 0; i < order.size(); ++i) order[i] = unsigned(i);
  if (options().order == Order::reverse) std::reverse(order.begin(), order.end());
  if (options().order == Order::random)
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

std::string Grid::run() {
  start_from(main_);
  const std::vector<unsigned> order = block_order();
  // One block after the other, but for launches whose blocks wait for one another.
  const size_t limit = launch_.cooperative ? order.size() : 1;
  all_resident_ = limit >= order.size();
  size_t next = 0;
  while (!failed_) {
    while (next < order.size() && live_blocks_ < limit) start_block(order[next++]);
    if (ready_.size() == 0) {
      if (live_threads_ == 0 && next == order.size()) break;
      failed_ = true;
      message_ = deadlock();
      break;
    }
    resume(pick());
    if (threads_have_contexts())
      while (dead_.size() - contexts_destroyed_ > kKeptContexts) destroy_context(*dead_[contexts_destroyed_++]);
    retire_blocks();
  }
  acquire_order(&end_mark_);
  return failed_ ? message_ : "";
}

Thread* Grid::pick() {
  if (options().order == Order::random && ready_.size() > 1)
    std::swap(ready_.at(0), ready_.at(random() % ready_.size()));
  return ready_.pop();
}

void Grid::resume(Thread* thread) {
  if (thread->state == ThreadState::fresh) {
    if (!idle_.empty()) {
      thread->fiber = idle_.back();
      idle_.pop_back();
    } else if (std::vector<Fiber*>& cached = cached_fibers(); !threads_have_contexts() && !cached.empty()) {
      thread->fiber = cached.back();
      cached.pop_back();
    } else {
      thread->fiber = make_fiber(&Grid::fiber_main, threads_have_contexts());
    }
  }
  thread->state = ThreadState::running;
  self_ = thread;
  switch_fiber(main_, *thread->fiber);
}

void Grid::fiber_main() {
  Fiber* fiber = current_grid()->self_->fiber;
  arrive(*fiber);
  // A parked fiber comes back here, perhaps for another grid.
  for (;;) current_grid()->run_threads(fiber);
}

// A thread that never waits leaves its stack to the next one: kernels without barriers take no switch at all. Not where
// each thread is a context of its own.
void Grid::run_threads(Fiber* fiber) {
  const bool alone = threads_have_contexts();
  for (;;) {
    body_();
    finish_thread();
    const bool next_is_fresh = ready_.size() > 0 && ready_.at(0)->state == ThreadState::fresh;
    if (alone || !next_is_fresh || options().order == Order::random) break;
    self_ = ready_.pop();
    self_->fiber = fiber;
    self_->state = ThreadState::running;
  }
  (alone ? dead_ : idle_).push_back(fiber);
  switch_fiber(*fiber, main_, alone);
}

void Grid::finish_thread() {
  Thread& thread = *self_;
  Block& block = *thread.block;
  Warp& warp = block.warps[thread.linear / kWarp];
  thread.state = ThreadState::done;
  warp.exited |= 1u << thread.lane;
  for (const auto& call : warp.pending)
    if (!call->complete && (call->mask >> thread.lane & 1))
      fail(name(thread) + " returned while lanes of its warp wait for it at " + name(call->site));
  --block.live;
  --live_threads_;
  release_order(&end_mark_);
  if (block.arrived > 0 && block.arrived == block.live) release_barrier(block);
  if (at_grid_barrier_ > 0 && at_grid_barrier_ == live_threads_) release_grid_barrier();
}

std::unique_ptr<Block> Grid::fresh_block() {
  if (!pool_.empty()) {
    std::unique_ptr<Block> block = std::move(pool_.back());
    pool_.pop_back();
    return block;
  }
  auto block = std::make_unique<Block>();
  block->threads.resize(threads_per_block_);
  block->warps.resize((threads_per_block_ + kWarp - 1) / kWarp);
  block->arrays.reserve(kSharedArrays);
  for (Warp& warp : block->warps) {
    warp.pending.reserve(kWarpCalls);
    warp.free.reserve(kWarpCalls);
    for (unsigned i = 0; i < kWarpCalls; ++i) {
      warp.free.push_back(std::make_unique<WarpCall>());
      warp.free.back()->number = i;
    }
  }
  return block;
}

void Grid::prepare_memory(Block& block) {
  block.arrays.clear();
  block.arena_bytes = kStaticSharedBytes + launch_.shared_bytes + 256;
  if (!block.arena) {
    const size_t bytes = (block.arena_bytes + Block::kMarkBytes + 127) / 128 * 128;
    block.arena = static_cast<char*>(std::aligned_alloc(128, bytes));
    if (!block.arena) throw std::bad_alloc();
  }
  if (has_asan()) __asan_unpoison_memory_region(block.arena, block.arena_bytes);
  // Shared memory is not initialised on a device: 0xFF bytes read as NaN or -1.
  paint(block.arena, std::max(block.used, launch_.shared_bytes));
  if (has_asan()) {
    __asan_poison_memory_region(block.arena, block.arena_bytes);
    __asan_unpoison_memory_region(block.arena, launch_.shared_bytes);
  }
  block.dynamic_bytes = launch_.shared_bytes;
  block.used = (launch_.shared_bytes + 31) / 16 * 16 + (has_asan() ? 16 : 0);
}

void Grid::start_block(unsigned number) {
  std::unique_ptr<Block> block = fresh_block();
  const size_t threads = size_t(live_blocks_ + 1) * threads_per_block_;
  ready_.reserve(threads);
  idle_.reserve(threads);
  dead_.reserve(dead_.size() + threads);
  prepare_memory(*block);
  block->live = threads_per_block_;
  block->arrived = block->phase = 0;
  for (Warp& warp : block->warps) {
    warp.exists = warp.exited = 0;
    for (auto& call : warp.pending) warp.free.push_back(std::move(call));
    warp.pending.clear();
  }
  const dim3 &grid = launch_.grid, &size = launch_.block;
  for (unsigned i = 0; i < threads_per_block_; ++i) {
    Thread& thread = block->threads[i];
    thread = {};
    thread.thread_index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    thread.block_index = {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
    thread.block = block.get();
    thread.linear = i;
    thread.lane = i % kWarp;
    block->warps[i / kWarp].exists |= 1u << thread.lane;
  }
  ++live_blocks_;
  live_threads_ += threads_per_block_;
  wake(*block, ThreadState::fresh);
  resident_.push_back(std::move(block));
}

void Grid::retire_blocks() {
  for (size_t i = 0; i < resident_.size();) {
    if (resident_[i]->live > 0) {
      ++i;
      continue;
    }
    std::unique_ptr<Block> block = std::move(resident_[i]);
    resident_.erase(resident_.begin() + std::ptrdiff_t(i));
    --live_blocks_;
    // A fresh arena for every block, where its addresses carry order.
    if (threads_have_contexts()) dead_arenas_.push_back(std::exchange(block->arena, nullptr));
    pool_.push_back(std::move(block));
  }
}

void Grid::make_ready(Thread* thread) {
  if (thread->state != ThreadState::fresh) thread->state = ThreadState::ready;
  ready_.push(thread);
}

void Grid::wake(Block& block, ThreadState waiting) {
  const size_t n = block.threads.size();
  for (size_t i = 0; i < n; ++i) {
    Thread& thread = block.threads[options().order == Order::reverse ? n - 1 - i : i];
    if (thread.state == waiting) make_ready(&thread);
  }
}

void Grid::wait(ThreadState state, const Site& site) {
  Thread* thread = self_;
  thread->state = state;
  thread->site = site;
  switch_fiber(*thread->fiber, main_);
}

void Grid::fail(std::string what) {
  failed_ = true;
  message_ = std::move(what);
  release_order(&end_mark_);
  // The scheduler drops this fiber with the others that are suspended.
  if (self_->state == ThreadState::done) self_->state = ThreadState::running;
  switch_fiber(*self_->fiber, main_);
  std::abort();
}

void Grid::release_barrier(Block& block) {
  block.arrived = 0;
  ++block.phase;
  wake(block, ThreadState::at_barrier);
}

bool Grid::arrive_at_grid_barrier() {
  if (++at_grid_barrier_ < live_threads_) return false;
  release_grid_barrier();
  return true;
}

void Grid::release_grid_barrier() {
  at_grid_barrier_ = 0;
  ++grid_phase_;
  for (auto& block : resident_) wake(*block, ThreadState::at_grid);
}

std::string Grid::name(const Thread& thread) {
  return lockstep::str("block (", thread.block_index.x, ", ", thread.block_index.y, ") thread ", thread.linear);
}

std::string Grid::name(const Site& site) {
  return lockstep::str(site.file, ":", site.position & 0xfffff, ":", site.position >> 20);
}

std::string Grid::deadlock() const {
  std::string report = "no thread can go on:";
  int shown = 0;
  for (const auto& block : resident_)
    for (const Thread& thread : block->threads)
      if (thread.state != ThreadState::done && shown++ < 4)
        report += lockstep::str(" ", name(thread), " waits in ", text(thread.state), " at ", name(thread.site), ";");
  return report;
}

}  // namespace cuda_emulation
