"""The ledger: one row per time step, stored as STAC GeoParquet."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stac2cube.errors import CubeError
from stac2cube.model.catalog import SIDES, SOURCES
from stac2cube.store.files import make_folder, write_whole
from stac2cube.store.metadata import OWN
from stac2cube.store.staging import Receipt, Shard
from stac2cube.trust.names import is_name
from stac2cube.trust.text import parse_json, printable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

# The ledger: the provenance of a cube, one row per time step, as STAC GeoParquet.
#
# A row is a valid STAC Item (the step) with stac2cube's own columns. Rows are only ever added: a later row replaces an
# earlier one of the same key. Each commit writes one part. As in a binary counter, it merges the rows of younger,
# smaller parts, so that a cube of n commits has about log2(n) parts to read. The root names the parts that
# belong to it, so the ledger is part of the same commit as the pixels.

SEALED = "sealed"
FAILED = "failed"
EMPTY = "empty"

PERIOD_END = "period_end"
"""Property of a composite's step: the first instant after its period, as RFC 3339."""

_VERSION = "1.1.0"
"""STAC version of the rows."""


@dataclass(frozen=True)
class Entry:
    """One row: a time step, or the attempt to make one.

    Attributes:
        key: Text of the scene key.
        time: Acquisition time, UTC.
        status: ``"sealed"``, ``"failed"``, or ``"empty"`` for a scene without valid pixels over the area, or left out
            by the recipe.
        items: Sorted ids of the source items.
        parts: Parts of the step and their versions (tile and datastrip: processing baseline); they decide whether a
            sealed step is superseded.
        slot: Index on the stored time axis; None unless sealed.
        commit: Number of the commit that wrote the row; 0 until then.
        reason: Why it failed, or a remark on a sealed step.
        footprint: GeoJSON geometry in WGS84.
        properties: Facts of the step as plain JSON values (platform, catalog, baselines, shifts, software, job ...).
        sources: The source items as STAC JSON texts, unsigned.
        receipts: Receipts of all blocks written.
    """

    key: str
    time: datetime
    status: str
    items: tuple[str, ...]
    parts: Mapping[str, str] = field(default_factory=dict)
    slot: int | None = None
    commit: int = 0
    reason: str = ""
    footprint: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    receipts: tuple[Receipt, ...] = ()

    @property
    def cloud_percent(self) -> float | None:
        """Cloud over the area if counted, else over the scene as in its catalog; None if neither is known."""
        counted, said = self.properties.get("cloud_fraction"), self.properties.get("cloud_cover")
        return said if counted is None else 100 * counted

    @property
    def period_end(self) -> datetime | None:
        """First instant after the period of a composite, UTC; None for scenes, and in cubes that do not record it."""
        text = self.properties.get(PERIOD_END)
        return None if text is None else datetime.fromisoformat(text)


class Ledger:
    """The rows of a cube's ledger parts.

    Args:
        folder: The ledger's folder.
        parts: Names of the parts of one state of the cube, oldest first.
    """

    def __init__(self, cube: Path, parts: Sequence[str]) -> None:
        self.folder = cube / OWN / "ledger"
        self.parts = tuple(parts)

    def entries(self, *, whole: bool = True, keys: Collection[str] | None = None) -> dict[str, Entry]:
        """Newest row of every key, oldest time first.

        Args:
            whole: False omits footprints, sources and receipts, which is many times faster.
            keys: The only keys to read; all if None.

        Raises:
            CubeError: A part is not there or cannot be read.
        """
        rows: dict[str, Entry] = {}
        wanted = None if keys is None else set(keys)
        for part in self.parts:
            path = self.folder / part
            # First only the keys are read: most parts have none of the wanted ones, and new steps are in no part.
            if wanted is not None and wanted.isdisjoint(_keys_of(path)):
                continue
            table = _load(path, None if whole else _LEAN)
            for row in _rows_of(table, wanted):
                rows[row["id"]] = _entry_of(path, row, whole=whole)
        return dict(sorted(rows.items(), key=lambda row: (row[1].time, row[0])))

    def sealed(self, *, whole: bool = True) -> dict[str, Entry]:
        """The rows of :meth:`entries` that are sealed steps."""
        return {key: row for key, row in self.entries(whole=whole).items() if row.status == SEALED}

    def write(self, entries: Iterable[Entry], commit: int) -> tuple[str, ...]:
        """Add rows as the part of a commit; readers do not see it before the root names it.

        Returns:
            Names of the parts of the new state.
        """
        from stac2cube.model import geoparquet

        table = _table(list(entries))
        kept = list(self.parts)
        while kept and len(_keys_of(self.folder / kept[-1])) <= table.num_rows:
            table = _concat(_load(self.folder / kept.pop()), table)
        name = f"{commit:06d}.parquet"
        cube = self.folder.parents[1]
        make_folder(cube, self.folder)
        write_whole(self.folder / name, geoparquet.to_bytes(table), below=cube)
        return (*kept, name)


