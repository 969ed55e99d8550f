# SPDX-License-Identifier: Apache-2.0
# Compiles each source for the CPU and, in a CUDA build, once more with nvcc, from the same text.
function(add_portable target)
  target_sources(${target} PRIVATE ${ARGN})
  if(LOCKSTEP_HAS_CUDA)
    foreach(source IN LISTS ARGN)
      set(twin ${CMAKE_CURRENT_BINARY_DIR}/${source}.cu)
      file(CONFIGURE OUTPUT ${twin} CONTENT "#include \"${CMAKE_CURRENT_SOURCE_DIR}/${source}\"\n" @ONLY)
      target_sources(${target} PRIVATE ${twin})
    endforeach()
  endif()
endfunction()
