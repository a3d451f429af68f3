"""A scene before and after super-resolution: ``python -m tests.superres_picture docs/images`` draws it.

The scene is simulated; the result is that of the shipped weights.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import stac2cube
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.cloud_picture import panels

EDGE = 40
"""Edge of the ground that is shown, pixels of 10 m."""

TARGET = 2.5
"""Pixels of the result, metres."""


def draw(folder: Path, out: Path) -> None:
    """The clearest step of a small cube in colour infrared and in a band of 20 m, each before and after.

    Args:
        folder: For the cubes.
        out: The picture, a PNG.
    """
    archive = simulate(folder / "archive", ArchiveSpec(years=(2022,), dates_per_year=2, tile_px=120))
    cube = folder / "layers.zarr"
    catalog = str(archive.catalog("earth-search"))
    stac2cube.get_stac_layers(cube, mission="sentinel-2-l2a", aoi=archive.area(), time="2022", catalog=catalog)
    rules = stac2cube.SuperresRules(target=TARGET)
    stac2cube.super_resolution(cube, folder / "fine.zarr", rules=rules)
    before, after = stac2cube.open_cube(cube), stac2cube.open_cube(folder / "fine.zarr")
    step = int((before.SCL == 4).sum(["y", "x"]).argmax("time"))
    before, after = before.isel(time=[step]), after.sel(time=before.time.values[[step]])
    middle = [before.sizes[side] // 2 - EDGE // 2 for side in ("y", "x")]
    before = before.isel(y=slice(middle[0], middle[0] + EDGE), x=slice(middle[1], middle[1] + EDGE))
    half = float(before.x[1] - before.x[0]) / 2
    west, east = float(before.x[0]) - half, float(before.x[-1]) + half
    south, north = float(before.y[-1]) - half, float(before.y[0]) + half
    after = after.sel(x=slice(west, east), y=slice(north, south))
    pictures = {}
    for title, data in (("before: 10 m", before), ("after: 2.5 m", after)):
        pictures[f"colour infrared, {title}"] = stac2cube.rgb(data, "cir", stretch=(0, 0.7)).isel(time=0).values
    band = "B11"
    low, high = (float(value) for value in before[band].quantile([0.02, 0.98]))
    for title, data in (("before: 20 m", before), ("after: 2.5 m", after)):
        grey = ((data[band].isel(time=0) - low) / (high - low)).clip(0, 1).values
        pictures[f"{band}, {title}"] = (grey[..., None] * [255, 255, 255]).astype("uint8")
    panels(pictures, out)


def main() -> None:
    """Draw it."""
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name), Path(sys.argv[1]) / "superres-before-after.png")


if __name__ == "__main__":
    main()
