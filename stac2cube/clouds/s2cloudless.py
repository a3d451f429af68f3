"""Find clouds with s2cloudless, on the L1C of the same overpass, read at 60 m."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import shape

from stac2cube.algorithms.radiometry import SunAngles, parse_sun, sun_at
from stac2cube.build.derived import Parent, origin
from stac2cube.build.plan import Block, Measured, Step
from stac2cube.clouds.model import (
    BANDS,
    NODATA,
    as_percent,
    cloud_mask,
    cloud_probability,
    dark_land,
    implausible,
    model_file,
    shadow_mask,
    shadow_reach_m,
)
from stac2cube.clouds.rules import CLOUD, DARK, SHADOW, CloudRules, cloud_counts
from stac2cube.errors import BadInputError, NothingFoundError, RadiometryError, ReadError
from stac2cube.model.image import BandRequest
from stac2cube.model.scene import Granule, Scene
from stac2cube.pixels.open import local_file
from stac2cube.pixels.read import read_block
from stac2cube.pixels.warp import SourceWindow, warp
from stac2cube.search.choose_catalog import catalog_choices
from stac2cube.search.cubes import band_requests, find_scenes, query_of
from stac2cube.store.ledger import Entry

# A coarser grid around a block; its cells do not depend on the block.


@dataclass(frozen=True)
class CoarseWindow:
    """The part of a coarse grid that a block needs; the grid begins at the cube's own corner.

    Attributes:
        geobox: The part, with a halo.
        rows: For each row of the block, the row of the part that contains its pixels' centres.
        columns: The same for columns.
        middles: Rows and columns of the cube's grid in the middle of each cell of the part; some may be outside the
            grid.
    """

    geobox: GeoBox
    rows: np.ndarray
    columns: np.ndarray
    middles: tuple[np.ndarray, np.ndarray]

    @classmethod
    def around(cls, block: Block, resolution: float, halo_m: float) -> CoarseWindow:
        """The part around a block.

        Args:
            block: The block.
            resolution: Pixel edge of the coarse grid, in units of the grid.
            halo_m: Least distance that it extends beyond the block.
        """
        grid = block.grid
        window, halo = grid.window(block.tile), math.ceil(halo_m / resolution)
        first, last, places, middles = [], [], [], []
        for part in window:
            centres = (np.arange(part.start, part.stop) + 0.5) * grid.resolution / resolution
            cells = np.floor(centres + 1e-9).astype(int)
            first.append(int(cells[0]) - halo)
            last.append(int(cells[-1]) + halo + 1)
            places.append(cells - first[-1])
            middle = (np.arange(first[-1], last[-1]) + 0.5) * resolution / grid.resolution
            middles.append(np.floor(middle).astype(int))
        x, y = grid.origin
        transform = Affine(resolution, 0, x + first[1] * resolution, 0, -resolution, y - first[0] * resolution)
        geobox = GeoBox((last[0] - first[0], last[1] - first[1]), transform, grid.crs)
        return cls(geobox, places[0], places[1], (middles[0], middles[1]))

    def nearest(self, coarse: np.ndarray) -> np.ndarray:
        """Values of the part on the block's own pixels: ``(rows, columns)``."""
        values: np.ndarray = coarse[np.ix_(self.rows, self.columns)]
        return values


# Clouds by s2cloudless, on the L1C of the same overpass, read at 60 m.

log = logging.getLogger(__name__)

L1C = "sentinel-2-l1c"


@dataclass(frozen=True)
class L1CScene:
    """Input of a worker for one step.

    Attributes:
        granules: Granules of the L1C scene.
        sun: Angles of the sun.
        problem: Why it cannot be processed, "" if it can.
    """

    granules: tuple[Granule, ...]
    sun: SunAngles
    problem: str = ""


@dataclass(frozen=True)
class FindClouds:
    """The task that computes the layers of one block from the L1C of a step."""

    bands: tuple[BandRequest, ...]
    rules: CloudRules

    def __call__(self, sight: L1CScene, block: Block) -> dict[str, np.ndarray]:
        """Layers of one block.

        Raises:
            ReadError: There is no L1C scene, it cannot be read, or the result is implausible.
        """
        if sight.problem:
            raise ReadError(sight.problem)
        rules, sun = self.rules, sun_over(sight.sun, block)
        window = CoarseWindow.around(block, rules.resolution, halo_m(rules, sun))
        pixels = read_block(sight.granules, self.bands, window.geobox)
        toa = np.stack([_reflectance(pixels[band]) for band in BANDS], axis=-1)
        probability = cloud_probability(toa, rules.engine)
        if may_carry_offset(sight.granules) and (problem := implausible(probability, toa)):
            raise ReadError(f"{sight.granules[0].id}: {problem}")
        fine = as_percent(_resampled(probability, window, block))
        dark = dark_land(toa[..., BANDS.index("B08")], toa[..., BANDS.index("B11")])
        return cloud_layers(fine, as_percent(probability), dark, sun, window, rules)


