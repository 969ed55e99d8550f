# SPDX-License-Identifier: Apache-2.0
# Compiles each source for the CPU and, in a CUDA build, once more for the device, from the same text: with nvcc, or for
# the emulated device with the compiler of the host.
function(add_portable target)
  target_sources(${target} PRIVATE ${ARGN})
  # Kernels are loops to optimise, with little in headers that they could share.
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  add_device_half(${target} ${ARGN})
endfunction()

# Compiles each source for the device alone, where there is one.
function(add_device_half target)
  if(NOT LOCKSTEP_HAS_CUDA)
    return()
  endif()
  set(ending cu)
  if(LOCKSTEP_CUDA STREQUAL "EMULATED")
    set(ending emulated.cpp)
  endif()
  foreach(source IN LISTS ARGN)
    set(twin ${CMAKE_CURRENT_BINARY_DIR}/${source}.${ending})
    file(CONFIGURE OUTPUT ${twin} CONTENT "#include \"${CMAKE_CURRENT_SOURCE_DIR}/${source}\"\n" @ONLY)
    target_sources(${target} PRIVATE ${twin})
    set_source_files_properties(${twin} PROPERTIES COMPILE_DEFINITIONS LOCKSTEP_DEVICE_HALF)
    if(NOT LOCKSTEP_CUDA STREQUAL "EMULATED" AND NOT LOCKSTEP_TESTS STREQUAL "OFF")
      # A test looks at the PTX, which nvcc would take as long again to make a second time.
      set(kept ${CMAKE_CURRENT_BINARY_DIR}/device_code)
      file(MAKE_DIRECTORY ${kept})
      set_source_files_properties(${twin} PROPERTIES COMPILE_OPTIONS "--keep;--keep-dir=${kept}")
    elseif(LOCKSTEP_CUDA STREQUAL "EMULATED")
      # Headers of tests/cuda_emulation/include come before those that they replace. Kernels move vectors of 16 bytes
      # whatever is in them, and say how loops unroll, which only nvcc understands.
      set(stand_ins ${PROJECT_SOURCE_DIR}/tests/cuda_emulation/include)
      set_source_files_properties(${twin} PROPERTIES
        COMPILE_OPTIONS "-iquote${stand_ins};-I${stand_ins};-fno-strict-aliasing;-Wno-unknown-pragmas")
    endif()
  endforeach()
endfunction()
