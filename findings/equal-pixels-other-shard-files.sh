#!/bin/bash
# Equal pixels, written twice through zarrs, make shard files of different bytes.
#
# Seen with zarrs 0.2.3, zarr 3.1.6, numpy 2.4.6 on Python 3.11.
# Expected: the same array, chunks, codecs and library versions give the same file, so that checksums of files tell whether
#           pixels changed.
# Seen: zarrs encodes the inner chunks of a shard in parallel and puts each where the file ends when it is ready. Their order,
#       and so the index and the checksum of the file, differ from run to run. zarr-python's own pipeline writes
#       one and the same file. All of them read back equal.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check zarrs==0.2.3 zarr==3.1.6 numpy==2.4.6 || exit 2
"$python" -W ignore - <<'PYTHON'
import hashlib
from pathlib import Path

import numpy as np
import zarr

pixels = np.random.default_rng(0).integers(0, 4000, (2048, 2048)).astype("uint16")
pixels[::3] = 7  # so that chunks differ in how long they take

def digests(pipeline, times):
    found = set()
    for number in range(times):
        path = f"{pipeline.split('.')[0]}{number}.zarr"
        with zarr.config.set({"codec_pipeline.path": pipeline, "threading.max_workers": 8}):
            array = zarr.create_array(path, shape=pixels.shape, shards=(2048, 2048), chunks=(64, 64), dtype="uint16")
            array[:] = pixels
            assert (array[:] == pixels).all()
        found.add(hashlib.sha256(Path(path, "c/0/0").read_bytes()).hexdigest()[:16])
    return found

own = digests("zarr.core.codec_pipeline.BatchedCodecPipeline", 6)
other = digests("zarrs.ZarrsCodecPipeline", 12)
print(f"zarr-python, 6 times: {len(own)} different file(s)")
print(f"zarrs, 12 times: {len(other)} different file(s)")
assert len(own) == 1 and len(other) > 1, "the behaviour has changed (or this machine has one core)"
PYTHON
