"""Rules of a set of samples: roles of files, bands, grid, validity, angles, labels."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stac2cube.errors import BadInputError, RadiometryError, ReadError
from stac2cube.model.fields import Options, Range, documented, equal_nan, option
from stac2cube.model.image import CLASS_RESAMPLING, METHODS
from stac2cube.model.mission import Band, Mission, find_mission
from stac2cube.model.query import Query
from stac2cube.trust.address import expanded
from stac2cube.trust.names import safe_name

if TYPE_CHECKING:
    from stac2cube.algorithms.radiometry import ProductScaling
    from stac2cube.datasets.index import Angles, Labels, Radiometry, Validity
    from stac2cube.model.cube_spec import Layer
    from stac2cube.model.geometry import Area
    from stac2cube.model.grid import Grid
    from stac2cube.model.scene import Granule
    from stac2cube.pixels.warp import Measure
    from stac2cube.store.staging import StoredStep


# Roles: names for the files of a product that are the same for every catalog.
#
# ``l1c.band.B02`` is a band, ``l1c.product_metadata`` the metadata of the product (``MTD_MSIL1C.xml``),
# ``l1c.tile_metadata`` that of the granule (``MTD_TL.xml``); ``l2a.scl_20m``, ``l2a.aot_20m`` and ``l2a.wvp_20m`` exist
# only in Level-2A. ``l1c.band.*`` means all bands of a level.

LEVELS = {"l1c": "sentinel-2-l1c", "l2a": "sentinel-2-l2a"}
"""First part of a role -> mission."""

METADATA = {
    "product_metadata": ("product_metadata", "product-metadata"),
    "tile_metadata": ("granule_metadata", "granule-metadata", "tile_metadata"),
}
"""Metadata files -> their asset names in catalogs (the same in all recorded answers)."""

CLASSES = {name: (f"{name.upper()}_20m", name, name.upper()) for name in ("scl", "aot", "wvp")}
"""Layers of Level-2A at 20 m -> their asset names in catalogs."""

DEFAULT = ("l1c.band.*", "l1c.product_metadata", "l1c.tile_metadata", "l2a.scl_20m")
"""Default roles: all files that samples of Level-1C with scene classes as labels need."""


@dataclass(frozen=True, order=True)
class Role:
    """A role.

    Attributes:
        word: ``"l1c.band.B02"``.
        level: ``"l1c"``.
        assets: Possible names of its asset, in order of preference.
    """

    word: str
    level: str
    assets: tuple[str, ...]

    def asset_of(self, item: Mapping[str, Any]) -> str:
        """Name of its asset in an item, "" if it has none."""
        return next((name for name in self.assets if name in item["assets"]), "")


def parse_roles(words: Sequence[str], catalog: str = "") -> tuple[Role, ...]:
    """Parse roles, in order, without duplicates.

    Args:
        words: As ``"l1c.band.B02"`` or ``"l1c.band.*"``.
        catalog: The catalog whose names for bands are preferred.

    Raises:
        BadInputError: A role is unknown; the message lists the known ones.
    """
    found: dict[str, Role] = {}
    for word in words:
        level, _, rest = word.partition(".")
        if level not in LEVELS:
            raise BadInputError(
                f"role {word!r} begins with no level: say one of {', '.join(LEVELS)}, as in l1c.band.B02"
            )
        known = _known(level, catalog)
        chosen = [name for name in known if name.startswith("band.")] if rest == "band.*" else [rest]
        for name in chosen:
            if name not in known:
                raise BadInputError(f"there is no role {word!r}; of {level} there are {', '.join(known)}")
            found.setdefault(f"{level}.{name}", Role(f"{level}.{name}", level, known[name]))
    return tuple(found.values())


def metadata_href(item: Mapping[str, Any], kind: str) -> str:
    """Href of a metadata file of an item, "" if the item has no such asset.

    Args:
        item: A STAC item.
        kind: A key of :data:`METADATA`.
    """
    return next((str(item["assets"][name]["href"]) for name in METADATA[kind] if name in item["assets"]), "")


def _known(level: str, catalog: str) -> dict[str, tuple[str, ...]]:
    mission = find_mission(LEVELS[level])
    # Arrays in Zarr are not files; if they are requested, an error is reported for each.
    kept = (page for page in mission.pages if not page.paths or page.catalog == catalog)
    pages = sorted(kept, key=lambda page: page.catalog != catalog)
    bands = {
        f"band.{band.name}": tuple(dict.fromkeys(name for page in pages for name in page.asset_names(band)))
        for band in mission.bands.values()
        if band.quantity.name == "reflectance"
    }
    classes = {f"{name}_20m": names for name, names in CLASSES.items()} if level == "l2a" else {}
    return bands | METADATA | classes


# The rules that determine the values of a set of samples: bands, grid, radiometry, validity, angles, labels.

GRID = "grid"
"""The target that is not a band: an explicit grid, see :class:`stac2cube.datasets.rules.SampleRequest`."""

BACKENDS = ("scl", "raster", "vector", "clouds")
"""Sources of labels."""

SCL_NAMES = (
    "no_data",
    "saturated_or_defective",
    "dark_area",
    "cloud_shadow",
    "vegetation",
    "not_vegetated",
    "water",
    "unclassified",
    "cloud_medium_probability",
    "cloud_high_probability",
    "thin_cirrus",
    "snow_or_ice",
)
"""Names of Sentinel-2's scene classes by number, see ``tables/missions/sentinel-2-l2a.toml``."""

