"""Stage 2: cloud probability, masks and shadows for every sealed step of a Sentinel-2 cube, on the cube's own grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stac2cube.build import build
from stac2cube.cube.ledger import SEALED, Entry, Ledger
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.errors import BadInputError, IncompleteError, NothingFoundError, ReadError
from stac2cube.kernels.cloud import BANDS, NODATA, as_percent, cloud_probability, implausible, model_file
from stac2cube.kernels.mask import cloud_mask, shadow_mask, shadow_reach_m
from stac2cube.kernels.sun import sun_at
from stac2cube.places.place import Place
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress
from stac2cube.scene import Granule, Scene
from stac2cube.source.asset import BandRequest, Cut, warp
from stac2cube.source.read import read_block
from stac2cube.stages.coarse import CoarseWindow
from stac2cube.stages.request import find_scenes, request_of, understand
from stac2cube.work import Block, Orders, Step, Summary

if TYPE_CHECKING:
    import xarray as xr

STAGE = "clouds"
"""Name of the stage in the cubes it makes."""

L1C = "sentinel-2-l1c"


@dataclass(frozen=True)
class CloudRules:
    """What decides the pixels of a clouds cube.

    Attributes:
        thresholds: Probabilities above which a pixel is cloud; the first makes ``cloud_mask``, others
            ``cloud_mask_<percent>``.
        average_m: Radius over which probability is averaged before, metres.
        dilate_m: Radius by which a mask is dilated after, metres.
        shadows: Whether shadows are looked for.
        resolution: Pixel edge at which clouds are found, metres.
    """

    thresholds: tuple[float, ...] = (0.4,)
    average_m: float = 120.0
    dilate_m: float = 120.0
    shadows: bool = True
    resolution: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            BadInputError: Naming the word that is wrong.
        """
        if not self.thresholds or not all(0 < threshold < 1 for threshold in self.thresholds):
            raise BadInputError(f"thresholds are probabilities between 0 and 1, not {list(self.thresholds)}")
        if not 10 <= self.resolution <= 160:
            raise BadInputError(f"clouds are found at 10 to 160 m, not {self.resolution:g} m")
        if min(self.average_m, self.dilate_m) < 0:
            raise BadInputError("average_m and dilate_m are radii in metres, 0 or more")

    def mask_names(self) -> dict[str, float]:
        """Names of the masks and their thresholds."""
        first, *others = self.thresholds
        return {"cloud_mask": first, **{f"cloud_mask_{round(100 * other):02d}": other for other in others}}


@dataclass(frozen=True)
class Sight:
    """What a worker needs to know of one step.

    Attributes:
        granules: Of the L1C scene.
        sun: Azimuth and elevation in degrees.
        problem: Why it cannot be done, "" if it can.
    """

    granules: tuple[Granule, ...]
    sun: tuple[float, float]
    problem: str = ""


@dataclass(frozen=True)
class FindClouds:
    """The task of this stage."""

    bands: tuple[BandRequest, ...]
    rules: CloudRules

    def __call__(self, sight: Sight, block: Block) -> dict[str, np.ndarray]:
        """Layers of one block.

        Raises:
            ReadError: There is no L1C scene, it cannot be read, or what comes out cannot be right.
        """
        if sight.problem:
            raise ReadError(sight.problem)
        rules = self.rules
        halo = rules.average_m + rules.dilate_m + (shadow_reach_m(sight.sun[1]) if rules.shadows else 0)
        window = CoarseWindow.around(block, rules.resolution, halo + 2 * rules.resolution)
        pixels = read_block(sight.granules, self.bands, window.geobox)
        toa = np.stack([_reflectance(pixels[band]) for band in BANDS], axis=-1)
        probability = cloud_probability(toa)
        if problem := implausible(probability, toa[..., BANDS.index("B02")]):
            raise ReadError(f"{sight.granules[0].id}: {problem}")
        percent = as_percent(probability)
        layers = {"cloud_probability": as_percent(_resampled(probability, window, block))}
        flags = np.zeros(block.geobox.shape, "uint8")
        nothing = layers["cloud_probability"] == NODATA
        for number, (name, threshold) in enumerate(rules.mask_names().items()):
            mask = cloud_mask(percent, threshold, rules.average_m, rules.dilate_m, rules.resolution)
            layers[name] = np.where(nothing, np.uint8(NODATA), window.nearest(mask))
            if number == 0:
                flags |= np.where(layers[name] == 1, 1, 0).astype("uint8")
                first = mask
        if rules.shadows:
            nir, swir = toa[..., BANDS.index("B08")], toa[..., BANDS.index("B11")]
            shadow = window.nearest(shadow_mask(first, nir, swir, sight.sun, rules.resolution))
            layers["shadow_mask"] = np.where(nothing, np.uint8(NODATA), shadow)
            flags |= np.where(layers["shadow_mask"] == 1, 2, 0).astype("uint8")
        layers["flags"] = np.where(nothing, np.uint8(NODATA), flags)
        return layers


