"""The forms of shards: tar files as WebDataset reads them, a Zarr group per split, folders of GeoTIFFs."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import zarr
from affine import Affine
from zarr.codecs import BloscCodec

from stac2cube.cube.files import write_whole
from stac2cube.cube.folders import real_folder
from stac2cube.cube.shard import fast_pipeline
from stac2cube.training.frames import IGNORE
from stac2cube.training.shards import Kept, Shard, Writer, move_in, partial_beside


class Tars:
    """``train-00000.tar``: per patch ``ID.x.npy``, ``ID.y.npy`` where there are labels, and ``ID.json``.

    Names may be longer than the 100 characters of plain tar: those of stacks hold the ids of two samples.
    """

    def where(self, root: Path, split: str, number: int) -> Path:
        """See :class:`stac2cube.training.shards.Writer`."""
        return root / f"{split}-{number:05d}.tar"

    def write(self, shard: Shard, out: Path) -> None:
        """See :class:`stac2cube.training.shards.Writer`."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for kept, x, y in shard.pixels():
                key = kept.facts["id"]
                _add(tar, f"{key}.x.npy", _npy(x))
                if y is not None:
                    _add(tar, f"{key}.y.npy", _npy(y))
                _add(tar, f"{key}.json", kept.json)
        write_whole(out, content.getvalue())

    def finish(self, root: Path, split: str, shards: Shard, count: int) -> None:
        """Tar files are one by their names."""


class ZarrGroups:
    """``train.zarr``: arrays ``x`` and ``y`` with the patches as first dimension, one file per shard.

    Metadata are written when all shards are there, so that a group opens only when it is whole.
    """

    def where(self, root: Path, split: str, number: int) -> Path:
        """See :class:`stac2cube.training.shards.Writer`: ``x`` goes in last."""
        return root / f"{split}.zarr" / "x" / "c" / str(number)

    def write(self, shard: Shard, out: Path) -> None:
        """See :class:`stac2cube.training.shards.Writer`."""
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
                move_in(partial / name / "c" / "0", into)

    def finish(self, root: Path, split: str, shards: Shard, count: int) -> None:
        """See :class:`stac2cube.training.shards.Writer`."""
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
        """See :class:`stac2cube.training.shards.Writer`."""
        return root / split / f"{number:05d}"

    def write(self, shard: Shard, out: Path) -> None:
        """See :class:`stac2cube.training.shards.Writer`."""
        with partial_beside(out) as partial:
            for kept, x, y in shard.pixels():
                folder = partial / kept.facts["id"]
                folder.mkdir(parents=True)
                names = [name for _ in range(x.shape[0] if x.ndim == 4 else 1) for name in shard.bands]
                _write_tiff(folder / "x.tif", x.reshape(-1, *x.shape[-2:]), kept, np.nan, names)
                if y is not None:
                    _write_tiff(folder / "y.tif", y.reshape(-1, *y.shape[-2:]), kept, IGNORE, ())
                (folder / "meta.json").write_bytes(kept.json)
            move_in(partial, out)

    def finish(self, root: Path, split: str, shards: Shard, count: int) -> None:
        """Folders are one by their names."""


FORMS: Mapping[str, Writer] = {"webdataset": Tars(), "zarr": ZarrGroups(), "geotiff": Tiffs()}
"""Form -> who writes it."""


def _npy(values: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(values), allow_pickle=False)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """A member with nothing in it that differs from run to run: no time, no owner."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    tar.addfile(member, io.BytesIO(content))


def _array(path: Path, name: str, count: int, shape: tuple[int, ...], most: int) -> Any:
    """An array of patches, one chunk each, so many to a file."""
    inner = ["band", "y", "x"] if name == "x" else ["y", "x"]
    with fast_pipeline(writing=True):  # chunk after chunk, else equal patches would make files of other bytes
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


def _write_tiff(path: Path, values: np.ndarray, kept: Kept, nodata: float, names: Sequence[str]) -> None:
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
