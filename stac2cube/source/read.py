"""From scenes to pixels, on the worker: granules into a block, mosaicked so that a pixel's bands stay together."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from shapely.geometry import shape
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from stac2cube.errors import ReadError
from stac2cube.scene import AssetRef, Granule
from stac2cube.source.asset import WARP_COLUMNS, cut_block, is_nodata
from stac2cube.source.band import BandRequest
from stac2cube.source.engine import Engine, look
from stac2cube.source.image import Image
from stac2cube.source.outline import outlines
from stac2cube.source.seams import Joint
from stac2cube.source.sign import forget, is_remote, opening, unsigned

log = logging.getLogger(__name__)


class Reader(Protocol):
    """An engine that brings granules into a block. :func:`read_block` is the one that reads everything GDAL reads."""

    def __call__(
        self, granules: Sequence[Granule], bands: Sequence[BandRequest], geobox: GeoBox
    ) -> dict[str, np.ndarray]:
        """Pixels per band, ``(rows, columns)`` of the band's dtype in stored form, fill where there is no data."""
        ...


@dataclass(frozen=True)
class RetryPolicy:
    """How stubbornly one asset is read.

    Attributes:
        attempts: Tries at most; only what can pass by itself is tried again.
        first_wait: Seconds before the second try, doubled each time, with jitter.
        longest_wait: Seconds at most.
    """

    attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 20.0


DEFAULT_RETRIES = RetryPolicy()


@dataclass(frozen=True)
class _Manner:
    """How assets are read: what changes no pixel."""

    retries: RetryPolicy
    engine: Engine


def read_block(
    granules: Sequence[Granule],
    bands: Sequence[BandRequest],
    geobox: GeoBox,
    retries: RetryPolicy = DEFAULT_RETRIES,
    *,
    seamless: bool = False,
    engine: Engine | None = None,
) -> dict[str, np.ndarray]:
    """Read a scene into a block.

    Granules are laid down in the given order. A pixel takes all its bands from one granule: the first in which every
    continuous band is valid there, or failing that the first in which any is. Granules that cannot add anything are
    not opened.

    Args:
        granules: In mosaic order.
        bands: What is wanted of each.
        geobox: Lattice of the block.
        retries: How stubbornly to read.
        seamless: Join granules of one lattice before they are resampled, see :mod:`stac2cube.source.seams`.
        engine: Who reads; None for the one that the environment names, see :class:`stac2cube.source.engine.Engine`.

    Returns:
        Per band ``(rows, columns)`` of its dtype in stored form.

    Raises:
        ReadError: An asset is missing or cannot be read. Nothing is filled in for it.
    """
    manner = _Manner(retries, engine or Engine.of_environment())
    if seamless:
        return _read_joined(granules, bands, geobox, manner)
    judges = [band for band in bands if band.kind == "continuous"] or list(bands)
    out: dict[str, np.ndarray] = {}
    best: np.ndarray | None = None
    for place in touching(granules, [geobox])[0]:
        granule = granules[place]
        if best is None:
            out = _read_granule(granule, bands, geobox, manner)
            best = _score(out, judges)
            nothing = best == 0
            if nothing.any():
                for band in bands:
                    np.copyto(out[band.name], np.asarray(band.fill, dtype=band.dtype), where=nothing)
            continue
        if best.min() == len(_SCORES) - 1:
            break
        part = _lacking(best, warped=bool(granule.crs) and granule.crs != str(geobox.crs))
        pixels = _read_granule(granule, bands, geobox[part], manner)
        score = _score(pixels, judges)
        better = score > best[part]
        for name, mosaic in out.items():
            np.copyto(mosaic[part], pixels[name], where=better)
        np.copyto(best[part], score, where=better)
        del pixels, score, better  # before the next granule is read, so that no more than two are held
    return out or {band.name: np.full(geobox.shape, band.fill, dtype=band.dtype) for band in bands}