def may_carry_offset(granules: Sequence[Granule]) -> bool:
    """Whether some granule's baseline is one of those with an offset (from 04.00 on), or is unknown."""
    return any(not granule.baseline or float(granule.baseline) >= 4.0 for granule in granules)


def cloud_layers(
    fine: np.ndarray,
    percent: np.ndarray,
    dark: np.ndarray,
    sun: tuple[float, float],
    window: CoarseWindow,
    rules: CloudRules,
) -> Measured:
    """The layers of one block from probabilities.

    Args:
        fine: Probabilities of the block's own pixels, uint8 percent.
        percent: Probabilities of the window's cells, uint8 percent.
        dark: Mask of the window's cells, see :func:`stac2cube.clouds.model.dark_land`.
        sun: Azimuth from grid north and elevation, degrees.
        window: The coarse grid around the block.
        rules: The rules.
    """
    layers = {"cloud_probability": fine}
    nothing = fine == NODATA
    flags = np.where(window.nearest(dark), np.uint8(DARK), np.uint8(0))
    masks = {
        name: cloud_mask(percent, threshold, rules.average_m, rules.dilate_m, rules.resolution)
        for name, threshold in rules.mask_names().items()
    }
    for name, mask in masks.items():
        layers[name] = np.where(nothing, np.uint8(NODATA), window.nearest(mask))
    flags[layers["cloud_mask"] == 1] |= CLOUD
    if rules.shadows:
        shadow = window.nearest(shadow_mask(masks["cloud_mask"], dark, sun, rules.resolution))
        layers["shadow_mask"] = np.where(nothing, np.uint8(NODATA), shadow)
        flags[layers["shadow_mask"] == 1] |= SHADOW
    layers["flags"] = np.where(nothing, np.uint8(NODATA), flags)
    return Measured(layers, cloud_counts(layers))


def halo_m(rules: CloudRules, sun: tuple[float, float]) -> float:
    """Distance in metres around a block that can affect its pixels."""
    reach = shadow_reach_m(sun[1]) if rules.shadows else 0.0
    return rules.average_m + rules.dilate_m + reach + 2 * rules.resolution


def sun_over(sun: SunAngles, block: Block) -> tuple[float, float]:
    """Azimuth from the north of the cube's grid, and elevation of the sun, over the centre of a block."""
    box = block.geobox.boundingbox
    return sun.at((box.left + box.right) / 2, (box.bottom + box.top) / 2, block.grid.crs)


def find_l1c_scenes(
    parent: Parent, rules: CloudRules, catalog: str, *, on_cluster: bool
) -> tuple[list[Step], FindClouds]:
    """Search for the L1C of every step.

    Args:
        parent: A cube of Sentinel-2.
        rules: The rules.
        catalog: The catalog to search.
        on_cluster: Whether blocks are made on the nodes of a cluster.

    Raises:
        BadInputError: The cube is not of Sentinel-2 or too coarse, or s2cloudless is not installed.
        CatalogError: The catalog cannot be read.
    """
    model_file()  # before anything is read
    _, query = query_of(origin(parent.path))
    if query.mission not in ("sentinel-2-l2a", L1C):
        raise BadInputError(
            f"{parent.path} is a cube of {query.mission}: s2cloudless finds clouds in Sentinel-2 only"
            + (", say method 'qa_pixel'" if query.mission.startswith("landsat") else "")
        )
    if parent.spec.grid.resolution > rules.resolution:
        raise BadInputError(f"the pixels of {parent.path} are larger than {rules.resolution:g} m: use their resolution")
    query = replace(query.unfiltered(), mission=L1C, bands=BANDS, catalog=catalog, strict=False)
    try:
        found = find_scenes(query, catalog_choices(query, on_cluster=on_cluster))
        scenes = {str(scene.key): scene for scene in found.scenes}
        where, why = found.choice.catalog.name, found.choice.why
    except NothingFoundError as error:
        scenes, where, why = {}, catalog, str(error)
    mine = {key: scene for key, scene in scenes.items() if key in parent.rows}
    lit = {key: scene for key, scene in mine.items() if scene.granules}  # the others have a recorded problem
    with ThreadPoolExecutor(8) as pool:
        suns = dict(zip(lit, pool.map(_sun, lit.values()), strict=True))
    how = {} if rules.decode == "exact" else {"decode": rules.decode}
    steps = []
    for key, row in parent.rows.items():
        sight = _sight(row, mine.get(key), suns, where)
        entry = _entry(parent, row, mine.get(key), sight, catalog=where, catalog_choice=why, **how)
        steps.append(Step(entry, sight, parent.tiles(row)))
    bands = tuple(
        replace(band, exact=True, reduced=rules.decode == "reduced") for band in band_requests(query, "average")
    )
    return steps, FindClouds(bands, rules)