CLOUD_NAMES = ("clear", "cloud", "shadow")
"""Names of the classes from a clouds cube, by number."""


@documented
@dataclass(frozen=True)
class AngleRules(Options):
    """Rules of the angles to write. Sine and cosine are continuous at north."""

    form: Literal["degrees", "sin_cos"] = option(
        "degrees", "Write the angles of sun and view, as degrees or as sine and cosine."
    )
    view: Literal["single", "per_band"] = option("single", "View angles: one mean of all bands, or one per band.")

    def described(self, bands: tuple[str, ...]) -> Angles:
        """The channels of a set with these bands, for its index."""
        seen = [f"view_{what}_{band}" for band in bands for what in ("zenith", "azimuth")]
        names = ["sun_zenith", "sun_azimuth", *(seen if self.view == "per_band" else ["view_zenith", "view_azimuth"])]
        if self.form == "sin_cos":
            names = [f"{name}_{part}" for name in names for part in ("sin", "cos")]
        from stac2cube.datasets.index import Angles

        return Angles(tuple(names), self.form)


_CLASS = Range(least=0, most=255)


@documented
@dataclass(frozen=True)
class LabelRules(Options):
    """Rules of the labels in ``y.tif``.

    Attributes:
        mapping: Value of the source -> class, 0 to 255. Other values become ``ignore_index``. None keeps the numbers
            of ``scl`` (without 0, no data) and of ``clouds`` (0 clear, 1 cloud, 2 shadow); a raster or vector needs
            a mapping.
        names: Class -> its name.
    """

    backend: str = option("scl", "Source of the labels.", choices=BACKENDS)
    path: str = option(
        "", "Raster file, vector file or clouds cube with the labels; {tile}, {date} and {id} are replaced."
    )
    column: str = option(
        "", "Attribute of a vector file that holds the class. Default: all shapes are of one class, called 1."
    )
    mapping: Mapping[str, int] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    ignore_index: int = option(255, "Class of pixels that no loss may count.", bounds=_CLASS)
    outside: int | None = option(
        None, "Class of pixels where no shape of a vector file lies. Default: ignore_index.", bounds=_CLASS
    )
    all_touched: bool = option(
        False, "Give a shape every pixel that it touches, instead of those whose centre it holds."
    )
    mask_invalid: bool = option(True, "Give pixels that are not valid in all bands the class ignore_index, too.")
    resampling: str = option("nearest", "Resampling method of labels.", choices=CLASS_RESAMPLING)

    def __post_init__(self) -> None:
        """Check the options and their combination.

        Raises:
            BadInputError: An option is invalid; the message names it.
        """
        super().__post_init__()
        if (self.backend == "scl") == bool(self.path):
            raise BadInputError(
                f"labels from {self.backend} "
                + ("need no path" if self.path else "need a path: of the file, or of the clouds cube")
            )
        if self.backend in ("raster", "vector") and not self.mapping:
            raise BadInputError(f"labels from a {self.backend} need a mapping: value -> class")
        numbers = (self.mapping or {}).values()
        wrong = [number for number in numbers if isinstance(number, bool) or number not in range(256)]
        if wrong:
            raise BadInputError(f"classes are whole numbers from 0 to 255, not {wrong[0]!r}")
        if self.outside is not None and self.backend != "vector":
            raise BadInputError("'outside' is for labels from a vector file")
        texts = [value for value in self.table if self.backend != "vector" and not re.fullmatch(r"-?\d+", value)]
        if texts:
            raise BadInputError(f"a mapping of {self.backend} labels names whole numbers, not {texts[0]!r}")

    @property
    def table(self) -> dict[str, int]:
        """Value of the source (as text) -> class."""
        if self.mapping is not None:
            return {str(value): number for value, number in self.mapping.items()}
        names = SCL_NAMES if self.backend == "scl" else CLOUD_NAMES
        return {str(number): number for number in range(1 if self.backend == "scl" else 0, len(names))}

    def described(self) -> Labels:
        """Description for the index of a set."""
        classes = dict(self.names)
        if not classes:
            source = {"scl": SCL_NAMES, "clouds": CLOUD_NAMES}.get(self.backend, ())
            for value, number in self.table.items():
                name = source[int(value)] if value.isdigit() and int(value) < len(source) else value
                classes[number] = f"{classes[number]}, {name}" if number in classes else name
        from stac2cube.datasets.index import Labels

        return Labels(self.backend, self.table, self.ignore_index, dict(sorted(classes.items())))


