# SPDX-License-Identifier: Apache-2.0
# Writes tests of ctest for the suites of a GoogleTest program, one for each suite and not for each of its tests, because
# most tests are shorter than the start of a process:
#   cmake -D PROGRAM=<path> -D FOLDER=<name> -D LABELS=heavy;gpu -D heavy=<filter> -D gpu=<filter> -D ENVIRONMENT=<list>
#     -D OUTPUT=<file> -P list_suites.cmake
# A test with a label is run apart from those of its suite without it.
cmake_minimum_required(VERSION 3.25)

# The names of the tests that `filter` selects, as `suite.test`.
function(list_tests filter output)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env ${ENVIRONMENT} ${PROGRAM} --gtest_list_tests "--gtest_filter=${filter}"
    OUTPUT_VARIABLE text RESULT_VARIABLE result TIMEOUT 60)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} --gtest_list_tests --gtest_filter=${filter} ended with ${result}")
  endif()
  string(REGEX REPLACE " +#[^\n]*" "" text "${text}")
  string(REPLACE "\n" ";" lines "${text}")
  set(names "")
  foreach(line IN LISTS lines)
    if(line MATCHES "^  (.+)$")
      list(APPEND names ${suite}${CMAKE_MATCH_1})
    elseif(line MATCHES "^([^ ]+\\.)$")
      set(suite ${CMAKE_MATCH_1})
    endif()
  endforeach()
  set(${output} "${names}" PARENT_SCOPE)
endfunction()

# Adds a test of ctest for the tests of each suite among `names`.
function(add_suites names label timeout)
  set(suites ${names})
  list(TRANSFORM suites REPLACE "\\.[^.]*$" "")
  list(REMOVE_DUPLICATES suites)
  foreach(suite IN LISTS suites)
    set(of_suite ${names})
    list(FILTER of_suite INCLUDE REGEX "^${suite}\\.")
    set(all_of_suite ${all})
    list(FILTER all_of_suite INCLUDE REGEX "^${suite}\\.")
    list(LENGTH of_suite count)
    set(filter ${suite}.*)
    if(NOT of_suite STREQUAL all_of_suite)
      list(JOIN of_suite ":" filter)
    endif()
    set(name ${FOLDER}.${suite})
    if(label)
      string(APPEND name ".${label}")
    endif()
    string(APPEND script "add_test([==[${name}]==] [==[${PROGRAM}]==] [==[--gtest_filter=${filter}]==])\n"
      "set_tests_properties([==[${name}]==] PROPERTIES TIMEOUT ${timeout} COST ${count} LABELS [==[${label}]==]"
      " ENVIRONMENT [==[${ENVIRONMENT}]==])\n")
  endforeach()
  set(script "${script}" PARENT_SCOPE)
endfunction()

set(script "")
list_tests("*" all)
set(others ${all})
foreach(label IN LISTS LABELS)
  list_tests("${${label}}" names)
  list(REMOVE_ITEM others ${names})
  add_suites("${names}" "${label}" 1200)
endforeach()
add_suites("${others}" "" 900)
file(WRITE ${OUTPUT} "${script}")
