# SPDX-License-Identifier: Apache-2.0
# Finds what Lockstep is built with. AUTO takes what is there, ON demands it, OFF does without.

# Sets `out` to true or false for option `name`, whose dependency was found when `found` is true.
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

# Whoever links with lockstep::lockstep from a folder above this one must see these targets.
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL TRUE)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Eigen3 3.3 REQUIRED NO_MODULE)
if(LOCKSTEP_PROGRAM)
  find_package(CLI11 REQUIRED)
  find_package(fmt REQUIRED)
  find_path(TOMLPLUSPLUS_INCLUDE_DIR toml++/toml.h REQUIRED)
endif()
find_package(nlohmann_json REQUIRED)
find_package(ZLIB REQUIRED)
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
# RE2 and utf8proc have no package files in Debian's versions.
function(lockstep_find_library name upper header)
  find_path(${upper}_INCLUDE_DIR ${header} REQUIRED)
  find_library(${upper}_LIBRARY ${name} REQUIRED)
  add_library(${name}::${name} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(${name}::${name} PROPERTIES
    IMPORTED_LOCATION ${${upper}_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${${upper}_INCLUDE_DIR})
endfunction()
lockstep_find_library(re2 RE2 re2/re2.h)
lockstep_find_library(utf8proc UTF8PROC utf8proc.h)

# oneDNN's own package file is not used: Debian's demands the OpenCL headers, which nothing here needs.
set(onednn_found FALSE)
if(NOT LOCKSTEP_ONEDNN STREQUAL "OFF")
  find_path(ONEDNN_INCLUDE_DIR dnnl.h)
  find_library(ONEDNN_LIBRARY dnnl)
  if(ONEDNN_INCLUDE_DIR AND ONEDNN_LIBRARY)
    set(onednn_found TRUE)
    add_library(DNNL::dnnl UNKNOWN IMPORTED GLOBAL)
    set_target_properties(DNNL::dnnl PROPERTIES
      IMPORTED_LOCATION ${ONEDNN_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${ONEDNN_INCLUDE_DIR})
    file(STRINGS ${ONEDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h version REGEX "define DNNL_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" version "${version}")
    string(REPLACE ";" "." ONEDNN_VERSION "${version}")
  endif()
endif()
lockstep_decide(LOCKSTEP_ONEDNN ${onednn_found} "oneDNN (Debian: libdnnl-dev)" LOCKSTEP_HAS_ONEDNN)

if(NOT LOCKSTEP_MPI STREQUAL "OFF")
  find_package(MPI QUIET COMPONENTS C)
endif()
lockstep_decide(LOCKSTEP_MPI "${MPI_C_FOUND}" "MPI (Debian: libopenmpi-dev)" LOCKSTEP_HAS_MPI)

set(cuda_found FALSE)
if(LOCKSTEP_CUDA STREQUAL "EMULATED")
  # The kernels are compiled for the CPU; only headers of CUDA are used.
  find_package(CUDAToolkit QUIET)
  if(NOT CUDAToolkit_FOUND)
    message(FATAL_ERROR "LOCKSTEP_CUDA=EMULATED needs the headers of the CUDA toolkit (cuda_runtime_api.h, cublasLt.h), "
                        "which were not found; install the toolkit or use LOCKSTEP_CUDA=OFF")
  endif()
  set(LOCKSTEP_HAS_CUDA true)
else()
  if(NOT LOCKSTEP_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(lockstep_chooses_architectures TRUE)
      set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
    endif()
    check_language(CUDA)
  endif()
  if(CMAKE_CUDA_COMPILER)
    set(cuda_found TRUE)
  endif()
  lockstep_decide(LOCKSTEP_CUDA ${cuda_found} "a CUDA compiler (nvcc)" LOCKSTEP_HAS_CUDA)
endif()

# A toolkit may lack cuBLAS while Python's packages have it, under the name that the loader asks for.
function(lockstep_find_cublas_of_python)
  execute_process(COMMAND python3 -c "import nvidia; print(*nvidia.__path__, sep=';')"
    OUTPUT_VARIABLE patterns ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  list(TRANSFORM patterns APPEND "/*/lib/libcublasLt.so.*")
  file(GLOB libraries ${patterns})
  if(NOT libraries)
    message(FATAL_ERROR "cuBLAS (cublasLt) was found neither in the CUDA toolkit (${CUDAToolkit_LIBRARY_DIR}) nor among "
      "Python's packages (nvidia-cublas); install it, or build without CUDA: -DLOCKSTEP_CUDA=OFF")
  endif()
  list(GET libraries 0 library)
  get_filename_component(folder ${library}/../../include ABSOLUTE)
  find_path(CUBLASLT_INCLUDE_DIR cublasLt.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${folder} REQUIRED)
  add_library(CUDA::cublasLt UNKNOWN IMPORTED GLOBAL)
  set_target_properties(CUDA::cublasLt PROPERTIES
    IMPORTED_LOCATION ${library} INTERFACE_INCLUDE_DIRECTORIES "${CUDAToolkit_INCLUDE_DIRS};${CUBLASLT_INCLUDE_DIR}")
endfunction()

if(LOCKSTEP_HAS_CUDA AND NOT LOCKSTEP_CUDA STREQUAL "EMULATED")
  enable_language(CUDA)
  # nvcc knows Blackwell from 12.8 on; older ones leave it to the PTX of compute_90.
  if(lockstep_chooses_architectures AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND CMAKE_CUDA_ARCHITECTURES 100-real)
  endif()
  find_package(CUDAToolkit REQUIRED)
  if(NOT TARGET CUDA::cublasLt)
    lockstep_find_cublas_of_python()
  endif()
  # CMake 3.25 does not know that nvcc from 13.0 on speaks C++20.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
endif()

if(LOCKSTEP_HAS_CUDA)
  find_path(NVTX_INCLUDE_DIR nvtx3/nvToolsExt.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
endif()

set(nccl_found FALSE)
if(LOCKSTEP_HAS_CUDA AND NOT LOCKSTEP_NCCL STREQUAL "OFF")
  execute_process(
    COMMAND python3 -c "import importlib.util as u; print(*u.find_spec('nvidia.nccl').submodule_search_locations)"
    OUTPUT_VARIABLE nccl_of_python ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATHS ${nccl_of_python}/include)
  if(NCCL_INCLUDE_DIR)
    set(nccl_found TRUE)
    find_file(NCCL_LIBRARY libnccl.so.2 PATHS ${NCCL_INCLUDE_DIR}/../lib ${NCCL_INCLUDE_DIR}/../lib64 NO_DEFAULT_PATH)
    if(NOT NCCL_LIBRARY)
      set(NCCL_LIBRARY "")
    endif()
    file(STRINGS ${NCCL_INCLUDE_DIR}/nccl.h NCCL_VERSION REGEX "define NCCL_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" NCCL_VERSION "${NCCL_VERSION}")
    string(REPLACE ";" "." NCCL_VERSION "${NCCL_VERSION}")
  endif()
endif()
lockstep_decide(LOCKSTEP_NCCL ${nccl_found} "NCCL beside a CUDA build" LOCKSTEP_HAS_NCCL)

# Prints one block that says what was found and chosen; also leaves it in choices.txt for the scripts.
function(lockstep_print_choices)
  set(gemm "Eigen ${Eigen3_VERSION}")
  if(LOCKSTEP_HAS_ONEDNN)
    set(gemm "oneDNN ${ONEDNN_VERSION}")
  endif()
  set(mpi "no (ranks as threads only)")
  if(LOCKSTEP_HAS_MPI)
    list(GET MPI_C_LIBRARIES 0 library)
    set(mpi "MPI ${MPI_C_VERSION}, ${library}")
  endif()
  set(cuda "no")
  set(nccl "no")
  if(LOCKSTEP_CUDA STREQUAL "EMULATED")
    set(cuda "emulated on the CPU, for tests only")
  elseif(LOCKSTEP_HAS_CUDA)
    set(cuda "yes (nvcc ${CMAKE_CUDA_COMPILER_VERSION}, for ${CMAKE_CUDA_ARCHITECTURES})")
  endif()
  if(LOCKSTEP_HAS_NCCL)
    set(nccl "${NCCL_VERSION}")
  endif()
  set(build_type "${CMAKE_BUILD_TYPE}")
  if(NOT build_type)
    set(build_type "no build type and so not optimised")
  endif()
  set(sanitizers "none")
  if(LOCKSTEP_SANITIZE)
    set(sanitizers "${LOCKSTEP_SANITIZE}")
  endif()
  string(JOIN "\n" block
    "Lockstep ${PROJECT_VERSION} is built in ${PROJECT_BINARY_DIR} with"
    "  compiler      ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}, ${build_type}, -march=${LOCKSTEP_MARCH_USED}"
    "  MPI           ${mpi}"
    "  GEMM library  ${gemm}"
    "  CUDA          ${cuda}"
    "  NCCL          ${nccl}"
    "  sanitizers    ${sanitizers}"
    "")
  file(WRITE ${PROJECT_BINARY_DIR}/choices.txt "${block}")
  message("\n${block}")
endfunction()
