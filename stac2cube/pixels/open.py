"""Open an asset with the fast reader or with GDAL, retry transient errors, and stop at the deadline."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from stac2cube.access.hrefs import local_path
from stac2cube.access.s3 import code_of_message, refusal_words
from stac2cube.access.sign import Opening, access, forget, is_remote, opening, unsigned
from stac2cube.errors import BadInputError, ReadError
from stac2cube.fastcog.header import UnusualFileError
from stac2cube.fastcog.image import BrokenDeflateError, CogImage
from stac2cube.fastcog.jp2 import is_jpeg2000_name, whole_header
from stac2cube.fastcog.ranges import (
    KNOWN,
    ChangedFileError,
    HeaderLookup,
    header_for,
    is_fickle,
    refusal_of,
    remote_file,
)
from stac2cube.model.image import BandRequest, Image
from stac2cube.model.scene import AssetRef, Granule, is_zarr_array
from stac2cube.pixels.gdal import FORMATS, gdal_error, gdal_image, gdal_settings
from stac2cube.pixels.warp import source_window
from stac2cube.trust.address import ends_at
from stac2cube.trust.deadline import within
from stac2cube.trust.text import printable

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from tenacity import RetryCallState

# Choice of the reader: GDAL reads all files; :mod:`stac2cube.fastcog.image` reads the same pixels of most files faster.

ENGINES = ("auto", "rasterio")

VARIABLE = "STAC2CUBE_ENGINE"
"""Environment variable that names the engine if the caller does not."""


@dataclass(frozen=True)
class Engine:
    """The reader of images. It changes no pixel, so it is not part of a recipe.

    Attributes:
        name: ``"rasterio"`` reads everything with GDAL; ``"auto"`` uses GDAL for unusual files only, or for all if the
            extra ``fast`` is not installed.
        headers: Lookup of already known headers of files, by unsigned href.
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
        """The engine that the environment variable names, else ``"auto"``.

        Raises:
            BadInputError: The name is unknown.
        """
        return cls(os.environ.get(VARIABLE) or "auto")


@cache
def is_fast_installed() -> bool:
    """Whether the extra ``fast`` is installed."""
    return all(find_spec(name) for name in ("isal", "numba", "obstore"))


def inspect(
    engine: Engine,
    asset: AssetRef,
    way: Opening,
    read: Callable[[Image, AssetRef], T],
    *,
    fresh: bool = False,
    formats: Sequence[str] | None = FORMATS,
) -> T:
    """Open an asset with a suitable reader and return the result of ``read``.

    Args:
        engine: The engine to use.
        asset: The file, and its band.
        way: How the file is opened.
        read: Takes the opened image; may be called again if the cached header of the file proves wrong.
        fresh: See :func:`stac2cube.pixels.gdal.gdal_settings`.
        formats: See :func:`stac2cube.pixels.gdal.open_image`.

    Raises:
        RasterioError: It cannot be opened or read (also OSError).
        ReadError: It cannot be used.
    """
    if is_zarr_array(asset.href):
        from stac2cube.pixels.zarr_image import read_array  # slow to import, and rarely needed

        return read_array(engine.headers, asset, way, read)
    quick = engine.name == "auto" and is_fast_installed()
    if quick:
        try:
            return _look_quickly(engine.headers, asset, way, read)
        except UnusualFileError as reason:
            log.debug("GDAL reads %s: %s", unsigned(asset.href), reason)
    jp2 = whole_header(asset.address, way) if is_jpeg2000_name(asset.href) else None
    with (
        gdal_settings(remote=way.remote, fresh=fresh, store=way.settings),
        gdal_image(way.location, quick=quick, jp2=jp2 if quick and not way.remote else None, formats=formats) as image,
    ):
        if jp2 is None and image.is_jpeg2000:  # a JPEG 2000 file with another suffix
            whole_header(asset.address, way)
        return read(image, asset)


def read_file(href: str, band: BandRequest, geobox: GeoBox) -> np.ndarray:
    """Read the first band of a file named by the user onto a grid, through GDAL; see :func:`source_window`.

    Args:
        href: A path or URL, of any sensor and in any CRS.
        band: The request: dtype, fill and resampling.
        geobox: Grid of the block.

    Raises:
        RasterioError: It cannot be opened or read (also OSError, as for a truncated JPEG 2000).
        ReadError: See :func:`source_window`.
    """
    asset = AssetRef(href)

    def read(image: Image, asset: AssetRef) -> np.ndarray:
        return source_window(image, asset, band, geobox)

    return inspect(Engine("rasterio"), asset, opening(asset, "none"), read, formats=None)


