"""An archive on disk: its entry point (the door), its tiles, the state of each, and the steps that they hold."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stac2cube.errors import BadInputError, CubeError
from stac2cube.store.files import read_plain, write_whole
from stac2cube.store.lock import IN_FOLDER, CubeLock
from stac2cube.store.metadata import has_lost_root, now_text, read_root
from stac2cube.trust.names import MARK, is_harmless, safe_name
from stac2cube.trust.text import parse_json

if TYPE_CHECKING:
    import numpy as np

    from stac2cube.archives.tiling import ArchiveTile

log = logging.getLogger(__name__)

DOOR = "archive.json"
"""Entry point of an archive: a STAC Collection whose children are the Collections of its cubes."""

OWN_FOLDER = ".archive"
"""Folder in an archive for all but tiles and the entry point."""

STATE = "state.json"
"""File in the folder of a tile with the outcome of its last run."""

FIELD = "stac2cube:archive"
"""Field of the entry point with the data of stac2cube."""

FORMAT = 1
"""Version of the layout of an archive; newer versions are refused."""


@dataclass(frozen=True)
class TileState:
    """Outcome of the last run of a tile.

    Attributes:
        code: Exit code: 0 done, 2 some steps failed, 1 not made, 10 stopped before the end, -1 never run.
        reason: Reason of a code other than 0.
        fingerprint: Digest of the items and the recipe from which it was made.
        items: Number of items that were found for it.
        steps: Number of steps by product, for products that are cubes.
        failures: Number of failed steps by reason.
        files: Number of files in its folder after the run.
        size: Their bytes.
        seconds: Wall time of the run.
        cores: Number of blocks that were made at the same time.
        run: Name of the run.
        updated: End of the run, UTC.
        new_files: Files that the run added.
        new_bytes: Bytes that the run added.
        new_steps: Steps that the run added, over all products.
    """

    code: int = -1
    reason: str = ""
    fingerprint: str = ""
    items: int = 0
    steps: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    files: int = 0
    size: int = 0
    seconds: float = 0.0
    cores: int = 1
    run: str = ""
    updated: str = ""
    new_files: int = 0
    new_bytes: int = 0
    new_steps: int = 0


@dataclass(frozen=True)
class TileArchive:
    """An archive.

    Attributes:
        folder: Folder of the archive.
        tiles: Tiles by name, in the fixed order of mosaics.
        products: Names of the products that are cubes, in the order in which they are made.
    """

    folder: Path
    tiles: Mapping[str, ArchiveTile]
    products: tuple[str, ...]

    def tile_folder(self, tile: ArchiveTile) -> Path:
        """The folder of a tile."""
        return self.folder / tile.folder

    def cube(self, tile: ArchiveTile, product: str) -> Path:
        """Path of the cube of a product of a tile, which need not exist."""
        return self.folder / tile.folder / f"{product}.zarr"

    def cubes(self, product: str | None = None) -> Iterator[tuple[ArchiveTile, str, Path]]:
        """Tile, product and path of the cubes that exist, tile by tile, including cubes whose root is lost."""
        for tile in self.tiles.values():
            for name in self.products if product is None else (product,):
                path = self.cube(tile, name)
                if (path / "zarr.json").exists() or has_lost_root(path):
                    yield tile, name, path

    def state(self, tile: ArchiveTile) -> TileState:
        """Outcome of the last run of a tile; "never run" if its file is missing or malformed."""
        try:
            state = TileState(**parse_json(read_plain(self.tile_folder(tile) / STATE)))
        except (OSError, ValueError, TypeError):
            return TileState()
        return state if _is_sound(state) else TileState()

    def write_state(self, tile: ArchiveTile, state: TileState) -> None:
        """Write the outcome of a run of a tile."""
        write_whole(self.tile_folder(tile) / STATE, json.dumps(asdict(state), indent=1).encode())

    def lock(self, tile: ArchiveTile | None = None) -> CubeLock:
        """The lock of a tile, held while it is made; without a tile, that of the entry point.

        Raises:
            CubeLockedError: On entering, another process holds it.
        """
        from stac2cube.executors.queue import job_is_alive

        folder = self.folder / OWN_FOLDER if tile is None else self.tile_folder(tile)
        folder.mkdir(parents=True, exist_ok=True)
        return CubeLock(folder, verdict=job_is_alive, inside=IN_FOLDER)


def _is_sound(state: TileState) -> bool:
    """Whether all fields of a state have valid types: the file may have been edited or truncated."""
    plain = TileState()
    for field_ in fields(state):
        value, kind = getattr(state, field_.name), type(getattr(plain, field_.name))
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            return False
        if isinstance(value, dict) and not all(type(number) is int for number in value.values()):
            return False
    try:
        return not state.updated or datetime.fromisoformat(state.updated).tzinfo is not None
    except ValueError:
        return False


def is_archive(path: Path) -> bool:
    """Whether a folder is an archive, or a path the entry point of one."""
    return path.name == DOOR or (path.is_dir() and (path / DOOR).is_file())


def read_archive(path: str | Path) -> TileArchive:
    """Read the entry point of an archive.

    Args:
        path: The archive's folder, or its ``archive.json``.

    Raises:
        BadInputError: There is no archive, its version is newer, or its entry point is malformed.
    """
    from stac2cube.archives.tiling import ArchiveTile

    folder = Path(path).parent if Path(path).name == DOOR else Path(path)
    try:
        door = parse_json(read_plain(folder / DOOR))
        own = door[FIELD]
        if own["format"] > FORMAT:
            raise BadInputError(f"{folder} has layout {own['format']}, this version knows {FORMAT}: upgrade stac2cube")
        tiles = {name: ArchiveTile.from_json(name, value) for name, value in own["tiles"].items()}
        products = tuple(str(name) for name in own["products"])
    except FileNotFoundError:
        raise BadInputError(f"{folder} is no archive: it has no {DOOR}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"{folder / DOOR} is not the entry point of an archive: {error!r}") from error
    for name, tile in tiles.items():
        # The entry point is untrusted too: no name may lead out of the folder.
        if not is_harmless(tile.folder.replace(MARK, "-")):
            raise BadInputError(f"{folder / DOOR}: the folder of tile {name!r} is no name of a folder")
    if unsafe := [name for name in products if not is_harmless(name)]:
        raise BadInputError(f"{folder / DOOR}: {unsafe[0]!r} is no name of a product")
    return TileArchive(folder, dict(sorted(tiles.items())), products)


def with_tiles(
    old: TileArchive | None, folder: Path, tiles: Sequence[ArchiveTile], products: Sequence[str]
) -> TileArchive:
    """An archive with its present tiles and products and those of a recipe.

    Raises:
        BadInputError: A tile exists on another lattice.
    """
    have = {} if old is None else dict(old.tiles)
    for tile in tiles:
        known = have.get(tile.name)
        if known is not None and known.to_json() != tile.to_json():
            raise BadInputError(
                f"{folder}: the tile {tile.name} lies on another lattice than in {DOOR} ({known.crs}, "
                f"{known.resolution:g}, {known.origin}): take another folder for another tiling"
            )
        have[tile.name] = tile
    folders = [tile.folder.casefold() for tile in have.values()]
    if len(set(folders)) < len(folders):
        raise BadInputError(f"{folder}: two tiles would have the same folder: rename one in the file of tiles")
    kept = () if old is None else old.products
    return TileArchive(folder, dict(sorted(have.items())), tuple(dict.fromkeys([*products, *kept])))


def describe(archive: TileArchive, tile: ArchiveTile) -> None:
    """Write the Collections of those cubes of a tile that are newer than their Collection."""
    for product in archive.products:
        if (archive.cube(tile, product) / "zarr.json").exists():
            _described(archive, tile, product, archive.cube(tile, product))


def write_door(archive: TileArchive) -> Path:
    """Write ``archive.json``, the Collections of changed cubes, and the tables of steps; the caller holds the lock.

    Returns:
        Path of ``archive.json``.
    """
    import numpy as np
    import shapely

    from stac2cube.archives.tiling import tile_footprints

    archive.folder.mkdir(parents=True, exist_ok=True)
    links, times = [], []
    for tile, product, cube in archive.cubes():
        link = _described(archive, tile, product, cube)
        if link:
            links.append(link)
    for product in archive.products:
        table = product_steps(archive, product, whole=False)
        write_steps(archive, product, table)
        times += [table.times.min(), table.times.max()] if table.times.size else []
    west, south, east, north = shapely.total_bounds(tile_footprints(list(archive.tiles.values()))).tolist()
    interval = [f"{np.datetime64(int(at), 'us')}Z" for at in (min(times), max(times))] if times else [None, None]
    door = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": safe_name(archive.folder.resolve().name),
        "title": archive.folder.resolve().name,
        "description": f"{len(archive.tiles)} tiles with the products {', '.join(archive.products)}, by stac2cube",
        "license": "other",
        "extent": {"spatial": {"bbox": [[west, south, east, north]]}, "temporal": {"interval": [interval]}},
        "links": [{"rel": "self", "href": f"./{DOOR}", "type": "application/json"}, *links],
        FIELD: {
            "format": FORMAT,
            "updated": now_text(),
            "products": list(archive.products),
            "tiles": {name: tile.to_json() for name, tile in archive.tiles.items()},
        },
    }
    path = archive.folder / DOOR
    write_whole(path, json.dumps(door, indent=1).encode())
    return path


def _described(archive: TileArchive, tile: ArchiveTile, product: str, cube: Path) -> dict[str, str] | None:
    """The link to the Collection of a cube, which is rewritten if the cube has changed; None if it cannot be made.

    The file of the Collection gets the modification time of the cube's root. Equal times are compared, not which is
    newer, because the clock may have been set back in between.
    """
    from stac2cube.export.stac import collection_of

    name = f"{product}.json"
    path = archive.tile_folder(tile) / name
    stamp = _stamp(cube)
    try:
        if not stamp or not path.exists() or path.stat().st_mtime_ns != stamp:
            described = collection_of(cube, href=f"./{product}.zarr")
            described["id"] = f"{tile.folder}-{product}"
            door = {"rel": "parent", "href": f"../{DOOR}", "type": "application/json"}
            described["links"] = [*described["links"], door, {**door, "rel": "root"}]
            write_whole(path, json.dumps(described, indent=1, default=str).encode())
            os.utime(path, ns=(stamp, stamp))
    except (BadInputError, CubeError) as error:
        log.warning("%s of tile %s is not described: %s", product, tile.name, error)
        return None
    title = f"{product} of tile {tile.name}"
    return {"rel": "child", "href": f"./{tile.folder}/{name}", "type": "application/json", "title": title}


# The steps of all tiles: a table per product, so that an archive of thousands of cubes opens in a second.
#
# The tables are caches of the cubes. A tile whose root has changed since its table was written is read again.


@dataclass(frozen=True)
class StepTable:
    """The sealed steps of a product over all tiles.

    Attributes:
        tiles: Names of the tiles that have the product.
        stamps: Modification time of each tile's root, nanoseconds since 1970.
        keys: Unique keys of scenes, ``(keys,)``.
        tile: Index in ``tiles`` of each step, int32 ``(steps,)``.
        key: Index in ``keys`` of each step, int32 ``(steps,)``.
        times: Acquisition time of each step, microseconds since 1970 UTC, int64 ``(steps,)``.
    """

    tiles: tuple[str, ...]
    stamps: tuple[int, ...]
    keys: np.ndarray
    tile: np.ndarray
    key: np.ndarray
    times: np.ndarray


def steps_file(archive: TileArchive, product: str) -> Path:
    """Path of the table of steps of a product."""
    return archive.folder / OWN_FOLDER / f"{product}.steps.parquet"


def product_steps(archive: TileArchive, product: str, *, whole: bool = True) -> StepTable:
    """The present steps of a product; those of unchanged tiles come from the stored table.

    Args:
        archive: The archive.
        product: Name of the product.
        whole: False leaves out tiles whose cube has changed since and cannot be read, and logs their names.

    Raises:
        CubeError: A cube that has changed since cannot be read.
    """
    import numpy as np

    stamps = {tile.name: stamp for tile in archive.tiles.values() if (stamp := _stamp(archive.cube(tile, product)))}
    for tile in archive.tiles.values() if whole else ():
        if tile.name not in stamps and has_lost_root(archive.cube(tile, product)):
            read_root(archive.cube(tile, product))  # which says what to do: its pixels are no gap
    stored = _read_steps(steps_file(archive, product))
    if stored is not None and dict(zip(stored.tiles, stored.stamps, strict=True)) == stamps:
        return stored
    known = {} if stored is None else dict(zip(stored.tiles, stored.stamps, strict=True))
    names: list[np.ndarray] = []
    times: list[np.ndarray] = []
    for name, stamp in list(stamps.items()):
        if stored is not None and known.get(name) == stamp:
            mine = stored.tile == stored.tiles.index(name)
            keys, at = stored.keys[stored.key[mine]], stored.times[mine]
        else:
            try:
                keys, at = _read_tile(archive.cube(archive.tiles[name], product))
            except CubeError as error:
                if whole:
                    raise
                log.warning("the steps of %s of tile %s are left out: %s", product, name, error)
                del stamps[name]
                continue
        names.append(keys)
        times.append(at)
    counts = [one.size for one in names]
    everything = np.concatenate(names) if names else np.array([], dtype="U1")
    keys, places = np.unique(everything, return_inverse=True)
    of_tile = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    at = np.concatenate(times) if times else np.array([], dtype=np.int64)
    return StepTable(tuple(stamps), tuple(stamps.values()), keys, of_tile, places.astype(np.int32).ravel(), at)


def lost_cubes(archive: TileArchive) -> list[str]:
    """Cubes that had steps after the last run and no longer exist: ``"TILE/PRODUCT"``."""
    there = {path for _, _, path in archive.cubes()}
    found = []
    for product in archive.products:
        table = _read_steps(steps_file(archive, product))
        tiles = [archive.tiles[name] for name in (table.tiles if table else ()) if name in archive.tiles]
        found += [f"{tile.folder}/{product}" for tile in tiles if archive.cube(tile, product) not in there]
    return found


def write_steps(archive: TileArchive, product: str, table: StepTable) -> None:
    """Store the table of steps of a product."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "tile": pa.array(table.tile, pa.int32()),
        "key": pa.array(table.key, pa.int32()),
        "time": pa.array(table.times, pa.int64()),
    }
    # Keys are in the metadata: a column of texts would take several times the memory to read.
    about = {_TILES: json.dumps([table.tiles, table.stamps]), _KEYS: json.dumps(table.keys.tolist())}
    stored = pa.table(columns).replace_schema_metadata(about)
    sink = pa.BufferOutputStream()
    pq.write_table(stored, sink, compression="zstd", use_dictionary=False, row_group_size=2**16)
    path = steps_file(archive, product)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, sink.getvalue().to_pybytes())


