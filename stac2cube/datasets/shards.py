"""Make a set of patches and store it: WebDataset tar files, Zarr groups, GeoTIFF folders."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import pandas as pd
import rasterio
import zarr
from affine import Affine
from zarr.codecs import BloscCodec

from stac2cube.datasets.files import Making, made_folder
from stac2cube.datasets.frames import IGNORE, FrameSet
from stac2cube.datasets.patch_rules import PatchRules
from stac2cube.datasets.patches import (
    KEPT,
    Scan,
    Stack,
    as_geoparquet,
    choose_patches,
    counts_of,
    plain,
    scan,
    stacks_of,
)
from stac2cube.datasets.statistics import Statistics
from stac2cube.errors import BadInputError
from stac2cube.store.files import (
    passing,
    real_folder,
    remove_partials,
    remove_tree,
    sync_folder,
    sync_tree,
    write_whole,
)
from stac2cube.store.staging import fast_pipeline
from stac2cube.trust.text import parse_json

# A shard: patches that are stored together, and how their pixels are read.


@dataclass(frozen=True)
class KeptPatch:
    """A patch that goes into a shard.

    Attributes:
        stack: The stack with its pixels.
        facts: Its row of the table, plain JSON values.
    """

    stack: Stack
    facts: Mapping[str, Any]

    @property
    def json(self) -> bytes:
        """The facts as JSON, with sorted keys."""
        return json.dumps(dict(self.facts), sort_keys=True).encode()


@dataclass(frozen=True)
class ShardPlan:
    """Input of a worker that writes a shard.

    Attributes:
        patches: Patches, in order.
        most: Number of patches in a full shard.
        size: Edge of a patch, pixels.
        bands: Names of the bands.
        flat: Whether patches have one frame and no time axis.
        statistics: Patches are clipped and standardised by them; None for physical values.
    """

    patches: tuple[KeptPatch, ...]
    most: int
    size: int
    bands: tuple[str, ...]
    flat: bool
    statistics: Statistics | None

    def __str__(self) -> str:
        first = self.patches[0].facts
        return f"shard of {first['split']} that begins with {first['id']}"

    def pixels(self) -> Iterator[tuple[KeptPatch, np.ndarray, np.ndarray | None]]:
        """Each patch with ``x`` ``([time,] bands, rows, columns)`` float32 and ``y`` ``([time,] rows, columns)`` uint8.

        Without data, x is NaN; standardised, it is 0, the mean of all.

        Raises:
            ReadError: A file is missing or damaged.
        """
        for kept in self.patches:
            row, column = kept.facts["row"], kept.facts["column"]
            read = kept.stack.read(slice(row, row + self.size), slice(column, column + self.size))
            x = read.values if self.statistics is None else self.statistics.standardised(read.values, axis=1)
            y = read.labels
            if self.flat:
                x, y = x[0], None if y is None else y[0]
            yield kept, x, y


class Writer(Protocol):
    """Storage form of shards."""

    def where(self, root: Path, split: str, number: int) -> Path:
        """The file or folder whose existence means that a shard is complete."""
        ...

    def write(self, shard: ShardPlan, out: Path) -> None:
        """Write a shard, atomically; runs on a worker. The same shard gives the same bytes."""
        ...

    def finish(self, root: Path, split: str, shards: ShardPlan, count: int) -> None:
        """Write common metadata, after all shards of a split were written.

        Args:
            root: The folder.
            split: The split.
            shards: Any shard of the split.
            count: Number of patches of the split.
        """
        ...


@contextmanager
def partial_beside(out: Path) -> Iterator[Path]:
    """A temporary path beside a folder to be made, for :func:`finish_folder`; removed on exit, if it is still there."""
    partial = out.with_name(f".{out.name}.{uuid4().hex[:8]}.partial")
    try:
        yield partial
    finally:
        remove_tree(partial)  # frees its space if the disk is full


def finish_folder(partial: Path, out: Path) -> None:
    """Make a finished folder durable and give it its final name, atomically."""
    sync_tree(partial)
    passing("shard.made")
    if out.exists():  # another process made the same folder meanwhile
        remove_tree(partial)
        return
    partial.rename(out)
    passing("shard.named")
    sync_folder(out.parent)


# The forms of shards: tar files for WebDataset, a Zarr group per split, folders of GeoTIFFs.


class Tars:
    """``train-00000.tar``: per patch ``ID.x.npy``, ``ID.y.npy`` where there are labels, and ``ID.json``.

    Names may be longer than the 100 characters of plain tar: those of stacks contain the ids of two samples.
    """

    def where(self, root: Path, split: str, number: int) -> Path:
        """See :class:`stac2cube.datasets.shards.Writer`."""
        return root / f"{split}-{number:05d}.tar"

    def write(self, shard: ShardPlan, out: Path) -> None:
        """See :class:`stac2cube.datasets.shards.Writer`."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for kept, x, y in shard.pixels():
                key = kept.facts["id"]
                _add(tar, f"{key}.x.npy", _npy(x))
                if y is not None:
                    _add(tar, f"{key}.y.npy", _npy(y))
                _add(tar, f"{key}.json", kept.json)
        write_whole(out, content.getvalue())

    def finish(self, root: Path, split: str, shards: ShardPlan, count: int) -> None:
        """Do nothing: the names of tar files show which belong together."""


