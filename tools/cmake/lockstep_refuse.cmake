# SPDX-License-Identifier: Apache-2.0
# Refuses while configuring what would fail later, or would silently give other numbers.

# Math that assumes away NaN and infinity takes a loss of NaN for a good one, and reorders the sums that decide bits.
set(unsafe_math "(^|[ ;=,])(-Ofast|-ffast-math|-ffinite-math-only|-funsafe-math-optimizations|-fassociative-math|-freciprocal-math|-?-use_fast_math)($|[ ;,])")
get_directory_property(options COMPILE_OPTIONS)  # in a subproject, also those of the project around it
set(places CMAKE_CXX_FLAGS CMAKE_CUDA_FLAGS options)
foreach(type "${CMAKE_BUILD_TYPE}" ${CMAKE_CONFIGURATION_TYPES})
  string(TOUPPER "${type}" type)
  list(APPEND places CMAKE_CXX_FLAGS_${type} CMAKE_CUDA_FLAGS_${type})
endforeach()
foreach(place IN LISTS places)
  if("${${place}}" MATCHES "${unsafe_math}")
    message(FATAL_ERROR "Lockstep cannot be built with ${CMAKE_MATCH_2}: a loss that is not a number would pass for a good "
      "one, and sums would have other bits. Take it out of ${place}; a project around Lockstep can give it to its own "
      "targets instead (docs/library.md)")
  endif()
endforeach()

# These versions brought std::source_location.
set(oldest_GNU 11)
set(oldest_Clang 16)
set(oldest "${oldest_${CMAKE_CXX_COMPILER_ID}}")
if(oldest AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS oldest)
  message(FATAL_ERROR "${CMAKE_CXX_COMPILER} is ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}, which lacks parts of "
    "C++20 (std::source_location); use g++ ${oldest_GNU} or later, or clang ${oldest_Clang} or later: -DCMAKE_CXX_COMPILER=g++")
endif()

if(PROJECT_IS_TOP_LEVEL)
  # Reports, tests and the description of a build name one build type.
  get_property(several GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  if(several)
    message(FATAL_ERROR "'${CMAKE_GENERATOR}' builds several build types in one folder, and Lockstep one: use -G Ninja and "
      "-DCMAKE_BUILD_TYPE=Release, and a folder for each type")
  endif()
  # Ranks compare the program they run, not the libraries beside it. Inside another project the option is about others.
  if(BUILD_SHARED_LIBS)
    message(FATAL_ERROR "Lockstep's libraries are static, so that ranks that run one program run one Lockstep; leave out "
      "-DBUILD_SHARED_LIBS=ON (shared libraries of your own can be linked with them)")
  endif()
endif()
