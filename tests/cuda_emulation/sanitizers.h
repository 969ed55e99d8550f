// SPDX-License-Identifier: Apache-2.0
// What the emulation tells the sanitizers, and nothing where a program runs without them. The emulation itself is built
// without the thread sanitizer: all fibers share its records on one OS thread.
#pragma once

#include <cstddef>

extern "C" {
[[gnu::weak]] void* __tsan_create_fiber(unsigned);
[[gnu::weak]] void __tsan_destroy_fiber(void*);
[[gnu::weak]] void __tsan_switch_to_fiber(void*, unsigned);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void __tsan_acquire(void*);
[[gnu::weak]] void __tsan_release(void*);
[[gnu::weak]] void AnnotateIgnoreWritesBegin(const char*, int);
[[gnu::weak]] void AnnotateIgnoreWritesEnd(const char*, int);
[[gnu::weak]] void __sanitizer_start_switch_fiber(void**, const void*, size_t);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
[[gnu::weak]] void __asan_poison_memory_region(const volatile void*, size_t);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void*, size_t);
}

namespace cuda_emulation {

inline bool has_tsan() { return &__tsan_create_fiber != nullptr; }
inline bool has_asan() { return &__sanitizer_start_switch_fiber != nullptr; }

// What comes before a release of `address` is ordered before what comes after a later acquire of it.
inline void release_order(const void* address) {
  if (has_tsan()) __tsan_release(const_cast<void*>(address));
}
inline void acquire_order(const void* address) {
  if (has_tsan()) __tsan_acquire(const_cast<void*>(address));
}

// Frees what threads of a kernel have read, which the host does without waiting for them: they are done.
template <class T>
void delete_unordered(T* object) {
  if (has_tsan()) AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  delete object;
  if (has_tsan()) AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}

// What the thread sanitizer takes for a thread. Owns the sanitizer's context; nothing without it.
class OrderContext {
 public:
  OrderContext() : handle_(has_tsan() ? __tsan_create_fiber(0) : nullptr) {}
  OrderContext(const OrderContext&) = delete;
  OrderContext& operator=(const OrderContext&) = delete;
  ~OrderContext() {
    if (handle_) __tsan_destroy_fiber(handle_);
  }
  void* handle() const { return handle_; }

 private:
  void* handle_;
};

// Makes a context the current one without ordering anything; null without the sanitizer.
inline void enter_context(void* handle) {
  if (handle) __tsan_switch_to_fiber(handle, 1);
}
inline void* current_context() { return has_tsan() ? __tsan_get_current_fiber() : nullptr; }

// Not memset, which sanitizers intercept and take for an access of the current thread.
inline void paint(void* memory, size_t bytes) {
  auto* byte = static_cast<volatile unsigned char*>(memory);
  for (size_t i = 0; i < bytes; ++i) byte[i] = 0xFF;
}

}  // namespace cuda_emulation
