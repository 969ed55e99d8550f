// SPDX-License-Identifier: Apache-2.0
// Memory that the threads of a block share, as a function: the one spelling that a host compiler understands too.
#pragma once

namespace lockstep::cuda {

// The block's own T. `Tag` tells one array from another of the same type. Contents are undefined when a block begins.
template <class T, class Tag>
__device__ T& block_shared() {
  __shared__ T memory;
  return memory;
}

}  // namespace lockstep::cuda
