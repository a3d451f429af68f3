#!/bin/bash
# Versions: safetensors 0.8.0, numpy 2.4.6, any Python from 3.11 on, Linux.
# Expected: a format made to be hashed and pinned writes equal tensors with equal metadata as equal bytes.
# Seen: the order of the entries of `metadata` in the file's header changes from one save to the next, also within one process.
#   With two entries two kinds of file come at random, with one or none all files are equal. Loaded tensors are always the same.
#   Whoever names weights by the SHA-256 of their file has to write at most one entry.
# Exits 0 while it is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6 || exit 2
cat >"$folder/try.py" <<'PYTHON'
import hashlib

import numpy as np
from safetensors.numpy import save

weights = {"layer.weight": np.arange(12, dtype="float32").reshape(3, 4), "layer.bias": np.zeros(3, "float32")}


def files(metadata):
    """How many different files forty saves make."""
    return len({hashlib.sha256(save(weights, metadata=metadata)).hexdigest() for _ in range(40)})


none, one, two = files(None), files({"seed": "1"}), files({"seed": "1", "generation": "2"})
print(f"different files of 40: {none} without metadata, {one} with one entry, {two} with two")
raise SystemExit(0 if (none, one) == (1, 1) and two > 1 else 1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
