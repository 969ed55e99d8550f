# SPDX-License-Identifier: Apache-2.0
# The target lockstep::lockstep, and what `cmake --install` puts where: headers, static libraries, the CMake package,
# the pkg-config file, and the program with its completion.

add_library(lockstep_library INTERFACE)
target_link_libraries(lockstep_library INTERFACE lockstep_runtime lockstep_data lockstep_text)
set_target_properties(lockstep_library PROPERTIES EXPORT_NAME lockstep)
add_library(lockstep::lockstep ALIAS lockstep_library)
# In a build tree, too, <lockstep/lockstep.h> is the public header.
file(CONFIGURE OUTPUT generated/lockstep/lockstep.h @ONLY CONTENT
  "// SPDX-License-Identifier: Apache-2.0\n#pragma once\n\n#include \"runtime/lockstep.h\"  // IWYU pragma: export\n")

if(NOT LOCKSTEP_INSTALL)
  return()
endif()
if(LOCKSTEP_CUDA STREQUAL "EMULATED" OR LOCKSTEP_SANITIZE)
  install(CODE "message(FATAL_ERROR \"this build has an emulated GPU or sanitizers, for tests; install that of preset cpu or cuda\")")
  return()
endif()

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/lockstep)
# Each library comes before those that it needs.
set(libraries runtime data text planner files optimizers collectives kernels)

# Installs all headers but those that need a vendor's, which only our own sources include.
install(DIRECTORY kernels collectives optimizers runtime DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lockstep
  FILES_MATCHING PATTERN "*.h"
  PATTERN backend.h EXCLUDE PATTERN backend_cpu.h EXCLUDE PATTERN rule_list.h EXCLUDE PATTERN onednn_thread.h EXCLUDE
  PATTERN cuda_check.h EXCLUDE PATTERN nccl_library.h EXCLUDE PATTERN mpi_runtime.h EXCLUDE PATTERN json_reader.h EXCLUDE)
install(FILES ${PROJECT_BINARY_DIR}/generated/kernels/config.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lockstep/kernels)
install(FILES ${PROJECT_BINARY_DIR}/generated/lockstep/lockstep.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/lockstep)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

install(TARGETS lockstep_library EXPORT lockstep_targets)
foreach(library IN LISTS libraries)
  set_target_properties(lockstep_${library} PROPERTIES EXPORT_NAME ${library})
  install(TARGETS lockstep_${library} EXPORT lockstep_targets)
endforeach()
install(EXPORT lockstep_targets NAMESPACE lockstep:: FILE lockstepTargets.cmake DESTINATION ${package_folder})
set(LOCKSTEP_MPI_LIBRARIES "")
if(LOCKSTEP_HAS_MPI)
  set(LOCKSTEP_MPI_LIBRARIES ${MPI_C_LIBRARIES})
endif()
set(LOCKSTEP_CUBLASLT_LIBRARY "")
if(LOCKSTEP_HAS_CUDA)
  get_target_property(LOCKSTEP_CUBLASLT_LIBRARY CUDA::cublasLt IMPORTED_LOCATION)
endif()
configure_package_config_file(tools/cmake/lockstepConfig.cmake.in generated/lockstepConfig.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(generated/lockstepConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/generated/lockstepConfig.cmake
  ${PROJECT_BINARY_DIR}/generated/lockstepConfigVersion.cmake DESTINATION ${package_folder})

# Users of other build systems need this.
file(RELATIVE_PATH pc_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
list(TRANSFORM libraries PREPEND " -llockstep_" OUTPUT_VARIABLE pc_libraries)
list(JOIN pc_libraries "" pc_libraries)
set(pc_others ${RE2_LIBRARY} ${UTF8PROC_LIBRARY} ${LOCKSTEP_MPI_LIBRARIES})
if(LOCKSTEP_HAS_ONEDNN)
  list(APPEND pc_others ${ONEDNN_LIBRARY})
endif()
if(LOCKSTEP_HAS_CUDA)
  list(APPEND pc_others ${LOCKSTEP_CUBLASLT_LIBRARY} ${CUDA_cudart_static_LIBRARY} -lrt)
endif()
list(APPEND pc_others -lz ${OpenMP_CXX_FLAGS} -lpthread -ldl)
list(JOIN pc_others " " pc_others)
configure_file(tools/cmake/lockstep.pc.in generated/lockstep.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/generated/lockstep.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(LOCKSTEP_PROGRAM)
  install(TARGETS lockstep)
  # The program lists its own commands and options.
  install(CODE "execute_process(
    COMMAND \"${PROJECT_SOURCE_DIR}/tools/scripts/bash_completion.sh\" \"$<TARGET_FILE:lockstep>\"
    OUTPUT_FILE \"${PROJECT_BINARY_DIR}/generated/bash_completion\" COMMAND_ERROR_IS_FATAL ANY)")
  install(FILES ${PROJECT_BINARY_DIR}/generated/bash_completion RENAME lockstep
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
endif()
