# SPDX-License-Identifier: Apache-2.0
# Libraries that travelled with the source: the folder that tools/offline_bundle.sh filled precedes the system's.

set(LOCKSTEP_BUNDLE_USED "${LOCKSTEP_BUNDLE}")
if(NOT LOCKSTEP_BUNDLE_USED AND EXISTS ${PROJECT_SOURCE_DIR}/offline_bundle)
  set(LOCKSTEP_BUNDLE_USED ${PROJECT_SOURCE_DIR}/offline_bundle)
endif()
if(NOT LOCKSTEP_BUNDLE_USED)
  return()
endif()

if(NOT EXISTS ${LOCKSTEP_BUNDLE_USED}/manifest.txt)
  message(FATAL_ERROR "'${LOCKSTEP_BUNDLE_USED}' was not filled by tools/offline_bundle.sh: it has no manifest.txt")
endif()
file(STRINGS ${LOCKSTEP_BUNDLE_USED}/manifest.txt bundle_machine REGEX "^(architecture|libraries) ")
string(REGEX REPLACE "^architecture ([^;]*);libraries (.*)$" "\\1;\\2" bundle_machine "${bundle_machine}")
list(GET bundle_machine 0 bundle_processor)
list(GET bundle_machine 1 bundle_triplet)
if(NOT bundle_processor STREQUAL CMAKE_SYSTEM_PROCESSOR)
  message(FATAL_ERROR "'${LOCKSTEP_BUNDLE_USED}' is for ${bundle_processor}, this machine is ${CMAKE_SYSTEM_PROCESSOR}")
endif()

list(PREPEND CMAKE_PREFIX_PATH ${LOCKSTEP_BUNDLE_USED}/usr)
set(CMAKE_LIBRARY_ARCHITECTURE ${bundle_triplet})
include_directories(SYSTEM ${LOCKSTEP_BUNDLE_USED}/usr/include)
# The linker looks here for libraries of libraries. Not add_link_options: find_package(MPI) links something too.
set(bundle_libraries ${LOCKSTEP_BUNDLE_USED}/usr/lib/${bundle_triplet})
string(APPEND CMAKE_EXE_LINKER_FLAGS " -Wl,-rpath-link,'${bundle_libraries}'")

# The compiler wrapper would name the place that the library was built for.
set(MPI_SKIP_COMPILER_WRAPPER TRUE)
set(MPI_C_HEADER_DIR ${bundle_libraries}/openmpi/include)
set(MPI_C_LIB_NAMES mpi)
set(MPI_mpi_LIBRARY ${bundle_libraries}/libmpi.so.40)

# This is for tests of processes that do not come from tools/mpirun.sh, which would set the same.
set(LOCKSTEP_BUNDLE_ENVIRONMENT PATH=path_list_prepend:${LOCKSTEP_BUNDLE_USED}/usr/bin
  OPAL_PREFIX=set:${LOCKSTEP_BUNDLE_USED}/usr OMPI_MCA_plm_rsh_agent=set:/bin/false
  PMIX_LIBDIR=set:${bundle_libraries}/pmix2/lib PMIX_DATADIR=set:${bundle_libraries}/pmix2/share)
