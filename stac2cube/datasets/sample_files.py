"""Pixels and labels of one sample, and the sample on disk. Both run on workers.

A sample is a folder with ``x.tif``, ``y.tif``, ``angles.tif`` and ``meta.json`` that is written atomically.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from odc.geo.overlap import compute_reproject_roi
from rasterio.errors import RasterioError
from rasterio.windows import Window

from stac2cube.algorithms.radiometry import AngleNodes, Direction, TileAngles, interpolated, merged, parse_angles
from stac2cube.datasets.index import Sample, SampleGrid, sample_from_json, sample_to_json
from stac2cube.datasets.rules import AngleRules, CubeStep, GranuleFiles, LabelRules, SampleRules, SampleSource
from stac2cube.errors import BadInputError, ReadError
from stac2cube.model.geometry import shape_in
from stac2cube.model.grid import Grid
from stac2cube.model.image import BandRequest, Image, Roi
from stac2cube.model.mission import Band
from stac2cube.model.scene import AssetRef, split_store
from stac2cube.pixels.gdal import TileCache
from stac2cube.pixels.open import of_asset, read_file
from stac2cube.pixels.warp import SourceWindow, read_covered, resample_block, source_window
from stac2cube.pixels.zarr_header import crs_of_store, small_array
from stac2cube.store.files import exchange, passing, remove_tree, sync_folder, sync_tree, write_whole
from stac2cube.trust.text import parse_json
from stac2cube.version import __version__

# Labels of a sample, from any source, on the sample's grid; runs on workers.

NOTHING = -(2**31)
"""Fill value for labels read from a raster."""


def labels_of(
    source: SampleSource,
    rules: LabelRules,
    geobox: GeoBox,
    window: tuple[slice, slice],
    owner: np.ndarray | None,
    tiles: TileCache,
) -> np.ndarray:
    """Read the classes of a window of a sample.

    Args:
        source: The sample.
        rules: Rules of the labels.
        geobox: Lattice of the window.
        window: Within the sample's grid.
        owner: Index of the granule of each pixel, -1 without one; None for a step of a cube.
        tiles: Cache, shared by all windows.

    Returns:
        ``(rows, columns)`` uint8, ``ignore_index`` where unlabelled.

    Raises:
        ReadError: The source of the labels is missing or cannot be read.
    """
    if rules.backend == "vector":
        return _of_vector(str(source.labels_path(rules.path)), rules, geobox)
    if rules.backend == "raster":
        values = _of_raster(str(source.labels_path(rules.path)), rules, geobox)
    elif rules.backend == "clouds":
        if source.clouds is None:
            raise ReadError(f"{source.id} has no step in the clouds cube")
        values = _of_clouds(source.clouds, geobox)
    elif source.step is not None:
        values = _labels_of_step(source.step, window)
    else:
        values = _of_granules(source.parts, rules.resampling, geobox, owner, tiles)
    return mapped(values, rules.table, rules.ignore_index)


def mapped(values: np.ndarray, table: Mapping[str, int], ignore_index: int) -> np.ndarray:
    """Map values to classes by the table, all others to ``ignore_index``."""
    out = np.full(values.shape, ignore_index, "uint8")
    for value, number in table.items():
        out[values == int(value)] = number
    return out


def _labels_of_step(step: CubeStep, window: tuple[slice, slice]) -> np.ndarray:
    """Sentinel-2's scene classification, from the cube."""
    layer = next(layer for layer in step.layers if layer.name == "SCL")
    return step.step.read([layer], window)["SCL"]


def _of_granules(
    parts: Sequence[GranuleFiles], resampling: str, geobox: GeoBox, owner: np.ndarray | None, tiles: TileCache
) -> np.ndarray:
    """Sentinel-2's scene classification, from the granule of each pixel; 0 without."""
    request = BandRequest("SCL", "uint8", 0, "class", resampling)
    out = np.zeros(geobox.shape, "uint8")

    def read(image: Image, asset: AssetRef) -> np.ndarray:
        return source_window(tiles.of(image, asset.address), asset, request, geobox)

    for place, part in enumerate(parts):
        if part.classes is None:
            raise ReadError(f"SCL: there is no Level-2A of {part.granule.id}")
        classes = of_asset(part.classes, request, read)
        assert classes is not None  # it is not optional
        takes = (out == 0) if owner is None else (owner == place) | ((owner < 0) & (out == 0))
        np.copyto(out, classes, where=takes)
    return out


