// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d_cpu.h"

#include "kernels/conv2d_columns.h"

namespace lockstep {
namespace {

template <class Op>
void run_on_cpu(Stream& stream, const Op& op) {
  if constexpr (config::onednn)
    if (onednn::conv2d(stream, op)) return;
  conv2d_by_columns(stream, op);
}

}  // namespace

void run(Cpu, Stream& stream, const Conv2d& op) { run_on_cpu(stream, op); }
void run(Cpu, Stream& stream, const Conv2dGradInput& op) { run_on_cpu(stream, op); }
void run(Cpu, Stream& stream, const Conv2dGradWeight& op) { run_on_cpu(stream, op); }

}  // namespace lockstep