def get_cloud_layers(
    layers: str | Path,
    out: str | Path,
    *,
    thresholds: Sequence[float] = (0.4,),
    average_m: float = 120.0,
    dilate_m: float = 120.0,
    shadows: bool = True,
    resolution: float = 60.0,
    catalog: str = "auto",
    place: Place | None = None,
) -> xr.Dataset:
    """Find clouds and shadows for every sealed step of a Sentinel-2 cube, by s2cloudless on the L1C of that overpass.

    Running it again follows the layers: steps that were added since are added, those made anew are reported.

    Args:
        layers: The cube; Sentinel-2 L2A or L1C.
        out: Path of the clouds cube, created or extended.
        thresholds: See :class:`CloudRules`, as the next four.
        average_m: Metres.
        dilate_m: Metres.
        shadows: Look for shadows.
        resolution: Metres.
        catalog: Where the L1C is: name, URL, path, several with commas, or "auto".
        place: Where the work runs; threads of this process if None.

    Returns:
        The clouds cube: ``cloud_probability`` (percent), ``cloud_mask`` and ``shadow_mask`` (1 yes, 0 no), ``flags``
        (1 cloud, 2 shadow), all uint8 with dims ``(time, y, x)``, 255 without data.

    Raises:
        BadInputError: A word is wrong, or the cube is none of Sentinel-2.
        CatalogError: The catalog cannot be read.
        CubeMismatchError: The clouds cube was made otherwise.
        IncompleteError: Some steps failed, for example because there is no L1C of them; the others are sealed.
    """
    from stac2cube.cube.reader import open_cube

    rules = CloudRules(tuple(thresholds), average_m, dilate_m, shadows, resolution)
    place = place or Threads()
    summary = run_clouds(Path(layers), Path(out), rules, catalog, place)
    if summary.failed:
        reasons = "; ".join(f"{key}: {reason}" for key, reason in summary.failed.items())
        raise IncompleteError(f"{len(summary.failed)} step(s) of {out} failed, run again to try them: {reasons}")
    return open_cube(out)


