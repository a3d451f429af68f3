"""JPEG 2000 on a disk, an area at a time: only what the area needs is decoded, where GDAL decodes whole tiles.

OpenJPEG does it, as it does for GDAL, through glymur. The pixels are the same where the wavelet transform is the 5-3
one in whole numbers; by the 9-7 one a pixel of an area may differ by a count from that of the whole tile, so files of
that kind are left to GDAL. It pays for areas that are small beside the tiles they touch, and only there it is used. And
whether a file is whole: of a file that was cut off GDAL gives zeros for the tiles that it lacks, if its main header
lists where tiles lie, which those of Sentinel-2 do by now.
"""

from __future__ import annotations

import logging
import warnings
from functools import cache
from importlib.util import find_spec
from urllib.parse import urlsplit

import numpy as np

from stac2cube.source.cog.header import UnusualFileError
from stac2cube.source.cog.known import KnownHeaders
from stac2cube.source.cog.ranges import Parts, header_reader
from stac2cube.source.cog.remote import parts_of
from stac2cube.source.image import Roi
from stac2cube.source.jp2 import HEAD_BYTES, CutOffError, Jp2Header, NotJpeg2000Error, read_jp2_header
from stac2cube.source.sign import Opening, unsigned

log = logging.getLogger(__name__)

ENDINGS = (".jp2", ".j2k", ".jpx")

_LEAST_TILE = 512
"""Pixels along the edge of a tile: OpenJPEG takes longer than GDAL to find its way through many small ones."""

_SMALL = 0.5
"""Areas that cover less than this part of the tiles they touch are decoded alone."""


def is_jpeg2000_name(href: str) -> bool:
    """Whether a file is called like a JPEG 2000."""
    return urlsplit(href).path.lower().endswith(ENDINGS)


def fetch_jp2_header(parts: Parts, *, follow: bool) -> Jp2Header:
    """Read the header of a JPEG 2000 file.

    Args:
        parts: The file.
        follow: See :func:`stac2cube.source.jp2.read_jp2_header`.

    Raises:
        UnusualFileError: It is none.
        OSError: The file is cut off, or cannot be read.
    """
    read, state = header_reader(parts, HEAD_BYTES)
    try:
        return read_jp2_header(read, state.size, state.etag, state.modified, follow=follow)
    except CutOffError as error:
        raise OSError(str(error)) from None
    except NotJpeg2000Error as error:
        raise UnusualFileError(str(error)) from error


_KNOWN: KnownHeaders[Jp2Header] = KnownHeaders(lambda _href, parts: fetch_jp2_header(parts, follow=False))
"""Of files behind a network, for the life of the process."""


def whole_header(href: str, way: Opening) -> Jp2Header | None:
    """The header of a JPEG 2000 file that is as long as it says; None where that cannot be found out.

    Args:
        href: Unsigned.
        way: To the file.

    Raises:
        OSError: The file is cut off, or cannot be read.
    """
    try:
        parts = parts_of(way)
        return _KNOWN.get(href, parts) if way.remote else fetch_jp2_header(parts, follow=False)
    except UnusualFileError as reason:
        log.debug("whether %s is whole is for GDAL to find out: %s", unsigned(href), reason)
        return None


def read_area(path: str, header: Jp2Header, roi: Roi) -> np.ndarray | None:
    """Pixels of an area, of the full resolution.

    Args:
        path: Of a file of one band.
        header: Of the file.
        roi: Rows and columns, within it.

    Returns:
        ``(rows, columns)``; None where GDAL is the better way, or the only one.
    """
    if not _pays(header, roi) or not _is_installed():
        return None
    import glymur

    try:
        pixels: np.ndarray = glymur.Jp2k(path)[roi[0].start : roi[0].stop, roi[1].start : roi[1].stop]
    except (OSError, RuntimeError, ValueError) as error:
        log.debug("GDAL reads %s: %s", path, error)
        return None
    wanted = (roi[0].stop - roi[0].start, roi[1].stop - roi[1].start)
    return pixels if pixels.shape == wanted and str(pixels.dtype) == header.dtype else None


def _pays(header: Jp2Header, roi: Roi) -> bool:
    if not header.reversible or header.bands != 1 or min(header.tile_height, header.tile_width) < _LEAST_TILE:
        return False
    wanted, touched = 1, 1
    for part, edge, length in zip(
        roi, (header.tile_height, header.tile_width), (header.height, header.width), strict=True
    ):
        wanted *= part.stop - part.start
        touched *= min(-(-part.stop // edge) * edge, length) - part.start // edge * edge
    return wanted < _SMALL * touched


@cache
def _is_installed() -> bool:
    """Whether glymur is, and finds an OpenJPEG that decodes areas (2.3 or newer)."""
    if find_spec("glymur") is None:
        return False
    # Of boxes it does not know, and of others it finds odd, glymur warns; their pixels are read all the same.
    warnings.filterwarnings("ignore", category=UserWarning, module="glymur")
    import glymur

    return tuple(map(int, glymur.version.openjpeg_version.split(".")[:2])) >= (2, 3)
