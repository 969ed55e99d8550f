#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Measures what the README quotes, each figure beside its roof of the same run. Takes about three minutes; wants an
# otherwise idle machine.
set -eu
cd "$(dirname "$0")/../.."

usage() {
  cat <<'END'
usage: tools/scripts/measure.sh [--program FILE] [--rounds N]

Benches tape, planner, kernels, training and collectives, compares forecasts with runs, then compares two ranks with two independent processes in turn.
  --program FILE   default build/cpu/lockstep
  --rounds N       of the comparison, default 5
END
}

program=build/cpu/lockstep
rounds=5
while [ $# -gt 0 ]; do
  case "$1" in
    --program) program=${2:?--program needs a file}; shift ;;
    --rounds) rounds=${2:?--rounds needs a number}; shift ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; echo "measure: error: unknown option '$1'" >&2; exit 2 ;;
  esac
  shift
done
[ -x "$program" ] || { echo "measure: error: no program at $program; build it with tools/quickstart.sh" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

images() {  # images FILE: images per second in a JSON array of bench train
  tr -d ' \n' <"$1" | sed 's/.*\/images"[^}]*"value":\([0-9.e+]*\).*/\1/'
}

"$program" doctor
echo "== tape"; "$program" bench tape
echo "== planner"; "$program" bench plan
echo "== forecasts beside runs, 2 ranks"
for run in 1 2 3; do
  for what in "--model mlp" "--model mlp --bucket-mib 0.5" "--model cnn --batch 16"; do
    # shellcheck disable=SC2086  # several options
    tools/mpirun.sh -np 2 "$program" plan --verify $what | sed -n '/DIFFERENT/p; /fitted/p; /communication/p; /every term/p'
  done
done
echo "== kernels, 1 thread"; "$program" bench kernels
echo "== training, 1 rank x 1 thread"; "$program" bench train
echo "== collectives, 2 ranks"; tools/mpirun.sh -np 2 "$program" bench collectives
echo "== collectives, 4 ranks"; tools/mpirun.sh -np 4 "$program" bench collectives

echo "== two ranks against two independent processes, images/s, $rounds rounds in turn"
for model in mlp cnn; do
  : >"$work/ratios"
  for round in $(seq "$rounds"); do
    "$program" bench train --model $model --rounds 3 --json >"$work/a" &
    first=$!
    "$program" bench train --model $model --rounds 3 --json >"$work/b"
    wait $first
    tools/mpirun.sh -np 2 "$program" bench train --model $model --rounds 3 --json >"$work/two"
    echo "$model $round $(images "$work/a") $(images "$work/b") $(images "$work/two")" |
      awk '{printf "%s round %d: independent %.0f + %.0f, two ranks %.0f, ratio %.3f\n", $1, $2, $3, $4, $5, $5/($3+$4)}' |
      tee -a "$work/ratios"
  done
  sed 's/.*ratio //' "$work/ratios" | sort -n | awk -v m=$model '{r[NR]=$1} END {print m, "median ratio", r[int((NR+1)/2)]}'
done
