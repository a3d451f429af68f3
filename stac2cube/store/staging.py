"""Encode shards and write them to staging, where readers do not see them; read sealed steps."""

from __future__ import annotations

import json
import logging
import os
import struct
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cache, cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

import google_crc32c
import numpy as np

from stac2cube.errors import CubeError, ReadError
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid, Tile
from stac2cube.store.files import open_folder, passing, sync_descriptor
from stac2cube.store.generation import Held

if TYPE_CHECKING:
    import zarr
    from zarr.abc.buffer import Buffer

# Encode the pixels of a shard to its file: chunk after chunk, then the index of their positions.
#
# This is all that the codec ``sharding_indexed`` requires (Zarr 3, zarr-specs.readthedocs.io), so no store, event loop
# or folder is involved. zarrs makes the same bytes if it encodes with one thread, but only into an array on disk, and a
# durable write of a block would need one of its own: that takes 2.6 times the CPU for a small shard, and a sixth more
# for a large one (docs/benchmarks.md). Tests compare the bytes with those of zarrs, and read the pixels back.


@cache
def _blosc() -> Any:
    """c-blosc, imported when a shard is packed.

    With its own threads, the order of blocks in a chunk would depend on timing, and equal pixels would give different
    files. They are used in the main thread only, and switched off here. Parallelism is over blocks of the cube instead.
    """
    from numcodecs import blosc

    blosc.use_threads = False
    return blosc


_ABSENT = 2**64 - 1
"""Offset and length, in the index, of an all-fill chunk."""

_SHUFFLES = {"noshuffle": "NOSHUFFLE", "shuffle": "SHUFFLE", "bitshuffle": "BITSHUFFLE"}
"""Names of the codec ``blosc`` in Zarr 3 -> constants of c-blosc."""


@dataclass(frozen=True)
class Blosc:
    """The codec ``blosc`` of an array, as in its ``configuration`` in ``zarr.json``.

    Attributes:
        typesize: Bytes per number.
        cname: Name of the compressor, ``"zstd"``.
        clevel: Its level, 0 to 9.
        shuffle: ``"noshuffle"``, ``"shuffle"`` or ``"bitshuffle"``.
        blocksize: Bytes per block, 0 for blosc's default.
    """

    typesize: int
    cname: str
    clevel: int
    shuffle: str
    blocksize: int

    def pack(self, chunk: np.ndarray) -> bytes:
        """Compress a chunk of numbers with :attr:`typesize` bytes each."""
        blosc = _blosc()
        shuffle = getattr(blosc, _SHUFFLES[self.shuffle])
        made: bytes = blosc.compress(chunk, self.cname.encode(), self.clevel, shuffle, self.blocksize)
        return made


@dataclass(frozen=True)
class ShardFormat:
    """How the shards of an array are packed.

    Attributes:
        shard: Steps, rows and columns of a shard.
        chunk: Steps, rows and columns of a chunk.
        fill: Value of pixels without data, as a scalar of the array's type.
        codec: Codec of the chunks.
    """

    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    fill: Any
    codec: Blosc

    def encode(self, block: np.ndarray) -> Iterator[bytes]:
        """The file of a shard, in consecutive parts; each must be used before the next is generated.

        Args:
            block: Pixels of the array's type, in the size of the shard or smaller at the edge of the array. Missing
                pixels are filled. All-fill chunks take no space.
        """
        counts = [whole // part for whole, part in zip(self.shard, self.chunk, strict=True)]
        index = np.full((*counts, 2), _ABSENT, "<u8")
        bits = np.dtype(f"u{block.dtype.itemsize}")
        nothing = np.asarray(self.fill, block.dtype).view(bits)
        end = 0
        chunk = np.empty(self.chunk, block.dtype.newbyteorder("<"))
        for place in product(*(range(count) for count in counts)):
            firsts = [number * part for number, part in zip(place, self.chunk, strict=True)]
            there = block[tuple(slice(first, first + part) for first, part in zip(firsts, self.chunk, strict=True))]
            if there.size == 0 or (there[0, 0, 0].view(bits) == nothing and bool((there.view(bits) == nothing).all())):
                continue
            if there.shape != self.chunk:
                chunk[...] = self.fill
            chunk[tuple(slice(length) for length in there.shape)] = there
            packed = self.codec.pack(chunk)
            index[place] = end, len(packed)
            end += len(packed)
            yield packed
            del packed  # so that the next one reuses its memory
        places = index.tobytes()
        yield places + struct.pack("<I", google_crc32c.value(places))


@lru_cache(maxsize=256)
def format_of(metadata: bytes) -> ShardFormat:
    """The format of an array's shards.

    Args:
        metadata: Its ``zarr.json``, as written by :func:`stac2cube.store.staging.create_array`.

    Raises:
        CubeError: The array has a format that stac2cube does not write.
    """
    codec: Blosc | None
    match json.loads(metadata):
        case {
            "data_type": str(dtype),
            "fill_value": fill,
            "chunk_grid": {"configuration": {"chunk_shape": shard}},
            "codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": chunk} as how}],
        } if codec := _codec(dtype, how):
            return ShardFormat(tuple(shard), tuple(chunk), _scalar(fill, dtype), codec)
    raise CubeError("an array of the cube is packed in a way that this version does not write")


