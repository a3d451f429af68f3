"""A Sentinel-2 series that lies beside itself by known shifts: L2A of 6 x 6 km with its scene classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

import stac2cube
from stac2cube.testing.archive import write_simulated_cog
from stac2cube.testing.scenes import Sky, clouds, view_surface
from tests.items import Json, catalog, item
from tests.stages.skies import averaged

EDGE = 600
EPSG = 32632
ORIGIN = (720_000, 5_266_500)
LATTICE = GeoBox((EDGE, EDGE), Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]), f"EPSG:{EPSG}")


@dataclass(frozen=True)
class Take:
    """One overpass of a series.

    Attributes:
        day: Date.
        x: Metres by which its pixels lie too far east.
        y: The same, north.
        cover: Fraction of the sky under cloud.
        swath: Part of the columns, from the left, that it sees.
        flat: Whether the ground is all alike.
        bend: Metres by which the corners lie farther east or west than the middle.
    """

    day: str
    x: float = 0.0
    y: float = 0.0
    cover: float = 0.0
    swath: float = 1.0
    flat: bool = False
    bend: float = 0.0


def truth(take: Take, band: str = "B04") -> np.ndarray:
    """The ground of that day where it really is, without clouds, on the 10 m lattice."""
    return sight(Take(take.day))[0][band]


@cache
def sight(take: Take) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the sensor sees of the ground in each band, means of 10 m pixels, and the opacity of clouds."""
    time = datetime.fromisoformat(take.day)
    half = 5 * (np.arange(2 * EDGE) + 0.5)
    x, y = np.meshgrid(ORIGIN[0] + half, ORIGIN[1] - half)
    day = time.timetuple().tm_yday
    # What lies at x is shown at x + shift.
    u, v = (x - ORIGIN[0]) / (5 * EDGE) - 1, (ORIGIN[1] - y) / (5 * EDGE) - 1
    east = take.x + take.bend * u * v
    seen = view_surface(x - east, y - take.y, day, Sky(1, 0.0, 160.0, 45.0), seed=7).clear
    clear = {band: averaged(np.full_like(full, 0.1) if take.flat else full, 2) for band, full in seen.items()}
    weather = Sky(day, take.cover, 160.0, 89.0, 0.0)
    return clear, averaged(clouds(x / 3, y / 3, weather), 2) if take.cover else np.zeros((EDGE, EDGE))


def write(folder: Path, take: Take, bands: Sequence[str] = ("B04",)) -> Json:
    """Its files and its item."""
    time = datetime.fromisoformat(take.day).replace(hour=10, minute=20, tzinfo=UTC)
    name = f"{time:%Y%m%d}"
    rng = np.random.default_rng(int(name))
    seen = np.arange(EDGE) < take.swath * EDGE
    assets = {}
    ground, cloud = sight(take)
    for band in bands:
        clear = ground[band]
        values = clear * (1 - cloud) + (0.6 + 0.1 * clear) * cloud + rng.normal(0, 0.001, clear.shape)
        gsd = 20 if band.startswith("B8A") else 10
        counts = np.where(seen, np.round(values * 1e4).clip(1), 0)
        assets[band] = folder / f"{name}-{band}.tif"
        pixels = averaged(counts, gsd // 10).astype("uint16")
        write_simulated_cog(assets[band], pixels, EPSG, Affine(gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1]))
    classes = np.where(seen, np.where(cloud > 0.05, 9, 4), 0)[::2, ::2].astype("uint8")
    assets["SCL"] = folder / f"{name}-SCL.tif"
    write_simulated_cog(assets["SCL"], classes, EPSG, Affine(20, 0, ORIGIN[0], 0, -20, ORIGIN[1]))
    return item(
        name,
        "sentinel-2-l2a",
        assets,
        **{
            "datetime": f"{time:%Y-%m-%dT%H:%M:%SZ}",
            "platform": "sentinel-2a",
            "sat:relative_orbit": 65,
            "s2:processing_baseline": "03.01",
            "eo:cloud_cover": 100 * take.cover,
        },
    )


def series(folder: Path, takes: Sequence[Take], bands: Sequence[str] = ("B04",)) -> Path:
    """A layers cube of some overpasses; the same folder again adds to it."""
    folder.mkdir(exist_ok=True)
    items = catalog(folder / "items.json", [write(folder, take, bands) for take in takes])
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022/2024", "bands": [*bands, "SCL"]}
    stac2cube.get_stac_layers(folder / "layers.zarr", catalog=items, **words)
    return folder / "layers.zarr"
