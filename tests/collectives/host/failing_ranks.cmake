# SPDX-License-Identifier: Apache-2.0
# cmake -D PROGRAM=failing_ranks -D MPIRUN=tools/mpirun.sh -P failing_ranks.cmake
# Every way of failing: printed once, the right exit code, no hang. A rank that hangs runs into the time limit, which
# shows as a wrong exit code; how long a launcher takes on a busy machine decides nothing.

# expect(way launch... CODE n MESSAGE regex)
function(expect way)
  cmake_parse_arguments(arg "" "CODE;MESSAGE" "LAUNCH" ${ARGN})
  string(TIMESTAMP start "%s")
  execute_process(COMMAND ${arg_LAUNCH} ${PROGRAM} ${way} TIMEOUT 60
    RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
  string(TIMESTAMP end "%s")
  math(EXPR seconds "${end} - ${start}")
  string(REPLACE ";" "," err "${err}")  # or the messages would be lists
  string(REGEX MATCHALL "failing_ranks: error: [^\n]*" messages "${err}")
  list(LENGTH messages count)
  string(REPLACE ";" " " launch "${arg_LAUNCH}")
  set(story "${launch} failing_ranks ${way}: exit code ${code} after ${seconds} s\n${out}${err}")
  if(NOT code EQUAL arg_CODE)
    message(SEND_ERROR "expected exit code ${arg_CODE}\n${story}")
  endif()
  if(arg_MESSAGE AND NOT count EQUAL 1)
    message(SEND_ERROR "expected one message, got ${count}\n${story}")
  endif()
  if(arg_MESSAGE AND NOT messages MATCHES "${arg_MESSAGE}")
    message(SEND_ERROR "expected a message like '${arg_MESSAGE}'\n${story}")
  endif()
  message(STATUS "${way}: gone after ${seconds} s")
endfunction()

foreach(nodes 1 2)
  set(three ${CMAKE_COMMAND} -E env LOCKSTEP_PRETEND_NODES=${nodes} ${MPIRUN} -np 3)
  expect(nothing LAUNCH ${three} CODE 0)
  expect(usage LAUNCH ${three} CODE 2 MESSAGE "unknown option --bach")
  expect(one_in_barrier LAUNCH ${three} CODE 1 MESSAGE "the loss is not a number")
  expect(one_missing LAUNCH ${three} CODE 1 MESSAGE "rank 2 ")
  expect(one_computes LAUNCH ${three} CODE 1 MESSAGE "cannot write the weights")
  expect(mismatch LAUNCH ${three} CODE 1 MESSAGE "batch=32.*batch=64.*batch=128")
endforeach()

# Without a launcher there is one rank; with one that MPI does not know of there is an error, on whatever rank.
expect(usage CODE 2 MESSAGE "unknown option --bach")
expect(nothing CODE 0)
set(claim ${CMAKE_COMMAND} -E env PMI_SIZE=2)
expect(nothing LAUNCH ${claim} PMI_RANK=0 CODE 1 MESSAGE "rank 0 of 2, but .*start")
expect(nothing LAUNCH ${claim} PMI_RANK=1 CODE 1 MESSAGE "rank 1 of 2, but .*left over.*unset")
expect(nothing LAUNCH ${CMAKE_COMMAND} -E env OMPI_COMM_WORLD_RANK=1 CODE 1 MESSAGE "rank 1, but .*left over.*unset")
expect(nothing LAUNCH ${CMAKE_COMMAND} -E env RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 CODE 1 MESSAGE "torchrun.*mpirun -np 2")

# Somebody between launcher and program gives two ranks each other's number.
file(WRITE ${SWAPPED} "#!/bin/sh\nexport OMPI_COMM_WORLD_RANK=$((2 - OMPI_COMM_WORLD_RANK))\nexec \"$@\"\n")
file(CHMOD ${SWAPPED} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
expect(nothing LAUNCH ${MPIRUN} -np 3 ${SWAPPED} CODE 1 MESSAGE "as rank 2 of 3, but MPI says rank 0 of 3")
