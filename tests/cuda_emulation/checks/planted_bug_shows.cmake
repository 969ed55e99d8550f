# SPDX-License-Identifier: Apache-2.0
# cmake -D PROGRAM= -D NAME= -D PATTERN= -P ...: the program with the bug must end badly and say what it is.
execute_process(COMMAND ${PROGRAM} ${NAME} bug RESULT_VARIABLE code OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(code EQUAL 0)
  message(FATAL_ERROR "the planted bug '${NAME}' was not noticed:\n${said}")
endif()
if(NOT said MATCHES "${PATTERN}")
  message(FATAL_ERROR "expected '${PATTERN}' of the planted bug '${NAME}', which ended with ${code}:\n${said}")
endif()
