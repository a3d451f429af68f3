"""A Sentinel-2 series with known clouds and shadows: L1C and L2A of 6 x 6 km, as three catalogs describe them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.geometry import box, mapping

import stac2cube
from stac2cube.testing.archive import write_simulated_cog
from stac2cube.testing.scenes import Sky, clouds, view_surface
from tests.items import Json, catalog, item

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
GSD = (
    dict.fromkeys(BANDS, 20)
    | dict.fromkeys(("B02", "B03", "B04", "B08"), 10)
    | dict.fromkeys(("B01", "B09", "B10"), 60)
)
NAMES = dict(
    zip(
        BANDS,
        (
            "coastal",
            "blue",
            "green",
            "red",
            "rededge1",
            "rededge2",
            "rededge3",
            "nir",
            "nir08",
            "nir09",
            "cirrus",
            "swir16",
            "swir22",
        ),
        strict=True,
    )
)

AIR = dict(
    zip(BANDS, (0.10, 0.075, 0.045, 0.025, 0.02, 0.015, 0.012, 0.008, 0.007, 0.003, 0.0012, 0.001, 0.001), strict=True)
)
"""What clear air alone scatters into each band, of the order of clear water's reflectance in a recorded scene."""

BRIGHT = ((0.594, 0.583, 0.554, 0.591, 0.61, 0.645, 0.661, 0.647, 0.674, 0.388, 0.017, 0.456, 0.326),)
"""Median spectrum of the clouds of a recorded scene (19UDP, 29 July 2017): the default where no others are given."""

FORMS = (("sentinel-2-l1c", False), ("sentinel-2-c1-l1c", True), ("sentinel-2-l1c", True))
"""Collection, and whether assets are named by band: Earth Search, terrabyte's newer one, Copernicus Data Space."""

EDGE = 600
EPSG = 32632
ORIGIN = (720_000, 5_266_500)


@dataclass(frozen=True)
class Scene:
    """One overpass with its truth on the 10 m lattice: opacity of cloud and depth of shadow, 0 to 1."""

    l1c: Json
    l2a: Json
    cloud: np.ndarray
    shadow: np.ndarray


def transform(gsd: int) -> Affine:
    return Affine(gsd, 0, ORIGIN[0], 0, -gsd, ORIGIN[1])


