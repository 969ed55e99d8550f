# SPDX-License-Identifier: Apache-2.0
# cmake -D PROGRAM=misordered_collectives -P misordered_collectives.cmake
# The thread sanitizer has nothing to say about the right order of streams, and something about every other.
set(failures "")
foreach(transport nccl staged)
  foreach(way right follows_another_stream refills_before_waiting another_stream_waits)
    execute_process(COMMAND ${PROGRAM} ${transport} ${way} TIMEOUT 120
      RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
    string(FIND "${err}" "ThreadSanitizer: data race" found)
    if(way STREQUAL "right")
      if(NOT code EQUAL 0 OR NOT found EQUAL -1 OR NOT out MATCHES "done")
        list(APPEND failures "${transport} ${way}: exit code ${code}\n${out}${err}")
      endif()
    elseif(found EQUAL -1)
      list(APPEND failures "${transport} ${way}: was not found out; exit code ${code}\n${out}${err}")
    endif()
  endforeach()
endforeach()
if(failures)
  string(REPLACE ";" "\n" failures "${failures}")
  message(FATAL_ERROR "${failures}")
endif()
