"""Files of every kind that providers write: the same pixels as rasterio reads, or a reason why GDAL is to read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from stac2cube.fastcog.header import CogHeader, UnusualFileError, _Bytes, _crs_by_gdal, _directories, _plain_utm
from stac2cube.fastcog.image import CogImage, place_by_numpy
from stac2cube.fastcog.kernels import place_tile
from stac2cube.fastcog.ranges import LocalParts, header_of
from stac2cube.model.scene import AssetRef
from tests.pixels.granules import box32, texture, write
from tests.real.recorded import DATA, real

WHOLE = box32(187, 301)  # no multiple of any tile


def opened(path: Path) -> CogImage:
    return CogImage(header_of(AssetRef(str(path)), "none"), LocalParts(str(path)))


def assert_same(path: Path) -> CogImage:
    """All bands and levels, whole and in windows; lattice and value for no data."""
    image = opened(path)
    rng = np.random.default_rng(0)
    with rasterio.open(path) as file:
        assert image.geobox == GeoBox(file.shape, file.transform, file.crs)
        np.testing.assert_equal(image.nodata, file.nodata)
        assert (image.bands, image.factors) == (file.count, file.overviews(1))
    for level in range(len(image.factors) + 1):
        with rasterio.open(path, **({"overview_level": level - 1} if level else {})) as file:
            assert image.geobox_of(level) == GeoBox(file.shape, file.transform, file.crs)
            for index in file.indexes:
                wanted = file.read(index)
                whole = image.read(index, (slice(0, file.height), slice(0, file.width)), level)
                assert whole.dtype == wanted.dtype
                assert whole.tobytes() == wanted.tobytes()
                for _ in range(4 if file.height < 1000 else 1):
                    rows, columns = (sorted(rng.choice(edge + 1, 2, replace=False)) for edge in file.shape)
                    roi = slice(*map(int, rows)), slice(*map(int, columns))
                    assert image.read(index, roi, level).tobytes() == np.ascontiguousarray(wanted[roi]).tobytes()
    return image


PLAIN = {"driver": "GTiff", "blocksize": None, "tiled": True, "blockxsize": 64, "blockysize": 48}
FLOAT = {"dtype": "float32", "predictor": 3, "nodata": float("nan")}
KINDS: dict[str, dict[str, Any]] = {
    "deflate": {},
    "deflate without predictor": {"predictor": None},
    "zstd": {"compress": "zstd"},
    "lzw": {"compress": "lzw"},
    "uncompressed": {"compress": None, "predictor": None},
    "floating point": FLOAT,
    "floating point, differences": FLOAT | {"predictor": 2},
    "doubles": {"dtype": "float64", "predictor": 3},
    "bytes": {"dtype": "uint8"},
    "signed bytes": {"dtype": "int8"},
    "signed": {"dtype": "int16", "nodata": -32768},
    "32 bits": {"dtype": "uint32"},
    "64 bits": {"dtype": "int64"},
    "BigTIFF": PLAIN | {"bigtiff": "yes"},
    "big endian": PLAIN | {"endianness": "big"},
    "big endian floats": PLAIN | FLOAT | {"endianness": "big"},
    "big endian BigTIFF, zstd": PLAIN | {"endianness": "big", "bigtiff": "yes", "compress": "zstd"},
    "big endian, no predictor": PLAIN | {"endianness": "big", "predictor": None},
    "strips": PLAIN | {"tiled": None, "blockxsize": None, "blockysize": 50},
    "one strip": PLAIN | {"tiled": None, "blockxsize": None, "blockysize": 400},
    "no nodata": {"nodata": None},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
def test_kinds_of_files(options: dict[str, Any], tmp_path: Path) -> None:
    options = dict(options)
    dtype = np.dtype(options.pop("dtype", "uint16"))
    pixels = (texture(WHOLE) / (20 if dtype.itemsize == 1 else 1)).clip(-100, 120 if dtype == "int8" else None)
    pixels = pixels.astype(dtype)
    pixels[:30, :100] = options.get("nodata", 0) or 0
    assert_same(write(tmp_path / "a.tif", pixels, WHOLE, **options))


def write_bands(path: Path, bands: np.ndarray, **options: Any) -> Path:
    profile = {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"} | options
    lattice = {"crs": str(WHOLE.crs), "transform": WHOLE.transform, "height": WHOLE.shape[0], "width": WHOLE.shape[1]}
    with rasterio.open(path, "w", count=len(bands), dtype=bands.dtype, **lattice, **profile) as file:
        file.write(bands)
    return path


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize(("dtype", "predictor"), [("uint16", 2), ("float32", 3), ("uint8", 1)])
def test_several_bands(interleave: str, dtype: str, predictor: int, tmp_path: Path) -> None:
    bands = np.stack([texture(WHOLE, seed) for seed in range(3)]).astype(dtype)
    assert_same(write_bands(tmp_path / "a.tif", bands, interleave=interleave, predictor=predictor))


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i4", "<u8"])
def test_numpy_and_compiled_loops_sum_alike(dtype: str) -> None:
    """A small build sums differences with NumPy, a larger one with what numba compiles."""
    kind = np.dtype(dtype)
    tile = np.random.default_rng(1).integers(0, 256, (21, 33, 3, kind.itemsize), "u1")
    for band, corner, shape in ((0, (0, 0), (21, 33)), (2, (5, 7), (11, 9)), (1, (20, 32), (1, 1))):
        made, wanted = (np.empty(shape, kind.newbyteorder("=")) for _ in range(2))
        place_by_numpy(tile, kind, band, corner, made)
        place_tile(tile, kind, 2, band, corner, wanted)
        np.testing.assert_array_equal(made, wanted)


def test_zones_of_utm_are_known_without_gdal(tmp_path: Path) -> None:
    """What is read of the keys alone is what GDAL makes of the file; of every other CRS it is left to GDAL."""
    for code, plain in ((32632, True), (32733, True), (25832, False), (3035, False), (4326, False), (32661, False)):
        lattice = GeoBox((64, 64), Affine(10, 0, 5e5, 0, -10, 4e6), code)
        path = write(tmp_path / f"{code}.tif", texture(lattice), lattice)
        head = path.read_bytes()
        tags = _directories(_Bytes(lambda first, count, head=head: head[first : first + count]))[0]
        assert bool(_plain_utm(tags)) == plain
        assert not plain or _plain_utm(tags) == _crs_by_gdal(head)


def test_sparse_tiles_hold_no_data(tmp_path: Path) -> None:
    for nodata in (7, None):
        bands = np.full((1, *WHOLE.shape), nodata or 0, "uint16")
        bands[0, 70:100, 200:230] = 9
        path = write_bands(tmp_path / f"{nodata}.tif", bands, sparse_ok=True, nodata=nodata)
        assert not assert_same(path).header.levels[0].counts.all()


def test_internal_masks_and_overviews_added_later(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "a.tif", texture(WHOLE)[None])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(texture(WHOLE) > 2500)
        file.build_overviews([2, 4], Resampling.average)
    image = assert_same(path)
    assert image.header.masked
    assert image.factors == [2, 4]


def test_pixels_that_are_points(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "a.tif", texture(WHOLE)[None])
    with rasterio.open(path, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    assert_same(path)


def test_lattices_that_are_turned(tmp_path: Path) -> None:
    lattice = GeoBox(WHOLE.shape, WHOLE.transform * Affine.rotation(10), WHOLE.crs)
    assert_same(write(tmp_path / "a.tif", texture(WHOLE), lattice, driver="GTiff", blocksize=None))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3035", "+proj=laea +lat_0=45 +lon_0=9 +datum=WGS84 +units=m"])
def test_other_projections(crs: str, tmp_path: Path) -> None:
    assert_same(write(tmp_path / "a.tif", texture(WHOLE), GeoBox(WHOLE.shape, WHOLE.transform, crs)))


REFUSED = {
    "a JPEG inside": (PLAIN | {"compress": "jpeg", "predictor": None, "dtype": "uint8"}, "compression has the code 7"),
    "LERC": ({"compress": "lerc", "predictor": None}, "compression has the code 34887"),
    "twelve bits": (PLAIN | {"nbits": 12, "predictor": None}, "12 bits"),
    "complex numbers": (
        PLAIN | {"dtype": "complex64", "predictor": None, "nodata": None},
        "64 bits of an unusual kind",
    ),
}


@pytest.mark.parametrize(("options", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_unusual_files_go_to_gdal(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    options = dict(options)
    dtype = options.pop("dtype", "uint16")
    path = write(tmp_path / "a.tif", (texture(WHOLE) / 20).astype(dtype), WHOLE, **options)
    with pytest.raises(UnusualFileError, match=reason):
        opened(path)


def test_what_lies_beside_a_file_goes_to_gdal(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(WHOLE), WHOLE)
    side = tmp_path / "a.tif.aux.xml"
    side.write_text("<PAMDataset/>")
    with pytest.raises(UnusualFileError, match=r"there is a file \.aux\.xml beside it"):
        opened(path)
    side.unlink()
    assert opened(path).bands == 1
    for name, content, reason in (
        ("a.jp2", b"", "its name"),
        ("empty.tif", b"", "no TIFF"),
        ("text.tif", b"Please sign in " * 9, "no TIFF"),
        ("short.tif", path.read_bytes()[:40], "ends within"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnusualFileError, match=reason):
            opened(tmp_path / name)


@real[0]
@real[1]
def test_every_recorded_tiff() -> None:
    """Which go to GDAL is said here: those without a georeference of their own."""
    same, refused = 0, {}
    for path in sorted((DATA / "rasters").rglob("*")):
        if not path.is_file() or path.read_bytes()[:4] not in (b"II*\0", b"MM\0*", b"II+\0"):
            continue
        try:
            assert_same(path)
            same += 1
        except UnusualFileError as reason:
            refused[path.suffix] = refused.get(path.suffix, {str(reason)}) | {str(reason)}
    assert same >= 50
    assert refused == {".jp2": {"its name is not that of a TIFF"}}


def test_headers_travel_in_a_few_hundred_bytes(tmp_path: Path) -> None:
    image = opened(write(tmp_path / "a.tif", texture(box32(1500, 1500)), box32(1500, 1500)))
    content = image.header.to_bytes()
    assert len(content) < 1500
    for again in (CogHeader.from_bytes(content), CogHeader.from_record(image.header.to_record())):
        assert again.to_bytes() == content
        roi = slice(700, 900), slice(100, 500)
        assert CogImage(again, image.parts).read(1, roi).tobytes() == image.read(1, roi).tobytes()
    for wrong in (b"", b"{}\n", content[:-9], content.replace(b'"bands":1', b'"bonds":1')):
        with pytest.raises(ValueError, match=r".+"):
            CogHeader.from_bytes(wrong)


@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=300), where=st.integers(0, 400), short=st.integers(0, 3000))
def test_no_damage_to_a_header_leads_astray(content: bytes, where: int, short: int, tmp_path_factory: Any) -> None:
    """Whatever stands in a file, it is either read or refused: nothing else is raised, and nothing hangs."""
    folder = tmp_path_factory.getbasetemp()
    good = folder / "good.tif"
    if not good.exists():
        write(good, texture(WHOLE), WHOLE)
    raw = bytearray(good.read_bytes())
    raw[where : where + len(content)] = content
    path = folder / "damaged.tif"
    path.write_bytes(raw[: len(raw) - short])
    try:
        image = opened(path)
        image.read(1, (slice(0, image.geobox.shape[0]), slice(0, min(image.geobox.shape[1], 64))))
    except (UnusualFileError, OSError):
        return
