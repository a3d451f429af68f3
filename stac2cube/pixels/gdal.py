"""Read images with GDAL, with a cache of decoded JPEG 2000 tiles."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.errors import ReadError
from stac2cube.fastcog.header import NO_MEANS
from stac2cube.fastcog.jp2 import Jp2Header, read_area
from stac2cube.model.image import Image, Roi

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from rasterio.io import DatasetReader

# Opening of files with GDAL.


@contextmanager
def gdal_settings(*, remote: bool, fresh: bool = False, store: Mapping[str, str] | None = None) -> Iterator[None]:
    """Set GDAL options for reading: no folder listings and patient retries over a network, errors instead of gaps.

    Sources: GDAL's documentation of /vsicurl and the GTiff driver. A listing of the folder is needed on disk only, for
    georeferences in side files.

    Args:
        remote: Whether the file is on a network.
        fresh: Request from the server even what GDAL has cached. GDAL caches failures, too, for the life of the
            process.
        store: Settings of the file's location, see :func:`stac2cube.access.sign.access`.
    """
    import rasterio

    options: dict[str, Any] = {"GDAL_NUM_THREADS": "1", "VSI_CACHE": False}
    if remote:
        options |= {"GDAL_HTTP_HEADERS": "", "GDAL_HTTP_NETRC": "NO"}
        _silenced.update(name for name in SILENT if name in os.environ)
        options |= dict.fromkeys(_silenced, "")
        if _silenced & _SENT_EMPTY:
            options["GDAL_HTTP_AUTH"] = "ANY"
    options |= store or {}
    if remote:
        options |= {
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "GDAL_HTTP_CONNECTTIMEOUT": "10",
            "GDAL_HTTP_TIMEOUT": "45",
            "GDAL_HTTP_LOW_SPEED_TIME": "15",
            "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
            "GDAL_HTTP_MAX_RETRY": "1",
            "GDAL_HTTP_RETRY_DELAY": "0.5",
        }
    if fresh:
        options["CPL_VSIL_CURL_NON_CACHED"] = "/vsicurl/:/vsis3/"
    keys: dict[str, str] = {
        name: options.pop(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if name in options
    }
    # Without a session rasterio would look for keys itself, if boto3 is installed, for any file that is opened.
    with rasterio.Env(_session_class()(keys), **options):
        yield


@cache
def _session_class() -> Callable[[Mapping[str, str]], Any]:
    """Create the class on first use: importing rasterio imports boto3, if installed, and opens 110 files."""
    from rasterio.session import Session

    class Keys(Session):  # type: ignore[misc] # rasterio has no types
        """Keys for one reading, held by nothing else; rasterio takes keys from a session only."""

        def __init__(self, keys: Mapping[str, str]) -> None:
            self._keys = dict(keys)

        def get_credential_options(self) -> dict[str, str]:
            """The keys as GDAL options."""
            return self._keys

    return Keys


def gdal_error() -> type[Exception]:
    """The base class of rasterio's errors; for an ``except`` clause, which imports it only after an exception."""
    from rasterio.errors import RasterioError

    found: type[Exception] = RasterioError
    return found


SILENT = (
    "GDAL_HTTP_HEADER_FILE",
    "GDAL_HTTP_COOKIE",
    "GDAL_HTTP_COOKIEFILE",
    "GDAL_HTTP_COOKIEJAR",
    "GDAL_HTTP_USERPWD",
    "GDAL_HTTP_AUTH",
    "GDAL_HTTP_BEARER",
    "GDAL_HTTP_SSLCERT",
    "GDAL_HTTP_SSLKEY",
)
"""Settings of the environment by which GDAL would reveal credentials to every server. They are suppressed; credentials
for a server are set explicitly, see :func:`stac2cube.access.sign.opening`."""

_SENT_EMPTY = {"GDAL_HTTP_USERPWD", "GDAL_HTTP_BEARER"}
"""Settings that GDAL sends even if they are empty: as ``Authorization: Basic Og==``, which servers of signed addresses
refuse. With ``GDAL_HTTP_AUTH=ANY`` libcurl sends nothing before a server asks for it with 401."""

_silenced: set[str] = set()
"""Those of :data:`SILENT` that the environment ever held: rasterio keeps a variable's value per thread."""

FORMATS = ("GTiff", "COG", "LIBERTIFF", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "JPEG", "PNG")
"""GDAL's drivers that may open files named by a catalog: formats that refer to no other file. A VRT, or the text of a
connection, is excluded."""