def _of_raster(path: str, rules: LabelRules, geobox: GeoBox) -> np.ndarray:
    request = BandRequest("labels", "int32", NOTHING, "class", rules.resampling)
    try:
        return read_file(path, request, geobox)
    except (RasterioError, OSError) as error:
        raise ReadError(f"labels: {path} cannot be read: {error}") from error


def _of_clouds(clouds: CubeStep, geobox: GeoBox) -> np.ndarray:
    """0 clear, 1 cloud, 2 shadow (cloud takes precedence), 255 unknown, from the nearest pixel of the clouds cube."""
    whole = clouds.grid.geobox
    rows, columns = compute_reproject_roi(whole, geobox, padding=2).roi_src
    window = (slice(rows.start, rows.stop), slice(columns.start, columns.stop))
    out = np.full(geobox.shape, 255, "uint8")
    if any(part.stop <= part.start for part in window):
        return out
    stored = clouds.step.read(clouds.layers, window)
    cloud, shadow = stored["cloud_mask"], stored.get("shadow_mask")
    said = np.where(cloud == 1, 1, 0).astype("uint8")
    if shadow is not None:
        said[(shadow == 1) & (said == 0)] = 2
    said[cloud == 255] = 255
    resample_block(SourceWindow(said, whole[window], (1.0, 1.0)), "nearest", 255, geobox, out)
    return out


def _of_vector(path: str, rules: LabelRules, geobox: GeoBox) -> np.ndarray:
    """Rasterise shapes in the order of the file: later ones are on top."""
    from rasterio.features import rasterize

    shapes = _shapes(path, rules.column, str(geobox.crs))
    table, outside = rules.table, rules.ignore_index if rules.outside is None else rules.outside
    drawn = [(geometry, table.get(value, rules.ignore_index)) for geometry, value in shapes if not geometry.is_empty]
    if not drawn:
        return np.full(geobox.shape, outside, "uint8")
    classes: np.ndarray = rasterize(
        drawn,
        out_shape=geobox.shape,
        transform=geobox.transform,
        fill=outside,
        all_touched=rules.all_touched,
        dtype="uint8",
    )
    return classes


