#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Goes from a fresh clone to a trained model with two MPI ranks: installs, builds, trains a classifier on Fashion-MNIST or
# a language model on six novels.
set -eu
cd "$(dirname "$0")/.."

usage() {
  cat <<'END'
usage: tools/quickstart.sh [--text] [--cuda] [--no-install] [-- OPTIONS FOR lockstep train]

Installs missing Debian packages, builds preset `cpu` into build/cpu and trains with `mpirun -np 2`:
  lockstep train --model mlp --epochs 5

  --text         fetch six novels, learn a tokenizer of 4096 entries, and train a GPT of 12 million parameters instead:
                 lockstep train --config tools/configs/gpt-mini.toml; this takes long on
                 two cores; then print a sample; files go to build/novels
  --cuda         build preset `cuda` (needs nvcc) into build/cuda and train on the GPU
  --no-install   install nothing
  -- OPTIONS     passed to lockstep train, instead of the defaults where they name the same: -- --model cnn --epochs 3
END
}

preset=cpu
text=no
install=yes
while [ $# -gt 0 ]; do
  case "$1" in
    --text) text=yes ;;
    --cuda) preset=cuda ;;
    --no-install) install=no ;;
    --help | -h) usage; exit 0 ;;
    --) shift; break ;;
    *) usage >&2; echo "quickstart: error: unknown option '$1' (options for lockstep train go behind --)" >&2; exit 2 ;;
  esac
  shift
done

if [ $preset = cuda ] && ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ]; then
  echo "quickstart: error: --cuda needs nvcc, which is neither in PATH nor in /usr/local/cuda/bin;" \
    "install NVIDIA's CUDA toolkit (12.4 or newer), or leave --cuda away" >&2
  exit 1
fi

names() {  # names OPTION ARGUMENT...: is the option among the arguments?
  wanted=$1
  shift
  for argument in "$@"; do
    case "$argument" in "$wanted" | "$wanted"=*) return 0 ;; esac
  done
  return 1
}
# The program takes each option once, so a default goes in only where the user says nothing.
if [ $text = yes ]; then
  names --config "$@" || set -- --config tools/configs/gpt-mini.toml "$@"
  names --save "$@" || set -- --save build/novels/gpt-mini/ "$@"
else
  names --epochs "$@" || names --steps "$@" || set -- --epochs 5 "$@"
  names --model "$@" || set -- --model mlp "$@"
fi
[ $preset = cpu ] || names --device "$@" || set -- --device cuda "$@"

[ $install = no ] || tools/scripts/install_packages.sh
tools/scripts/configure_and_build.sh $preset

if [ $text = yes ]; then
  novels=build/novels
  lockstep=build/$preset/lockstep
  tools/scripts/fetch_novels.sh $novels
  [ -f $novels/tokenizer/tokenizer.json ] ||
    "$lockstep" tokenize train $novels/*.txt --vocabulary 4096 --output $novels/tokenizer
  if [ ! -f $novels/train.bin ] || [ ! -f $novels/val.bin ]; then
    "$lockstep" tokenize encode $novels/*.txt --tokenizer $novels/tokenizer --output $novels/train.bin \
      --validation $novels/val.bin
  fi
fi

echo "+ mpirun -np 2 build/$preset/lockstep train $*"
# mpirun hides the terminal from its ranks.
[ ! -t 1 ] || names --progress "$@" || set -- "$@" --progress terminal
tools/mpirun.sh -np 2 "build/$preset/lockstep" train "$@" </dev/null
if [ $text = yes ] && [ -f build/novels/gpt-mini/config.json ]; then
  echo "+ build/$preset/lockstep sample --weights build/novels/gpt-mini --prompt 'It is a truth' --tokens 100"
  "build/$preset/lockstep" sample --weights build/novels/gpt-mini --prompt "It is a truth" --tokens 100 \
    --temperature 0.8 --top-k 50
fi
