"""Patches and cubes as torch datasets: a stream of shards, and a map-style dataset over ground and time.

Samples are dictionaries with the keys of TorchGeo: ``image`` float32, ``mask`` int64.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from pyproj import CRS
from shapely import box

from stac2cube.datasets.frames import Frame, FrameSet, FrameWindow
from stac2cube.datasets.shards import read_patch_manifest
from stac2cube.datasets.statistics import Statistics
from stac2cube.errors import BadInputError, ReadError

try:
    import torch
    from torch.utils.data import Dataset, IterableDataset, get_worker_info
except ImportError as error:
    raise BadInputError(f"datasets of torch need torch: pip install 'stac2cube[superres]' ({error})") from error

Sample = dict[str, Any]

GeoSlice = slice | tuple[slice] | tuple[slice, slice] | tuple[slice, slice, slice]
"""x, y and t; a slice without ends means all, as in TorchGeo's samplers."""


class PatchStream(IterableDataset[Sample]):
    """The tar shards of a split as a stream of patches, each once per epoch.

    Worker processes of a DataLoader, and the ranks of a distributed run, share the shards without overlap.

    Args:
        folder: Folder made by ``stac2cube patches``, in the form ``webdataset``.
        split: The split.
        shuffle: Size of the shuffle buffer, in patches; 0 for the order on disk.
        seed: Determines the order, together with the number of the epoch (:meth:`set_epoch`).
        rank: Rank of this process in a distributed run, from 0. None queries ``torch.distributed`` when reading begins,
            or, without a process group, the environment of ``torchrun`` (``RANK`` and ``WORLD_SIZE``).
        ranks: Number of ranks; None as above. Other launchers set neither: give both.

    Raises:
        BadInputError: No such set, another form, no such split, or an invalid rank.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        shuffle: int = 0,
        seed: int = 0,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        manifest = read_patch_manifest(self.folder)
        if manifest["rules"]["form"] != "webdataset":
            raise BadInputError(f"{folder} is stored as {manifest['rules']['form']}: a stream wants webdataset")
        kept = manifest["counts"]["kept"]
        if split not in kept:
            raise BadInputError(f"{folder} has no split {split!r}: there are {', '.join(kept)}")
        self.shards = sorted(name for name in manifest["files"] if name.startswith(f"{split}-"))
        self.count, self.bands = int(kept[split]), tuple(manifest["bands"])
        self._per_shard = int(manifest["rules"]["per_shard"])
        self._shuffle, self._seed = shuffle, seed
        if (rank is None) != (ranks is None):
            raise BadInputError("say rank and ranks, or neither")
        self._share = None if rank is None or ranks is None else _required_share(rank, ranks)
        # In shared memory: persistent workers hold a copy of everything else.
        self._epoch: torch.Tensor = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call] # torch types it in part

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which changes the order; persistent workers of a DataLoader see it, too.

        Args:
            epoch: Number of the epoch, 0 or more.

        Raises:
            BadInputError: The number is negative.
        """
        if epoch < 0:
            raise BadInputError(f"rounds are counted from 0, and this is {epoch}")
        self._epoch.fill_(epoch)

    def __getstate__(self) -> dict[str, Any]:
        """State for a worker process: with the rank of this process, since a worker has no process group."""
        return self.__dict__ | {"_share": self._share or _share_of_this_process()}

    def __iter__(self) -> Iterator[Sample]:
        """``image`` ``([time,] bands, rows, columns)``, ``mask`` ``([time,] rows, columns)`` if labelled, ``facts``.

        Raises:
            ReadError: A shard is missing, damaged or has fewer patches than the manifest lists.
        """
        worker = get_worker_info()
        at, of = (0, 1) if worker is None else (worker.id, worker.num_workers)
        rank, ranks = self._share or _share_of_this_process()
        place, places = rank * of + at, ranks * of
        names = list(self.shards)
        epoch = int(self._epoch)
        random = np.random.default_rng([self._seed, epoch])
        if self._shuffle:
            random.shuffle(names)  # the same in all processes, so that shards are divided without overlap
        random = np.random.default_rng([self._seed, epoch, place])
        held: list[Sample] = []
        for name in names[place::places]:
            for sample in self._patches_of(name):
                if len(held) < self._shuffle:
                    held.append(sample)
                elif held:
                    drawn = int(random.integers(len(held)))
                    yield held[drawn]
                    held[drawn] = sample
                else:
                    yield sample
        random.shuffle(held)
        yield from held

    def _patches_of(self, name: str) -> Iterator[Sample]:
        """All patches of a shard; their number is checked, to detect a tar file that was truncated between members."""
        before = self.shards.index(name) * self._per_shard
        expected, found = min(self._per_shard, self.count - before), 0
        try:
            for sample in _patches_in(self.folder / name):
                found += 1
                yield sample
        except (OSError, ValueError, tarfile.TarError) as error:
            raise ReadError(f"{self.folder / name} cannot be read: {error}") from error
        if found != expected:
            raise ReadError(f"{self.folder / name} is damaged: it holds {found} patches, not {expected}")