@lru_cache(maxsize=8)
def _shapes(path: str, column: str, crs: str) -> tuple[tuple[Any, str], ...]:
    """Geometries in a CRS, and the value of each as text."""
    import geopandas

    try:
        frame = geopandas.read_file(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise ReadError(f"labels: {path} cannot be read: {error}") from error
    if frame.crs is None:
        raise ReadError(f"labels: {path} does not say its CRS")
    if column and column not in frame.columns:
        raise BadInputError(f"labels: {path} has no column {column!r}; there are {', '.join(map(str, frame.columns))}")
    values = [value_text(value) for value in frame[column]] if column else ["1"] * len(frame)
    shapes = zip(frame.geometry, values, strict=True)
    return tuple((shape_in(one, frame.crs, crs), value) for one, value in shapes if one is not None)


def value_text(value: Any) -> str:
    """A value of a column as text for a mapping: whole numbers without a decimal point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# The pixels of a sample, a window at a time; runs on workers.


@dataclass(frozen=True)
class SampleWindow:
    """A window of a sample.

    Attributes:
        bands: ``(bands, rows, columns)`` float32, NaN where a band is not valid.
        valid: Same shape, bool: whether the band is valid.
        angles: ``(channels, rows, columns)`` float32, NaN where unknown; None if not requested.
        labels: ``(rows, columns)`` uint8; None if not requested.
    """

    bands: np.ndarray
    valid: np.ndarray
    angles: np.ndarray | None
    labels: np.ndarray | None

    @property
    def everywhere(self) -> np.ndarray:
        """``(rows, columns)`` bool: where all bands are valid."""
        every: np.ndarray = np.logical_and.reduce(self.valid, axis=0)
        return every

    def validity(self, rules: SampleRules) -> np.ndarray:
        """The channels of validity, ``(channels, rows, columns)`` bool."""
        return self.valid if rules.validity == "per_band" else self.everywhere[np.newaxis]


def make_pixels(source: SampleSource, rules: SampleRules, window: Roi, tiles: TileCache | None = None) -> SampleWindow:
    """Make a window of a sample.

    Args:
        source: Inputs of the sample.
        rules: Rules of the samples.
        window: Within its grid.
        tiles: Cache, shared by all windows of the sample; None if it has only one.

    Raises:
        ReadError: A file is missing, or cannot be read.
        RadiometryError: A metadata file is invalid.
    """
    if source.grid is None:
        raise ReadError(f"{source.id} has no grid")
    geobox, tiles = source.grid.geobox[window], tiles or TileCache(most=0)
    if source.step is not None:
        bands, owner = _pixels_of_step(source.step, rules, window), None
    else:
        bands, owner = _mosaic(source.parts, rules, geobox, tiles)
    valid = np.isfinite(bands)
    angles = None
    if rules.angles is not None:
        angles = _angles(source.parts, rules.angles, rules.chosen, geobox, owner)
    labels = None
    if rules.labels is not None:
        labels = labels_of(source, rules.labels, geobox, window, owner, tiles)
        if rules.labels.mask_invalid:
            labels[~np.logical_and.reduce(valid, axis=0)] = rules.labels.ignore_index
    return SampleWindow(bands, valid, angles, labels)


def _mosaic(
    parts: Sequence[GranuleFiles], rules: SampleRules, geobox: GeoBox, tiles: TileCache
) -> tuple[np.ndarray, np.ndarray]:
    """Mosaic granules in order: each pixel takes all bands from the first granule with the most valid ones.

    Returns:
        Bands, and the index of the granule of each pixel, ``(rows, columns)`` int8, -1 without one.
    """
    bands = np.full((len(rules.chosen), *geobox.shape), np.nan, "float32")
    best, owner = np.zeros(geobox.shape, "uint8"), np.full(geobox.shape, -1, "int8")
    for place, part in enumerate(parts):
        if (best == len(rules.chosen)).all():
            break
        found = np.stack([_band(part, band, rules, geobox, tiles) for band in rules.chosen])
        score = np.isfinite(found).sum(axis=0, dtype="uint8")
        better = score > best
        np.copyto(bands, found, where=better)
        best[better], owner[better] = score[better], place
    return bands, owner


def _band(part: GranuleFiles, band: Band, rules: SampleRules, geobox: GeoBox, tiles: TileCache) -> np.ndarray:
    """Read a band of a granule, NaN where the valid fraction of the pixel is below the threshold."""
    measure = rules.measure(band, *part.factors[band.name])

    def read(image: Image, asset: AssetRef) -> tuple[np.ndarray, np.ndarray]:
        return read_covered(tiles.of(image, asset.address), asset.index, measure, geobox)

    request = BandRequest(band.name, "float32", math.nan, "continuous")
    found = of_asset(part.granule, request, read)
    assert found is not None  # it is not optional
    values, coverage = found
    # Rounding can make the coverage of a fully covered pixel slightly less than 1.
    values[coverage < rules.threshold - 1e-4] = np.nan
    return values


def _pixels_of_step(step: CubeStep, rules: SampleRules, window: Window) -> np.ndarray:
    """Read the bands of a step of a cube, in physical units."""
    layers = {layer.name: layer for layer in step.layers}
    wanted = [layers[name] for name in rules.names]
    stored = step.step.read(wanted, window)
    out = np.empty((len(wanted), *next(iter(stored.values())).shape), "float32")
    for place, layer in enumerate(wanted):
        out[place] = layer.decoded(stored[layer.name])
    return out


def _angles(
    parts: Sequence[GranuleFiles], rules: AngleRules, bands: Sequence[Band], geobox: GeoBox, owner: np.ndarray | None
) -> np.ndarray:
    """Channels of angles, from the granule of each pixel; elsewhere from the first granule that has them."""
    out: np.ndarray | None = None
    for place, part in enumerate(parts):
        own = _angles_of(part.tile_metadata, rules, tuple(band.name for band in bands), geobox)
        if out is None:
            out = own
            continue
        known = np.isfinite(own).all(axis=0)
        takes = known & ~np.isfinite(out).all(axis=0)
        if owner is not None:
            takes |= known & (owner == place)
        np.copyto(out, own, where=takes)
    assert out is not None  # sources without granules never get here
    return out


def _angles_of(path: str, rules: AngleRules, bands: tuple[str, ...], geobox: GeoBox) -> np.ndarray:
    tile = _tile_angles(path, bands)
    transform, (rows, columns) = geobox.transform, geobox.shape
    x = transform.c + transform.a * (np.arange(columns)[np.newaxis] + 0.5)
    y = transform.f + transform.e * (np.arange(rows)[:, np.newaxis] + 0.5)
    # In a Zarr store the band of each row of angles is unknown: all rows are merged into one mean direction.
    seen = tile.view.values() if split_store(path) else (tile.view[band] for band in bands)
    found: Iterable[Direction] = (interpolated(nodes, x, y, str(geobox.crs)) for nodes in seen)
    if rules.view == "single":
        found = (merged(found),)
    sun = interpolated(tile.sun, x, y, str(geobox.crs))
    channels = [
        channel.astype("float32")
        for direction in chain((sun,), found)
        for channel in (direction.sines if rules.form == "sin_cos" else direction.degrees)
    ]
    stacked: np.ndarray = np.stack(channels)
    return stacked


@lru_cache(maxsize=16)
def _tile_angles(path: str, bands: tuple[str, ...]) -> TileAngles:
    if split_store(path):
        return store_angles(path)
    try:
        return parse_angles(Path(path).read_text(encoding="utf-8", errors="replace"), path, bands)
    except OSError as error:
        raise ReadError(f"{path} cannot be read: {error.strerror}") from error


def store_angles(store: str) -> TileAngles:
    """Read the angles of a Zarr store of EOPF.

    The sun angles are those of the product. The rows of view angles are in the order of the product's XML, but their
    band names are sorted (converters of CPM 2.5.6 to 3.1.0), so the band of a row is unknown.

    Args:
        store: Address of the store.

    Returns:
        The sun angles, and the view angles by row number; detectors merged.

    Raises:
        ReadError: The store has no such angles.
    """
    group = "conditions/geometry"
    try:
        sun, view = (
            small_array(store, f"{group}/sun_angles", 3),
            small_array(store, f"{group}/viewing_incidence_angles", 5),
        )
        x, y = (small_array(store, f"{group}/{axis}", 1).astype("float64") for axis in ("x", "y"))
        crs = crs_of_store(store)
    except OSError as error:
        raise ReadError(f"the angles of {store} cannot be read: {error}") from error
    if sun.shape[0] != 2 or view.shape[2] != 2 or sun.shape[1:] != view.shape[3:] or sun.shape[1:] != (len(y), len(x)):
        raise ReadError(f"the angles of {store} are of shape {sun.shape} and {view.shape}, which is not known")
    step, corner = float(x[1] - x[0]), (float(x[0]), float(y[0]))
    if not (np.allclose(np.diff(x), step) and np.allclose(np.diff(y), -step)):
        raise ReadError(f"the angles of {store} stand at positions that are not known")
    merging = (
        merged(Direction.of_degrees(*(part.astype("float64") for part in detector)) for detector in row).degrees
        for row in view
    )
    views = {str(number): AngleNodes(crs, corner, step, *angles) for number, angles in enumerate(merging)}
    return TileAngles(AngleNodes(crs, corner, step, *sun.astype("float64")), views)


# A sample on disk: a folder that is written atomically.

META = "meta.json"

OWN_FILES = frozenset(("x.tif", "y.tif", "angles.tif", META))
"""Names of the files of a sample."""

SCHEMA = "stac2cube-sample/1"

BLOCK = 1024
"""Edge of the windows made at a time, pixels: bounds memory, regardless of the size of the sample."""


@dataclass(frozen=True)
class MakeSample:
    """Task: make one sample in its folder.

    Attributes:
        rules: Rules of the samples.
        folder: Folder of the set, absolute.
    """

    rules: SampleRules
    folder: str

    def __call__(self, source: SampleSource) -> Sample:
        """Make the sample in a temporary folder, and rename that to its final name.

        Raises:
            ReadError: A file is missing, or cannot be read.
            RadiometryError: A metadata file is invalid.
            OSError: The disk is full.
        """
        if source.lacking or source.grid is None:
            raise ReadError("; ".join(source.lacking) or "it has no grid")
        folder = Path(self.folder)
        _require_ours(folder / source.id)
        staged = folder / f".{source.id}.{uuid4().hex[:8]}.partial"
        staged.mkdir()
        try:
            sample = self._write(source, source.grid, staged)
            _settle(staged, folder / source.id)
        except BaseException:
            remove_tree(staged)
            raise
        return sample

    def _write(self, source: SampleSource, grid: Grid, staged: Path) -> Sample:
        rules = self.rules
        tally, several = Tally(len(rules.chosen)), max(grid.shape) > BLOCK
        with ExitStack() as stack:
            files = {
                name: stack.enter_context(_create(staged / name, grid, channels, dtype, nodata))
                for name, channels, dtype, nodata in _layout(rules)
            }
            tiles = TileCache() if several else None
            for window in grid_windows(grid):
                pixels = make_pixels(source, rules, window, tiles)
                tally.add(pixels)
                at = Window.from_slices(*window)
                for name, content in _content(pixels, rules).items():
                    files[name].write(content, window=at)
        sample = Sample(
            id=source.id,
            status="done",
            reason="",
            x_path=f"{source.id}/x.tif",
            y_path=f"{source.id}/y.tif" if rules.labels is not None else None,
            angles_path=f"{source.id}/angles.tif" if rules.angles is not None else None,
            meta_path=f"{source.id}/{META}",
            time=iso_text(source.time),
            tile=source.tile,
            platform=source.platform,
            orbit=source.orbit,
            grid=SampleGrid(grid.crs, grid.transform, grid.shape),
            bounds=_bounds(grid),
            valid_fraction=tally.everywhere / tally.pixels,
            cloud_cover=source.cloud_cover,
            counts=dict(sorted(tally.counts.items())),
        )
        meta = {
            "schema": SCHEMA,
            "made_of": made_of(source, rules),
            "rules": rules.to_json(),
            "factors": {part.granule.id: part.factors for part in source.parts if part.factors},
            "valid_fraction": dict(zip(rules.names, (tally.valid / tally.pixels).tolist(), strict=True)),
            "software": {"stac2cube": __version__, "gdal": rasterio.__gdal_version__},
            "sample": sample_to_json(sample),
        }
        write_whole(staged / META, (json.dumps(meta, indent=1) + "\n").encode())
        return sample


class Tally:
    """Pixel counts of a sample, added up window by window.

    Args:
        bands: Number of bands.
    """

    def __init__(self, bands: int) -> None:
        self.pixels = self.everywhere = 0
        self.valid = np.zeros(bands, dtype="int64")
        self.counts: Counter[int] = Counter()

    def add(self, pixels: SampleWindow) -> None:
        """Add a window."""
        self.pixels += pixels.everywhere.size
        self.everywhere += int(pixels.everywhere.sum())
        self.valid += pixels.valid.sum(axis=(1, 2))
        if pixels.labels is not None:
            numbers, counts = np.unique(pixels.labels, return_counts=True)
            self.counts.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))


def grid_windows(grid: Grid) -> Iterator[tuple[slice, slice]]:
    """Windows of a grid, at most :data:`BLOCK` pixels wide and high."""
    for top in range(0, grid.shape[0], BLOCK):
        for left in range(0, grid.shape[1], BLOCK):
            yield slice(top, min(top + BLOCK, grid.shape[0])), slice(left, min(left + BLOCK, grid.shape[1]))


def made_of(source: SampleSource, rules: SampleRules) -> dict[str, Any]:
    """Everything that determines the bytes of a sample: rules, grid, and source items."""
    return {
        "rules": rules.digest,
        "grid": None if source.grid is None else source.grid.to_json(),
        "items": list(source.items),
    }


def present(folder: Path, source: SampleSource, rules: SampleRules) -> Sample | None:
    """The existing sample of a source, None if there is none, or if it was made from older products.

    Raises:
        BadInputError: A sample of that name was made by other rules.
    """
    try:
        meta = parse_json((folder / source.id / META).read_text(encoding="utf-8"))
        made, sample = meta["made_of"], meta["sample"]
    except (OSError, ValueError, KeyError):
        return None
    wanted = made_of(source, rules)
    if made["rules"] != wanted["rules"] or (source.grid is not None and made["grid"] != wanted["grid"]):
        raise BadInputError(
            f"{folder / source.id} was made by other rules or on another grid: ask for the same, give another folder, "
            "or say --overwrite"
        )
    if not source.lacking and made["items"] != wanted["items"]:
        return None
    return sample_from_json(sample, str(folder / source.id / META))


def iso_text(time: datetime) -> str:
    """``"2023-05-12T10:26:01.024000Z"``."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _bounds(grid: Grid) -> tuple[float, float, float, float]:
    west, south, east, north = grid.geobox.geographic_extent.boundingbox
    return west, south, east, north


def _layout(rules: SampleRules) -> Iterator[tuple[str, Sequence[str], str, float]]:
    """Files of a sample: name, channels, dtype and nodata."""
    yield "x.tif", (*rules.names, *rules.described_validity.channels), "float32", rules.nodata
    if rules.angles is not None:
        yield "angles.tif", rules.angles.described(rules.names).channels, "float32", math.nan
    if rules.labels is not None:
        yield "y.tif", ("class",), "uint8", rules.labels.ignore_index


def _content(pixels: SampleWindow, rules: SampleRules) -> dict[str, np.ndarray]:
    bands = pixels.bands
    if not math.isnan(rules.nodata):
        bands = np.where(pixels.valid, bands, np.float32(rules.nodata))
    content = {"x.tif": np.concatenate([bands, pixels.validity(rules).astype("float32")])}
    if pixels.angles is not None:
        content["angles.tif"] = pixels.angles
    if pixels.labels is not None:
        content["y.tif"] = pixels.labels[np.newaxis]
    return content


def _create(path: Path, grid: Grid, channels: Sequence[str], dtype: str, nodata: float) -> rasterio.io.DatasetWriter:
    rows, columns = grid.shape
    tiled = {"tiled": True, "blockxsize": 256, "blockysize": 256} if min(rows, columns) >= 256 else {}
    file = rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=rows,
        width=columns,
        count=len(channels),
        dtype=dtype,
        crs=grid.crs,
        transform=grid.geobox.transform,
        nodata=nodata,
        compress="deflate",
        zlevel=1,
        interleave="band",
        bigtiff="if_safer",
        **tiled,
    )
    for index, name in enumerate(channels, 1):
        file.set_band_description(index, name)
    return file


def _require_ours(place: Path) -> None:
    """Check that an existing path is a sample, which may be replaced: only files of samples, and no link.

    Raises:
        ReadError: The path is not a sample.
    """
    if place.is_symlink() or (
        place.exists() and (not place.is_dir() or {path.name for path in place.iterdir()} - OWN_FILES)
    ):
        raise ReadError(f"{place} is there, and is no sample: name another folder, or remove it")


def _settle(staged: Path, place: Path) -> None:
    """Make the files durable and give the folder its final name, atomically; an existing one is removed."""
    sync_tree(staged)
    passing("sample.made")
    if place.exists():
        if not exchange(staged, place):
            old = staged.with_name(f"{staged.name}.old")  # the next run removes it if this one is killed
            place.rename(old)
            try:
                passing("sample.away")
                staged.rename(place)
            except BaseException:
                old.rename(place)  # restore the existing folder if the rename failed
                raise
            staged = old
        passing("sample.named")
        remove_tree(staged)
    else:
        staged.rename(place)
        passing("sample.named")
    sync_folder(place.parent)
