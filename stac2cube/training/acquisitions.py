"""Which files of which acquisitions are wanted: found in a catalog, Level-1C paired with Level-2A, newest baseline."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from shapely.geometry import shape

from stac2cube.area import Area
from stac2cube.catalog import find_catalog
from stac2cube.errors import BadInputError, NothingFoundError
from stac2cube.mission import find_mission
from stac2cube.names import Names, safe_name
from stac2cube.period import parse_period
from stac2cube.scene import Granule
from stac2cube.source.search import Query, search
from stac2cube.training.roles import DEFAULT, LEVELS, Role, parse_roles

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DownloadRequest:
    """What is to be fetched.

    Attributes:
        area: Of interest.
        time: Words of :func:`stac2cube.period.parse_period`.
        roles: Words of :mod:`stac2cube.training.roles`.
        catalog: Name, URL or path.
        tiles: Codes as ``"32TNT"``; all if empty.
        cloud: Lowest and highest cloud cover of a tile, percent.
        min_coverage: Percent of the area that a tile's footprint has to cover.
        max_scenes: At most so many acquisitions of a tile, the oldest; None for all.
    """

    area: Area
    time: str
    roles: tuple[str, ...] = DEFAULT
    catalog: str = "cdse"
    tiles: tuple[str, ...] = ()
    cloud: tuple[float, float] = (0.0, 100.0)
    min_coverage: float = 0.0
    max_scenes: int | None = None

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            BadInputError: Naming what is wrong.
        """
        if not self.roles:
            raise BadInputError("say which roles are to be fetched, as l1c.band.*")
        if not 0 <= self.cloud[0] <= self.cloud[1] <= 100:
            raise BadInputError(f"cloud cover lies from 0 to 100 percent, not {self.cloud[0]:g} to {self.cloud[1]:g}")
        if not 0 <= self.min_coverage <= 100:
            raise BadInputError(f"min_coverage is a percentage, 0 to 100, not {self.min_coverage:g}")
        if wrong := [tile for tile in self.tiles if not re.fullmatch(r"\d{2}[A-Z]{3}", tile)]:
            raise BadInputError(f"{wrong[0]!r} is no tile: write 32TNT")


@dataclass(frozen=True)
class WantedFile:
    """A file that should be fetched.

    Attributes:
        scene: Acquisition and tile, ``"S2A_20230512T102601_32TNT"``.
        role: What it is for.
        item: The STAC item, None if there is no product of that level.
        asset: Name of its asset, "" if the item has none.
        path: Where it shall lie, relative to the folder.
        signer: How its address is made good, see :mod:`stac2cube.source.sign`.
        signed: Its address as the catalog signed it, "" if it did not; in memory only.
        reason: Why it cannot be had at all, "" if it can.
        parts: Ids of all items of the product, where its bands stand in several.
    """

    scene: str
    role: Role
    item: Mapping[str, Any] | None = field(repr=False)
    asset: str = ""
    path: str = ""
    signer: str = "none"
    reason: str = ""
    signed: str = field(default="", repr=False)
    parts: tuple[str, ...] = ()

    @property
    def about(self) -> Mapping[str, Any]:
        """The asset, as the item has it."""
        value: Mapping[str, Any] = self.item["assets"][self.asset] if self.item is not None and self.asset else {}
        return value

    @property
    def size(self) -> int | None:
        """Bytes, None if the catalog does not say."""
        size = self.about.get("file:size")
        return int(size) if isinstance(size, (int, float)) else None


@dataclass(frozen=True)
class Acquisition:
    """One datatake over one tile.

    Attributes:
        name: ``"S2A_20230512T102601_32TNT"``.
        time: When.
        granules: Level -> the granule of the newest baseline.
    """

    name: str
    time: datetime
    granules: Mapping[str, Granule]


def wanted_files(request: DownloadRequest) -> list[WantedFile]:
    """Every file that should be fetched, also those that the catalog lacks; oldest acquisition first.

    Raises:
        BadInputError: A role is not known, or the catalog does not carry its level.
        NothingFoundError: There is no acquisition.
        CatalogError: The catalog cannot be read.
    """
    catalog = find_catalog(request.catalog)
    roles = parse_roles(request.roles, catalog.like)
    levels = tuple(dict.fromkeys(role.level for role in roles))
    found: list[WantedFile] = []
    granules: dict[str, list[Granule]] = {}
    for level in levels:
        scenes = search(_query(request, level, [role for role in roles if role.level == level]), catalog)
        granules[level] = [granule for scene in scenes for granule in scene.granules]
        for scene in scenes:
            if scene.problem:
                log.warning("%s: %s", scene.key, scene.problem)
                found += [WantedFile(str(scene.key), r, None, reason=scene.problem) for r in roles if r.level == level]
    acquisitions = [one for one in _paired(granules) if _fits(one, request)][: request.max_scenes]
    if not acquisitions and not found:
        raise NothingFoundError(f"{catalog.name} has no acquisition of {', '.join(levels)} for these words")
    for one in acquisitions:
        found += [_wanted(one, role) for role in roles]
    return found


