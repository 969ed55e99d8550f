#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tells whether this machine has a CUDA toolkit's headers, which the emulated GPU is built with (exit code 0 or 1).
for toolkit in "${CUDA_HOME:-/usr/local/cuda}" /usr/local/cuda /usr "$(dirname "$(command -v nvcc || echo /none/bin/nvcc)")/.."; do
  [ -e "$toolkit/include/cublasLt.h" ] && [ -e "$toolkit/include/cuda_runtime_api.h" ] && exit 0
done
exit 1
