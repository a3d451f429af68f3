"""The one scenario that every place must bring to the same end: a cube built, extended, and composed by months."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import stac2cube
from stac2cube.executors.base import Place
from stac2cube.store.reader import differences
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate

SPEC = ArchiveSpec(years=(2022, 2023), dates_per_year=3, tile_px=96)


def archive_at(folder: Path) -> Archive:
    return simulate(folder, SPEC)


def make(folder: Path, archive: Archive, place: Place) -> None:
    """Layers of one year, extended by the year before, and their composites."""
    words = {"mission": "sentinel-2-l2a", "aoi": archive.area(), "bands": ["B04", "B08", "SCL"]}
    layers = folder / "layers.zarr"
    stac2cube.get_stac_layers(layers, time="2023", catalog=str(archive.catalog("earth-search")), place=place, **words)
    stac2cube.get_stac_layers(layers, time="2022", update=True, place=place)
    stac2cube.store_composites(layers, folder / "monthly.zarr", place=place)


def assert_same(folder: Path, other: Path) -> None:
    for cube in ("layers.zarr", "monthly.zarr"):
        assert differences(folder / cube, other / cube) == []
    assert stac2cube.open_cube(folder / "layers.zarr").sizes["time"] == 6


def staged(cube: Path) -> Iterator[Path]:
    """Files being staged; unlike ``rglob``, ``os.walk`` passes over folders that go while it looks."""
    for folder, _, names in os.walk(cube / ".stac2cube" / "staging"):
        yield from (Path(folder, name) for name in names)
