"""The manifest of a folder of products: a local catalog, and an account of every file that should be there.

``index.json`` is a GeoJSON collection of STAC items, as every command takes for ``--catalog``, with members of our own
beside them. An item holds the assets that are there, with paths relative to the folder and roles of
:mod:`stac2cube.training.roles`. The account lists those too that are not, and why.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from stac2cube.cube.files import write_whole
from stac2cube.errors import BadInputError
from stac2cube.names import is_below
from stac2cube.training.documents import read_document
from stac2cube.trust.text import cell, printable

SCHEMA = "stac2cube-manifest/1"

MANIFEST = "index.json"

TABLES = ("csv", "parquet", "xlsx")
"""Formats of the account for people to look at: ``files.csv`` and so on."""

State = Literal["there", "failed", "missing"]
"""Of a file: fetched and verified; it could not be fetched; the catalog has none."""


@dataclass(frozen=True)
class FileEntry:
    """A file of a product.

    Attributes:
        scene: Acquisition and tile that it belongs to, ``"S2A_20230512T102601_32TNT"``.
        role: ``"l1c.band.B02"``.
        item: Id of the product; "" if there is none of that level.
        path: Relative to the manifest; "" if the catalog has no such file.
        state: See :data:`State`.
        reason: Why it is not there, "" if it is.
        size: Bytes, None if unknown.
        checksum: Multihash, "" if the catalog gives none.
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
    """What a folder of products holds.

    Attributes:
        catalog: Where they were found.
        roles: Words of the roles asked for.
        files: The account, sorted by scene and role.
        items: STAC items with the assets that are there.
    """

    catalog: str
    roles: tuple[str, ...]
    files: tuple[FileEntry, ...]
    items: tuple[Mapping[str, Any], ...]

    @property
    def absent(self) -> tuple[FileEntry, ...]:
        """Files that should be there and are not."""
        return tuple(entry for entry in self.files if entry.state != "there")

    @property
    def scenes(self) -> tuple[str, ...]:
        """Acquisitions, sorted."""
        return tuple(sorted({entry.scene for entry in self.files}))


def check_tables(tables: Sequence[str]) -> None:
    """Be sure that tables can be written.

    Raises:
        BadInputError: One is not known, or needs a package that is not there.
    """
    if unknown := sorted(set(tables) - set(TABLES)):
        raise BadInputError(f"there is no table {unknown[0]!r}: choose {', '.join(TABLES)}")
    if "xlsx" in tables and find_spec("openpyxl") is None:
        raise BadInputError("tables as xlsx need a package more: pip install 'stac2cube[xlsx]'")


def write_manifest(folder: Path, manifest: Manifest, tables: Sequence[str] = ()) -> Path:
    """Write a manifest, atomically, and tables of its account.

    Args:
        folder: Of the products.
        manifest: What to write.
        tables: Some of :data:`TABLES`.

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
        BadInputError: It is not there, or is none that this version reads.
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