def open_image(location: str, *, level: int = 0, formats: Sequence[str] | None = FORMATS) -> DatasetReader:
    """Open a file that a catalog names, with the drivers :data:`FORMATS` only.

    Args:
        location: Location as GDAL expects it.
        level: 0 for the full resolution, from 1 for an overview.
        formats: Names of the drivers that may open it; None for all of GDAL's drivers, for files named by the user.

    Raises:
        RasterioError: It cannot be opened (also OSError).
        ReadError: GDAL would read another file: a TIFF can name one as its overviews.
    """
    import rasterio
    from rasterio.io import DatasetReader

    options = {"overview_level": level - 1} if level else {}
    if formats is None:
        return rasterio.open(location, sharing=False, **options)
    # rasterio.open takes one driver; the class that it instantiates takes several, and an unchanged location.
    image = DatasetReader(location, driver=list(formats), sharing=False, **options)
    other = image.tags(ns="OVERVIEWS").get("OVERVIEW_FILE", "")
    if other and not re.fullmatch(r":::BASE:::[\w.\-]+", other):
        image.close()
        raise ReadError("it names another file as its overviews")
    return image


class GdalImage:
    """See :class:`stac2cube.model.image.Image`; ``tile`` is the size in rows and columns of an internal tile.

    Args:
        location: Location as GDAL expects it.
        opened: Closes the opened datasets.
        quick: See :class:`stac2cube.model.image.Image`.
        jp2: Header of a JPEG 2000 file on a disk whose areas may be decoded separately.
        formats: See :func:`open_image`.

    Raises:
        RasterioError: It cannot be opened (also OSError).
        ReadError: It has no georeference, or names another file.
    """

    def __init__(
        self,
        location: str,
        opened: ExitStack,
        *,
        quick: bool,
        jp2: Jp2Header | None = None,
        formats: Sequence[str] | None = FORMATS,
    ) -> None:
        from odc.geo.geobox import GeoBox

        self._location, self._opened, self._formats = location, opened, formats
        self._levels = {0: opened.enter_context(open_image(location, formats=formats))}
        whole = self._levels[0]
        if whole.crs is None:
            raise ReadError("it has no CRS")
        self.geobox = GeoBox(whole.shape, whole.transform, whole.crs)
        self.nodata: float | None = whole.nodata
        self.bands = int(whole.count)
        self.factors: list[int] = whole.overviews(1)
        self.tile: tuple[int, int] = whole.block_shapes[0]
        self.is_jpeg2000 = str(whole.driver).startswith("JP2")
        # Overviews of a side file are averages, as those of a TIFF.
        self._wavelets = self.is_jpeg2000 and not any(str(name).lower().endswith(".ovr") for name in whole.files)
        if self._wavelets:
            self.factors = [2**level for level in range(1, len(self.factors) + 1)]
        self.quick = quick
        self._jp2 = jp2

    def geobox_of(self, level: int) -> GeoBox:
        """Grid of a level.

        GDAL stretches the pixels of every overview over the extent of the file. This is correct for overviews made by
        GDAL, whatever their number of pixels. Levels of JPEG 2000 are the samples at every second, fourth ... position
        of the full resolution, counted from its first pixel, since the low-pass filters of its wavelets are symmetric
        about them (ISO/IEC 15444-1, annex F): they are on the lattice of the full resolution.
        """
        from affine import Affine
        from odc.geo.geobox import GeoBox

        dataset = self._level(level)
        if not (level and self._wavelets):
            return GeoBox(dataset.shape, dataset.transform, dataset.crs)
        factor = self.factors[level - 1]
        corner = 0.5 - factor / 2
        return GeoBox(
            dataset.shape,
            self.geobox.transform * Affine.translation(corner, corner) * Affine.scale(factor),
            dataset.crs,
        )

    def is_averaged(self, level: int) -> bool:
        """See :meth:`stac2cube.model.image.Image.is_averaged`; GDAL stores the method in the tags of TIFF overviews."""
        return self._level(level).tags(1).get("RESAMPLING", "") not in NO_MEANS

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:
        """Pixels of a level."""
        from rasterio.windows import Window

        if self._jp2 is not None and level == 0:
            area = read_area(self._location, self._jp2, roi)
            if area is not None:
                return area
        pixels: np.ndarray = self._level(level).read(index, window=Window.from_slices(*roi))
        return pixels

    def _level(self, level: int) -> DatasetReader:
        if level not in self._levels:
            smaller = open_image(self._location, level=level, formats=self._formats)
            self._levels[level] = self._opened.enter_context(smaller)
        return self._levels[level]


