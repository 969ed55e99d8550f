#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the bash completion of a lockstep program: the commands and options that its --help lists, and the values of
# options whose help lists them all ("compute on: cpu | cuda, one GPU a rank").
# usage: tools/scripts/bash_completion.sh PROGRAM > lockstep
set -eu
program=$1

# Reads a help text and prints "command NAME", "flag NAME...", or "option NAME... = VALUE..." for one that takes a value.
# The text of an option with long names is on the line below them.
entries() {
  awk '/^          / { sub(/^ +/, ""); line = line " " $0; next } { print line; line = $0 } END { print line }' | awk '
    /^(Subcommands|SUBCOMMANDS):/ { below = 1 }
    below && /^  [a-z]/ { print "command", $1 }
    below || !/^  -/ { next }
    {
      names = $1
      gsub(",", " ", names)
      if ($2 !~ /^(TEXT|INT|FLOAT)/) { print "flag", names; next }
      sub(/^  [^ ]+ [^ ]+ +(\.\.\. |x [0-9]+ )? */, "")
      sub(/^[^|]*: /, "")
      count = split($0, alternatives, / \| /)
      values = ""
      for (i = 1; i <= count; ++i) {
        if (count == 1 || alternatives[i] !~ /^[a-z0-9_-]+(,.*| \(.*)?$/) { values = ""; break }
        sub(/[, ].*/, "", alternatives[i])
        values = values " " alternatives[i]
      }
      print "option", names, "=" values
    }'
}

# Writes the case of one command and of those below it; $1 is its path: "", "train", "bench tape".
cases_of() {
  # shellcheck disable=SC2086
  list=$("$program" $1 --help | entries)
  words=$(echo "$list" | sed 's/^[a-z]* //; s/ =.*//' | paste -sd ' ')
  echo "    '$1')"
  echo "      words='$words'"
  echo "      case \$previous in"
  echo "$list" | sed -n 's/^option \(.*\) = \(.*\)/\1=\2/p' | while IFS='=' read -r names values; do
    echo "        $(echo "$names" | sed 's/ / | /g')) words='$values' ;;"
  done
  # The others take any value, perhaps a path.
  echo "        $(echo "$list" | sed -n 's/^option \(.*\) =$/\1/p' | tr ' ' '\n' | paste -sd '|' | sed 's/|/ | /g;s/^$/""/')) words='' ;;"
  echo "      esac"
  echo "      ;;"
  for command in $(echo "$list" | sed -n 's/^command //p'); do
    (cases_of "${1:+$1 }$command")
  done
}

cases=$(cases_of "")
paths=$(echo "$cases" | sed -n "s/^    \('[a-z].*'\))\$/\1/p" | paste -sd '|' | sed 's/|/ | /g')
cat <<END
# bash completion of lockstep, made from its --help

_lockstep() {
  local word=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} path='' words='' number next
  for ((number = 1; number < COMP_CWORD; ++number)); do
    next="\${path:+\$path }\${COMP_WORDS[number]}"
    case \$next in
      $paths) path=\$next ;;
    esac
  done
  case \$path in
$cases
  esac
  mapfile -t COMPREPLY < <(compgen -W "\$words" -- "\$word")
}

# Where no word fits, files do.
complete -o bashdefault -o default -F _lockstep lockstep
END