def overpass(
    folder: Path,
    number: int,
    baseline: str,
    *,
    cover: float = 0.35,
    spectra: np.ndarray | None = None,
    height: float = 1500.0,
    **about: Any,
) -> Scene:
    """Take a picture, write its files and describe it.

    Args:
        folder: Where the files go.
        number: Decides date, clouds and the catalog whose form it has.
        baseline: Processing baseline; from 04.00 on the counts carry an offset.
        cover: Fraction of the sky under cloud.
        spectra: ``(n, 13)`` top-of-atmosphere reflectance of clouds; between dim and bright parts of a cloud they
            follow each other in the order of their blue.
        height: Of the clouds, metres.
        **about: Further properties of the L1C item.
    """
    time = datetime(2022, 1, 20, 10, 20, 31, tzinfo=UTC) + timedelta(days=61 * number)
    summer = 0.5 - 0.5 * np.cos(2 * np.pi * (time.timetuple().tm_yday - 20) / 365)
    sky = Sky(1000 + number, cover, 160.0, 25.0 + 35 * summer, height)
    steps = 10 * (np.arange(EDGE) + 0.5)
    x, y = np.meshgrid(ORIGIN[0] + steps, ORIGIN[1] - steps)
    # Clouds of several kilometres: the world is looked at from three times as far for them.
    truth = view_surface(x, y, time.timetuple().tm_yday, Sky(1, 0.0, 160.0, 45.0), seed=7)
    shift = height / np.tan(np.radians(sky.sun_elevation)) / 3
    azimuth = np.radians(sky.sun_azimuth)
    weather = Sky(sky.seed, cover, 160.0, 89.0, 0.0)
    far = (x / 3, y / 3)
    cloud = clouds(*far, weather)
    shadow = clouds(far[0] + shift * np.sin(azimuth), far[1] + shift * np.cos(azimuth), weather) * (1 - cloud)
    known = np.array(BRIGHT if spectra is None else spectra)
    known = known[np.argsort(known[:, 1])]
    relief = (clouds(*far, Sky(sky.seed + 500, 0.5, 160.0, 89.0)) * (len(known) - 1)).round().astype(int)
    l1c, l2a = {}, {}
    offset = 1000 if float(baseline) >= 4 else 0
    for place, band in enumerate(BANDS):
        ground = {"B10": 0.0 * cloud, "B09": 0.3 * truth.clear["B8A"]}.get(band, truth.clear.get(band))
        lit = ground * (1 - 0.7 * shadow)
        top = AIR[band] + 0.9 * lit
        seen = averaged(top * (1 - cloud) + known[relief, place] * cloud, GSD[band] // 10)
        path = folder / f"{number}-{band}.tif"
        write_simulated_cog(path, (np.round(seen * 1e4) + offset).astype("uint16"), EPSG, transform(GSD[band]))
        l1c[band] = path
        if band in ("B04", "B08"):
            path = folder / f"{number}-{band}-l2a.tif"
            write_simulated_cog(
                path, (np.round((lit * (1 - cloud) + 0.6 * cloud) * 1e4) + offset).astype("uint16"), EPSG, transform(10)
            )
            l2a[band] = path
    classes = np.where(truth.water, 6, 4)
    classes = np.select([cloud > 0.5, shadow > 0.5], [9, 3], classes)[::2, ::2].astype("uint8")
    l2a["SCL"] = folder / f"{number}-SCL.tif"
    write_simulated_cog(l2a["SCL"], classes, EPSG, transform(20))
    given = {
        "datetime": f"{time:%Y-%m-%dT%H:%M:%SZ}",
        "platform": "sentinel-2a",
        "sat:relative_orbit": 65,
        "s2:processing_baseline": baseline,
        "view:sun_azimuth": sky.sun_azimuth,
        "view:sun_elevation": sky.sun_elevation,
    }
    collection, by_band = FORMS[number % len(FORMS)]
    assets = l1c if by_band else {NAMES[band]: path for band, path in l1c.items()}
    return Scene(
        item(f"l1c-{number}", collection, assets, **given, **about),
        item(f"l2a-{number}", "sentinel-2-l2a", l2a, **given),
        cloud,
        shadow,
    )


def averaged(values: np.ndarray, factor: int) -> np.ndarray:
    rows, columns = values.shape
    mean: np.ndarray = values.reshape(rows // factor, factor, columns // factor, factor).mean(axis=(1, 3))
    return mean


BASELINES = ("02.08", "03.01", "04.00", "05.09")
LATTICE = GeoBox((EDGE, EDGE), transform(10), f"EPSG:{EPSG}")


@dataclass(frozen=True)
class Series:
    """A series made."""

    folder: Path
    scenes: list[Scene]
    layers: Path
    l1c: str


def series(folder: Path, count: int, spectra: np.ndarray | None = None) -> Series:
    """So many overpasses, a layers cube of them, and a catalog of their L1C."""
    covers = (0.1, 0.3, 0.5, 0.25)
    scenes = [overpass(folder, n, BASELINES[n % 4], cover=covers[n % 4], spectra=spectra) for n in range(count)]
    l2a = catalog(folder / "l2a.json", [scene.l2a for scene in scenes])
    words = {"mission": "sentinel-2-l2a", "aoi": LATTICE, "time": "2022/2024", "bands": ["B04", "B08", "SCL"]}
    stac2cube.get_stac_layers(folder / "layers.zarr", catalog=l2a, **words)
    l1c = catalog(folder / "l1c.json", [scene.l1c for scene in scenes])
    return Series(folder, scenes, folder / "layers.zarr", l1c)


def stored(path: Path):
    """A cube in its stored numbers."""
    return stac2cube.open_cube(path, decode=False)


def area() -> str:
    """Most of the scenes as GeoJSON."""
    west, north = Transformer.from_crs(EPSG, 4326, always_xy=True).transform(ORIGIN[0] + 500, ORIGIN[1] - 500)
    east, south = Transformer.from_crs(EPSG, 4326, always_xy=True).transform(ORIGIN[0] + 5000, ORIGIN[1] - 5000)
    return json.dumps(mapping(box(west, south, east, north)))
