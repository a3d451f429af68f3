"""Who reads a file: GDAL reads everything; :mod:`stac2cube.source.cog` has the same pixels of most files sooner."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError

from stac2cube.errors import BadInputError, ReadError
from stac2cube.scene import AssetRef
from stac2cube.source.area import is_jpeg2000_name, whole_header
from stac2cube.source.asset import cut_block
from stac2cube.source.band import BandRequest
from stac2cube.source.cog.header import UnusualFileError
from stac2cube.source.cog.image import CogImage
from stac2cube.source.cog.known import KNOWN, HeaderLookup, header_for
from stac2cube.source.cog.ranges import ChangedFileError, is_fickle
from stac2cube.source.cog.remote import parts_of
from stac2cube.source.gdal import FORMATS, gdal_image, gdal_settings
from stac2cube.source.image import Image
from stac2cube.source.sign import Opening, opening, unsigned

log = logging.getLogger(__name__)

ENGINES = ("auto", "rasterio")

VARIABLE = "STAC2CUBE_ENGINE"
"""Environment variable that names the engine where the caller does not."""

T = TypeVar("T")


@dataclass(frozen=True)
class Engine:
    """Who reads. It changes no pixel, so it is in no recipe.

    Attributes:
        name: ``"rasterio"`` has GDAL read everything; ``"auto"`` only what is unusual, or all if the extra ``fast`` is
            not installed.
        headers: Where headers of files may be known already, by unsigned href.
    """

    name: str = "auto"
    headers: HeaderLookup | None = None

    def __post_init__(self) -> None:
        """Refuse unknown names.

        Raises:
            BadInputError: It is unknown.
        """
        if self.name not in ENGINES:
            raise BadInputError(f"there is no engine {self.name!r}: choose {' or '.join(ENGINES)}")

    @classmethod
    def of_environment(cls) -> Engine:
        """The one that the environment variable names, else ``"auto"``.

        Raises:
            BadInputError: It names none.
        """
        return cls(os.environ.get(VARIABLE) or "auto")


@cache
def is_fast_installed() -> bool:
    """Whether the extra ``fast`` is there."""
    return all(find_spec(name) for name in ("isal", "numba", "obstore"))


def look(
    engine: Engine,
    asset: AssetRef,
    way: Opening,
    read: Callable[[Image, AssetRef], T],
    *,
    fresh: bool = False,
    formats: Sequence[str] | None = FORMATS,
) -> T:
    """What ``read`` makes of an asset, opened by whoever is to read it.

    Args:
        engine: Who may.
        asset: The file, and its band.
        way: To the file.
        read: Takes the opened image; may be called again if what was thought of the file proves wrong.
        fresh: See :func:`stac2cube.source.gdal.gdal_settings`.
        formats: See :func:`stac2cube.source.gdal.open_image`.

    Raises:
        RasterioError: It cannot be opened or read (also OSError).
        ReadError: It cannot be used.
    """
    quick = engine.name == "auto" and is_fast_installed()
    if quick:
        try:
            return _look_quickly(engine.headers, asset, way, read)
        except UnusualFileError as reason:
            log.debug("GDAL reads %s: %s", unsigned(asset.href), reason)
    jp2 = whole_header(asset.href, way) if is_jpeg2000_name(asset.href) else None
    with (
        gdal_settings(remote=way.remote, fresh=fresh, store=way.settings),
        gdal_image(way.location, quick=quick, jp2=jp2 if quick and not way.remote else None, formats=formats) as image,
    ):
        if jp2 is None and image.is_jpeg2000:  # it goes by another name
            whole_header(asset.href, way)
        return read(image, asset)


def read_file(href: str, band: BandRequest, geobox: GeoBox) -> np.ndarray:
    """Read the first band of a file that a person names into a lattice, through GDAL; see :func:`cut_block`.

    Args:
        href: A path or URL, of any sensor and in any CRS.
        band: How it is wanted.
        geobox: Lattice of the block.

    Raises:
        RasterioError: It cannot be opened or read (also OSError, so too of a JPEG 2000 that is cut off).
        ReadError: See :func:`cut_block`.
    """
    asset = AssetRef(href)

    def read(image: Image, asset: AssetRef) -> np.ndarray:
        return cut_block(image, asset, band, geobox)

    return look(Engine("rasterio"), asset, opening(asset, "none"), read, formats=None)


def geobox_of(asset: AssetRef, signer: str) -> GeoBox | None:
    """The lattice of a file; None where it cannot be opened: reading it will say why."""
    try:
        return look(Engine("rasterio"), asset, opening(asset, signer), lambda image, _: image.geobox)
    except (RasterioError, ReadError, OSError) as error:
        log.debug("%s: %s", unsigned(asset.href), error)
        return None


def _look_quickly(
    lookup: HeaderLookup | None, asset: AssetRef, way: Opening, read: Callable[[Image, AssetRef], T]
) -> T:
    """With the header that is known, and if the file has changed since, once more with the one that it has now."""
    try:
        return read(CogImage(*header_for(asset.href, way, lookup)), asset)
    except ChangedFileError:
        log.info("%s was changed after its header was read: it is read anew", unsigned(asset.href))
        KNOWN.forget(asset.href)
    try:
        return read(CogImage(*header_for(asset.href, way, None)), asset)
    except ChangedFileError as error:
        KNOWN.forget(asset.href)
        if way.remote and _marks_at_random(way):
            reason = "its server marks it as changed at each request"
            KNOWN.refuse(asset.href, reason)
            raise UnusualFileError(reason) from None
        raise OSError("it is being changed while it is read") from error


def _marks_at_random(way: Opening) -> bool:
    """Whether a server says that a file changed which did not; not where the file cannot be read again."""
    try:
        return is_fickle(parts_of(way))
    except (ChangedFileError, OSError):
        return False