@documented
@equal_nan
@dataclass(frozen=True)
class SampleRules(Options):
    """All rules that determine the pixels of a set of samples.

    Scale and offset of a catalog's item follow the rule of :mod:`stac2cube.algorithms.radiometry`.

    Attributes:
        angles: Angles to write; None for no angles.
        labels: Source of the labels; None for no labels.
    """

    mission: str = option("sentinel-2-l1c", "Name of a mission.")
    bands: tuple[str, ...] = option(
        (), "Bands by name or common name, separated by commas. Default: those of the mission."
    )
    target: str = option("B02", "Band to whose pixels all others are resampled, or `grid`.")
    radiometry: Literal["", "toa", "boa", "raw"] = option(
        "",
        "Top-of-atmosphere reflectance (toa), surface reflectance (boa), or stored numbers (raw). "
        "Default: that of the mission.",
    )
    scaling: Literal["product", "item"] = option(
        "product", "Source of scale and offset: the product's metadata file, or the item."
    )
    upsampling: str = option("bilinear", "Method for bands with larger pixels than the target.", choices=METHODS)
    downsampling: str = option("average", "Method for bands with smaller pixels than the target.", choices=METHODS)
    source_nodata: float | None = option(None, "Stored number that means no data. Default: that of the file, or 0.")
    nodata: float = option(math.nan, "Number that means no data in the samples.")
    validity: Literal["single", "per_band"] = option("single", "One channel of validity, or one per band.")
    threshold: float = option(
        0.5, "Fraction of a pixel that must be covered by valid source pixels.", bounds=Range(above=0, most=1)
    )
    angles: AngleRules | None = None
    labels: LabelRules | None = None

    def __post_init__(self) -> None:
        """Check the options and their combination.

        Raises:
            BadInputError: An option is invalid; the message names it.
        """
        super().__post_init__()
        if self.radiometry not in ("", "raw", self.reflectance):
            raise BadInputError(
                f"radiometry should be 'raw' or {self.reflectance!r} for {self.mission}, not {self.radiometry!r}"
            )
        if self.nodata in (0, 1):
            raise BadInputError("nodata cannot be 0 or 1: the channels of validity hold these")
        if classes := [band.name for band in self.chosen if band.quantity.is_class]:
            raise BadInputError(f"{', '.join(classes)} holds classes: samples have measured bands, classes are labels")
        if self.target != GRID:
            page = find_mission(self.mission)
            page.choose_bands([self.target])
        if self.angles is not None and not self.mission.startswith("sentinel-2"):
            raise BadInputError(f"angles are known of Sentinel-2, not of {self.mission}")
        if self.scaling == "product" and self.factored and not self.mission.startswith("sentinel-2"):
            raise BadInputError(f"product metadata are understood of Sentinel-2: say scaling 'item' for {self.mission}")

    @property
    def page(self) -> Mission:
        """The mission."""
        return find_mission(self.mission)

    @property
    def chosen(self) -> tuple[Band, ...]:
        """The bands, in order."""
        page = find_mission(self.mission)
        if self.bands:
            return page.choose_bands(self.bands)
        return tuple(band for band in page.choose_bands(None) if not band.quantity.is_class)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands."""
        return tuple(band.name for band in self.chosen)

    @property
    def reflectance(self) -> Radiometry:
        """The kind of reflectance of the mission."""
        return "toa" if self.mission.endswith("l1c") else "boa"

    @property
    def kind(self) -> Radiometry:
        """Radiometry of the values, with the default of the mission."""
        return self.radiometry or self.reflectance

    @property
    def factored(self) -> bool:
        """Whether scale and offset are applied."""
        return self.kind != "raw"

    @property
    def target_band(self) -> str:
        """Name of the target band, "" for a grid."""
        return "" if self.target == GRID else self.page.choose_bands([self.target])[0].name

    @property
    def described_validity(self) -> Validity:
        """Description for the index of a set."""
        names = ("valid",) if self.validity == "single" else tuple(f"valid_{name}" for name in self.names)
        from stac2cube.datasets.index import Validity

        return Validity(names, self.threshold)

    def measure(self, band: Band, scale: float, offset: float) -> Measure:
        """Read parameters of a band."""
        from stac2cube.pixels.warp import Measure

        return Measure(scale, offset, self.source_nodata, band.quantity.fill, self.upsampling, self.downsampling)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values with the mission's names of bands: equal for sets that can be combined."""
        whole = replace(self, bands=self.names, target=self.target_band or GRID, radiometry=self.kind)
        value = asdict(whole) | {"bands": list(self.names)}
        value["nodata"] = "nan" if math.isnan(self.nodata) else self.nodata
        if self.labels is not None:
            value["labels"] |= {
                "mapping": self.labels.table,
                "names": {str(n): t for n, t in self.labels.names.items()},
            }
        return value

    @property
    def digest(self) -> str:
        """Digest of the rules, 16 hexadecimal digits."""
        return sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]


