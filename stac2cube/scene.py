"""Scenes: one acquisition as the catalogs describe it, in one shape whatever the catalog.

A :class:`Scene` is what a time step of a cube is made from. It holds the :class:`Granule` records of one platform, one
relative orbit and one solar day. Everything here is small, frozen and pickles: scenes travel to the workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from stac2cube.equality import equal_nan


@equal_nan
@dataclass(frozen=True, slots=True)
class AssetRef:
    """Where the pixels of one band of one granule are.

    Attributes:
        href: Unsigned location: a local path, ``file://``, ``http(s)://`` or ``s3://``. Signed by the worker when read.
        index: 1-based band index within the file.
        shift: Counts to add to every valid pixel so that it takes the stored form of the band (see
            :mod:`stac2cube.kernels.radiometry`); 0 for classes and for quantities without a provider offset.
        alternate: Where the same file is to be had by HTTPS with a token, "" if nowhere (or where none may go).
        decibels: Whether its item declares it in dB where the mission has power: it is converted when read.
        nodata: What its item then says marks no data, besides what the file says; None if it says nothing.
        signed: The href as the catalog signed it, "" if it did not. In memory only, never written.
        keys: Whether its host may see keys of its catalog, see :attr:`stac2cube.catalog.Catalog.hosts`.
    """

    href: str
    index: int = 1
    shift: int = 0
    alternate: str = ""
    decibels: bool = False
    nodata: float | None = None
    signed: str = field(default="", repr=False)
    keys: bool = False


@dataclass(frozen=True, slots=True)
class Granule:
    """One STAC item, reduced to what building and bookkeeping need.

    Attributes:
        id: The item's id.
        collection: The item's collection in its catalog.
        catalog: Name of the catalog that delivered it (a name of ``tables/catalogs.toml`` or the path of a local one).
        signer: How the worker signs hrefs when reading (``"none"``, ``"planetary-computer"``; from the catalog).
        time: Acquisition time as the catalog gives it, UTC, timezone-aware.
        tile: Tile code without prefix (``"32TMT"``), or "" where the mission has none.
        datastrip: Stable identity of the datastrip: its sensing start ``"20200305T103210"``, or "" if unknown.
        baseline: Processing baseline ``"05.00"``, or "" if unknown.
        cloud_cover: Percent as the catalog gives it, or None.
        footprint: GeoJSON geometry in WGS84, as a mapping.
        crs: CRS of the pixels as ``"EPSG:32632"``, or "" if the item does not say.
        corner: x and y of the upper left corner in that CRS, or None if the item does not say.
        assets: Band name of the mission page -> :class:`AssetRef`. Bands that the item lacks are absent.
        item: The STAC item as a JSON text with unsigned hrefs, for the ledger.
        completed_by: Id and JSON text of further items of the same tile that have bands which this one lacks; their
            assets are among ``assets``.
        simulated: Whether it says of itself that no satellite measured it.
        signed: Unsigned href of an asset -> the same as the catalog signed it, of those that are; in memory only.
    """

    id: str
    collection: str
    catalog: str
    signer: str
    time: datetime
    tile: str
    datastrip: str
    baseline: str
    cloud_cover: float | None
    footprint: dict[str, Any] = field(hash=False)
    crs: str
    corner: tuple[float, float] | None
    assets: dict[str, AssetRef] = field(hash=False)
    item: str = field(hash=False, repr=False)
    simulated: bool = False
    signed: dict[str, str] = field(default_factory=dict, hash=False, repr=False)
    completed_by: tuple[tuple[str, str], ...] = field(default=(), hash=False, repr=False)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids of the items that it is made of, its own first."""
        return (self.id, *(name for name, _ in self.completed_by))

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items that it is made of, its own first, with unsigned hrefs."""
        return [json.loads(text) for text in (self.item, *(text for _, text in self.completed_by))]


@dataclass(frozen=True, slots=True, order=True)
class SceneKey:
    """Identity of a scene in every catalog: never a raw datetime, because catalogs stamp one scene minutes apart.

    Attributes:
        mission: Name of the mission page, ``"sentinel-2-l2a"``.
        day: Solar day of the area's centre.
        platform: Normalised platform name, ``"sentinel-2a"``.
        orbit: Relative orbit, 0 where the mission has none.
    """

    mission: str
    day: date
    platform: str
    orbit: int

    def __str__(self) -> str:
        return f"{self.platform}_R{self.orbit:03d}_{self.day:%Y%m%d}"


@dataclass(frozen=True, slots=True)
class Scene:
    """One time step to be: its key, its time and the granules that make it, in mosaic order (first valid pixel wins).

    Attributes:
        key: See :class:`SceneKey`.
        time: The earliest acquisition time of its granules, UTC.
        granules: In fixed order: by tile code, then by datastrip.
        superseded: Item ids found for this scene but left out because a newer baseline of the same datastrip and tile
            exists, or because they lack bands that an older one has.
        cloud_cover: Percent, mean of its granules weighted by what each covers of the area; None if unknown.
        orbit_state: ``"ascending"`` or ``"descending"``, "" if the items do not say.
        problem: Why it cannot be used as it is (metadata that contradict each other), "" if it can.
        passed_over: Why a newer item was not used, by its id.
        unreadable: Of those, whose files could not be read.
        spares: Per part, as in :attr:`parts`, the granules that could stand in, whole and the newest first.
        versions: By item id, what tells whether its files are still the same, see :mod:`stac2cube.source.versions`.
    """

    key: SceneKey
    time: datetime
    granules: tuple[Granule, ...]
    superseded: tuple[str, ...] = ()
    cloud_cover: float | None = None
    orbit_state: str = ""
    problem: str = ""
    passed_over: Mapping[str, str] = field(default_factory=dict, hash=False)
    unreadable: Mapping[str, str] = field(default_factory=dict, hash=False)
    spares: Mapping[str, tuple[Granule, ...]] = field(default_factory=dict, hash=False, repr=False)
    versions: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False, repr=False)

    @property
    def named(self) -> dict[str, Granule]:
        """Granules by part: tile and datastrip, and the id where halves of a tile do not name their datastrips."""
        found: dict[str, Granule] = {}
        for granule in self.granules:
            part = f"{granule.tile}/{granule.datastrip}"
            found[f"{part}#{granule.id}" if part in found else part] = granule
        return found

    @property
    def parts(self) -> dict[str, str]:
        """Tile and datastrip of each granule with the baseline used: what a later search is compared with."""
        return {part: granule.baseline for part, granule in self.named.items()}

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids of the items used, sorted."""
        return tuple(sorted(name for granule in self.granules for name in granule.item_ids))