def _share_of_this_process() -> tuple[int, int]:
    """Rank and number of ranks from torch or the environment; (0, 1) without either.

    Raises:
        BadInputError: The environment has only one of ``RANK`` and ``WORLD_SIZE``, or invalid values.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    told = [os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE")]
    if told == ["", ""]:
        return 0, 1
    if not all(text.isdecimal() for text in told):
        raise BadInputError(f"RANK is {told[0]!r} and WORLD_SIZE {told[1]!r}: say rank and ranks of this process")
    return _required_share(int(told[0]), int(told[1]))


def _required_share(rank: int, ranks: int) -> tuple[int, int]:
    if not 0 <= rank < ranks:
        raise BadInputError(f"there is no rank {rank} among {ranks}: they are counted from 0")
    return rank, ranks


class FramesDataset(Dataset[Sample]):
    """Frames of cubes or samples by ground and time, without shards; works with TorchGeo's samplers.

    It has the attributes that they need (``index``, ``crs``, ``res``, ``bounds``), and supports
    ``dataset[xmin:xmax, ymin:ymax, tmin:tmax]``.

    Args:
        source: Frames in one CRS and resolution, see :func:`stac2cube.datasets.frames.find_frames`.
        statistics: Pixels are clipped and standardised by them; physical values with NaN if None.
        time_series: Return all frames in the requested time, stacked; else the first one.
        transforms: Called with every sample.

    Raises:
        BadInputError: Frames of several CRSs or resolutions, or statistics of other bands or radiometry.
    """

    def __init__(
        self,
        source: FrameSet,
        *,
        statistics: Statistics | None = None,
        time_series: bool = False,
        transforms: Callable[[Sample], Sample] | None = None,
    ) -> None:
        lattices = {(str(frame.geobox.crs), frame.geobox.resolution.x) for frame in source.frames}
        if len(lattices) != 1:
            raise BadInputError(
                f"{source.name} has frames in {len(lattices)} CRSs and resolutions: choose those of one"
            )
        if statistics is not None:
            statistics.require_fit(source.bands, source.radiometry)
        self.source, self.statistics, self.time_series, self.transforms = source, statistics, time_series, transforms
        crs, resolution = lattices.pop()
        self.res = (resolution, resolution)
        times = pd.to_datetime([frame.time for frame in source.frames], utc=True).tz_localize(None)
        self.index = gpd.GeoDataFrame(
            {"key": [frame.key for frame in source.frames]},
            geometry=[box(*frame.geobox.boundingbox) for frame in source.frames],
            index=pd.IntervalIndex.from_arrays(times, times, closed="both", name="datetime"),
            crs=crs,
        )

    @property
    def crs(self) -> CRS:
        """CRS of the frames."""
        return CRS.from_user_input(self.index.crs)

    @property
    def bounds(self) -> tuple[slice, slice, slice]:
        """Extent of all frames: x, y and t, with their step sizes."""
        west, south, east, north = self.index.total_bounds
        times = self.index.index
        first, last = times.min().left, times.max().right
        return slice(west, east, self.res[0]), slice(south, north, self.res[1]), slice(first, last, 1)

    def __len__(self) -> int:
        return len(self.source.frames)

    def __getitem__(self, query: GeoSlice) -> Sample:
        """Read the pixels of a box of ground and time.

        Args:
            query: Slices of x, y (units of the CRS) and t (timestamps, UTC).

        Returns:
            ``image`` ``([time,] bands, rows, columns)``, ``mask`` ``([time,] rows, columns)`` where there are labels,
            ``crs`` and ``bounds``.

        Raises:
            IndexError: No frame in the box.
            ReadError: A file is missing or damaged.
        """
        x, y, t = self._resolved(query)
        asked = box(x.start, y.start, x.stop, y.stop)
        frames = [
            frame
            for frame, interval, outline in zip(self.source.frames, self.index.index, self.index.geometry, strict=True)
            if t.start <= interval.right and interval.left <= t.stop and outline.intersection(asked).area > 0
        ]
        if not frames:
            raise IndexError(f"{query} is beyond {self.bounds}")
        chosen = frames if self.time_series else frames[:1]
        parts = [_window(frame, x, y, len(self.source.bands), self.source.ignore) for frame in chosen]
        values = np.stack([part.values for part in parts])
        if self.statistics is not None:
            values = self.statistics.standardised(values, axis=1)
        sample: Sample = {"crs": self.crs, "bounds": (x, y, t), "image": torch.from_numpy(values)}
        if self.source.classes is not None:
            masks = [part.labels for part in parts if part.labels is not None]
            sample["mask"] = torch.from_numpy(np.stack(masks).astype("int64"))
        if not self.time_series:
            sample |= {name: sample[name][0] for name in ("image", "mask") if name in sample}
        return sample if self.transforms is None else self.transforms(sample)

    def _resolved(self, query: GeoSlice) -> tuple[slice, slice, slice]:
        given = (query,) if isinstance(query, slice) else tuple(query)
        whole = list(self.bounds)
        for place, asked in enumerate(given):
            start = whole[place].start if asked.start is None else asked.start
            stop = whole[place].stop if asked.stop is None else asked.stop
            whole[place] = slice(start, stop, whole[place].step)
        return whole[0], whole[1], whole[2]


def _window(frame: Frame, x: slice, y: slice, bands: int, ignore: int) -> FrameWindow:
    """Read the pixels of a box, no data where it extends beyond the frame; the box is snapped to the nearest pixels."""
    a, _, left, _, e, top, *_ = frame.geobox.transform
    column, row = round((x.start - left) / a), round((y.stop - top) / e)
    width, height = max(round((x.stop - x.start) / a), 1), max(round((y.start - y.stop) / e), 1)
    rows, columns = frame.shape
    inside = (
        slice(min(max(row, 0), rows), max(min(row + height, rows), 0)),
        slice(min(max(column, 0), columns), max(min(column + width, columns), 0)),
    )
    values = np.full((bands, height, width), np.nan, "float32")
    labels = np.full((height, width), ignore, "uint8")
    if inside[0].stop > inside[0].start and inside[1].stop > inside[1].start:
        read = frame.pixels.read(*inside)
        into = (
            slice(inside[0].start - row, inside[0].stop - row),
            slice(inside[1].start - column, inside[1].stop - column),
        )
        values[:, into[0], into[1]] = read.values
        if read.labels is not None:
            labels[into] = read.labels
    return FrameWindow(values, labels, None)


def _patches_in(shard: Path) -> Iterator[Sample]:
    """The patches of a tar file, in order."""
    gathered: Sample = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            key, _, kind = member.name.partition(".")
            file = tar.extractfile(member)
            assert file is not None
            content = file.read()
            if kind == "json":  # the last of its patch
                yield {**gathered, "facts": json.loads(content), "key": key}
                gathered = {}
            else:
                values = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
                name = "image" if kind == "x.npy" else "mask"
                gathered[name] = torch.from_numpy(values if name == "image" else values.astype("int64"))
