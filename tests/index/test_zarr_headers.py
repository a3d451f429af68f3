"""Headers of arrays in Zarr stores, kept by an index and used by readers."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stac2cube.access.sign import opening
from stac2cube.model.image import Image
from stac2cube.model.scene import AssetRef
from stac2cube.pixels.open import Engine, inspect
from stac2cube.pixels.zarr_header import ZarrHeader
from stac2cube.search.index_headers import Target, changed, header_in, header_type, read_headers
from tests.pixels.zarr_stores import StoreForm, counts, path_of, write_store
from tests.servers.range_server import serving

BANDS = {"b02": 10, "scl": 20}


@pytest.mark.parametrize("form", [StoreForm(bands=BANDS), StoreForm(3, chunk=12, shard=60, bands=BANDS)])
def test_an_index_keeps_what_reading_needs(form: StoreForm, tmp_path: Path) -> None:
    """With its header, an array is read without any request but for its chunks; a change is noticed."""
    store = write_store(tmp_path, form, f"kept{form.version}")
    with serving(tmp_path) as server:
        at = f"{server.url}/{store.name}"
        targets = [Target(band, AssetRef(f"{at}/{path_of(band, gsd)}"), "none") for band, gsd in BANDS.items()]
        rows = read_headers(targets)
        table = pa.array(list(rows.values()), header_type())
        kept = {row["href"]: header_in(row) for row in table.to_pylist()}
        assert {row["format"] for row in rows.values()} == {"zarr"}
        assert all(isinstance(header, ZarrHeader) for header in kept.values())
        assert changed(table.to_pylist(), targets) == set()
        server.requests.clear()
        for band, target in zip(BANDS, targets, strict=True):

            def read(image: Image, _: AssetRef) -> np.ndarray:
                rows, columns = image.geobox.shape
                return image.read(1, (slice(0, rows), slice(0, columns)))

            found = inspect(Engine(headers=kept.get), target.asset, opening(target.asset, "none"), read)
            np.testing.assert_array_equal(found, counts(band, form))
        assert not [path for path in server.requests if path.endswith((".zmetadata", "zarr.json", ".zarray", "/x/0"))]
        shutil.rmtree(store)
        again = replace(form, chunk=form.chunk // 2, shard=form.shard, offset=9)
        write_store(tmp_path, again, f"kept{form.version}")
        later = time.time() + 5
        for path in store.rglob("*"):
            os.utime(path, (later, later))
        assert changed(table.to_pylist(), targets) == {target.asset.href for target in targets}