def run_clouds(
    layers: Path,
    out: Path,
    rules: CloudRules,
    catalog: str,
    place: Place,
    *,
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a clouds cube; raises what :func:`get_cloud_layers` and :func:`stac2cube.build.build` do."""
    model_file()  # before anything is read
    parent, request = request_of(layers)
    if request.mission not in ("sentinel-2-l2a", L1C):
        raise BadInputError(f"{layers} is a cube of {request.mission}: s2cloudless finds clouds in Sentinel-2 only")
    if parent.grid.resolution > rules.resolution:
        raise BadInputError(
            f"the pixels of {layers} are larger than {rules.resolution:g} m: say a resolution of theirs"
        )
    asked = replace(request, mission=L1C, bands=BANDS, resampling="average", max_cloud_cover=None, strict=False)
    wanted = understand(replace(asked, catalog=catalog, resolution=rules.resolution), on_cluster=place.on_cluster)
    rows = Ledger(layers, read_root(layers).ledger).entries()
    try:
        found = find_scenes(wanted)
        scenes, where, why = (
            {str(scene.key): scene for scene in found.scenes},
            found.choice.catalog.name,
            found.choice.why,
        )
    except NothingFoundError as error:
        scenes, where, why = {}, catalog, str(error)
    tiles = tuple(parent.grid.tiles())
    steps = [
        Step(_entry(row, scenes.get(key), where, why), _sight(row, scenes.get(key), where), _touched(row, tiles))
        for key, row in rows.items()
        if row.status == SEALED
    ]
    if not steps:
        raise BadInputError(f"{layers} has no step yet")
    spec = _spec(parent, rules, layers, catalog)
    return build(
        out,
        spec,
        steps,
        FindClouds(tuple(replace(band, exact=True) for band in wanted.bands), rules),
        place,
        orders=orders,
        progress=progress,
    )


def remembered(out: Path) -> tuple[Path, CloudRules, str]:
    """What a clouds cube was made with: its layers, its rules, where the L1C was looked for.

    Raises:
        CubeError: Not a cube.
    """
    spec = read_root(out).spec
    recipe, names = spec.recipe, ("average_m", "dilate_m", "shadows")
    rules = CloudRules(
        tuple(recipe["thresholds"]), **{name: recipe[name] for name in names}, resolution=recipe["work_resolution"]
    )
    return Path(spec.request["layers"]), rules, spec.request["catalog"]


def _spec(parent: CubeSpec, rules: CloudRules, layers: Path, catalog: str) -> CubeSpec:
    switch = ((0, "no"), (1, "yes"), (NODATA, "no_data"))
    made = [Layer("cloud_probability", "uint8", NODATA, scale=0.01, long_name="probability of cloud")]
    for name, threshold in rules.mask_names().items():
        made.append(Layer(name, "uint8", NODATA, long_name=f"cloud, probability above {threshold:g}", flags=switch))
    if rules.shadows:
        made.append(Layer("shadow_mask", "uint8", NODATA, long_name="shadow of cloud", flags=switch))
    bits = ((1, 1, "cloud"), (2, 2, "cloud_shadow"))
    made.append(Layer("flags", "uint8", NODATA, long_name="cloud and shadow", bits=bits))
    return CubeSpec(
        stage=STAGE,
        grid=parent.grid,
        layers=tuple(made),
        recipe={
            "title": "Clouds by s2cloudless",
            "method": "s2cloudless",
            "model": model_file().name,
            "licence": "probabilities made with s2cloudless (Sinergise), whose code and model are CC BY-SA 4.0",
            "thresholds": list(rules.thresholds),
            "average_m": rules.average_m,
            "dilate_m": rules.dilate_m,
            "shadows": rules.shadows,
            "work_resolution": rules.resolution,
        },
        request={"layers": str(layers.resolve()), "catalog": catalog},
    )


def _entry(row: Entry, scene: Scene | None, where: str, why: str) -> Entry:
    """The parent's parts with their versions are this step's: when the parent is made anew, this one is outdated."""
    return Entry(
        key=row.key,
        time=row.time,
        status=SEALED,
        items=scene.item_ids if scene else (),
        parts={f"parent {part}": version for part, version in row.parts.items()},
        footprint=row.footprint,
        properties={
            **{name: row.properties[name] for name in ("platform", "orbit", "cloud_cover") if name in row.properties},
            "catalog": where,
            "catalog_choice": why,
        },
        sources=tuple(granule.item for granule in scene.granules) if scene else (),
    )


def _sight(row: Entry, scene: Scene | None, where: str) -> Sight:
    if scene is None:
        return Sight((), (0.0, 90.0), f"{where} has no Sentinel-2 L1C of {row.key}")
    if scene.problem:
        return Sight((), (0.0, 90.0), scene.problem)
    light = tuple(replace(granule, item="") for granule in scene.granules)
    return Sight(light, _sun(scene), "")


def _sun(scene: Scene) -> tuple[float, float]:
    """Azimuth and elevation as the items say, else from time and place."""
    properties = json.loads(scene.granules[0].item)["properties"]
    azimuth = properties.get("view:sun_azimuth", properties.get("s2:mean_solar_azimuth"))
    elevation = properties.get("view:sun_elevation")
    if elevation is None and "s2:mean_solar_zenith" in properties:
        elevation = 90 - float(properties["s2:mean_solar_zenith"])
    if azimuth is not None and elevation is not None:
        return float(azimuth), float(elevation)
    from shapely.geometry import shape

    centre = shape(scene.granules[0].footprint).centroid
    return sun_at(scene.time, centre.x, centre.y)


def _touched(row: Entry, tiles: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Blocks in which the parent has data."""
    filled = {receipt.tile for receipt in row.receipts if any(shard.valid for shard in receipt.shards)}
    return tuple(tile for tile in tiles if tile in filled)


def _reflectance(stored: np.ndarray) -> np.ndarray:
    """Stored counts of a Sentinel-2 band as reflectance, NaN without data."""
    return np.where(stored == 0, np.nan, stored * 1e-4 - 0.1)


_SMOOTH = BandRequest("probability", "float32", float("nan"), "continuous", "bilinear")


def _resampled(probability: np.ndarray, window: CoarseWindow, block: Block) -> np.ndarray:
    out = np.full(block.geobox.shape, np.nan, "float32")
    scale = block.grid.resolution / window.geobox.resolution.x
    warp(Cut(probability.astype("float32"), window.geobox, scale), _SMOOTH, block.geobox, out)
    return out