def _schema() -> pa.Schema:
    import pyarrow as pa

    from stac2cube.model import geoparquet

    asset = pa.struct([("href", pa.string()), ("type", pa.string()), ("roles", pa.list_(pa.string()))])
    return pa.schema(
        [
            ("type", pa.string()),
            ("stac_version", pa.string()),
            ("stac_extensions", pa.list_(pa.string())),
            ("id", pa.string()),
            ("geometry", pa.binary()),
            ("bbox", geoparquet.BBOX),
            ("datetime", geoparquet.TIME),
            ("links", geoparquet.LINKS),
            ("assets", pa.struct([("cube", asset)])),
            ("stac2cube:status", pa.string()),
            ("stac2cube:slot", pa.int64()),
            ("stac2cube:commit", pa.int64()),
            ("stac2cube:items", pa.list_(pa.string())),
            ("stac2cube:parts", pa.string()),
            ("stac2cube:reason", pa.string()),
            ("stac2cube:properties", pa.string()),
            (SOURCES, pa.list_(pa.string())),
            ("stac2cube:receipts", pa.string()),
        ],
        metadata=geoparquet.metadata(),
    )


_OWN_LEAN = ("status", "slot", "commit", "items", "parts", "reason", "properties")
_LEAN = ("id", "datetime", *(f"stac2cube:{name}" for name in _OWN_LEAN))


def _table(entries: Sequence[Entry]) -> pa.Table:
    from stac2cube.model import geoparquet

    return geoparquet.table_of_rows([_to_row(entry) for entry in entries], _schema())


def _to_row(entry: Entry) -> dict[str, Any]:
    from shapely.geometry import shape

    geometry = shape(entry.footprint) if entry.footprint else None
    bounds = dict(zip(SIDES, geometry.bounds, strict=True)) if geometry else None
    return {
        "type": "Feature",
        "stac_version": _VERSION,
        "stac_extensions": [],
        "id": entry.key,
        "geometry": geometry.wkb if geometry else None,
        "bbox": bounds,
        "datetime": entry.time,
        "links": [],
        "assets": {"cube": {"href": "../..", "type": "application/vnd.zarr; version=3", "roles": ["data"]}},
        "stac2cube:status": entry.status,
        "stac2cube:slot": entry.slot,
        "stac2cube:commit": entry.commit,
        "stac2cube:items": list(entry.items),
        "stac2cube:parts": json.dumps(entry.parts),
        "stac2cube:reason": entry.reason,
        "stac2cube:properties": json.dumps(entry.properties),
        SOURCES: list(entry.sources),
        "stac2cube:receipts": json.dumps([asdict(receipt) for receipt in entry.receipts]),
    }


def _entry_of(path: Path, row: Mapping[str, Any], *, whole: bool) -> Entry:
    try:
        return _from_row(row, whole=whole)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CubeError(
            f"{path}, a part of the cube's ledger, has a row of the step {printable(row['id'])} that stac2cube did not "
            f"write ({printable(error)[:120]}). Where the cube was copied, copy it again"
        ) from error


def _object(text: str) -> dict[str, Any]:
    value = parse_json(text)
    if not isinstance(value, dict):
        raise TypeError(f"{text!r:.60} is no JSON object")
    return value


def _from_row(row: Mapping[str, Any], *, whole: bool) -> Entry:
    if not is_name(row["id"]):  # keys become names of folders and files
        raise CubeError(
            f"the cube's ledger has a step {printable(row['id'])!r}, which is no key: it is not stac2cube's"
        )
    lean = Entry(
        key=row["id"],
        time=row["datetime"],
        status=row["stac2cube:status"],
        items=tuple(row["stac2cube:items"]),
        parts=_object(row["stac2cube:parts"]),
        slot=row["stac2cube:slot"],
        commit=row["stac2cube:commit"],
        reason=row["stac2cube:reason"],
        properties=_object(row["stac2cube:properties"]),
    )
    if not whole:
        return lean
    from shapely import from_wkb
    from shapely.errors import ShapelyError
    from shapely.geometry import mapping

    try:
        footprint = mapping(from_wkb(row["geometry"])) if row["geometry"] else {}
    except ShapelyError as error:
        raise ValueError(f"its geometry is none: {error}") from error
    return replace(
        lean,
        footprint=footprint,
        sources=tuple(row[SOURCES]),
        receipts=tuple(_receipt(value) for value in parse_json(row["stac2cube:receipts"])),
    )


