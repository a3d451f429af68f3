"""What scene indexes hold, told: their facts, a list of one's own, and all items as one file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stac2cube.catalog import index_path, indexes_folder, is_index
from stac2cube.cube.files import write_whole
from stac2cube.errors import BadInputError
from stac2cube.index import read_index, write_file
from stac2cube.source.indexed import Manifest, read_manifest


def export_index(name: str | Path, out: str | Path) -> Path:
    """An index as one file: ``.parquet`` (STAC GeoParquet, headers included) or ``.json`` (ItemCollection).

    Raises:
        BadInputError: Another ending.
    """
    old, file = read_index(index_path(name)), Path(out)
    if file.suffix == ".parquet":
        write_file(file, old.records)
    elif file.suffix in (".json", ".geojson"):
        items = [record.item for _, record in sorted(old.records.items())]
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps({"type": "FeatureCollection", "features": items}).encode())
    else:
        raise BadInputError(f"{file.name}: an index is written as .parquet or as .json")
    return file


def index_info(name: str | Path) -> dict[str, Any]:
    """What an index holds, as plain JSON values."""
    path = index_path(name)
    index = read_index(path)
    items = [record.item for record in index.records.values()]
    times = sorted(str(item["properties"].get("datetime")) for item in items)
    return {
        "path": str(path),
        "catalog": index.manifest.catalog,
        "request": index.manifest.request,
        "conditions": index.manifest.conditions,
        "updated": index.manifest.updated,
        "commit": index.manifest.commit,
        "items": len(items),
        "first": times[0] if times else None,
        "last": times[-1] if times else None,
        "collections": dict(Counter(str(item.get("collection")) for item in items)),
        "platforms": dict(Counter(str(item["properties"].get("platform")) for item in items)),
        "headers": dict(Counter(row["format"] for record in index.records.values() for row in record.headers)),
        "bytes": sum(part.size for part in index.manifest.parts),
        "files": [str(path / part.file) for part in index.manifest.parts],
    }


def list_indexes() -> list[dict[str, Any]]:
    """The user's own indexes: name, path, and the manifest's facts."""
    folder = indexes_folder()
    paths = sorted(path for path in folder.iterdir() if is_index(path)) if folder.is_dir() else []
    return [{"name": path.name, "path": str(path), **_short(read_manifest(path))} for path in paths]


def _short(manifest: Manifest) -> dict[str, Any]:
    facts = {name: value for name, value in asdict(manifest).items() if name in ("catalog", "updated", "headers")}
    return {"mission": manifest.request.get("mission", ""), "items": manifest.rows, **facts}
