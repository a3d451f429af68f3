"""Missions: what a sensor delivers, and its names in each catalog. A new mission is a new TOML page."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from stac2cube.errors import BadInputError, TableError
from stac2cube.model.fields import equal_nan
from stac2cube.model.tables import TableFile, config_folder, names_in, shipped_and_own

Signer = Literal["", "none", "planetary-computer", "requester-pays", "cdse"]
"""Ways to open assets, see :mod:`stac2cube.access.sign`."""

LOCAL = "local"
"""Catalog name of pages for items that exist in local copies only."""


@equal_nan
@dataclass(frozen=True)
class Quantity:
    """The stored form of a kind of band, see :class:`stac2cube.model.cube_spec.Layer`.

    Attributes:
        above: Values not above it are no data, -inf for no limit: the power of a radar is positive.
    """

    name: str
    dtype: Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
    fill: float
    scale: float = 1.0
    offset: float = 0.0
    units: str = "1"
    standard_name: str = ""
    flags: tuple[tuple[int, str], ...] = ()
    bits: tuple[tuple[int, int, str], ...] = ()
    above: float = -math.inf

    @property
    def is_class(self) -> bool:
        """Whether the values are classes or bits, which are never interpolated."""
        return bool(self.flags or self.bits)


@dataclass(frozen=True)
class Band:
    """One band of a mission.

    Attributes:
        name: The agency's name, ``"B04"``: the name of the layer in a cube.
        quantity: Its stored form.
        gsd: Ground sampling distance, metres.
        common_name: The name in STAC and in common use, ``"red"``.
        long_name: Label for plots.
        wavelength: Centre, micrometres; 0 if not applicable.
        also: Further names of its asset, for sensors with another numbering.
        optional: Whether an item may lack it: it then has no data there, and the ledger records that.
    """

    name: str
    quantity: Quantity
    gsd: int
    common_name: str
    long_name: str
    wavelength: float = 0.0
    also: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Page:
    """The names of a mission and its bands in one collection of one catalog.

    Attributes:
        catalog: Name of the catalog.
        collection: Id of the collection.
        radiometry: Named rule that converts counts to the stored form, see :mod:`stac2cube.search.items`.
        assets: Patterns of asset names, tried in order.
        paths: Paths of bands' arrays within the Zarr store of an item, by the name of their quantity: patterns like
            those of assets, in lower case. They apply if no asset has the band. Empty if the collection holds no Zarr
            stores.
        signer: How its assets are opened, if different from the rest of the catalog, see :mod:`stac2cube.access.sign`.
        evidence: The source of collection and asset names: ``"recorded"`` answers of the catalog, or its
            ``"documentation"``.
    """

    catalog: str
    collection: str
    radiometry: Literal["none", "sentinel-2", "sentinel-2-eopf"]
    assets: tuple[str, ...]
    signer: Signer = ""
    evidence: Literal["recorded", "documentation"] = "documentation"
    paths: Mapping[str, str] = field(default_factory=dict, hash=False)

    def asset_names(self, band: Band) -> tuple[str, ...]:
        """Possible names of the band's asset, in order of preference."""
        patterns = [
            pattern.format(band=band.name, common_name=band.common_name, gsd=band.gsd) for pattern in self.assets
        ]
        return (*patterns, *band.also)

    def path_of(self, band: Band) -> str:
        """Path of a band's array within a Zarr store, without a leading slash; "" if the page gives none."""
        pattern = self.paths.get(band.quantity.name, "")
        return pattern.format(band=band.name, common_name=band.common_name, gsd=band.gsd).lower()


