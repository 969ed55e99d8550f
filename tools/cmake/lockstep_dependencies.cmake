# SPDX-License-Identifier: Apache-2.0
# Finds what Lockstep is built with. AUTO takes what is there, ON demands it, OFF does without.

# Sets `out` to true or false for option `name`, whose thing was found when `found` is true.
function(lockstep_decide name found what out)
  if("${${name}}" STREQUAL "ON" AND NOT found)
    message(FATAL_ERROR "${name}=ON, but ${what} was not found; install it or use ${name}=AUTO")
  endif()
  if(NOT "${${name}}" MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "${name} is AUTO, ON or OFF; got '${${name}}'")
  endif()
  if(found AND NOT "${${name}}" STREQUAL "OFF")
    set(${out} true PARENT_SCOPE)
  else()
    set(${out} false PARENT_SCOPE)
  endif()
endfunction()

find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Eigen3 3.3 REQUIRED NO_MODULE)
find_package(CLI11 REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(ZLIB REQUIRED)
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)

if(NOT LOCKSTEP_ONEDNN STREQUAL "OFF")
  find_package(dnnl QUIET)
endif()
lockstep_decide(LOCKSTEP_ONEDNN "${dnnl_FOUND}" "oneDNN (Debian: libdnnl-dev)" LOCKSTEP_HAS_ONEDNN)

if(NOT LOCKSTEP_MPI STREQUAL "OFF")
  find_package(MPI QUIET COMPONENTS C)
endif()
lockstep_decide(LOCKSTEP_MPI "${MPI_C_FOUND}" "MPI (Debian: libopenmpi-dev)" LOCKSTEP_HAS_MPI)

if(NOT LOCKSTEP_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
  endif()
  check_language(CUDA)
endif()
if(CMAKE_CUDA_COMPILER)
  set(cuda_found TRUE)
else()
  set(cuda_found FALSE)
endif()
lockstep_decide(LOCKSTEP_CUDA ${cuda_found} "a CUDA compiler (nvcc)" LOCKSTEP_HAS_CUDA)
if(LOCKSTEP_HAS_CUDA)
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  # CMake 3.25 does not know that nvcc from 13.0 on speaks C++20.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
endif()

set(nccl_found FALSE)
if(LOCKSTEP_HAS_CUDA AND NOT LOCKSTEP_NCCL STREQUAL "OFF")
  find_path(NCCL_INCLUDE_DIR nccl.h)
  if(NCCL_INCLUDE_DIR)
    set(nccl_found TRUE)
  endif()
endif()
lockstep_decide(LOCKSTEP_NCCL ${nccl_found} "NCCL beside a CUDA build" LOCKSTEP_HAS_NCCL)

# One block that says what was found and chosen; also left in choices.txt for the scripts.
function(lockstep_print_choices)
  set(gemm "Eigen ${Eigen3_VERSION}")
  if(LOCKSTEP_HAS_ONEDNN)
    set(gemm "oneDNN ${dnnl_VERSION}")
  endif()
  set(mpi "no (ranks as threads only)")
  if(LOCKSTEP_HAS_MPI)
    list(GET MPI_C_LIBRARIES 0 library)
    set(mpi "MPI ${MPI_C_VERSION}, ${library}")
  endif()
  set(cuda "no")
  set(nccl "no")
  if(LOCKSTEP_HAS_CUDA)
    set(cuda "yes (nvcc ${CMAKE_CUDA_COMPILER_VERSION}, for ${CMAKE_CUDA_ARCHITECTURES})")
  endif()
  if(LOCKSTEP_HAS_NCCL)
    set(nccl "yes")
  endif()
  set(sanitizers "none")
  if(LOCKSTEP_SANITIZE)
    set(sanitizers "${LOCKSTEP_SANITIZE}")
  endif()
  string(JOIN "\n" block
    "Lockstep ${PROJECT_VERSION} is built in ${PROJECT_BINARY_DIR} with"
    "  compiler      ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}, ${CMAKE_BUILD_TYPE}, -march=${LOCKSTEP_MARCH_USED}"
    "  MPI           ${mpi}"
    "  GEMM library  ${gemm}"
    "  CUDA          ${cuda}"
    "  NCCL          ${nccl}"
    "  sanitizers    ${sanitizers}"
    "")
  file(WRITE ${PROJECT_BINARY_DIR}/choices.txt "${block}")
  message("\n${block}")
endfunction()
