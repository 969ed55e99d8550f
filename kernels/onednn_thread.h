// SPDX-License-Identifier: Apache-2.0
// oneDNN spreads over as many threads as OpenMP would start, but our partition already has its threads.
#pragma once

#include <omp.h>

namespace lockstep::onednn {

// While it lives, OpenMP regions opened by the calling thread have one thread.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

}  // namespace lockstep::onednn
