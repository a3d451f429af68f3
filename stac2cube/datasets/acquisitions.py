"""The files to fetch of each acquisition, and the manifest of a folder of products."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from shapely.geometry import shape

from stac2cube.datasets.files import read_document
from stac2cube.datasets.rules import LEVELS, DownloadRequest, Role, parse_roles
from stac2cube.errors import BadInputError, NothingFoundError
from stac2cube.model.catalog import find_catalog
from stac2cube.model.mission import find_mission
from stac2cube.model.query import Query
from stac2cube.model.scene import Granule, split_store, standing, version_of
from stac2cube.search.search import search
from stac2cube.store.files import write_whole
from stac2cube.trust.names import Names, is_below, safe_name
from stac2cube.trust.text import cell, printable

# The files of each acquisition to fetch: searched in a catalog, Level-1C paired with Level-2A, newest baseline.

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WantedFile:
    """A file to fetch.

    Attributes:
        scene: Acquisition and tile, ``"S2A_20230512T102601_32TNT"``.
        role: Role of the file.
        item: The STAC item, None if there is no product of that level.
        asset: Name of its asset, "" if the item has none.
        path: Target path, relative to the folder.
        signer: How its address is signed, see :mod:`stac2cube.access.sign`.
        signed: Its address as signed by the catalog, "" if the catalog did not sign it; in memory only.
        reason: Why it is not available at all, "" if it is.
        parts: Ids of all items of the product, where its bands are in several items.
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
        """The asset object of the item."""
        value: Mapping[str, Any] = self.item["assets"][self.asset] if self.item is not None and self.asset else {}
        return value

    @property
    def size(self) -> int | None:
        """Bytes, None if the catalog does not give the size."""
        size = self.about.get("file:size")
        return int(size) if isinstance(size, (int, float)) else None

    @property
    def checksum(self) -> str:
        """Multihash, "" if the catalog does not give one."""
        return str(self.about.get("file:checksum") or "")


@dataclass(frozen=True)
class Acquisition:
    """One datatake over one tile.

    Attributes:
        name: ``"S2A_20230512T102601_32TNT"``.
        time: Acquisition time.
        granules: Level -> the granule of the newest baseline.
    """

    name: str
    time: datetime
    granules: Mapping[str, Granule]


