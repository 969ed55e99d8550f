# SPDX-License-Identifier: Apache-2.0
# cmake -D PROGRAM=failing_training -D MPIRUN=tools/mpirun.sh -P failing_training.cmake
# A rank runs out of memory while kernels and sums of gradients are on their way, and another one is late: its message is
# printed, and long before the others' time is up every rank is gone.
foreach(transport nccl staged)
  set(environment "")
  if(transport STREQUAL "staged")
    set(environment LOCKSTEP_NCCL_LIBRARY=/nonexistent)
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} -E env ${environment} ${MPIRUN} -np 3 ${PROGRAM} --timeout 20
    TIMEOUT 60 RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
  string(REPLACE ";" "," err "${err}")  # or the messages would be lists
  string(REGEX MATCHALL "lockstep: error: [^\n]*" messages "${err}")
  list(LENGTH messages count)
  set(story "${transport}: exit code ${code}\n${out}${err}")
  if(NOT code EQUAL 1)
    message(SEND_ERROR "expected exit code 1\n${story}")
  endif()
  if(NOT count EQUAL 1 OR NOT messages MATCHES "rank 1 of 3 .*out of memory on cuda:1.*parameters")
    message(SEND_ERROR "expected one message, that rank 1 is out of memory\n${story}")
  endif()
endforeach()
