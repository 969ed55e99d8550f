// SPDX-License-Identifier: Apache-2.0
// A kernel launch at work: its blocks, their threads, and who can go on. Internal to the emulation.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_emulation/emulation.h"
#include "tests/cuda_emulation/fiber.h"
#include "tests/cuda_emulation/threads.h"

namespace cuda_emulation {

inline constexpr unsigned kWarp = 32;
inline constexpr size_t kStaticSharedBytes = 48 * 1024;

enum class ThreadState { fresh, ready, running, at_barrier, at_warp, at_grid, done };

struct Block;

struct Thread {
  uint3 thread_index, block_index;
  Block* block = nullptr;
  unsigned linear = 0, lane = 0;
  ThreadState state = ThreadState::fresh;
  Fiber* fiber = nullptr;
  Site site;  // where it waits
  bool fenced = false;
  const void* last_atomic = nullptr;
};

// One primitive of a warp that some of its lanes have come to.
struct WarpCall {
  unsigned mask = 0, arrived = 0, left = 0;
  int kind = 0;
  bool complete = false;
  Site site;
  uint64_t values[kWarp] = {};
  unsigned number = 0;  // among its warp's records
};

struct Warp {
  unsigned exists = 0, exited = 0;
  std::vector<std::unique_ptr<WarpCall>> pending, free;
};

struct SharedArray {
  const void* tag;
  char* at;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  unsigned live = 0, arrived = 0, phase = 0;
  Site barrier_site;
  BarrierKind barrier_kind = BarrierKind::plain;
  int verdict[2] = {0, 0};  // of the barriers of either phase
  char* arena = nullptr;
  size_t arena_bytes = 0, used = 0, dynamic_bytes = 0;
  std::vector<SharedArray> arrays;

  // Addresses that stand for a barrier in the sanitizer's eyes. They lie behind the shared memory of this block, fresh
  // for every block, or a later one would inherit an earlier one's order.
  char* barrier_mark(unsigned of_phase) const { return arena + arena_bytes + of_phase * 8; }
  char* warp_mark(unsigned warp, unsigned call) const { return arena + arena_bytes + 16 + (warp * 64 + call) * 8; }
  static constexpr size_t kMarkBytes = 16 + 32 * 64 * 8;
};

// Threads that can go on. Nothing that runs on a fiber may allocate or free: the sanitizer would see an access of that
// CUDA thread. So room is made before threads start.
class ReadyQueue {
 public:
  void reserve(size_t n);
  size_t size() const { return count_; }
  Thread*& at(size_t i) { return ring_[(head_ + i) % ring_.size()]; }
  void push(Thread* thread) { at(count_++) = thread; }
  Thread* pop();

 private:
  std::vector<Thread*> ring_;
  size_t head_ = 0, count_ = 0;
};

class Grid {
 public:
  Grid(const Launch& launch, const std::function<void()>& body);
  ~Grid();
  // Runs all blocks. Empty, or what no device would survive: a divergent barrier, a dead lane, a deadlock.
  std::string run();

  // Called on a fiber, by the thread that runs.
  Thread* self() const { return self_; }
  const Launch& launch() const { return launch_; }
  void wait(ThreadState state, const Site& site);
  void make_ready(Thread* thread);
  void wake(Block& block, ThreadState waiting);
  [[noreturn]] void fail(std::string what);
  void release_barrier(Block& block);
  bool all_resident() const { return all_resident_; }
  unsigned grid_phase() const { return grid_phase_; }
  char* grid_mark(unsigned phase) { return &grid_marks_[phase]; }
  bool arrive_at_grid_barrier();
  static std::string name(const Thread& thread);
  static std::string name(const Site& site);

 private:
  static void fiber_main();
  void run_threads(Fiber* fiber);
  void finish_thread();
  void start_block(unsigned number);
  void prepare_memory(Block& block);
  std::unique_ptr<Block> fresh_block();
  void retire_blocks();
  void resume(Thread* thread);
  Thread* pick();
  std::vector<unsigned> block_order();
  void release_grid_barrier();
  std::string deadlock() const;
  uint64_t random();
  bool threads_have_contexts() const;

  const Launch& launch_;
  const std::function<void()>& body_;
  ReadyQueue ready_;
  std::vector<std::unique_ptr<Block>> resident_, pool_;
  std::vector<Fiber*> idle_;  // parked, of threads that have returned
  std::vector<Fiber*> dead_;  // with contexts of their own: kept to the end of the launch
  std::vector<char*> dead_arenas_;
  size_t contexts_destroyed_ = 0;
  Fiber main_;
  Thread* self_ = nullptr;
  unsigned threads_per_block_, live_blocks_ = 0, live_threads_ = 0;
  unsigned at_grid_barrier_ = 0, grid_phase_ = 0;
  bool all_resident_ = false, failed_ = false;
  std::string message_;
  char end_mark_ = 0, grid_marks_[2] = {0, 0};
  uint64_t random_;
};

// The grid that the calling OS thread runs, or null.
Grid*& current_grid();

}  // namespace cuda_emulation