# The inputs of samples, and the metadata files beside the pixels.
#
# Scenes of a manifest or a catalog and steps of a cube become sources in :mod:`stac2cube.datasets.samples`. It checks
# that every file that a sample needs exists, before any sample is made. Missing files of all samples are reported
# together and by name; nothing is substituted.


@documented
@dataclass(frozen=True)
class DownloadRequest(Options):
    """Products and files to fetch.

    Roles are for example ``"l1c.band.B02"``, see :mod:`stac2cube.datasets.rules`.

    Attributes:
        area: Area of interest.
        time: A period, for example ``"2023-05/2023-08"``, see :func:`stac2cube.model.period.parse_period`.
    """

    area: Area
    time: str
    roles: tuple[str, ...] = option(
        DEFAULT,
        "Roles of files, separated by commas: l1c.band.B02, l1c.band.*, l1c.product_metadata, "
        "l1c.tile_metadata, l2a.scl_20m ...",
    )
    catalog: str = option("cdse", "Name, URL or path of a catalog.")
    tiles: tuple[str, ...] = option((), "Tile codes, separated by commas: 32TNT,32TPT. Default: all tiles.")
    cloud: tuple[float, float] = option(
        (0.0, 100.0),
        "Range of the cloud cover of a tile in percent: LOWEST-HIGHEST.",
        bounds=Range(0, 100),
        form="interval",
    )
    min_coverage: float = option(0.0, "Percentage of the area that a tile must cover.", bounds=Range(0, 100))
    max_scenes: int | None = option(
        None,
        "Largest number of acquisitions per tile; the oldest are taken.",
        bounds=Range(least=1),
        form="range",
    )

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            BadInputError: An option is invalid; the message names it.
        """
        if not self.roles:
            raise BadInputError("say which roles are to be fetched, as l1c.band.*")
        if not 0 <= self.cloud[0] <= self.cloud[1] <= 100:
            raise BadInputError(f"cloud cover lies from 0 to 100 percent, not {self.cloud[0]:g} to {self.cloud[1]:g}")
        if not 0 <= self.min_coverage <= 100:
            raise BadInputError(f"min_coverage is a percentage, 0 to 100, not {self.min_coverage:g}")
        if wrong := [tile for tile in self.tiles if not re.fullmatch(r"\d{2}[A-Z]{3}", tile)]:
            raise BadInputError(f"{wrong[0]!r} is no tile: write 32TNT")
        super().__post_init__()


@documented
@dataclass(frozen=True)
class TransferOptions(Options):
    """How files are fetched.

    Four connections are the maximum per user of the Copernicus Data Space (its documentation, quotas).
    """

    connections: int = option(
        4, "Number of files that are downloaded at the same time.", bounds=Range(least=1), form="range"
    )
    tables: tuple[str, ...] = option(
        ("csv",), "Formats of the table of files, separated by commas: csv, parquet, xlsx."
    )
    verify: bool = option(False, "Compute the checksums of existing files again, and fetch changed products again.")


@documented
@dataclass(frozen=True)
class SampleRequest:
    """Which scenes become samples.

    Attributes:
        query: Area, time and clouds; the catalog is a manifest or its folder, another catalog, or a cube. Samples on a
            band's pixels are cut to the area. Mission and bands come from the rules.
        grid: Grid of all samples, for the target :data:`stac2cube.datasets.rules.GRID`; None for a band's pixels or a
            cube's own grid.
    """

    query: Query
    grid: Grid | None = None
    max_scenes: int | None = option(
        None, "Largest number of scenes; the oldest are taken.", bounds=Range(least=1), form="range"
    )

    @classmethod
    def of(cls, source: str | Path | SampleRequest) -> SampleRequest:
        """A request for all scenes of a source; requests are returned unchanged."""
        return source if isinstance(source, SampleRequest) else cls(Query(catalog=str(source)))

    @property
    def source(self) -> str:
        """A manifest or its folder, another catalog, or a cube."""
        return self.query.catalog

    @property
    def is_cube(self) -> bool:
        """Whether the source is a cube."""
        return (Path(self.source) / "zarr.json").exists()


@dataclass(frozen=True)
class GranuleFiles:
    """One input granule of a sample.

    Attributes:
        granule: The granule.
        factors: Band -> scale and offset, see :class:`stac2cube.pixels.warp.Measure`.
        tile_metadata: Path of its ``MTD_TL.xml``, "" if it is not needed.
        classes: The Level-2A granule of the same acquisition, None if it is not needed.
    """

    granule: Granule
    factors: Mapping[str, tuple[float, float]]
    tile_metadata: str = ""
    classes: Granule | None = None


@dataclass(frozen=True)
class CubeStep:
    """A step of a cube, and the meaning of its values.

    Attributes:
        step: The step.
        layers: The layers to read.
        grid: Grid of the cube.
    """

    step: StoredStep
    layers: tuple[Layer, ...]
    grid: Grid


@dataclass(frozen=True)
class SampleSource:
    """Inputs of one sample; small, sent to the workers.

    Attributes:
        id: Unique in the set.
        key: Key of its scene, as in cubes.
        time: Acquisition time.
        tile: Tile code, "" for several tiles.
        platform: Normalised name of the platform.
        orbit: Relative orbit.
        cloud_cover: Percent, or None.
        grid: Grid of its pixels; None if it could not be determined.
        items: Ids of all its input items, in order.
        versions: Its inputs with their versions, see :class:`stac2cube.store.ledger.Entry`.
        parts: Granules in mosaic order; for a step of a cube, the granules of its angles.
        step: The step of a cube with its bands, None for granules.
        clouds: The step of a clouds cube with its labels, None for other labels.
        lacking: Descriptions of missing inputs.
    """

    id: str
    key: str
    time: datetime
    tile: str
    platform: str
    orbit: int
    cloud_cover: float | None
    grid: Grid | None
    items: tuple[str, ...]
    versions: Mapping[str, str]
    parts: tuple[GranuleFiles, ...]
    step: CubeStep | None = None
    clouds: CubeStep | None = None
    lacking: tuple[str, ...] = ()

    def labels_path(self, pattern: str) -> Path:
        """The file with its labels, see :class:`stac2cube.datasets.rules.LabelRules`."""
        named = {"tile": self.tile, "id": self.id, "date": f"{self.time:%Y%m%d}"}
        for name, value in named.items():
            pattern = pattern.replace("{" + name + "}", safe_name(value) if value else value)
        return expanded(pattern)


@contextmanager
def noting(lacking: list[str]) -> Iterator[None]:
    """Append errors about missing inputs to a list, and continue."""
    try:
        yield
    except (ReadError, RadiometryError) as error:
        if str(error) not in lacking:
            lacking.append(str(error))


def metadata_file(item: Mapping[str, Any], kind: str) -> str:
    """Path of a metadata file of an item.

    Args:
        item: A STAC item.
        kind: A key of :data:`stac2cube.datasets.rules.METADATA`.

    Raises:
        ReadError: The file does not exist, or is not on this machine.
    """
    from stac2cube.access.sign import is_remote, readable

    href = metadata_href(item, kind)
    if not href:
        raise ReadError(f"{kind}: the item has no such asset")
    if is_remote(href):
        raise ReadError(f"{kind}: {href} is not on this machine; fetch it with `stac2cube download` first")
    path = readable(href, "none")
    if not Path(path).is_file():
        raise ReadError(f"{kind}: {path} does not exist")
    return path


@lru_cache(maxsize=64)
def scaling_of(path: str) -> ProductScaling:
    """The conversion of a product's counts to reflectance.

    Raises:
        RadiometryError: The file is not the metadata of a product.
    """
    from stac2cube.algorithms.radiometry import parse_scaling

    return parse_scaling(Path(path).read_text(encoding="utf-8", errors="replace"), path)