@equal_nan
@dataclass(frozen=True)
class Mission:
    """A mission page.

    Attributes:
        name: ``"sentinel-2-l2a"``.
        title: Display name.
        platforms: Normalised names of its satellites.
        constellation: Their common name.
        default_bands: Bands of a cube if none are given.
        lattice: A point (x, y) of the lattice of the corners of all scenes, metres.
        lattice_step: Its spacing, metres. Pixels of a size that divides it can be aligned to the pixels of every scene.
        coverage: West, south, east, north of its acquisitions, degrees.
        identity: Named rule that reads platform, orbit, tile and version from items, see
            :mod:`stac2cube.model.scene`.
        static: Whether it has no time series: one step, for any time.
        seamless: Whether neighbouring granules are joined before they are resampled, so that no seam is visible.
        sea: Value of pixels that no granule covers, because the product leaves out tiles of open sea; NaN for none.
        withheld: West, south, east, north of areas where missing tiles are not sea.
        filler: Mission whose tiles can replace missing ones, "" for none.
        bands: Bands by name.
        pages: Pages in order of preference.
    """

    name: str
    title: str
    platforms: tuple[str, ...]
    constellation: str
    default_bands: tuple[str, ...]
    lattice: tuple[float, float]
    lattice_step: float
    coverage: tuple[float, float, float, float]
    bands: Mapping[str, Band] = field(hash=False)
    pages: tuple[Page, ...]
    identity: Literal["sentinel-2", "sentinel-1", "landsat", "static"] = "sentinel-2"
    static: bool = False
    seamless: bool = False
    sea: float = math.nan
    filler: str = ""
    withheld: tuple[tuple[float, ...], ...] = ()

    def choose_bands(self, names: Sequence[str] | None) -> tuple[Band, ...]:
        """Bands by name or common name, in the order given; the default ones for None.

        Raises:
            BadInputError: An unknown name, or one given twice.
        """
        by_word = {band.common_name: band for band in self.bands.values()} | dict(self.bands)
        by_word |= {word.lower(): band for word, band in by_word.items()}
        chosen: dict[str, Band] = {}
        for name in names or self.default_bands:
            band = by_word.get(name) or by_word.get(name.lower())
            if band is None:
                near = difflib.get_close_matches(name.lower(), by_word, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                words = ", ".join(f"{band.name} ({band.common_name})" for band in self.bands.values())
                raise BadInputError(f"{self.name} has no band {name!r}{hint}: it has {words}")
            if band.name in chosen:
                raise BadInputError(f"band {name!r} is given twice")
            chosen[band.name] = band
        return tuple(chosen.values())

    def pages_in(self, catalog: str) -> tuple[Page, ...]:
        """The pages of one catalog.

        Raises:
            BadInputError: The catalog does not carry the mission; the message names those that do.
        """
        pages = tuple(page for page in self.pages if page.catalog == catalog)
        if not pages:
            raise BadInputError(f"{catalog} does not carry {self.name}: ask {', '.join(self.catalogs)}")
        return pages

    def joins_granules(self, bands: Iterable[Band], resolution: float) -> bool:
        """Whether neighbouring granules are joined before they are resampled to a cube.

        Args:
            bands: Bands of the cube.
            resolution: Its pixel edge, units of its CRS.

        Returns:
            False also for pixels much larger than the source's: averages from overviews show no seam, and need far
            less data.
        """
        return self.seamless and resolution <= _MUCH * min(band.gsd for band in bands)

    @property
    def catalogs(self) -> tuple[str, ...]:
        """Names of the catalogs that carry it, in order of the pages."""
        return tuple(dict.fromkeys(page.catalog for page in self.pages if page.catalog != LOCAL))


_MUCH = 4
"""Largest ratio of a cube's pixel edge to the source's at which granules are joined."""


def mission_names() -> tuple[str, ...]:
    """Names of all missions, sorted."""
    return names_in("missions")


def find_mission(name: str) -> Mission:
    """A mission by its name.

    Raises:
        BadInputError: There is no such mission.
        TableError: Its page is malformed.
    """
    return _load(name, str(config_folder()))


@cache
def _load(name: str, _config_folder: str) -> Mission:
    pages = list(shipped_and_own(f"missions/{name}.toml"))
    if not pages:
        known = ", ".join(mission_names())
        raise BadInputError(f"unknown mission {name!r}: known are {known}")
    own = pages[-1]  # the user's own page replaces the shipped one
    return _parse(own)


def _parse(file: TableFile) -> Mission:
    value = file.parse()
    own_keys = ("quantities",)
    file.check(Mission, {key: part for key, part in value.items() if key not in own_keys}, "a mission page")
    quantities = {name: _quantity(file, name, part) for name, part in value.get("quantities", {}).items()}
    bands = {name: _band(file, name, part, quantities) for name, part in value["bands"].items()}
    unknown = [name for name in value["default_bands"] if name not in bands]
    if unknown:
        raise TableError(f"{file.place_of('default_bands')}: no such bands: {', '.join(unknown)}")
    if Path(file.path).stem != value["name"]:
        raise TableError(f"{file.place_of('name')}: the page of {value['name']!r} belongs in {value['name']}.toml")
    return Mission(
        name=value["name"],
        title=value["title"],
        platforms=tuple(value["platforms"]),
        constellation=value["constellation"],
        default_bands=tuple(value["default_bands"]),
        lattice=tuple(value["lattice"]),
        lattice_step=float(value["lattice_step"]),
        coverage=tuple(value["coverage"]),
        bands=bands,
        pages=tuple(_page(file, part) for part in value["pages"]),
        withheld=tuple(tuple(map(float, box)) for box in value.get("withheld", ())),
        **{key: value[key] for key in ("identity", "static", "seamless", "sea", "filler") if key in value},
    )


def _quantity(file: TableFile, name: str, value: dict[str, Any]) -> Quantity:
    file.check(Quantity, value, f"quantity {name!r}", given=("name",))
    flags = tuple((int(number), str(meaning)) for number, meaning in value.get("flags", ()))
    bits = tuple((int(mask), int(number), str(meaning)) for mask, number, meaning in value.get("bits", ()))
    return Quantity(**{"name": name, **value, "flags": flags, "bits": bits})


def _band(file: TableFile, name: str, value: dict[str, Any], quantities: Mapping[str, Quantity]) -> Band:
    file.check(Band, value, f"band {name!r}", given=("name",))
    quantity = quantities.get(value["quantity"])
    if quantity is None:
        raise TableError(f"{file.place_of(name)}: band {name!r} has an unknown quantity")
    return Band(**{"name": name, **value, "quantity": quantity, "also": tuple(value.get("also", ()))})


def _page(file: TableFile, value: dict[str, Any]) -> Page:
    file.check(Page, value, "a page")
    page = Page(**{**value, "assets": tuple(value["assets"])})
    try:
        page.asset_names(Band("B", Quantity("", "uint8", 0), 1, "b", "b"))
        for quantity in page.paths:
            page.path_of(Band("B", Quantity(quantity, "uint8", 0), 1, "b", "b"))
    except (KeyError, IndexError, ValueError):
        raise TableError(
            f"{file.path}: asset names {value['assets']} of a page may hold {{band}}, {{common_name}} and {{gsd}} "
            "only; so may its paths"
        ) from None
    return page