class ZarrGroups:
    """``train.zarr``: arrays ``x`` and ``y`` with the patches as first dimension, one file per shard.

    Metadata are written after all shards, so that a group can be opened only when it is complete.
    """

    def where(self, root: Path, split: str, number: int) -> Path:
        """See :class:`stac2cube.datasets.shards.Writer`: ``x`` is written last."""
        return root / f"{split}.zarr" / "x" / "c" / str(number)

    def write(self, shard: ShardPlan, out: Path) -> None:
        """See :class:`stac2cube.datasets.shards.Writer`."""
        split = real_folder(out.parents[2])
        _, xs, ys = zip(*shard.pixels(), strict=True)
        with partial_beside(split / out.name) as partial:
            for name, several in (("y", ys), ("x", xs)):
                if several[0] is None:
                    continue
                values = np.stack(several)
                _array(partial / name, name, shard.most, values.shape[1:], shard.most)[: len(values)] = values
                into = split / name / "c" / out.name
                into.parent.mkdir(parents=True, exist_ok=True)
                finish_folder(partial / name / "c" / "0", into)

    def finish(self, root: Path, split: str, shards: ShardPlan, count: int) -> None:
        """See :class:`stac2cube.datasets.shards.Writer`."""
        path = root / f"{split}.zarr"
        _, x, y = next(shards.pixels())
        for name, values in (("y", y), ("x", x)):
            if values is not None:
                with partial_beside(path / name) as made:
                    _array(made, name, count, values.shape, shards.most)
                    write_whole(path / name / "zarr.json", (made / "zarr.json").read_bytes())
        with partial_beside(path) as group:
            zarr.open_group(group, mode="w", zarr_format=3, attributes={"bands": list(shards.bands)})
            write_whole(path / "zarr.json", (group / "zarr.json").read_bytes())


class Tiffs:
    """``train/00000/ID/``: ``x.tif`` (bands, of all frames one after another), ``y.tif`` and ``meta.json``."""

    def where(self, root: Path, split: str, number: int) -> Path:
        """See :class:`stac2cube.datasets.shards.Writer`."""
        return root / split / f"{number:05d}"

    def write(self, shard: ShardPlan, out: Path) -> None:
        """See :class:`stac2cube.datasets.shards.Writer`."""
        with partial_beside(out) as partial:
            for kept, x, y in shard.pixels():
                folder = partial / kept.facts["id"]
                folder.mkdir(parents=True)
                names = [name for _ in range(x.shape[0] if x.ndim == 4 else 1) for name in shard.bands]
                _write_tiff(folder / "x.tif", x.reshape(-1, *x.shape[-2:]), kept, np.nan, names)
                if y is not None:
                    _write_tiff(folder / "y.tif", y.reshape(-1, *y.shape[-2:]), kept, IGNORE, ())
                (folder / "meta.json").write_bytes(kept.json)
            finish_folder(partial, out)

    def finish(self, root: Path, split: str, shards: ShardPlan, count: int) -> None:
        """Do nothing: the names of folders show which belong together."""


FORMS: Mapping[str, Writer] = {"webdataset": Tars(), "zarr": ZarrGroups(), "geotiff": Tiffs()}
"""Form -> its writer."""


def _npy(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(values), allow_pickle=False)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member that is the same for every run: no time, no owner."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(content))


def _array(path: Path, name: str, count: int, shape: tuple[int, ...], most: int) -> Any:
    """Create an array of patches, one chunk per patch, ``most`` chunks per shard file."""
    inner = ["band", "y", "x"] if name == "x" else ["y", "x"]
    with fast_pipeline(writing=True):  # chunks in order, else equal patches would give files with different bytes
        return zarr.create_array(
            store=path,
            shape=(count, *shape),
            dtype="float32" if name == "x" else "uint8",
            chunks=(1, *shape),
            shards=(most, *shape),
            compressors=BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
            fill_value=np.nan if name == "x" else IGNORE,
            dimension_names=["patch", *(["time"] if len(shape) > len(inner) else []), *inner],
        )


def _write_tiff(path: Path, values: np.ndarray, kept: KeptPatch, nodata: float, names: Sequence[str]) -> None:
    geobox = kept.stack.frames[0].geobox
    count, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=values.dtype,
        nodata=nodata,
        crs=str(geobox.crs),
        transform=geobox.transform * Affine.translation(kept.facts["column"], kept.facts["row"]),
        compress="deflate",
    ) as file:
        file.write(values)
        for band, name in enumerate(names, start=1):
            file.set_band_description(band, name)