def touching(granules: Sequence[Granule], geoboxes: Sequence[GeoBox]) -> list[tuple[int, ...]]:
    """Which granules can touch which blocks: for each block their places in the sequence, in order.

    Footprints in catalogs are simplified, so they are taken a little larger than they say.
    """
    blocks, places = touching_pairs(granules, geoboxes)
    ends = np.searchsorted(blocks, np.arange(1, len(geoboxes)))
    return [tuple(part.tolist()) for part in np.split(places, ends)]


def touching_pairs(
    granules: Sequence[Granule], geoboxes: Sequence[GeoBox]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same as pairs: places of blocks, sorted, and of granules, sorted within each block."""
    if not granules or not geoboxes:
        return np.empty(0, "int64"), np.empty(0, "int64")
    tree = shapely.STRtree(shapely.buffer([shape(granule.footprint) for granule in granules], _SLACK_DEGREES))
    blocks = outlines(geoboxes)
    bounds = shapely.bounds(blocks)
    # Footprints are split at 180 degrees, blocks run on beyond: they are looked for on either side of the seam.
    near_east, near_west = bounds[:, 2] > 180 - _SLACK_DEGREES, bounds[:, 0] < -180 + _SLACK_DEGREES
    found = []
    for turn, looked in ((0, np.ones(len(blocks), dtype=bool)), (-360, near_east), (360, near_west)):
        places = np.flatnonzero(looked)
        turned = shapely.transform(blocks[places], lambda points, turn=turn: np.add(points, (turn, 0)))
        block, granule = tree.query(turned, predicate="intersects")
        found.append(places[block] * len(granules) + granule)
    pairs = sorted_once(np.concatenate(found))
    return pairs // len(granules), pairs % len(granules)


def sorted_once(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers in order, each once; many times faster than NumPy's ``unique``, which hashes them."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) != 0] if ordered.size else ordered


_SCORES = ("nothing", "some bands", "all bands")
"""What a granule can offer a pixel, by rank."""


def _lacking(best: np.ndarray, *, warped: bool) -> tuple[slice, slice]:
    """Rows and columns around all pixels that a further granule could better, so that no more of it is read.

    Where it is warped, columns are taken together as in the whole block, so that its pixels are those of the whole.
    """
    lacks = best < len(_SCORES) - 1
    rows = np.flatnonzero(lacks.any(axis=1))
    if not warped:
        return slice(rows[0], rows[-1] + 1), slice(0, best.shape[1])
    columns = np.flatnonzero(lacks.any(axis=0)) // WARP_COLUMNS
    first, last = columns[0] * WARP_COLUMNS, (columns[-1] + 1) * WARP_COLUMNS
    return slice(rows[0], rows[-1] + 1), slice(first, min(last, best.shape[1]))


_SLACK_DEGREES = 0.02
"""About two kilometres: more than the simplification of any catalog's footprints seen."""


def _score(pixels: Mapping[str, np.ndarray], judges: Sequence[BandRequest]) -> np.ndarray:
    """0 where no band is valid, 1 where some are, 2 where all are; uint8."""
    some = _valid(pixels, judges[0])
    every = some.copy() if len(judges) > 1 else some
    for band in judges[1:]:
        valid = _valid(pixels, band)
        every &= valid
        some |= valid
    score: np.ndarray = np.add(every, some, dtype="uint8")
    return score


def _valid(pixels: Mapping[str, np.ndarray], band: BandRequest) -> np.ndarray:
    missing = is_nodata(pixels[band.name], band.fill)
    np.logical_not(missing, out=missing)
    return missing


def _read_granule(
    granule: Granule, bands: Sequence[BandRequest], geobox: GeoBox, manner: _Manner
) -> dict[str, np.ndarray]:
    """All bands of a granule; over a network at the same time, because there most of the time is waiting."""

    def read(band: BandRequest) -> np.ndarray:
        return _read_band(granule, band, geobox, manner)

    if not any(is_remote(asset.href) for asset in granule.assets.values()):
        return {band.name: read(band) for band in bands}
    return dict(zip((band.name for band in bands), _network_pool().map(read, bands), strict=True))


REMOTE_BANDS = 16
"""Bands that one process fetches over a network at the same time, over all its blocks."""


@cache
def _network_pool() -> ThreadPoolExecutor:
    """Threads that live as long as the process: GDAL keeps connections per thread, and making them anew is dear."""
    return ThreadPoolExecutor(REMOTE_BANDS, thread_name_prefix="band")


def _read_joined(
    granules: Sequence[Granule], bands: Sequence[BandRequest], geobox: GeoBox, manner: _Manner
) -> dict[str, np.ndarray]:
    near = [granules[place] for place in touching(granules, [geobox])[0]]
    out = {}
    for band in bands:
        joint = Joint(band, geobox)
        for granule in near:
            _of_asset(granule, band, manner, joint.add)
        out[band.name] = joint.pixels()
    return out


def _read_band(granule: Granule, band: BandRequest, geobox: GeoBox, manner: _Manner) -> np.ndarray:
    def read(image: Image, asset: AssetRef) -> np.ndarray:
        return cut_block(image, asset.index, band, geobox, asset.shift)

    pixels = _of_asset(granule, band, manner, read)
    return np.full(geobox.shape, band.fill, dtype=band.dtype) if pixels is None else pixels


T = TypeVar("T")


def of_asset(
    granule: Granule,
    band: BandRequest,
    read: Callable[[Image, AssetRef], T],
    retries: RetryPolicy = DEFAULT_RETRIES,
) -> T | None:
    """What ``read`` makes of the asset of a band, tried again where that may help; None if the band may be absent.

    Args:
        granule: Of the item.
        band: Its name, and whether it may be absent.
        read: Takes the asset, opened.
        retries: How stubbornly to read.

    Raises:
        ReadError: The asset is missing or cannot be read.
    """
    return _of_asset(granule, band, _Manner(retries, Engine.of_environment()), read)


def _of_asset(granule: Granule, band: BandRequest, manner: _Manner, read: Callable[[Image, AssetRef], T]) -> T | None:
    """See :func:`of_asset`."""
    asset = granule.assets.get(band.name)
    if asset is None:
        if band.optional:
            return None
        raise ReadError(f"item {granule.id} has no asset for band {band.name}")
    remote, retries = is_remote(asset.href), manner.retries

    def again(state: RetryCallState) -> None:
        log.info("%s, band %s: try %d", granule.id, band.name, state.attempt_number + 1)
        if _is_refused(state):
            forget(granule.signer)

    attempts = Retrying(
        stop=lambda state: state.attempt_number >= (_REFUSED_TRIES if _is_refused(state) else retries.attempts),
        wait=wait_random_exponential(multiplier=retries.first_wait, max=retries.longest_wait),
        retry=retry_if_exception(lambda error: remote and isinstance(error, (RasterioError, OSError))),
        before_sleep=again,
        reraise=True,
    )
    try:
        for attempt in attempts:
            way = opening(asset, granule.signer)
            fresh = attempt.retry_state.attempt_number > 1
            with attempt:
                made = look(manner.engine, asset, way, read, fresh=fresh)
    except (RasterioError, OSError, ReadError) as error:
        # Not chained: the text of what GDAL raised may hold a signature.
        raise _failure(granule, band, asset, error) from None
    return made


_REFUSED_TRIES = 2
"""Tries where a server says that a file is not there or not for us: once more, without what GDAL remembers."""


def _is_refused(state: RetryCallState) -> bool:
    reason = _reason(state.outcome.exception() if state.outcome else None)
    return re.search(r"response code: 4(?!08|29)", reason) is not None


def _reason(error: BaseException | None) -> str:
    """The text of the first cause: what is raised last often only says that something went wrong before."""
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def _failure(granule: Granule, band: BandRequest, asset: AssetRef, error: BaseException) -> ReadError:
    href, reason = unsigned(asset.href), unsigned(_reason(error))
    if granule.signer != "none" and re.search(r"response code: 40[13]", reason):
        reason += f". The access that {granule.catalog} gave has expired or does not cover this file; it was asked anew"
    return ReadError(f"item {granule.id}, band {band.name}: {href} cannot be read: {reason}")