def file_geobox(asset: AssetRef, signer: str) -> GeoBox | None:
    """The grid of a file; None if it cannot be opened: reading it will report the reason."""
    try:
        return inspect(Engine("rasterio"), asset, opening(asset, signer), lambda image, _: image.geobox)
    except (gdal_error(), ReadError, OSError) as error:
        log.debug("%s: %s", unsigned(asset.href), error)
        return None


def local_file(href: str) -> Path | None:
    """The regular file on this machine that an item names, None if there is none."""
    path = Path(local_path(href))
    return path if path.is_file() else None


def local_bytes(href: str, most: int) -> bytes:
    """The first bytes of a regular file on this machine.

    Args:
        href: Address as in the item.
        most: Most bytes to read.

    Returns:
        The bytes; empty if the file is not on this machine, or cannot be read.
    """
    path = local_file(href)
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


def _look_quickly(
    lookup: HeaderLookup | None, asset: AssetRef, way: Opening, read: Callable[[Image, AssetRef], T]
) -> T:
    """Read with the known header; if the file changed since then, read again with a new header."""
    try:
        return read(CogImage(*header_for(asset, way, lookup)), asset)
    except ChangedFileError:
        log.info("%s was changed after its header was read: it is read anew", unsigned(asset.href))
        KNOWN.forget(asset.address)
    except BrokenDeflateError:  # or the cached header is wrong
        KNOWN.forget(asset.address)
    try:
        return read(CogImage(*header_for(asset, way, None)), asset)
    except BrokenDeflateError as error:
        KNOWN.forget(asset.address)
        raise OSError(f"it is damaged: {error}") from None
    except ChangedFileError as error:
        KNOWN.forget(asset.address)
        if way.remote and _marks_at_random(way):
            reason = "its server marks it as changed at each request"
            KNOWN.refuse(asset.address, reason)
            raise UnusualFileError(reason) from None
        raise OSError("it is being changed while it is read") from error


def _marks_at_random(way: Opening) -> bool:
    """Whether a server reports a change of an unchanged file; False if the file cannot be read again."""
    try:
        return is_fickle(remote_file(way))
    except (ChangedFileError, OSError):
        return False


# Retries: what is read again, and the errors that are raised in the end.

log = logging.getLogger(__name__)

SECONDS = "STAC2CUBE_READ_SECONDS"
"""Environment variable: time limit in seconds for one file on a network, over all attempts."""

LONGEST = 110.0
"""Default time limit: a server that stalls, or sends a byte now and then, ends in an error that reports it."""


