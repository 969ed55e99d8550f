# SPDX-License-Identifier: Apache-2.0
# The two reports of tools/gpu_check.sh, which sources this file. A step is a folder $steps/NN with the files name,
# result, seconds, detail and, where there are any, figures (JSON), table (Markdown) and tail (of its log). Every step
# writes both reports anew, so whatever ends the check leaves reports of what was done.
# shellcheck shell=sh disable=SC2154  # steps, output, rehearsal, started, sweep: gpu_check.sh's

# json_string TEXT: puts it in quotes. Characters beyond ASCII are left out, so that no log can break the report.
json_string() {
  tab=$(printf '\t')
  printf '%s\n' "$1" | LC_ALL=C tr -cd '\11\12\40-\176' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e "s/$tab/\\\\t/g" |
    awk 'BEGIN { printf "\"" } NR > 1 { printf "\\n" } { printf "%s", $0 } END { print "\"" }'
}

# rows_table FILE: a Markdown table of benchmark rows, as `lockstep bench --json` prints them.
rows_table() {
  awk '
    function value(line) { sub(/^[^:]*: */, "", line); sub(/,$/, "", line); gsub(/^"|"$/, "", line); return line }
    /"name":/ { name = value($0) }
    /"value":/ { measured = value($0) }
    /"unit":/ { unit = value($0) }
    /"roof":/ { roof = value($0) }
    /"share_of_roof":/ {
      if (!heading++) print "| what | measured | unit | roof | share of roof |\n|---|---|---|---|---|"
      has_roof = (roof > 0)
      printf("| %s | %.4g | %s | %s | %s |\n", name, measured, unit, (has_roof ? sprintf("%.4g", roof) : "-"),
             (has_roof ? sprintf("%.2f", value($0)) : "-"))
    }' "$1"
}

# row_value NAME KEY FILE: one number of one benchmark row.
row_value() {
  awk -v name="\"$1\"" -v key="\"$2\":" '
    $1 == "\"name\":" { inside = index($0, name) > 0 }
    inside && $1 == key { sub(/,$/, "", $2); print $2; exit }' "$3"
}

# compare_with_torch OURS TORCH: time of ours over time of PyTorch's AdamW, at each size of $sweep that both have. Time is
# what counts: ours also clears the gradient, so it moves 32 bytes a parameter and not 28.
compare_with_torch() {
  echo "$sweep" | while read -r size elements; do
    awk -v elements="$elements" -v ours="$(row_value "optimizer/adam/$size" value "$1")" '
      $1 == "\"elements\":" { right = ($2 + 0 == elements) }
      $1 == "\"name\":" { adamw = /adamw/ }
      right && adamw && $1 == "\"value\":" { value = $2 + 0 }
      END { if (ours > 0 && value > 0) printf "%s %.3f ", size, (32 / ours) / (28 / value) }' size="$size" "$2"
  done
}

# record NAME RESULT SECONDS DETAIL [FIGURES [TABLE]]: records a step that is over; files may be missing.
record() {
  step_count=$((step_count + 1))
  step=$steps/$(printf '%02d' $step_count)
  mkdir -p "$step"
  printf '%s\n' "$1" >"$step/name"
  printf '%s\n' "$2" >"$step/result"
  printf '%s\n' "$3" >"$step/seconds"
  printf '%s\n' "$4" >"$step/detail"
  [ ! -s "${5:-}" ] || cp "$5" "$step/figures"
  [ ! -s "${6:-}" ] || cp "$6" "$step/table"
  case "$2" in failed | "cut off") [ ! -s "$step_log" ] || tail -n 25 "$step_log" >"$step/tail" ;; esac
  printf '%-28s %-8s %4s s  %s\n' "$1" "$2" "$3" "$4"
  write_reports no
}

# The overall result: failed when a step failed or was cut off; incomplete when a tool was missing, or found nothing in
# a part of its work.
overall() {
  if cat "$steps"/*/result 2>/dev/null | grep -Eq '^(failed|cut off)$'; then
    echo failed
  elif [ "$1" = no ] || cat "$steps"/*/result 2>/dev/null | grep -Eq '^(skipped|partly)$'; then
    echo incomplete
  else
    echo passed
  fi
}

write_json() {
  echo '{'
  echo '  "report": "lockstep gpu_check", "version": 1,'
  echo "  \"rehearsal_on_an_emulated_device\": $rehearsal,"
  echo "  \"finished\": $([ "$1" = yes ] && echo true || echo false), \"result\": $(json_string "$(overall "$1")"),"
  echo "  \"commit\": $(json_string "$commit"), \"started\": $(json_string "$started"), \"seconds\": $(($(date +%s) - begin)),"
  echo '  "machine": {'
  separator=""
  while IFS='|' read -r key value; do
    printf '%s    %s: %s' "$separator" "$(json_string "$key")" "$(json_string "$value")"
    separator=$(printf ',\n.')
    separator=${separator%.}
  done <"$machine"
  printf '\n  },\n  "steps": [\n'
  separator=""
  for step in "$steps"/*/; do
    [ -f "$step/name" ] || continue
    printf '%s    {"name": %s, "result": %s, "seconds": %s, "detail": %s, "log_tail": %s, "figures": ' "$separator" \
      "$(json_string "$(cat "$step/name")")" "$(json_string "$(cat "$step/result")")" "$(cat "$step/seconds")" \
      "$(json_string "$(cat "$step/detail")")" "$(json_string "$(cat "$step/tail" 2>/dev/null)")"
    if [ -f "$step/figures" ]; then cat "$step/figures"; else printf null; fi
    printf '}'
    separator=$(printf ',\n.')
    separator=${separator%.}
  done
  printf '\n  ]\n}\n'
}

write_markdown() {
  if [ "$rehearsal" = true ]; then
    echo "# Rehearsal of the GPU check on an emulated device: not a result of any GPU"
  else
    echo "# GPU check"
  fi
  printf '\n%s: %s of %s, begun %s' "$(overall "$1")" "$([ "$1" = yes ] && echo "end of the check" || echo "not finished")" \
    "$commit" "$started"
  printf '\n\n| machine | |\n|---|---|\n'
  sed 's/|/ | /; s/^/| /; s/$/ |/' "$machine"
  printf '\n| step | result | seconds | |\n|---|---|---|---|\n'
  for step in "$steps"/*/; do
    [ -f "$step/name" ] || continue
    echo "| $(cat "$step/name") | $(cat "$step/result") | $(cat "$step/seconds") | $(tr '\n|' ' /' <"$step/detail")|"
  done
  for step in "$steps"/*/; do
    [ ! -f "$step/table" ] || { printf '\n## %s\n\n' "$(cat "$step/name")"; cat "$step/table"; }
    [ ! -f "$step/tail" ] || {
      printf '\n## %s: the end of its log\n\n' "$(cat "$step/name")"
      sed 's/^/    /' "$step/tail"
    }
  done
}

# write_reports FINISHED: yes or no.
write_reports() {
  write_json "$1" >"$output/report.json.partial" && mv "$output/report.json.partial" "$output/report.json"
  write_markdown "$1" >"$output/report.md.partial" && mv "$output/report.md.partial" "$output/report.md"
}
