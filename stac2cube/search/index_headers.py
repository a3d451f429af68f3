"""Headers of images, stored with the items of an index: read in parallel, stored as rows, looked up by address."""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stac2cube.access.sign import forget, is_remote, opening
from stac2cube.errors import BadInputError, ReadError
from stac2cube.fastcog.header import CogHeader, NotForUsError, UnusualFileError
from stac2cube.fastcog.jp2 import Jp2Header, fetch_jp2_header, is_jpeg2000_name
from stac2cube.fastcog.ranges import ChangedFileError, State, header_of, remote_file
from stac2cube.model.catalog import HEADERS, MANIFEST
from stac2cube.model.scene import AssetRef, is_zarr_array
from stac2cube.progress import Progress
from stac2cube.search.index_files import load_all
from stac2cube.trust.deadline import within

if TYPE_CHECKING:
    import pyarrow as pa

    from stac2cube.pixels.zarr_header import ZarrHeader

    Header = CogHeader | Jp2Header | ZarrHeader

log = logging.getLogger(__name__)

LONGEST = 100.0
"""Time limit for reading one header, in seconds."""

AT_ONCE = 32
"""Number of headers that one process reads at the same time."""

_OF_TIFF = ("compression", "predictor", "big_endian", "planar", "strips", "masked", "nodata", "transform", "crs")
_OF_JPEG2000 = ("decompositions", "packets")
_OF_BOTH = ("size", "etag", "modified", "dtype", "bands", "levels", "tiles")

Row = Mapping[str, Any]
"""A header in the form of :func:`header_type`."""


@cache
def header_type() -> pa.DataType:
    """The Arrow type of one header.

    ``format`` is ``"tiff"``, ``"jpeg2000"``, ``"zarr"``, or ``"other"`` for a file that only GDAL reads, with the
    reason as ``remark``. ``levels`` are rows and columns of each image and of its tiles. ``tiles`` are the positions of
    all tiles, packed and in base64, because readers such as rustac do not accept bytes within lists; see
    :class:`~stac2cube.fastcog.header.CogHeader` and :class:`~stac2cube.fastcog.jp2.Jp2Header`. For an array in a Zarr
    store ``levels`` are its rows and columns and those of its chunks, ``tiles`` its metadata, and size, etag and time
    are those of the metadata document; see :class:`~stac2cube.pixels.zarr_header.ZarrHeader`.
    """
    import pyarrow as pa

    return pa.struct(
        [
            ("band", pa.string()),
            ("href", pa.string()),
            ("format", pa.string()),
            ("remark", pa.string()),
            ("size", pa.int64()),
            ("etag", pa.string()),
            ("modified", pa.int64()),
            ("dtype", pa.string()),
            ("bands", pa.int32()),
            ("levels", pa.list_(pa.list_(pa.int32()))),
            ("tiles", pa.string()),
            ("compression", pa.string()),
            ("predictor", pa.int32()),
            ("big_endian", pa.bool_()),
            ("planar", pa.bool_()),
            ("strips", pa.bool_()),
            ("masked", pa.bool_()),
            ("nodata", pa.float64()),
            ("transform", pa.list_(pa.float64())),
            ("crs", pa.string()),
            ("decompositions", pa.int32()),
            ("packets", pa.bool_()),
        ]
    )


def read_any_header(asset: AssetRef, signer: str) -> Header:
    """Read the header of a file, with at most two requests over a network.

    Raises:
        UnusualFileError: Only GDAL can read the file.
        OSError: It cannot be read.
        ReadError: See :func:`stac2cube.access.sign.opening`.
    """
    if is_zarr_array(asset.href):
        from stac2cube.pixels.zarr_header import zarr_header  # it imports zarr

        return zarr_header(asset, opening(asset, signer))
    if not is_jpeg2000_name(asset.href):
        return header_of(asset, signer)
    way = opening(asset, signer)
    return fetch_jp2_header(remote_file(way), follow=not way.remote)


def row_of(band: str, href: str, header: Header) -> Row:
    """A header as a row."""
    kind = "tiff" if isinstance(header, CogHeader) else "jpeg2000" if isinstance(header, Jp2Header) else "zarr"
    record = header.to_record()
    record["tiles"] = b64encode(record["tiles"]).decode("ascii")
    return {"band": band, "href": href, "format": kind, "remark": "", **record}


def header_in(row: Row) -> Header | None:
    """The header in a row, None for a file that only GDAL reads.

    Raises:
        ValueError: The row holds no valid header.
    """
    if row["format"] == "other":
        return None
    if row["format"] == "zarr":
        from stac2cube.pixels.zarr_header import ZarrHeader

        return ZarrHeader.from_record({**row, "tiles": b64decode(row["tiles"] or "")})
    tiff = row["format"] == "tiff"
    values = {name: row[name] for name in (*_OF_BOTH, *(_OF_TIFF if tiff else _OF_JPEG2000))}
    values["tiles"] = b64decode(values["tiles"] or "")
    return CogHeader.from_record(values) if tiff else Jp2Header.from_record(values)


@dataclass(frozen=True)
class Target:
    """A file whose header is to be read.

    Attributes:
        band: Name of the band.
        asset: Its location.
        signer: How it is opened, see :mod:`stac2cube.access.sign`.
    """

    band: str
    asset: AssetRef
    signer: str


