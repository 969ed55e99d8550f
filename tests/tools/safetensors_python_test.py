# SPDX-License-Identifier: Apache-2.0
"""Files of Python's safetensors package are read by Lockstep, and files of Lockstep by the package.

usage: safetensors_python_test.py PATH_OF_SAFETENSORS_COPY; ends with 77 when the package is not installed.
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

try:
    import numpy
    import safetensors.numpy
except ImportError as error:
    print(f"skipped: {error}; `pip install numpy safetensors` to run this test")
    sys.exit(77)

TENSORS = {
    "dense/kernel": numpy.array([[1, -2.5, 3], [0, 1e-30, 1e30]], numpy.float32),
    "iteration": numpy.array(1 << 40, numpy.int64),
    "label": numpy.array([[-1, 7]], numpy.int32),
    "rate": numpy.array(1e-3, numpy.float64),
    "nothing": numpy.zeros((0, 7), numpy.float32),
    'strange "name" \\ ü': numpy.array([67305985], numpy.int32),
}
METADATA = {"model": "mlp", "note": 'two\nlines and "quotes"'}
HALF = bytes([0x80, 0x3F, 0, 0xC0, 1, 0])


def read(path):
    with open(path, "rb") as file:
        return file.read()


def expect_tensors(path):
    loaded = safetensors.numpy.load_file(path)
    assert sorted(loaded) == sorted(TENSORS), loaded
    for name, value in TENSORS.items():
        found = loaded[name]
        assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes()), name
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == METADATA, file.metadata()


def expect_bfloat16(copy, path):
    """NumPy has no bfloat16: the file is put together by hand, and the package gives back its bytes."""
    header = json.dumps({"half": {"dtype": "BF16", "shape": [3], "data_offsets": [0, len(HALF)]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + HALF)
    subprocess.run([copy, path, path + ".ours"], check=True)
    ((name, entry),) = safetensors.deserialize(read(path + ".ours"))
    found = (name, entry["dtype"], list(entry["shape"]), bytes(entry["data"]))
    assert found == ("half", "BF16", [3], HALF), found


def main(copy):
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours, again = (os.path.join(folder, name) for name in ("theirs", "ours", "again"))
        safetensors.numpy.save_file(TENSORS, theirs, METADATA)
        expect_tensors(theirs)
        subprocess.run([copy, theirs, ours], check=True)
        expect_tensors(ours)
        subprocess.run([copy, ours, again], check=True)
        assert read(ours) == read(again), "the same content was written as different bytes"
        expect_bfloat16(copy, os.path.join(folder, "half"))
    print(f"{len(TENSORS) + 1} tensors went from Python through Lockstep and back")


main(sys.argv[1])