def _codec(dtype: str, sharding: Mapping[str, Any]) -> Blosc | None:
    """The codec of the chunks of a shard; None for any format that stac2cube does not write."""
    match sharding:
        case {
            "codecs": [{"name": "bytes"} as order, {"name": "blosc", "configuration": words}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        }:
            if words.keys() != {part.name for part in fields(Blosc)}:
                return None
            codec = Blosc(**words)
            # Single bytes have no byte order, and declare none.
            little = order.get("configuration", {}).get("endian", "little") == "little"
            sized = codec.typesize == np.dtype(dtype).itemsize
            if little and sized and codec.shuffle in _SHUFFLES and sharding.get("index_location", "end") == "end":
                return codec
    return None


def _scalar(fill: Any, dtype: str) -> Any:
    """The fill value of ``zarr.json`` as a number; floats may be "NaN", "Infinity", or bits such as "0x7fc00000"."""
    kind = np.dtype(dtype)
    if isinstance(fill, str) and fill.startswith("0x"):
        return np.array(int(fill, 16), f"u{kind.itemsize}").view(kind)[()]
    return kind.type(fill)


# Encode and decode pixels with the cube's codec: one shard of one layer at one time step.

log = logging.getLogger(__name__)

_PIPELINE_LOCK = threading.RLock()


class _Threads:
    """Whether the parent of this process had started threads of zarrs, which a forked process does not have."""

    started = False
    lost = False

    @classmethod
    def forked(cls) -> None:
        """Runs in a forked child, where reading an array opened with zarrs would block forever."""
        cls.lost = cls.lost or cls.started
        _PIPELINE_LOCK.release()
        _renew_pool_of_dask()


class _PoolOfChild(ThreadPoolExecutor):
    """A thread pool for dask's configuration. Dask pickles it to its workers, where it becomes a new pool."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.threads = threads

    def __reduce__(self) -> tuple[type[ThreadPoolExecutor], tuple[int]]:
        return ThreadPoolExecutor, (self.threads,)


def _renew_pool_of_dask() -> None:
    """Give a forked child a thread pool for dask, if its parent had one: using the parent's would block forever.

    A pool in dask's configuration takes precedence over the one that dask keeps. It starts no thread until there is
    work. The configuration is set without its lock, which a thread of the parent may have held.
    """
    if "dask.threaded" in sys.modules:
        system = sys.modules["dask.system"]
        sys.modules["dask.config"].config["pool"] = _PoolOfChild(system.CPU_COUNT)


os.register_at_fork(
    before=_PIPELINE_LOCK.acquire, after_in_parent=_PIPELINE_LOCK.release, after_in_child=_Threads.forked
)


@contextmanager
def fast_pipeline(*, writing: bool = False) -> Iterator[None]:
    """A context in which opened arrays encode and decode with the Rust pipeline of zarrs; the setting is local to it.

    An array keeps the pipeline with which it was opened. zarr's configuration is process-wide, so only one thread at a
    time may change it. A process forked from one that had opened such arrays has no threads of zarrs: there zarr's own
    pipeline reads, which gives the same pixels at a third of the speed.

    Args:
        writing: Encode the chunks of a shard one after the other. With several threads their order would depend on
            timing, and equal pixels would give different files. Parallelism is over blocks, not chunks.

    Raises:
        CubeError: Writing in a forked process, which cannot do it.
    """
    import zarr
    import zarrs  # noqa: F401 - registers its pipeline with zarr

    settings: dict[str, Any] = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
    with _PIPELINE_LOCK:
        if _Threads.lost:
            if writing:
                raise CubeError(f"this process was forked from one that uses zarrs, and cannot write: {_INSTEAD}")
            _tell_once(os.getpid())
            settings = {}
        _Threads.started = True
        if writing:
            settings["threading.max_workers"] = 1
            _start_pool(os.getpid())
        with zarr.config.set(settings):
            yield


@contextmanager
def slow_pipeline() -> Iterator[None]:
    """A context in which opened arrays decode with zarr's own pipeline, as needed by stores implemented in Python.

    zarr's configuration is process-wide: otherwise, another thread within :func:`fast_pipeline` would decide.
    """
    import zarr

    with _PIPELINE_LOCK, zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        yield


_INSTEAD = "start it by 'forkserver' or 'spawn' (multiprocessing_context of torch's DataLoader)"


@cache
def _tell_once(process: int) -> None:
    log.warning("process %d was forked from one that reads cubes, and reads them slowly: %s", process, _INSTEAD)


@cache
def _start_pool(process: int) -> None:  # noqa: ARG001 - what a process forked from another has is not its own
    """Let zarr start its own threads for input and output, with the default number.

    It does so once, with the setting at that moment, which must not be ours.
    """
    import zarr
    from zarr.storage import MemoryStore

    usual = zarr.config.get("threading.max_workers") or min(32, (os.cpu_count() or 1) + 4)
    with zarr.config.set({"threading.max_workers": usual}):
        zarr.create_group(MemoryStore())


def open_array(folder: Path) -> zarr.Array[Any]:
    """Open an array of a cube or of a staged step, by its own metadata, for reading."""
    import zarr
    from zarr.storage import LocalStore

    with fast_pipeline():
        return zarr.open_array(LocalStore(folder, read_only=True), mode="r")


BLOCK = 2**17
"""Approximate bytes of a blosc block: a chunk of 256 x 256 uint16, which fits the innermost caches."""

Shape = tuple[int, int, int]
"""Time steps, rows, columns."""


def create_array(
    store: Any, layer: Layer, grid: Grid, steps: int, *, chunk: Shape | None = None, shard: Shape | None = None
) -> None:
    """Write the metadata of a layer's array; used for staged steps, cubes and sealed years.

    Blosc zstd-1 with bit shuffle, one blosc block per chunk, or per several steps of it: 0.8 of the size of zarr's
    default at a multiple of its speed, measured on uint16 of real ratio (docs/benchmarks.md). All-fill chunks are not
    written.

    Args:
        store: Zarr store to write to.
        layer: The layer.
        grid: Its lattice.
        steps: Its length in time.
        chunk: Unit of reading, one step of the grid's chunk if None.
        shard: Unit of writing, one step of the grid's shard if None.
    """
    import zarr
    from zarr.codecs import BloscCodec

    size = np.dtype(layer.dtype).itemsize
    chunk, shard = chunk or (1, *grid.chunk), shard or (1, *grid.shard)
    step = size * chunk[1] * chunk[2]
    block = step * min(chunk[0], max(1, BLOCK // step))
    codec = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=size, blocksize=block)
    zarr.create_array(
        store,
        name=layer.name,
        shape=(steps, *grid.shape),
        dtype=layer.dtype,
        chunks=chunk,
        shards=shard,
        fill_value=layer.fill_scalar,
        compressors=codec,
        dimension_names=("time", "y", "x"),
        attributes=layer.attributes(),
    )


def shard_file(step_folder: Path, tile: tuple[int, int]) -> Path:
    """Path of a shard below the folder of its time step (zarr v3's default chunk keys)."""
    return step_folder / str(tile[0]) / str(tile[1])


def checksum(content: bytes) -> str:
    """CRC-32C of a shard file, as eight hexadecimal digits."""
    return f"{google_crc32c.value(content):08x}"


# Staging: workers write complete shards here, invisible to readers until the committer moves them in.
#
# Of the store, workers use this module only. They never touch the metadata of the cube, so a worker that outlives its
# run writes into an unused folder, which is harmless.


@dataclass(frozen=True, slots=True)
class Shard:
    """The record of one written shard.

    Attributes:
        layer: Name of its layer.
        tile: Its tile in the grid.
        size: Bytes of its file; 0 if every pixel is fill, as there is no file then.
        checksum: CRC-32C of the file, "" without file.
        valid: Number of pixels that are not fill.
    """

    layer: str
    tile: Tile
    size: int
    checksum: str
    valid: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a worker returns for one block: a few hundred bytes, never pixels.

    Attributes:
        tile: The block's tile.
        shards: The shards written.
        seconds: Duration.
        host: Host name of the worker.
        job: SLURM job, "" outside.
        means: Name -> sum and weight of a measurement of the task, see :class:`stac2cube.build.plan.Measured`.
        facts: Properties of the step, found by the task.
    """

    tile: Tile
    shards: tuple[Shard, ...]
    seconds: float = 0.0
    host: str = ""
    job: str = ""
    means: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StagedStep:
    """The folder that collects the shards of one time step: per layer an array of one step.

    Attributes:
        folder: ``.stac2cube/staging/<run>/<step>`` of the cube.
    """

    folder: Path

    def layer_folder(self, layer: str) -> Path:
        """The folder of one time step of a layer, with its shards; moved into the cube by one rename."""
        return self.folder / layer / "c" / "0"


class Stager:
    """Prepares the folders of staged steps, for the driver.

    Args:
        folder: The run's folder below the cube's staging folder.
        spec: Spec of the cube.
    """

    def __init__(self, folder: Path, spec: CubeSpec) -> None:
        self.folder = folder.absolute()  # workers may have another working directory
        self._cube = self.folder.parents[2]
        self._spec = spec

    @cached_property
    def _metadata(self) -> dict[str, bytes]:
        """``zarr.json`` of each layer's array, built only when there is a step, because it imports zarr."""
        return {layer.name: _metadata_of(layer, self._spec.grid) for layer in self._spec.layers}

    def step(self, key: str) -> StagedStep:
        """An empty staged step, ready for workers on any node that sees the cube."""
        staged = StagedStep(self.folder / key)
        for name, metadata in self._metadata.items():
            folder = staged.folder / name
            with open_folder(self._cube, folder, make=True) as descriptor:
                # By rename: jobs of one array may prepare the same step at the same time.
                partial = f".zarr.json.{os.getpid()}.{threading.get_ident()}"
                with _created(partial, descriptor) as file:
                    file.write(metadata)
                os.replace(partial, "zarr.json", src_dir_fd=descriptor, dst_dir_fd=descriptor)
        return staged


def write_block(staged: StagedStep, spec: CubeSpec, tile: Tile, pixels: Mapping[str, np.ndarray]) -> tuple[Shard, ...]:
    """Write one block of every layer; durable when this returns.

    Args:
        staged: The step of the block.
        spec: Spec of the cube.
        tile: Tile of the block.
        pixels: Per layer ``(rows, columns)`` of the layer's dtype in stored form, of the block's size.

    Raises:
        CubeError: A layer is missing, or has another dtype or shape than in the cube: a bug of the stage.
    """
    window = spec.grid.window(tile)
    shards = []
    for layer in spec.layers:
        block = pixels.get(layer.name)
        shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
        if block is None or block.dtype != layer.dtype or block.shape != shape:
            got = "nothing" if block is None else f"{block.dtype} {block.shape}"
            raise CubeError(f"layer {layer.name} of block {tile}: {layer.dtype} {shape} expected, got {got}")
        shards.append(_write_shard(staged, layer, tile, block))
    passing("block.written")
    return tuple(shards)


def _write_shard(staged: StagedStep, layer: Layer, tile: Tile, block: np.ndarray) -> Shard:
    valid = count_valid(block, layer)
    if valid == 0:
        return Shard(layer.name, tile, 0, "", 0)
    size, code = write_shard_file(staged.folder / layer.name, tile, block[np.newaxis], below=staged.folder.parents[3])
    return Shard(layer.name, tile, size, code, valid)


def write_shard_file(array: Path, tile: Tile, block: np.ndarray, *, below: Path | None = None) -> tuple[int, str]:
    """Write one shard file of an array whose shards hold all its time steps; atomic, and durable when this returns.

    Args:
        array: Its folder, with its metadata.
        tile: Tile of the shard.
        block: ``(steps, rows, columns)`` pixels in stored form, not all fill; smaller than a shard at the array's edge.
        below: No link is followed between this folder and the file; the folder that holds the array if None.

    Returns:
        Bytes and checksum of the file.
    """
    parts = format_of((array / "zarr.json").read_bytes()).encode(block)
    # Written under a name unique to this attempt and renamed: half-written files of a worker that died are never read.
    # A worker that was given up but still runs writes the same bytes to the same place, because equal pixels give equal
    # files; once the step is sealed, that place is gone.
    attempt, path = f".{array.name}.{uuid4().hex}.partial", shard_file(array / "c" / "0", tile)
    root = below or array.parent
    with open_folder(root, array.parent) as step, open_folder(root, path.parent, make=True) as row:
        try:
            with _created(attempt, step) as file:
                size, code = 0, 0
                for part in parts:
                    file.write(part)
                    size, code = size + len(part), google_crc32c.extend(code, part)
                passing("block.encoded")
                file.flush()
                os.fsync(file.fileno())
            os.replace(attempt, path.name, src_dir_fd=step, dst_dir_fd=row)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(attempt, dir_fd=step)
            raise
        sync_descriptor(row)
    return size, f"{code:08x}"


def _created(name: str, folder: int) -> BinaryIO:
    """Create a new file in a folder given by its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return open(os.open(name, flags, 0o666, dir_fd=folder), "wb")  # noqa: PTH123 - of a descriptor


def count_valid(block: np.ndarray, layer: Layer) -> int:
    """Number of pixels that are not fill."""
    if np.isnan(layer.fill):
        return int(np.count_nonzero(~np.isnan(block)))
    return int(np.count_nonzero(block != layer.fill_scalar))


def _metadata_of(layer: Layer, grid: Grid) -> bytes:
    """The zarr.json of an array of one time step, written by zarr itself."""
    from zarr.storage import MemoryStore

    files: dict[str, Buffer] = {}
    create_array(MemoryStore(files), layer, grid, steps=1)
    return files[f"{layer.name}/zarr.json"].to_bytes()


# Stored numbers of one step of a cube, for derived cubes; runs on workers.

Window = tuple[slice, slice]
"""Rows and columns of a cube's grid; may extend beyond it."""


@dataclass(frozen=True)
class StoredStep:
    """One sealed step of a cube.

    Attributes:
        cube: Its path.
        slot: Index on the stored time axis.
        generation: Generation in which it has that slot; maintenance may change the slot.
    """

    cube: str
    slot: int
    generation: int

    def read(self, layers: Sequence[Layer], window: Window) -> dict[str, np.ndarray]:
        """Read pixels of layers, with fill beyond the grid: ``(rows, columns)`` each, of the layer's dtype.

        Raises:
            ReadError: The cube is not there, a file of it is damaged, or it was rebuilt and this generation is gone.
        """
        held = Held(Path(self.cube), self.generation)
        while True:
            try:
                folder = held.folder()
                pixels = {layer.name: self._read(folder, layer, window) for layer in layers}
                if held.folder() == folder:  # otherwise the generations were swapped during the read
                    return pixels
            except CubeError as error:
                raise ReadError(str(error)) from error

    def _read(self, cube: Path, layer: Layer, window: Window) -> np.ndarray:
        rows, columns = window
        out = np.full((rows.stop - rows.start, columns.stop - columns.start), layer.fill_scalar, dtype=layer.dtype)
        try:
            array = open_array(cube / layer.name)
            inside = [
                slice(max(part.start, 0), min(part.stop, size))
                for part, size in zip(window, array.shape[1:], strict=True)
            ]
            if all(part.stop > part.start for part in inside):
                into = tuple(
                    slice(part.start - whole.start, part.stop - whole.start)
                    for part, whole in zip(inside, window, strict=True)
                )
                out[into] = array[self.slot, inside[0], inside[1]]
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ReadError(f"{layer.name} of {self.cube}, slot {self.slot}: {error}") from error
        return out


def widened_window(window: Window, by: int) -> Window:
    """A window extended by a number of pixels on every side."""
    rows, columns = window
    return slice(rows.start - by, rows.stop + by), slice(columns.start - by, columns.stop + by)