def read_headers(targets: Sequence[Target], progress: Progress | None = None) -> dict[str, Row]:
    """Read the headers of many files in parallel.

    Args:
        targets: The files.
        progress: Advanced for every file.

    Returns:
        Rows by unsigned address. A file that cannot be read now is left out; a warning reports the number of such
        files.

    Raises:
        BadInputError: Some files are on a network, and obstore is not installed.
    """
    if any(is_remote(target.asset.href) for target in targets) and find_spec("obstore") is None:
        raise BadInputError("headers of files behind a network need obstore: pip install 'stac2cube[index]'")
    return _each(targets, _row_of_target, progress or Progress())


def changed(rows: Iterable[Row], targets: Sequence[Target], progress: Progress | None = None) -> set[str]:
    """Addresses of files that changed since their header was read, or are gone; one request of one byte for each."""
    kept = {row["href"]: row for row in rows if row["format"] != "other"}
    asked = [target for target in targets if target.asset.href in kept]

    def same(target: Target) -> State:
        row, way = kept[target.asset.href], opening(target.asset, target.signer)
        if row["format"] == "zarr":
            from stac2cube.pixels.zarr_header import ZarrHeader, state_of_document

            header = header_in(row)
            assert isinstance(header, ZarrHeader)
            now = state_of_document(header, way)
        else:
            _, now = remote_file(way).first(1)
        State(row["size"], row["etag"], row["modified"]).check(now)
        return now

    return {target.asset.href for target in asked} - set(_each(asked, same, progress or Progress()))


def _row_of_target(target: Target) -> Row:
    try:
        return row_of(target.band, target.asset.href, read_any_header(target.asset, target.signer))
    except NotForUsError as error:
        raise ReadError(str(error)) from None  # the error is not about the file
    except UnusualFileError as error:
        return {"band": target.band, "href": target.asset.href, "format": "other", "remark": str(error)}


def _each(targets: Sequence[Target], work: Any, progress: Progress) -> dict[str, Any]:
    """Results of a function for each file, by address; files that cannot be read are left out."""
    unique = {target.asset.href: target for target in targets}
    found: dict[str, Any] = {}
    problems: list[str] = []

    def attempt(target: Target) -> Any:
        return within(LONGEST, partial(once_more, target), "reading its header")

    def once_more(target: Target) -> Any:
        try:
            return work(target)
        except OSError as error:
            if "response code: 40" not in str(error) or target.signer == "none":
                raise
            forget(target.signer)  # the signature may have expired; request a new one
            return work(target)

    with progress.over(len(unique)), ThreadPoolExecutor(AT_ONCE, thread_name_prefix="header") as pool:
        futures = {pool.submit(attempt, target): target for target in unique.values()}
        for future in as_completed(futures):
            target = futures[future]
            progress.advance()
            try:
                found[target.asset.href] = future.result()
            except (OSError, ReadError, ChangedFileError, UnusualFileError) as error:
                problems.append(f"{target.asset.href}: {error}")
    if problems:
        log.warning("%d of %d files could not be looked at: %s", len(problems), len(unique), min(problems))
    return found


@dataclass(frozen=True)
class StoredHeaders:
    """Headers that indexes store, by address. Workers receive the paths of the files, which each process reads once.

    Attributes:
        sources: Indexes, or single files of the same form.
    """

    sources: tuple[Path, ...]

    def __call__(self, href: str) -> CogHeader | ZarrHeader | None:
        """The header of a GeoTIFF or of a Zarr array, None if it is unknown or only GDAL reads the file.

        Args:
            href: Its unsigned address.
        """
        header = self.of(href)
        return None if isinstance(header, Jp2Header) else header

    def rows(self) -> dict[str, Row]:
        """All headers as rows, by address."""
        return {href: take() for source in self.sources for href, take in _stored(source, _stamp(source)).items()}

    def of(self, href: str) -> Header | None:
        """The header of a file of any format, None if it is unknown or only GDAL reads the file."""
        for source in self.sources:
            if (found := _stored(source, _stamp(source)).get(href)) is not None:
                return header_in(found())
        return None


def stored_headers(sources: Iterable[Path]) -> StoredHeaders | None:
    """The headers of the sources that store any; None if none does."""
    keeping = tuple(source for source in sources if _stored(source, _stamp(source)))
    return StoredHeaders(keeping) if keeping else None


def _stamp(source: Path) -> int:
    """A value that changes when an index is written."""
    return (source / MANIFEST if source.is_dir() else source).stat().st_mtime_ns


def rows_in(table: pa.Table) -> list[list[Row]]:
    """The headers of each item of a table."""
    if HEADERS not in table.column_names:
        return [[] for _ in range(table.num_rows)]
    return [rows or [] for rows in table[HEADERS].to_pylist()]


@lru_cache(maxsize=8)
def _stored(source: Path, _stamp: int) -> dict[str, Callable[[], Row]]:
    """Functions that extract the row of an address: a process never needs most of the rows."""
    import pyarrow.compute as pc

    found: dict[str, Callable[[], Row]] = {}
    for table in load_all(source, [HEADERS]):
        if HEADERS in table.column_names:
            rows = pc.list_flatten(table[HEADERS]).combine_chunks()
            hrefs = rows.field("href").to_pylist()
            found |= {href: partial(_taken, rows, place) for place, href in enumerate(hrefs)}
    return found


def _taken(rows: pa.StructArray, place: int) -> Row:
    row: Row = rows[place].as_py()
    return row