@contextmanager
def gdal_image(
    location: str, *, quick: bool = False, jp2: Jp2Header | None = None, formats: Sequence[str] | None = FORMATS
) -> Iterator[GdalImage]:
    """Open a file through GDAL.

    Args:
        location: Location as GDAL expects it.
        quick: See :class:`stac2cube.model.image.Image`.
        jp2: See :class:`GdalImage`.
        formats: See :func:`open_image`.

    Raises:
        RasterioError: It cannot be opened (also OSError).
        ReadError: It has no georeference, or names another file.
    """
    with ExitStack() as opened:
        yield GdalImage(location, opened, quick=quick, jp2=jp2, formats=formats)


# JPEG 2000 read by windows: tiles used by several windows are decoded once, and the latest are cached.
#
# A tile is decoded as a whole or, by :mod:`stac2cube.fastcog.jp2`, in part for most of the cost of the whole. Windows
# of one lattice cut the tiles of another anywhere, so that each tile would be decoded for every window that intersects
# it.

MOST = 256 << 20
"""Bytes of cached tiles: two rows of tiles of six bands of a whole Sentinel-2 tile at 20 m, or of four at 10 m."""


@dataclass
class TileCache:
    """Cache of decoded tiles; for one thread.

    Attributes:
        most: Most bytes held; the least recently used tiles are dropped. 0 if there is only one window: then areas are
            decoded separately where that is faster.
    """

    most: int = MOST
    _held: OrderedDict[tuple[str, int, int, int], np.ndarray] = field(default_factory=OrderedDict, repr=False)
    _bytes: int = 0

    def of(self, image: Image, name: str) -> Image:
        """The image with a cache of its tiles, if it is a JPEG 2000 file read by GDAL; else the image itself.

        Args:
            image: The image, opened.
            name: Unique key of the image in the cache: its address.
        """
        if self.most and isinstance(image, GdalImage) and image.is_jpeg2000:
            return CachedImage(image, name, self)
        return image

    def tile(self, image: GdalImage, name: str, index: int, row: int, column: int) -> np.ndarray:
        """A tile of an image, not to be modified."""
        key = (name, index, row, column)
        if key not in self._held:
            height, width = image.tile
            rows, columns = image.geobox.shape
            roi = (
                slice(row * height, min((row + 1) * height, rows)),
                slice(column * width, min((column + 1) * width, columns)),
            )
            self._held[key] = image.read(index, roi)
            self._bytes += self._held[key].nbytes
        self._held.move_to_end(key)
        pixels = self._held[key]
        while self._bytes > self.most and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
        return pixels


class CachedImage:
    """See :class:`stac2cube.model.image.Image`.

    Args:
        image: The uncached image.
        name: See :meth:`TileCache.of`.
        tiles: The cache of tiles.
    """

    def __init__(self, image: GdalImage, name: str, tiles: TileCache) -> None:
        self._image, self._name, self._tiles = image, name, tiles
        self.geobox, self.nodata, self.bands = image.geobox, image.nodata, image.bands
        self.factors, self.is_jpeg2000, self.quick = image.factors, image.is_jpeg2000, image.quick

    def geobox_of(self, level: int) -> GeoBox:
        """Grid of a level."""
        return self._image.geobox_of(level)

    def is_averaged(self, level: int) -> bool:
        """See :meth:`stac2cube.model.image.Image.is_averaged`."""
        return self._image.is_averaged(level)

    def read(self, index: int, roi: Roi, level: int = 0) -> np.ndarray:
        """Pixels of a level; whole tiles and overviews are not cached, since no other window needs them."""
        if level or self._is_whole(roi):
            return self._image.read(index, roi, level)
        height, width = self._image.tile
        rows, columns = roi
        parts = [
            [
                self._tiles.tile(self._image, self._name, index, row, column)[
                    max(rows.start - row * height, 0) : rows.stop - row * height,
                    max(columns.start - column * width, 0) : columns.stop - column * width,
                ]
                for column in range(columns.start // width, -(-columns.stop // width))
            ]
            for row in range(rows.start // height, -(-rows.stop // height))
        ]
        return np.block(parts)

    def _is_whole(self, roi: Roi) -> bool:
        edges = zip(roi, self._image.tile, self.geobox.shape, strict=True)
        return all(part.start % edge == 0 and (part.stop % edge == 0 or part.stop == end) for part, edge, end in edges)