def _receipt(value: dict[str, Any]) -> Receipt:
    shards = tuple(Shard(**{**shard, "tile": tuple(shard["tile"])}) for shard in value["shards"])
    return Receipt(**{**value, "tile": tuple(value["tile"]), "shards": shards})


def _load(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, "not a plain file")  # a pipe might never end
        with pq.ParquetFile(path) as part:  # read_table would import 400 more modules
            table = part.read(None if columns is None else list(columns))
        if lacking := set(columns or ()) - set(table.column_names):
            raise OSError(errno.EINVAL, f"it has no column {', '.join(sorted(lacking))}")
    except (OSError, pa.ArrowException) as error:
        why = "it is not there" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())[:120]
        raise CubeError(
            f"{path}, a part of the cube's ledger, cannot be read: {why}. `stac2cube verify` tells more; where the "
            "cube was copied, copy it again"
        ) from error
    return table


def _rows_of(table: pa.Table, keys: Collection[str] | None) -> Iterator[dict[str, Any]]:
    """The rows of some keys (all if None) in order; consecutive rows together, without importing pyarrow.compute."""
    from stac2cube.model import geoparquet

    if keys is None:
        yield from geoparquet.rows_of_table(table)
        return
    held = [key in keys for key in table["id"].to_pylist()]
    first = 0
    for wanted, group in groupby(held):
        count = len(list(group))
        if wanted:
            yield from geoparquet.rows_of_table(table.slice(first, count))
        first += count


def _keys_of(path: Path) -> tuple[str, ...]:
    """The keys of a part's rows, in order.

    Parts never change, and a run needs their keys several times (before and under the lock, to merge small parts),
    so they are read once per process. A file of the same name with other content has another file state.
    """
    try:
        state = path.stat()
    except OSError:
        return _keys_in(path)  # raises with the reason
    return _keys_of_file(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@lru_cache(maxsize=64)
def _keys_of_file(path: Path, *_: int) -> tuple[str, ...]:
    return _keys_in(path)


def _keys_in(path: Path) -> tuple[str, ...]:
    return tuple(_load(path, ("id",))["id"].to_pylist())


def _concat(older: pa.Table, newer: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([older, newer])


# Facts of each step in the ledger, as coordinates along time.

STEP_FACTS = {
    "platform": ("satellite", ""),
    "orbit": ("relative orbit", "1"),
    "cloud_cover": ("cloud over the whole scene, as its catalog says", "percent"),
    "catalog": ("catalog from which the scene was read", ""),
    "simulated": ("whether the scene is simulated, not measured by a satellite", "1"),
    "valid_fraction": ("part of the area with data", "1"),
    "cloud_fraction": ("part of the pixels with data that is cloud", "1"),
    "shift_x": ("eastward shift that was applied", "m"),
    "shift_y": ("northward shift that was applied", "m"),
    "shift_accepted": ("whether the shift was measured reliably", "1"),
    "residual_mtf": ("difference to the measured pixels, seen through the sensor's optics", "1"),
    "residual_mean": ("difference to the measured pixels, in plain means", "1"),
    "bright_fraction": ("part of the pixels that are saturated or too bright for a network", "1"),
}
"""Facts that :func:`stac2cube.open_cube` shows if a cube has them: description and unit ("" for text)."""


def step_facts(keys: Sequence[str], rows: Mapping[str, Entry]) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
    """Coordinates of steps: dimension, values, CF attributes.

    Args:
        keys: Keys of the steps, in order.
        rows: Rows of the ledger.
    """
    import numpy as np

    facts = {}
    for name, (what, units) in STEP_FACTS.items():
        values = [rows[key].properties.get(name) for key in keys]
        if any(value is not None for value in values):
            numeric = all(value is None or isinstance(value, (int, float)) for value in values)
            missing: Any = np.nan if numeric else ""
            filled = [missing if value is None else value for value in values]
            attributes = {"long_name": what} | ({"units": units} if units and numeric else {})
            facts[name] = ("time", np.array(filled) if numeric else np.array(list(map(str, filled))), attributes)
    return facts