def _entry(parent: Parent, row: Entry, scene: Scene | None, sight: L1CScene, **properties: str) -> Entry:
    if scene is None:
        return replace(parent.entry(row, **properties), items=())
    box = parent.spec.grid.geobox.boundingbox
    sun = sight.sun.at((box.left + box.right) / 2, (box.bottom + box.top) / 2, parent.spec.grid.crs)
    names = ("sun_azimuth", "sun_elevation")
    angles = {name: round(value, 4) for name, value in zip(names, sun, strict=True)}
    return replace(
        parent.entry(row, **properties, **angles),
        items=scene.item_ids,
        sources=tuple(granule.item for granule in scene.granules),
    )


_NO_SUN = SunAngles.everywhere(0.0, 90.0, "EPSG:4326")


def _sight(row: Entry, scene: Scene | None, suns: Mapping[str, SunAngles], where: str) -> L1CScene:
    if scene is None:
        return L1CScene((), _NO_SUN, f"{where} has no Sentinel-2 L1C of {row.key}")
    if scene.problem or row.key not in suns:
        return L1CScene((), _NO_SUN, scene.problem or f"{where} has no Sentinel-2 L1C of {row.key} that can be read")
    return L1CScene(tuple(replace(granule, item="") for granule in scene.granules), suns[row.key])


def _sun(scene: Scene) -> SunAngles:
    """Sun angles from the granule's own file if it is on this machine, else from the item, else computed."""
    granule = scene.granules[0]
    item = json.loads(granule.item)
    for name in ("granule_metadata", "granule-metadata"):
        href = dict(item["assets"].get(name) or {}).get("href")
        path = local_file(href) if isinstance(href, str) else None
        if path is not None:
            try:
                return parse_sun(path.read_text(encoding="utf-8"), str(path))
            except (RadiometryError, UnicodeDecodeError) as error:
                return _mean_sun(granule, item, scene, str(error))
    return _mean_sun(granule, item, scene, "")


def _mean_sun(granule: Granule, item: Mapping[str, object], scene: Scene, problem: str) -> SunAngles:
    if problem:
        log.warning("%s: %s; the angles of the item are taken", granule.id, problem)
    properties = item["properties"]
    assert isinstance(properties, dict)
    azimuth = _degrees(properties, "view:sun_azimuth", "s2:mean_solar_azimuth")
    elevation, zenith = _degrees(properties, "view:sun_elevation"), _degrees(properties, "s2:mean_solar_zenith")
    if elevation is None and zenith is not None:
        elevation = 90 - zenith
    if azimuth is not None and elevation is not None:
        return SunAngles.everywhere(azimuth, elevation, granule.crs or "EPSG:4326")
    centre = shape(granule.footprint).centroid
    return SunAngles.everywhere(*sun_at(scene.time, centre.x, centre.y), "EPSG:4326")


def _degrees(properties: Mapping[str, object], *names: str) -> float | None:
    """The first of some properties that is a valid angle; items may have texts and nulls instead."""
    for name in names:
        with suppress(KeyError, TypeError, ValueError):
            value = float(properties[name])  # type: ignore[arg-type]
            if abs(value) <= 360:
                return value
    return None


def _reflectance(stored: np.ndarray) -> np.ndarray:
    """Convert stored counts of a Sentinel-2 band to reflectance, NaN without data."""
    return np.where(stored == 0, np.nan, stored * 1e-4 - 0.1)


_SMOOTH = BandRequest("probability", "float32", float("nan"), "continuous", "bilinear")


def _resampled(probability: np.ndarray, window: CoarseWindow, block: Block) -> np.ndarray:
    out = np.full(block.geobox.shape, np.nan, "float32")
    scale = block.grid.resolution / window.geobox.resolution.x
    warp(SourceWindow(probability.astype("float32"), window.geobox, (scale, scale)), _SMOOTH, block.geobox, out)
    return out
