// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_emulation/fiber.h"

#include <sys/mman.h>

#include <map>
#include <new>

#include "tests/cuda_emulation/sanitizers.h"

// Saves what a call has to keep and goes on where `load` was saved. Twelve instructions; swapcontext takes two system
// calls.
extern "C" void cuda_emulation_switch(void** save, void* load);
asm(R"(
.text
.globl cuda_emulation_switch
.type cuda_emulation_switch,@function
cuda_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_emulation_switch,.-cuda_emulation_switch
)");

namespace cuda_emulation {
namespace {

constexpr size_t kPage = 4096;

size_t stack_bytes() { return has_tsan() || has_asan() ? 256 * 1024 : 64 * 1024; }

thread_local Fiber* main_fiber = nullptr;

void finish_switch(Fiber& now) {
  if (!has_asan()) return;
  const void* from = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(now.fake_stack, &from, &bytes);
  if (&now == main_fiber || main_fiber == nullptr) return;
  // A fiber is entered from the main stack alone: this is how the bounds of that one are learnt.
  main_fiber->stack = static_cast<char*>(const_cast<void*>(from));
  main_fiber->bytes = bytes;
}

}  // namespace

Fiber* make_fiber(void (*entry)(), bool own_context) {
  auto* fiber = new Fiber;
  fiber->bytes = stack_bytes();
  void* memory = mmap(nullptr, fiber->bytes + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) {
    delete fiber;
    throw std::bad_alloc();
  }
  mprotect(memory, kPage, PROT_NONE);  // a stack that overflows ends the program instead of going on elsewhere
  fiber->stack = static_cast<char*>(memory) + kPage;
  if (own_context && has_tsan()) {
    fiber->order_context = __tsan_create_fiber(0);
    fiber->owns_context = true;
  }
  if (has_asan()) __asan_unpoison_memory_region(fiber->stack, fiber->bytes);
  auto* top = reinterpret_cast<void**>(fiber->stack + fiber->bytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  fiber->stack_pointer = top;
  return fiber;
}

void destroy_context(Fiber& fiber) noexcept {
  if (fiber.owns_context) __tsan_destroy_fiber(fiber.order_context);
  fiber.owns_context = false;
  fiber.order_context = nullptr;
}

void destroy_fiber(Fiber* fiber) noexcept {
  destroy_context(*fiber);
  if (has_asan()) __asan_unpoison_memory_region(fiber->stack, fiber->bytes);
  munmap(fiber->stack - kPage, fiber->bytes + kPage);
  delete fiber;
}

void switch_fiber(Fiber& from, Fiber& to, bool for_good) {
  if (has_asan()) __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake_stack, to.stack, to.bytes);
  enter_context(to.order_context);
  cuda_emulation_switch(&from.stack_pointer, to.stack_pointer);
  finish_switch(from);
}

void start_from(Fiber& main) { main_fiber = &main; }

void arrive(Fiber& now) { finish_switch(now); }

namespace {

// A stack for functions that one context calls on this OS thread.
struct Excursion {
  Fiber home;
  Fiber* away = nullptr;
  const std::function<void()>* work = nullptr;
  ~Excursion() {
    if (away) destroy_fiber(away);
  }
};
thread_local Excursion* excursion = nullptr;

void go_away() {
  for (;;) {
    Excursion& here = *excursion;
    (*here.work)();
    switch_fiber(*here.away, here.home);
  }
}

}  // namespace

void run_on_own_stack(const std::function<void()>& work) {
  if (!has_tsan()) return work();
  static thread_local std::map<void*, Excursion> excursions;
  Excursion& here = excursions[current_context()];
  if (!here.away) here.away = make_fiber(&go_away, false);
  here.work = &work;
  excursion = &here;
  switch_fiber(here.home, *here.away);
}

}  // namespace cuda_emulation