# Making a set of patches: scan all, choose, write shards, and describe the set in a manifest.

SCHEMA = "stac2cube-patches/1"

MANIFEST, TABLE, ASKED = "manifest.json", "patches.parquet", ".asked.json"

_FACTS = ("id", "place", "frames", "times", "crs", "bounds", "row", "column", "split", "valid", "cloud", "classes")
"""Columns of a patch's row that are stored with its pixels."""


@dataclass(frozen=True)
class PatchSet:
    """A set of patches.

    Attributes:
        folder: Its folder.
        manifest: Content of ``manifest.json``; empty if the run was stopped before the end.
    """

    folder: Path
    manifest: dict[str, Any]


def make_patches(
    source: FrameSet,
    folder: str | Path,
    rules: PatchRules,
    making: Making | None = None,
    *,
    statistics: Statistics | None = None,
) -> PatchSet:
    """Cut frames into patches, choose and split them, and write them in shards.

    Run it again to make what is missing, with the same bytes.

    Args:
        source: The frames.
        folder: For shards, ``patches.parquet`` (every patch, also those left out, and why) and ``manifest.json``.
        rules: How patches are cut, chosen and split.
        making: Where the work is done; in threads of this process if None.
        statistics: Patches are clipped and standardised by them; physical values if None.

    Raises:
        BadInputError: The folder holds another set, statistics do not fit the bands or their radiometry, or no patch is
            good enough.
        IncompleteError: Images could not be read, and no shard was written. Run it again.
    """
    if statistics is not None:
        statistics.require_fit(source.bands, source.radiometry)
    making, out = making or Making(), Path(folder)
    asked = _asked(source, rules, statistics)
    if not _begin(out, asked):
        _clear(out)
        return PatchSet(out, json.loads((out / MANIFEST).read_text(encoding="utf-8")))
    stacks = stacks_of(source, rules)
    seen = {out / ".seen" / f"{at:06d}": Scan(stack, rules, source.ignore) for at, stack in enumerate(stacks)}
    (out / ".seen").mkdir(exist_ok=True)
    if not making.make(seen, scan):
        return PatchSet(out, {})
    table = choose_patches((row for path in seen for row in json.loads(path.read_text(encoding="utf-8"))), rules)
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


def read_patch_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a set of patches.

    Raises:
        BadInputError: The manifest does not exist, or has another schema.
    """
    try:
        manifest: dict[str, Any] = parse_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{folder} holds no finished set of patches ({error}): run `stac2cube patches`") from error
    if manifest.get("schema") != SCHEMA:
        raise BadInputError(f"{folder} is of the schema {manifest.get('schema')!r}, not {SCHEMA!r}")
    return manifest


def _asked(source: FrameSet, rules: PatchRules, statistics: Statistics | None) -> dict[str, Any]:
    """Everything that determines the bytes of a set."""
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
    """Check that the folder is empty or holds this set; False if the set is complete."""
    made_folder(out)
    begun, finished = out / ASKED, out / MANIFEST
    plain = json.loads(json.dumps(asked))
    there = {file: _read(file) for file in (begun, finished) if file.exists()}
    for before in there.values():
        # The path of the source does not matter: a folder may be moved, or mounted elsewhere.
        differing = sorted(name for name in plain if name != "source" and before.get(name) != plain[name])
        if differing:
            raise BadInputError(
                f"{out} holds another set of patches ({', '.join(differing)} differ): give another folder"
            )
    if finished in there:
        if all((out / name).exists() for name in there[finished]["files"]):
            return False
        finished.unlink()  # a shard is missing: it is made again
    elif begun not in there and any(out.iterdir()):
        raise BadInputError(f"{out} is not empty: give a new folder")
    write_whole(begun, json.dumps(plain).encode())
    return True


def _read(file: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"{file} cannot be read ({error}): give another folder") from error
    return said


def _clear(out: Path) -> None:
    """Remove temporary files of a complete set, and partial files left by killed runs."""
    remove_tree(out / ".seen")
    (out / ASKED).unlink(missing_ok=True)
    remove_partials(out, deep=True)


def _shards(
    table: pd.DataFrame, stacks: list[Stack], source: FrameSet, rules: PatchRules, statistics: Statistics | None
) -> dict[tuple[str, int], ShardPlan]:
    by_key = {stack.key: stack for stack in stacks}
    shards = {}
    kept = table[table["status"] == KEPT].sort_values(["split", "shard", "at"])
    for (split, number), group in kept.groupby(["split", "shard"]):
        patches = tuple(
            KeptPatch(by_key[row["id"].rsplit("_", 2)[0]], {name: plain(row[name]) for name in _FACTS})
            for row in group.to_dict("records")
        )
        shards[str(split), int(number)] = ShardPlan(
            patches, rules.per_shard, rules.size, source.bands, rules.stack == 1, statistics
        )
    return shards


def _checksum(path: Path) -> str:
    """SHA-256 of a file, or of the files of a folder in the order of their names."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    total = sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()