def _query(request: DownloadRequest, level: str, roles: Sequence[Role]) -> Query:
    """A search for items that have what the roles name, besides the bands that the mission has by default."""
    mission = find_mission(LEVELS[level])
    named = {role.word.removesuffix("_20m").rpartition(".")[2].upper() for role in roles}
    default = [band.name for band in mission.choose_bands(None)]
    bands = mission.choose_bands([name for name in mission.bands if name in default or name in named])
    return Query(mission, request.area.geometry, request.area.longitude, parse_period(request.time).intervals, bands)


def _paired(granules: Mapping[str, Sequence[Granule]]) -> list[Acquisition]:
    """Granules of one datatake, tile and datastrip of all levels together, oldest first."""
    groups: dict[tuple[str, str, str], dict[str, dict[str, Granule]]] = {}
    for level, several in granules.items():
        for granule in several:
            item = json.loads(granule.item)
            where = (_unit(item, granule), datatake_of(item, granule), granule.tile)
            groups.setdefault(where, {}).setdefault(granule.datastrip, {})[level] = granule
    made = []
    for (unit, datatake, tile), strips in sorted(groups.items()):
        whole = list(strips.values())
        if len(whole) == 2 and not whole[0].keys() & whole[1].keys():
            whole = [whole[0] | whole[1]]  # where catalogs name the datastrip of one level only
        for place, group in enumerate(whole):
            name = f"{unit}_{datatake}_{tile}" + (f"_{place + 1}" if len(whole) > 1 else "")
            made.append(Acquisition(name, min(granule.time for granule in group.values()), group))
    return sorted(made, key=lambda one: (one.time, one.name))


def datatake_of(item: Mapping[str, Any], granule: Granule) -> str:
    """Begin of the datatake, ``"20230512T102601"``, which Level-1C and Level-2A share."""
    properties = item["properties"]
    names = (properties.get("eopf:datatake_id"), properties.get("s2:datatake_id"), properties.get("s2:product_uri"))
    for name in (*names, item["id"]):
        if match := re.search(r"_(\d{8}T\d{6})(?:_|$)", str(name or "")):
            return match[1]
    return f"{granule.time:%Y%m%dT%H%M%S}"


def _unit(item: Mapping[str, Any], granule: Granule) -> str:
    platform = str(item["properties"].get("platform") or "").lower()
    return f"S2{platform[-1].upper()}" if platform.startswith("sentinel-2") else granule.id[:3]


def _fits(one: Acquisition, request: DownloadRequest) -> bool:
    granule = next(iter(one.granules.values()))
    if request.tiles and granule.tile not in request.tiles:
        return False
    if granule.cloud_cover is not None and not request.cloud[0] <= granule.cloud_cover <= request.cloud[1]:
        return False
    area = request.area.geometry
    if not request.min_coverage or not area.area:
        return True
    covered = shape(granule.footprint).intersection(area).area / area.area
    return bool(100 * covered >= request.min_coverage - 1e-6)


def _wanted(one: Acquisition, role: Role) -> WantedFile:
    granule = one.granules.get(role.level)
    if granule is None:
        return WantedFile(one.name, role, None, reason=f"the catalog has no {role.level.upper()} of this acquisition")
    items = granule.items
    item = next((item for item in items if role.asset_of(item)), items[0])
    asset = role.asset_of(item)
    wanted = WantedFile(one.name, role, item, asset, signer=granule.signer, parts=granule.item_ids)
    if not asset:
        names = " or ".join(granule.item_ids)
        return replace(wanted, reason=f"item {names} has no asset {' or '.join(role.assets)}")
    path = f"{safe_name(str(item['id']))}/{_file_names(item)[asset]}"
    return replace(wanted, path=path, signed=granule.signed.get(str(item["assets"][asset]["href"]), ""))


def _file_names(item: Mapping[str, Any]) -> dict[str, str]:
    """The names that the files of an item get, by asset, no two alike; of those that would be, by the asset's own."""
    names = {key: _file_name(key, about) for key, about in sorted(item["assets"].items())}
    often = Counter(name.casefold() for name in names.values())
    own = Names({key: name for key, name in names.items() if often[name.casefold()] == 1})
    for key, name in names.items():
        if often[name.casefold()] > 1:
            stem = PurePosixPath(name).stem
            names[key] = own.of(f"{key}_{name}" if stem.casefold() != key.casefold() else name)
    return names


def _file_name(asset: str, about: Mapping[str, Any]) -> str:
    """The name that the file has in its product."""
    try:
        path = urlsplit(str(about["href"])).path
    except ValueError:  # it is no address, which is said if the file is wanted
        path = ""
    for place in (about.get("file:local_path"), path):
        name = PurePosixPath(unquote(str(place or ""))).name
        if re.fullmatch(r"[A-Za-z0-9][\w.\-]*\.\w+", name):
            return safe_name(name)
    return safe_name(asset)