def _read_steps(path: Path) -> StepTable | None:
    """A stored table; None if it is missing or unreadable, and has to be rebuilt."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            about = file.schema_arrow.metadata or {}
            tiles, stamps = parse_json(about[_TILES.encode()])
            keys = np.array(parse_json(about[_KEYS.encode()]) or [], dtype="U")
            count = file.metadata.num_rows
            tile, key, times = (np.empty(count, dtype) for dtype in (np.int32, np.int32, np.int64))
            begin = 0
            for group in range(file.num_row_groups):
                part = file.read_row_group(group)
                rows = slice(begin, begin + part.num_rows)
                tile[rows], key[rows], times[rows] = (part[name].to_numpy() for name in ("tile", "key", "time"))
                begin += part.num_rows
        inside = count == 0 or (tile.max() < len(tiles) and key.max() < keys.size and min(tile.min(), key.min()) >= 0)
        return StepTable(tuple(tiles), tuple(stamps), keys, tile, key, times) if inside else None
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, IndexError):
        return None


_TILES, _KEYS = "stac2cube:tiles", "stac2cube:keys"


def _stamp(cube: Path) -> int:
    """Modification time of the root of a cube, nanoseconds since 1970; 0 without a root."""
    try:
        return (cube / "zarr.json").stat().st_mtime_ns
    except OSError:
        return 0


def _read_tile(cube: Path) -> tuple[np.ndarray, np.ndarray]:
    """Keys and times of the sealed steps of a cube, by time."""
    import numpy as np

    from stac2cube.store.ledger import Ledger

    rows = Ledger(cube, read_root(cube).ledger).sealed(whole=False)
    times = [np.datetime64(row.time.replace(tzinfo=None), "us").astype(np.int64) for row in rows.values()]
    return np.array(list(rows), dtype="U") if rows else np.array([], dtype="U1"), np.array(times, dtype=np.int64)
