# SPDX-License-Identifier: Apache-2.0
# cmake -D PROGRAM=failing_device_ranks -D MPIRUN=tools/mpirun.sh -P failing_device_ranks.cmake
# Every way of failing with GPUs: printed once, the right exit code, no hang, nothing left in shared memory.

# expect(way ENVIRONMENT name=value... TRANSPORT name CODE n MESSAGE regex)
function(expect way)
  cmake_parse_arguments(arg "" "CODE;MESSAGE;TRANSPORT" "ENVIRONMENT" ${ARGN})
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env ${arg_ENVIRONMENT} ${MPIRUN} -np 3 ${PROGRAM} ${arg_TRANSPORT} ${way}
    TIMEOUT 60 RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
  string(REPLACE ";" "," err "${err}")  # or the messages would be lists
  string(REGEX MATCHALL "failing_device_ranks: error: [^\n]*" messages "${err}")
  list(LENGTH messages count)
  set(story "${arg_ENVIRONMENT} mpirun -np 3 failing_device_ranks ${arg_TRANSPORT} ${way}: exit code ${code}\n${out}${err}")
  if(NOT code EQUAL arg_CODE)
    message(SEND_ERROR "expected exit code ${arg_CODE}\n${story}")
  endif()
  if(arg_MESSAGE AND NOT count EQUAL 1)
    message(SEND_ERROR "expected one message, got ${count}\n${story}")
  endif()
  if(arg_MESSAGE AND NOT messages MATCHES "${arg_MESSAGE}")
    message(SEND_ERROR "expected a message like '${arg_MESSAGE}'\n${story}")
  endif()
endfunction()

foreach(transport nccl staged)
  expect(nothing TRANSPORT ${transport} CODE 0)
  expect(nothing TRANSPORT ${transport} ENVIRONMENT LOCKSTEP_EMULATED_DEVICES=0 CODE 1 MESSAGE
    "no GPU for rank 0 .*, rank 1 .*, rank 2 .*use --device cpu")
  expect(one_stops TRANSPORT ${transport} CODE 1 MESSAGE "a broken batch")
  expect(one_stays_away TRANSPORT ${transport} CODE 1 MESSAGE "waited 1 s for")
  expect(one_differs TRANSPORT ${transport} CODE 1 MESSAGE "(all_reduce|ncclAllReduce) of ([12])000.*(all_reduce|ncclAllReduce) of ([12])000")
endforeach()
expect(nothing TRANSPORT nccl ENVIRONMENT LOCKSTEP_EMULATED_DEVICES=2 CODE 1 MESSAGE
  "ranks 0 and 2 would share one GPU: .* 3 ranks, and rank 2 sees 2 GPUs.*--transport staged")
expect(nothing TRANSPORT staged ENVIRONMENT LOCKSTEP_EMULATED_DEVICES=2 CODE 0)
expect(nothing TRANSPORT nccl ENVIRONMENT LOCKSTEP_NCCL_LIBRARY=/nonexistent CODE 1 MESSAGE "NCCL cannot be loaded")
expect(nothing TRANSPORT auto ENVIRONMENT LOCKSTEP_NCCL_LIBRARY=/nonexistent CODE 0)
expect(nothing TRANSPORT nccl ENVIRONMENT LOCKSTEP_EMULATED_NCCL_VERSION=21805 CODE 1 MESSAGE "is NCCL 2.18.5, but")
expect(nothing TRANSPORT nccl ENVIRONMENT LOCKSTEP_EMULATED_NCCL_FAULT=init_error:1 CODE 1 MESSAGE
  "rank 1 .*NCCL cannot connect the ranks: .*emulated failure")
expect(nothing TRANSPORT nccl ENVIRONMENT LOCKSTEP_EMULATED_NCCL_FAULT=init_exit:1 CODE 3)
file(GLOB segments /dev/shm/lockstep_nccl.*)  # of which the ranks that were ended may have left one
expect(nothing TRANSPORT nccl ENVIRONMENT LOCKSTEP_EMULATED_NCCL_FAULT=async_error:2 CODE 1 MESSAGE
  "rank 2 .*emulated failure of a connection")

# Ranks that each see one GPU of their own, under number 0, are told apart.
set(own_gpu "CUDA_VISIBLE_DEVICES=$OMPI_COMM_WORLD_LOCAL_RANK exec ${PROGRAM} nccl nothing")
execute_process(COMMAND ${MPIRUN} -np 3 sh -c "${own_gpu}" TIMEOUT 60 RESULT_VARIABLE code ERROR_VARIABLE err)
if(NOT code EQUAL 0)
  message(SEND_ERROR "ranks that see one GPU each: exit code ${code}\n${err}")
endif()

# What a job leaves in shared memory when a rank is killed while ranks connect, the next one removes.
foreach(segment IN LISTS segments)
  string(REGEX REPLACE ".*lockstep_nccl\\.([0-9]+)\\..*" "\\1" maker "${segment}")
  if(EXISTS ${segment} AND NOT EXISTS /proc/${maker})
    message(SEND_ERROR "${segment} is left behind")
  endif()
endforeach()
