# SPDX-License-Identifier: Apache-2.0
# The time of tools/gpu_check.sh, which sources this file: every step has its share, so that a slow one takes none from
# those behind it.
# shellcheck shell=sh disable=SC2034,SC2154  # minutes, deadline, log, step_log, files: gpu_check.sh's; it reads what is set

# Steps in their order, and the most seconds that each may take of 9 minutes; other numbers of minutes stretch all alike.
# What only a machine with a GPU can tell comes first. The rest of the 540 s is for looking at the machine and for
# ending commands.
limits="configure 25
program 130
doctor 8
nccl 15
staged 15
bits 40
adam 40
torch 25
mlp 20
cnn 20
tests_built 70
tests 45
memcheck 30
racecheck 30"

print_limits() {
  echo "$limits"
  echo "$limits" | awk '{ sum += $2 } END { print "all", sum }'
}

# begin_step STEP: what try() runs from here on shares the seconds of this step.
begin_step() {
  seconds=$(echo "$limits" | awk -v step="$1" -v minutes="$minutes" '$1 == step { printf "%d", $2 * minutes / 9 + 1 }')
  spent=0
  step_begin=$(date +%s)
  step_end=$((step_begin + seconds))
  [ $step_end -le "$deadline" ] || step_end=$deadline
}

# try COMMAND...: runs it for what is left of its step. Sets code (of the command; 124: cut off; 125: no time to begin)
# and spent, the seconds of the step so far. Its output is in $step_log, and its standard output in $files/stdout.
try() {
  left=$((step_end - $(date +%s)))
  cat "$step_log" >>"$log" 2>/dev/null
  printf '\n== %s\n' "$*" >"$step_log"
  if [ $left -lt 1 ]; then
    code=125
    return
  fi
  timeout -k 3 "$left" "$@" >"$files/stdout" 2>"$files/stderr" </dev/null
  code=$?
  cat "$files/stdout" "$files/stderr" >>"$step_log"
  rm -f "$files/stderr"
  [ $code -ne 137 ] || code=124
  spent=$(($(date +%s) - step_begin))
}

# finish NAME DETAIL [FIGURES [TABLE]]: records what try() did.
finish() {
  case $code in
    0) record "$1" passed $spent "$2" "${3:-}" "${4:-}" ;;
    124) record "$1" "cut off" $spent "stopped after its $seconds s${2:+; $2}" "${3:-}" "${4:-}" ;;
    125) record "$1" "cut off" $spent "its $seconds s were over${2:+; $2}" "${3:-}" "${4:-}" ;;
    *) record "$1" failed $spent "exit code $code${2:+; $2}" "${3:-}" "${4:-}" ;;
  esac
}
skip() { record "$1" skipped 0 "$2"; }

# json_output FILE: fills FILE with the standard output of a successful command if that is JSON; else FILE is empty.
json_output() {
  printf 'file(READ "${FILE}" text)\nstring(JSON type TYPE "${text}")\n' >"$files/valid.cmake"
  : >"$1"
  [ $code -ne 0 ] || ! cmake -D "FILE=$files/stdout" -P "$files/valid.cmake" >/dev/null 2>&1 || cp "$files/stdout" "$1"
  rm "$files/valid.cmake"
}
