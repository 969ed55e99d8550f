# SPDX-License-Identifier: Apache-2.0
# Compiler flags of the whole tree.

# A project around Lockstep may have chosen a later standard.
if(NOT DEFINED CMAKE_CXX_STANDARD OR CMAKE_CXX_STANDARD LESS 20 OR CMAKE_CXX_STANDARD EQUAL 98)
  set(CMAKE_CXX_STANDARD 20)
endif()
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)  # a test reads what nvcc is called with; editors like it too
endif()

set(LOCKSTEP_MARCH_USED "${LOCKSTEP_MARCH}")
if(LOCKSTEP_MARCH STREQUAL "AUTO")
  set(LOCKSTEP_MARCH_USED "default")
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64" AND EXISTS /proc/cpuinfo)
    file(STRINGS /proc/cpuinfo cpu_flags REGEX "^flags" LIMIT_COUNT 1)
    if(cpu_flags MATCHES " avx2( |$)" AND cpu_flags MATCHES " fma( |$)" AND cpu_flags MATCHES " bmi2( |$)")
      set(LOCKSTEP_MARCH_USED "x86-64-v3")
    endif()
  endif()
endif()

# A program that never calls cuBLASLt must not load its 540 MB.
add_link_options(-Wl,--as-needed)
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra>")
# Without contraction, + - * / and sqrt round alike in vector bodies, scalar tails and on the GPU.
# Without errno, sqrt can be vectorised.
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off;-fno-math-errno;-fno-trapping-math>")
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-fmad=false;--expt-relaxed-constexpr;-Xcompiler=-Wall;-Xcompiler=-fopenmp;-Xcompiler=-ffp-contract=off>")
# Clang warns of loops that it leaves as they are though they ask to be vectorised: some of conversions, and all at -O1.
add_compile_options("$<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-pass-failed>")
if(NOT LOCKSTEP_MARCH_USED STREQUAL "default")
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-march=${LOCKSTEP_MARCH_USED}>")
endif()
if(LOCKSTEP_WERROR)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Werror>" "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>")
endif()
if(LOCKSTEP_SANITIZE)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${LOCKSTEP_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  add_link_options("-fsanitize=${LOCKSTEP_SANITIZE}")
  if(LOCKSTEP_SANITIZE MATCHES "address" AND LOCKSTEP_SANITIZE MATCHES "undefined")
    # The address sanitizer sees both, and to look for them a second time takes a fifth of what compiling takes.
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=null,object-size>")
  endif()
endif()

include_directories(${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
