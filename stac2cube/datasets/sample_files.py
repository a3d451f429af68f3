"""A sample on disk: a folder with ``x.tif``, ``y.tif``, ``angles.tif`` and ``meta.json`` that is there whole or not."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import rasterio
from rasterio.windows import Window

from stac2cube.datasets.index import Sample, SampleGrid, sample_from_json, sample_to_json
from stac2cube.datasets.rules import SampleRules, SampleSource
from stac2cube.datasets.sample_pixels import SampleWindow, make_pixels
from stac2cube.errors import BadInputError, ReadError
from stac2cube.model.grid import Grid
from stac2cube.pixels.gdal import TileCache
from stac2cube.store.files import exchange, passing, remove_tree, sync_folder, sync_tree, write_whole
from stac2cube.version import __version__

META = "meta.json"

OWN_FILES = frozenset(("x.tif", "y.tif", "angles.tif", META))
"""Names of the files of a sample."""

SCHEMA = "stac2cube-sample/1"

BLOCK = 1024
"""Pixels along each edge of what is made at a time: bounds memory, whatever the size of the sample."""


@dataclass(frozen=True)
class MakeSample:
    """The task: one sample into its folder.

    Attributes:
        rules: How.
        folder: Of the set, absolute.
    """

    rules: SampleRules
    folder: str

    def __call__(self, source: SampleSource) -> Sample:
        """Make it, and put it in place by one rename.

        Raises:
            ReadError: A file is missing, or cannot be read.
            RadiometryError: A metadata file is none.
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
    """What is counted of a sample, window by window.

    Args:
        bands: How many there are.
    """

    def __init__(self, bands: int) -> None:
        self.pixels = self.everywhere = 0
        self.valid = np.zeros(bands, dtype="int64")
        self.counts: Counter[int] = Counter()

    def add(self, pixels: SampleWindow) -> None:
        """Count a window."""
        self.pixels += pixels.everywhere.size
        self.everywhere += int(pixels.everywhere.sum())
        self.valid += pixels.valid.sum(axis=(1, 2))
        if pixels.labels is not None:
            numbers, counts = np.unique(pixels.labels, return_counts=True)
            self.counts.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))


def grid_windows(grid: Grid) -> Iterator[tuple[slice, slice]]:
    """The windows of a grid that are made one after the other."""
    for top in range(0, grid.shape[0], BLOCK):
        for left in range(0, grid.shape[1], BLOCK):
            yield slice(top, min(top + BLOCK, grid.shape[0])), slice(left, min(left + BLOCK, grid.shape[1]))


def made_of(source: SampleSource, rules: SampleRules) -> dict[str, Any]:
    """What decides the bytes of a sample: the rules, the grid, and the versions of its source."""
    return {
        "rules": rules.digest,
        "grid": None if source.grid is None else source.grid.to_json(),
        "items": list(source.items),
    }


def present(folder: Path, source: SampleSource, rules: SampleRules) -> Sample | None:
    """The sample of a source that is there already, None if it is not, or was made of older products.

    Raises:
        BadInputError: There is one of that name that was made by other rules.
    """
    try:
        meta = json.loads((folder / source.id / META).read_text())
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
    """See that what a sample would replace is one: nothing but files that samples have, and no link.

    Raises:
        ReadError: It is something of somebody else's.
    """
    if place.is_symlink() or (
        place.exists() and (not place.is_dir() or {path.name for path in place.iterdir()} - OWN_FILES)
    ):
        raise ReadError(f"{place} is there, and is no sample: name another folder, or remove it")


def _settle(staged: Path, place: Path) -> None:
    """Make the files durable and put the folder where it belongs, whole; one that was there goes."""
    sync_tree(staged)
    passing("sample.made")
    if place.exists():
        if not exchange(staged, place):
            old = staged.with_name(f"{staged.name}.old")  # which the next run removes, should this one be killed
            place.rename(old)
            try:
                passing("sample.away")
                staged.rename(place)
            except BaseException:
                old.rename(place)  # the new one cannot be had: the one that was there stays
                raise
            staged = old
        passing("sample.named")
        remove_tree(staged)
    else:
        staged.rename(place)
        passing("sample.named")
    sync_folder(place.parent)
