"""A set of patches from beginning to end: look at all, choose, write shards, and say in a manifest what it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from stac2cube.cube.files import remove_partials, remove_tree, write_whole
from stac2cube.errors import BadInputError
from stac2cube.training.choosing import KEPT, as_geoparquet, choose, counts_of, plain
from stac2cube.training.documents import made_folder
from stac2cube.training.forms import FORMS
from stac2cube.training.frames import Source
from stac2cube.training.parts import Making
from stac2cube.training.patch_rules import PatchRules
from stac2cube.training.patches import Scan, Stack, scan, stacks_of
from stac2cube.training.shards import Kept, Shard
from stac2cube.training.statistics import Statistics

SCHEMA = "stac2cube-patches/1"

MANIFEST, TABLE, ASKED = "manifest.json", "patches.parquet", ".asked.json"

_FACTS = ("id", "place", "frames", "times", "crs", "bounds", "row", "column", "split", "valid", "cloud", "classes")
"""What of a patch's row travels with its pixels."""


@dataclass(frozen=True)
class PatchSet:
    """What was made.

    Attributes:
        folder: Where.
        manifest: What stands in ``manifest.json``; empty if it was stopped before the end.
    """

    folder: Path
    manifest: dict[str, Any]


def make_patches(
    source: Source,
    folder: str | Path,
    rules: PatchRules,
    making: Making | None = None,
    *,
    statistics: Statistics | None = None,
) -> PatchSet:
    """Cut frames into patches, choose, split, and write them in shards.

    Run again after whatever ended it, it makes what lacks, to the same bytes.

    Args:
        source: The frames.
        folder: For shards, ``patches.parquet`` (every patch, also those left out, and why) and ``manifest.json``.
        rules: How.
        making: Where the work is done; in threads of this process if None.
        statistics: Patches are clipped and standardised by them; physical values if None.

    Raises:
        BadInputError: The folder holds another set, statistics are of other numbers, or no patch is good enough.
        IncompleteError: Pictures could not be read; no shard is ever smaller for it. Run it again.
    """
    if statistics is not None:
        statistics.require_fit(source.bands, source.radiometry)
    making, out = making or Making(), Path(folder)
    asked = _asked(source, rules, statistics)
    if not _begin(out, asked):
        _clear(out)
        return PatchSet(out, json.loads((out / MANIFEST).read_text()))
    stacks = stacks_of(source, rules)
    seen = {out / ".seen" / f"{at:06d}": Scan(stack, rules, source.ignore) for at, stack in enumerate(stacks)}
    (out / ".seen").mkdir(exist_ok=True)
    if not making.make(seen, scan):
        return PatchSet(out, {})
    table = choose((row for path in seen for row in json.loads(path.read_text())), rules)
    if not (table["status"] == KEPT).any():
        raise BadInputError(f"{source.name}: no patch is good enough: {counts_of(table)['left out']}")
    writer, shards = FORMS[rules.form], _shards(table, stacks, source, rules, statistics)
    wanted = {writer.where(out, split, number): shard for (split, number), shard in shards.items()}
    for path in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
    if not making.make(wanted, writer.write):
        return PatchSet(out, {})
    counts = counts_of(table)
    for split, count in counts["kept"].items():
        writer.finish(out, split, shards[split, 0], count)
    write_whole(out / TABLE, as_geoparquet(table))
    files = {str(path.relative_to(out)): _checksum(path) for path in wanted}
    manifest = {**asked, "counts": counts, "files": files}
    write_whole(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    _clear(out)
    return PatchSet(out, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a set of patches.

    Raises:
        BadInputError: None there, or of another schema.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise BadInputError(f"{folder} holds no finished set of patches ({error}): run `stac2cube patches`") from error
    if manifest.get("schema") != SCHEMA:
        raise BadInputError(f"{folder} is of the schema {manifest.get('schema')!r}, not {SCHEMA!r}")
    return manifest


def _asked(source: Source, rules: PatchRules, statistics: Statistics | None) -> dict[str, Any]:
    """All that decides the bytes of a set."""
    return {
        "schema": SCHEMA,
        "source": source.name,
        "frames": source.digest,
        "bands": list(source.bands),
        "radiometry": source.radiometry,
        "ignore_index": source.ignore,
        "classes": None if source.classes is None else {str(number): name for number, name in source.classes.items()},
        "rules": rules.to_json(),
        "statistics": None if statistics is None else statistics.to_json(),
    }


def _begin(out: Path, asked: dict[str, Any]) -> bool:
    """Be sure that the folder is free or holds this very set; False if the set is there, whole."""
    made_folder(out)
    begun, finished = out / ASKED, out / MANIFEST
    plain = json.loads(json.dumps(asked))
    there = {file: _read(file) for file in (begun, finished) if file.exists()}
    for before in there.values():
        # The same frames by another path are the same: a folder may be moved, or seen from elsewhere.
        differing = sorted(name for name in plain if name != "source" and before.get(name) != plain[name])
        if differing:
            raise BadInputError(
                f"{out} holds another set of patches ({', '.join(differing)} differ): give another folder"
            )
    if finished in there:
        if all((out / name).exists() for name in there[finished]["files"]):
            return False
        finished.unlink()  # a shard went since: it is made again
    elif begun not in there and any(out.iterdir()):
        raise BadInputError(f"{out} is not empty: give a new folder")
    write_whole(begun, json.dumps(plain).encode())
    return True


def _read(file: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadInputError(f"{file} cannot be read ({error}): give another folder") from error
    return said


def _clear(out: Path) -> None:
    """The set is there, whole: what was needed on the way goes, and what killed runs left."""
    remove_tree(out / ".seen")
    (out / ASKED).unlink(missing_ok=True)
    remove_partials(out, deep=True)


def _shards(
    table: pd.DataFrame, stacks: list[Stack], source: Source, rules: PatchRules, statistics: Statistics | None
) -> dict[tuple[str, int], Shard]:
    by_key = {stack.key: stack for stack in stacks}
    shards = {}
    kept = table[table["status"] == KEPT].sort_values(["split", "shard", "at"])
    for (split, number), group in kept.groupby(["split", "shard"]):
        patches = tuple(
            Kept(by_key[row["id"].rsplit("_", 2)[0]], {name: plain(row[name]) for name in _FACTS})
            for row in group.to_dict("records")
        )
        shards[str(split), int(number)] = Shard(
            patches, rules.per_shard, rules.size, source.bands, rules.stack == 1, statistics
        )
    return shards


def _checksum(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files in the order of their names."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    total = sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
