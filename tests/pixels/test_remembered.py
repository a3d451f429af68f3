"""Windows of one lattice over the tiles of another: GDAL's pixels, every tile decoded once, memory bounded."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from stac2cube.model.image import Roi
from stac2cube.pixels.gdal import GdalImage, TileCache, gdal_image
from tests.fastcog.test_area import WHOLE, jp2
from tests.pixels.granules import texture, write

PIXELS = texture(WHOLE)


def windows(edge: int, margin: int) -> list[Roi]:
    """Row by row, each reaching a little over its own edges."""
    rows, columns = WHOLE.shape
    return [
        (
            slice(max(top - margin, 0), min(top + edge + margin, rows)),
            slice(max(left - margin, 0), min(left + edge + margin, columns)),
        )
        for top, left in product(range(0, rows, edge), range(0, columns, edge))
    ]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Roi]:
    """What GDAL is asked for."""
    asked: list[Roi] = []
    read = GdalImage.read

    def watched(self: GdalImage, index: int, roi: Roi, level: int = 0) -> np.ndarray:
        asked.append(roi)
        return read(self, index, roi, level)

    monkeypatch.setattr(GdalImage, "read", watched)
    return asked


@pytest.mark.parametrize("edge", [200, 256, 700])
def test_every_tile_is_decoded_once(edge: int, decoded: list[Roi], tmp_path: Path) -> None:
    path, tiles = jp2(tmp_path / "a.jp2", 512), TileCache()
    for roi in windows(edge, 8):
        with gdal_image(str(path)) as image:  # a window, an opening
            found = tiles.of(image, "a").read(1, roi)
        np.testing.assert_array_equal(found, PIXELS[roi])
        found[...] = 0  # whoever reads may write to it
    assert len(decoded) == 3 * math.ceil(1700 / image.tile[1])


def test_no_more_is_held_than_allowed(decoded: list[Roi], tmp_path: Path) -> None:
    path, tiles = jp2(tmp_path / "a.jp2", 512), TileCache(most=3 << 20)
    with gdal_image(str(path)) as image:
        for roi in windows(256, 8):
            np.testing.assert_array_equal(tiles.of(image, "a").read(1, roi), PIXELS[roi])
            assert sum(pixels.nbytes for pixels in tiles._held.values()) == tiles._bytes <= tiles.most
    assert len(decoded) > 3 * math.ceil(1700 / image.tile[1])


def test_whole_tiles_overviews_and_other_files_are_read_as_they_come(decoded: list[Roi], tmp_path: Path) -> None:
    tiles = TileCache()
    with gdal_image(str(jp2(tmp_path / "a.jp2", 512))) as image:
        remembered = tiles.of(image, "a")
        np.testing.assert_array_equal(remembered.read(1, np.s_[512:1500, 0:1024]), PIXELS[512:, :1024])
        remembered.read(1, np.s_[3:9, 3:9], 1)
        assert remembered.geobox_of(1) == image.geobox_of(1)
    assert not tiles._held
    with gdal_image(str(write(tmp_path / "a.tif", PIXELS, WHOLE))) as image:
        assert tiles.of(image, "b") is image


def test_files_and_bands_are_not_taken_for_each_other(tmp_path: Path) -> None:
    tiles = TileCache()
    other = {
        "compress": None,
        "predictor": None,
        "blocksize": None,
        "nodata": None,
        "QUALITY": 100,
        "REVERSIBLE": "YES",
    }
    write(tmp_path / "b.jp2", PIXELS + 1, WHOLE, driver="JP2OpenJPEG", **other)
    for name, more in (("a", 0), ("b", 1)):
        path = jp2(tmp_path / "a.jp2", 512) if name == "a" else tmp_path / "b.jp2"
        with gdal_image(str(path)) as image:
            np.testing.assert_array_equal(tiles.of(image, name).read(1, np.s_[5:9, 5:9]), PIXELS[5:9, 5:9] + more)
