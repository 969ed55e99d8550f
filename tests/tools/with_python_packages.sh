#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a Python script with packages that the machine need not have: they are installed into FOLDER, which belongs to the
# build, the first time. Where pip can reach nothing the script runs without them, and has to say itself what it lacks.
# usage: with_python_packages.sh PYTHON FOLDER "PACKAGE..." SCRIPT [ARGUMENT...]
set -u
python=$1 folder=$2 packages=$3
shift 3

# shellcheck disable=SC2086  # one word a package
if [ ! -e "$folder/complete" ]; then
  rm -rf "$folder"
  if "$python" -m venv "$folder" && "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    --only-binary :all: --retries 0 --timeout 20 $packages; then
    touch "$folder/complete"
  else
    echo "$packages: not installed into $folder (see above)"
  fi
fi
[ ! -e "$folder/complete" ] || python=$folder/bin/python
exec "$python" "$@"