def longest_read() -> float:
    """The time limit for one file on a network, in seconds.

    Raises:
        BadInputError: The environment variable holds no valid number.
    """
    text = os.environ.get(SECONDS)
    if not text:
        return LONGEST
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds < math.inf:
        raise BadInputError(f"{SECONDS} should be a number of seconds from 1 on, not {printable(text)!r}")
    return seconds


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how soon the reading of an asset is retried.

    Attributes:
        attempts: Most attempts; only transient errors are retried.
        first_wait: Seconds before the second attempt, doubled each time, with jitter.
        longest_wait: Most seconds between attempts.
    """

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 20.0


DEFAULT_RETRIES = RetryPolicy()


@dataclass(frozen=True)
class ReadOptions:
    """How assets are read; none of the options changes a pixel.

    Attributes:
        retries: The retry policy.
        engine: The engine; by default the one that the environment names.
    """

    retries: RetryPolicy = DEFAULT_RETRIES
    engine: Engine = field(default_factory=Engine.of_environment)


T = TypeVar("T")


def of_asset(
    granule: Granule, band: BandRequest, read: Callable[[Image, AssetRef], T], read_options: ReadOptions | None = None
) -> T | None:
    """Apply ``read`` to the asset of a band, with retries; None if the asset is absent and the band optional.

    Args:
        granule: The granule of the asset.
        band: The name of the band, and whether it is optional.
        read: Takes the opened image and the asset.
        read_options: How to read; defaults if None.

    Raises:
        ReadError: The asset is missing or cannot be read.
    """
    asset, read_options = granule.assets.get(band.name), read_options or ReadOptions()
    if asset is None:
        if band.optional:
            return None
        raise ReadError(f"item {granule.id} has no asset for band {band.name}")
    try:
        if is_remote(asset.href):
            work = partial(_retried, granule, band, asset, read, read_options)
            return within(longest_read(), work, "reading it, all tries together,")
        return inspect(read_options.engine, asset, opening(asset, granule.signer), read)
    except (gdal_error(), OSError, ReadError) as error:
        # Not chained: the text of what GDAL raised may hold a signature.
        raise _failure(granule, band, asset, error) from None


def _retried(
    granule: Granule,
    band: BandRequest,
    asset: AssetRef,
    read: Callable[[Image, AssetRef], T],
    read_options: ReadOptions,
) -> T:
    """Read over a network, with retries."""
    from tenacity import Retrying, retry_if_exception, wait_random_exponential

    def again(state: RetryCallState) -> None:
        log.info("%s, band %s: try %d", granule.id, band.name, state.attempt_number + 1)
        if _is_refused(state):
            forget(granule.signer)

    retries = read_options.retries
    attempts = Retrying(
        stop=lambda state: state.attempt_number >= (_REFUSED_TRIES if _is_refused(state) else retries.attempts),
        wait=wait_random_exponential(multiplier=retries.first_wait, max=retries.longest_wait),
        retry=retry_if_exception(lambda error: isinstance(error, (gdal_error(), OSError))),
        before_sleep=again,
        reraise=True,
    )
    for attempt in attempts:
        way = opening(asset, granule.signer)
        fresh = attempt.retry_state.attempt_number > 1
        with attempt:
            made = inspect(read_options.engine, asset, way, read, fresh=fresh)
    return made


_REFUSED_TRIES = 2
"""Attempts if a server reports that a file is missing or forbidden: one retry, without GDAL's cache."""


def _is_refused(state: RetryCallState) -> bool:
    reason = _reason(state.outcome.exception() if state.outcome else None)
    return bool(re.search(r"response code: 4(?!08|29)", reason) or code_of_message(reason))


def _reason(error: BaseException | None) -> str:
    """The text of the first cause: the last exception often only reports that something failed before."""
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def _failure(granule: Granule, band: BandRequest, asset: AssetRef, error: BaseException) -> ReadError:
    href, reason = unsigned(asset.href), unsigned(_reason(error))
    if asset.signed and re.search(r"response code: 40[0-9]", reason):
        return ReadError(f"item {granule.id}, band {band.name}: {href} cannot be read: {reason}. {_about(asset)}")
    refused = re.search(r"response code: 40[013](?: \((\w+)\))?", reason)
    if asset.href.startswith("s3:") and (refused or code_of_message(reason)):
        code = (refused and refused[1]) or code_of_message(reason) or _code_of(asset, granule.signer)
        if code and code not in reason:
            reason = f"{reason.rstrip('.')} ({code})"
        return ReadError(
            f"item {granule.id}, band {band.name}: {href} cannot be read: {reason}. "
            f"{refusal_words(code, access(asset.href, granule.signer))}"
        )
    if granule.signer != "none" and re.search(r"response code: 40[13]", reason):
        reason += f". The access that {granule.catalog} gave has expired or does not cover this file; it was asked anew"
    elif not asset.signed and re.search(r"response code: 40[13]", reason):
        reason += (
            ". Its server wants a key or a signature. Of addresses that a catalog signs, an index and a stored search "
            "keep no signature: search the catalog itself"
        )
    return ReadError(f"item {granule.id}, band {band.name}: {href} cannot be read: {reason}")


def _code_of(asset: AssetRef, signer: str) -> str:
    """The error code with which S3 refuses a file, which GDAL does not report; "" if it cannot be found."""
    try:
        return within(_SECONDS_FOR_CODE, lambda: refusal_of(opening(asset, signer)), "the reason of a refusal")
    except (OSError, ReadError):
        return ""


_SECONDS_FOR_CODE = 10.0


def _about(asset: AssetRef) -> str:
    """Advice for an address that was signed by its catalog and is refused."""
    end = ends_at(asset.signed)
    if end is not None and end < datetime.now(UTC):
        return (
            f"The signature that its catalog gave ended at {end:%Y-%m-%d %H:%M} UTC: search anew, by the same command"
        )
    return "The signature that its catalog gave may have ended, or does not cover it: search anew, by the same command"
