#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Trains mlp for 3 epochs with each optimizer and prints the table of docs/optimizers.md. Takes about five minutes; the
# accuracies do not depend on the number of ranks and threads.
set -eu
cd "$(dirname "$0")/../.."

usage() {
  cat <<'END'
usage: tools/scripts/optimizer_table.sh [--program FILE] [-- OPTIONS FOR lockstep train]

  --program FILE   default build/cpu/lockstep
END
}

program=build/cpu/lockstep
while [ $# -gt 0 ]; do
  case "$1" in
    --program) program=${2:?--program needs a file}; shift ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) usage >&2; echo "optimizer_table: error: unknown option '$1'" >&2; exit 2 ;;
  esac
  shift
done
[ -x "$program" ] ||
  { echo "optimizer_table: error: no program at $program; build it with tools/quickstart.sh" >&2; exit 1; }

row() {  # row OPTIMIZER SETTINGS -- OPTIONS FOR ALL...
  name=$1 settings=$2
  shift 3
  # shellcheck disable=SC2086  # settings are several words
  last=$("$program" train --model mlp --epochs 3 --ranks 2 --threads 1 --virtual-ranks 8 \
    --optimizer "$name" $settings "$@" | tail -n 1)
  accuracy=$(echo "$last" | sed -n 's/^test_accuracy=\([0-9.]*\) .*/\1/p')
  [ -n "$accuracy" ] || { echo "optimizer_table: error: $name gave no accuracy; its message is above" >&2; exit 1; }
  echo "| $name | ${settings:+\`$settings\`} | $accuracy |" | sed 's/|  |/| |/'
}

echo "| optimizer | options | test accuracy |"
echo "|---|---|---|"
row sgd "--learning-rate 0.05 --momentum 0.9" -- "$@"
row adam "" -- "$@"
row adamw "" -- "$@"
row rmsprop "" -- "$@"
row adagrad "--learning-rate 0.02 --optimizer-option initial_accumulator_value=0" -- "$@"
row adadelta "--learning-rate 1" -- "$@"
row adamax "--learning-rate 0.002" -- "$@"
row nadam "" -- "$@"
row ftrl "--learning-rate 0.02 --optimizer-option initial_accumulator_value=0" -- "$@"
row lion "--learning-rate 0.0002" -- "$@"
row schedule_free_adamw "" -- "$@"
row radam "" -- "$@"
row lamb "" -- "$@"
row adafactor "--learning-rate 0.01" -- "$@"
row muon "" -- "$@"
