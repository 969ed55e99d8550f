// SPDX-License-Identifier: Apache-2.0
// Memory that the threads of a block share, given by a function: the one spelling that a host compiler understands too.
#pragma once

namespace lockstep::cuda {

// Returns the block's own T. `Tag` tells arrays of the same type apart. Contents are undefined when a block begins.
template <class T, class Tag>
__device__ T& block_shared() {
  __shared__ T memory;
  return memory;
}

}  // namespace lockstep::cuda