def wanted_files(request: DownloadRequest) -> list[WantedFile]:
    """List every file to fetch, including those missing from the catalog; oldest acquisition first.

    Raises:
        BadInputError: A role is unknown, or the catalog does not have its level.
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
    """A query for items that have the assets of the roles and the default bands of the mission."""
    mission = find_mission(LEVELS[level])
    named = {role.word.removesuffix("_20m").rpartition(".")[2].upper() for role in roles}
    default = [band.name for band in mission.choose_bands(None)]
    bands = tuple(name for name in mission.bands if name in default or name in named)
    return Query(mission.name, request.area, request.time, bands, request.catalog)


def _paired(granules: Mapping[str, Sequence[Granule]]) -> list[Acquisition]:
    """Group the granules of all levels by datatake, tile and datastrip, oldest first."""
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
            whole = [whole[0] | whole[1]]  # some catalogs name the datastrip for one level only
        for place, group in enumerate(whole):
            name = f"{unit}_{datatake}_{tile}" + (f"_{place + 1}" if len(whole) > 1 else "")
            made.append(Acquisition(name, min(granule.time for granule in group.values()), group))
    return sorted(made, key=lambda one: (one.time, one.name))


def datatake_of(item: Mapping[str, Any], granule: Granule) -> str:
    """Start of the datatake, ``"20230512T102601"``, which Level-1C and Level-2A share."""
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
    if split_store(str(item["assets"][asset]["href"])):
        return replace(
            wanted,
            reason=f"asset {asset} of item {item['id']} lies in a Zarr store, whose arrays are no files: read it where "
            "it is (stac2cube layers), or mirror the whole store with a tool for that",
        )
    path = f"{safe_name(str(item['id']))}/{_file_names(item)[asset]}"
    return replace(wanted, path=path, signed=granule.signed.get((str(item["id"]), asset), ""))


def _file_names(item: Mapping[str, Any]) -> dict[str, str]:
    """Unique file names of an item's assets; names that would collide are prefixed with the asset's key."""
    names = {key: _file_name(key, about) for key, about in sorted(item["assets"].items())}
    often = Counter(name.casefold() for name in names.values())
    own = Names({key: name for key, name in names.items() if often[name.casefold()] == 1})
    for key, name in names.items():
        if often[name.casefold()] > 1:
            stem = PurePosixPath(name).stem
            names[key] = own.of(f"{key}_{name}" if stem.casefold() != key.casefold() else name)
    return names


def _file_name(asset: str, about: Mapping[str, Any]) -> str:
    """The name of the file in its product."""
    try:
        path = urlsplit(str(about["href"])).path
    except ValueError:  # not a valid address; reported only if the file is requested
        path = ""
    for place in (about.get("file:local_path"), path):
        name = PurePosixPath(unquote(str(place or ""))).name
        if re.fullmatch(r"[A-Za-z0-9][\w.\-]*\.\w+", name):
            return safe_name(name)
    return safe_name(asset)


# The manifest of a folder of products: a local catalog, and a list of every file that should be there.
#
# ``index.json`` is a GeoJSON collection of STAC items, accepted by every command as ``--catalog``, with additional
# members. An item holds the assets that are there, with paths relative to the folder and roles of
# :mod:`stac2cube.datasets.rules`. The file list also contains missing files, with the reason.

SCHEMA = "stac2cube-manifest/1"

MANIFEST = "index.json"

TABLES = ("csv", "parquet", "xlsx")
"""Formats of the file list for people: ``files.csv`` and so on."""

State = Literal["there", "failed", "missing"]
"""State of a file: fetched and verified; could not be fetched; not in the catalog."""


@dataclass(frozen=True)
class FileEntry:
    """A file of a product.

    Attributes:
        scene: Its acquisition and tile, ``"S2A_20230512T102601_32TNT"``.
        role: ``"l1c.band.B02"``.
        item: Id of the product; "" if there is no product of that level.
        path: Path relative to the manifest; "" if the catalog has no such file.
        state: See :data:`State`.
        reason: Why it is not there, "" if it is.
        size: Bytes, None if unknown.
        checksum: Multihash, "" if the catalog does not give one.
        verified: ``"checksum"``, ``"size"`` or ``"nothing"``; "" if it is not there.
    """

    scene: str
    role: str
    item: str
    path: str
    state: State
    reason: str = ""
    size: int | None = None
    checksum: str = ""
    verified: str = ""


@dataclass(frozen=True)
class Manifest:
    """Content of a folder of products.

    Attributes:
        catalog: The catalog they were found in.
        roles: Names of the requested roles.
        files: All files, sorted by scene and role.
        items: STAC items with the assets that are there.
    """

    catalog: str
    roles: tuple[str, ...]
    files: tuple[FileEntry, ...]
    items: tuple[Mapping[str, Any], ...]

    @property
    def absent(self) -> tuple[FileEntry, ...]:
        """Files that should be there but are not."""
        return tuple(entry for entry in self.files if entry.state != "there")

    @property
    def scenes(self) -> tuple[str, ...]:
        """Acquisitions, sorted."""
        return tuple(sorted({entry.scene for entry in self.files}))

    def changed(self, wanted: Sequence[WantedFile]) -> frozenset[str]:
        """Ids of items that were changed in their catalog since, as far as the catalog shows it.

        Args:
            wanted: Files with the current items.
        """
        now = {str(one.item["id"]): one.item for one in wanted if one.item is not None}
        pairs = [(item, now[item["id"]]) for item in self.items if item["id"] in now]
        newer = (item for item, new in pairs if standing(version_of(item, ()), version_of(new, ())) == "newer")
        return frozenset(str(item["id"]) for item in newer)


def check_tables(tables: Sequence[str]) -> None:
    """Check that tables can be written.

    Raises:
        BadInputError: A format is unknown, or needs a package that is not installed.
    """
    if unknown := sorted(set(tables) - set(TABLES)):
        raise BadInputError(f"there is no table {unknown[0]!r}: choose {', '.join(TABLES)}")
    if "xlsx" in tables and find_spec("openpyxl") is None:
        raise BadInputError("tables as xlsx need a package more: pip install 'stac2cube[xlsx]'")


def write_manifest(folder: Path, manifest: Manifest, tables: Sequence[str] = ()) -> Path:
    """Write a manifest, atomically, and tables of its files.

    Args:
        folder: Folder of the products.
        manifest: The manifest.
        tables: Any of :data:`TABLES`.

    Raises:
        BadInputError: See :func:`check_tables`.
    """
    check_tables(tables)
    rows = [asdict(entry) for entry in manifest.files]
    for kind in tables:
        write_whole(folder / f"files.{kind}", _TABLE[kind](rows))
    value = {
        "type": "FeatureCollection",
        "schema": SCHEMA,
        "catalog": manifest.catalog,
        "roles": list(manifest.roles),
        "files": rows,
        "features": list(manifest.items),
    }
    write_whole(folder / MANIFEST, (json.dumps(value, indent=1) + "\n").encode())
    return folder / MANIFEST


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Args:
        path: ``index.json``, or its folder.

    Raises:
        BadInputError: The manifest does not exist, or this version cannot read it.
    """
    file = path / MANIFEST if path.is_dir() else path
    value = read_document(file, SCHEMA, "manifest", "fetch products with `stac2cube download`")
    names = {field.name for field in fields(FileEntry)}
    try:
        if any(set(row) != names or row["state"] not in get_args(State) for row in value["files"]):
            raise BadInputError(f"{file}: an entry of files has other keys than {', '.join(sorted(names))}")
        files = tuple(FileEntry(**row) for row in value["files"])
        if leaving := next((entry.path for entry in files if entry.path and not is_below(entry.path)), None):
            raise BadInputError(f"{file}: the path {printable(leaving)!r} leads out of the folder")
        return Manifest(str(value["catalog"]), tuple(value["roles"]), files, tuple(value["features"]))
    except (KeyError, TypeError) as error:
        raise BadInputError(f"{file} is damaged: {error!r}") from None


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(FileEntry)])
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"size": pa.int64()}
    schema = pa.schema([(field.name, kinds.get(field.name, pa.string())) for field in fields(FileEntry)])
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), content)
    return content.getvalue()


def _xlsx(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pandas as pd

    content = io.BytesIO()
    columns = [field.name for field in fields(FileEntry)]
    told = [{name: cell(value) for name, value in row.items()} for row in rows]
    pd.DataFrame(told, columns=columns).to_excel(content, index=False, engine="openpyxl")
    return content.getvalue()


_TABLE = {"csv": _csv, "parquet": _parquet, "xlsx": _xlsx}
