#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Names the tests that failed in a build folder's last run of ctest, each with the end of what it printed, so that a long
# run's faults stand together at its end.
# usage: tools/scripts/failed_tests.sh BUILD_FOLDER
set -eu
log="$1/Testing/Temporary/LastTest.log"
failed="$1/Testing/Temporary/LastTestsFailed.log"
[ -s "$failed" ] && [ -f "$log" ] || exit 0

cut -d: -f2- "$failed" | head -n 12 | while IFS= read -r name; do
  echo "--- $name"
  # A test's section goes from "N/M Testing: NAME" to "<end of output>".
  awk -v name="$name" '
    /^[0-9]+\/[0-9]+ Testing: / { inside = (substr($0, index($0, "Testing: ") + 9) == name); next }
    inside && /^<end of output>/ { inside = 0 }
    inside { lines[count++] = $0 }
    END { for (i = count > 15 ? count - 15 : 0; i < count; ++i) print substr(lines[i], 1, 300) }' "$log"
done
more=$(($(wc -l <"$failed") - 12))
[ $more -le 0 ] || echo "--- and $more more: see $failed"
