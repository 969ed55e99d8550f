// SPDX-License-Identifier: Apache-2.0
// HOST_DEVICE marks a function that runs on the CPU and on the GPU from one source.
#pragma once

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif
