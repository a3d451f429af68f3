"""From scenes to pixels, on the worker: granules into a block, mosaicked so that a pixel's bands stay together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Protocol

import numpy as np
from odc.geo.geobox import GeoBox

from stac2cube.scene import AssetRef, Granule
from stac2cube.source.asset import WARP_COLUMNS, cut_block, is_nodata
from stac2cube.source.attempts import DEFAULT_RETRIES, Manner, RetryPolicy, of_asset
from stac2cube.source.band import BandRequest
from stac2cube.source.engine import Engine
from stac2cube.source.image import Image
from stac2cube.source.seams import Joint
from stac2cube.source.sign import is_remote
from stac2cube.source.touching import touching


class Reader(Protocol):
    """An engine that brings granules into a block. :func:`read_block` is the one that reads everything GDAL reads."""

    def __call__(
        self, granules: Sequence[Granule], bands: Sequence[BandRequest], geobox: GeoBox
    ) -> dict[str, np.ndarray]:
        """Pixels per band, ``(rows, columns)`` of the band's dtype in stored form, fill where there is no data."""
        ...


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
    manner = Manner(retries, engine or Engine.of_environment())
    if seamless:
        return _read_joined(granules, bands, geobox, manner)
    judges = [band for band in bands if band.kind == "continuous"] or list(bands)
    near = [granules[place] for place in touching(granules, [geobox])[0]]
    if not near:
        return {band.name: np.full(geobox.shape, band.fill, dtype=band.dtype) for band in bands}
    out = _read_granule(near[0], bands, geobox, manner)
    _clear(out, bands, judges)
    best = _score(out, judges) if len(near) > 1 else np.empty(0)
    for granule in near[1:]:
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
    return out


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


def _clear(pixels: Mapping[str, np.ndarray], bands: Sequence[BandRequest], judges: Sequence[BandRequest]) -> None:
    """Take the other bands away where no band that judges is valid."""
    others = [band for band in bands if band not in judges]
    if not others:
        return
    nothing = is_nodata(pixels[judges[0].name], judges[0].fill)
    for band in judges[1:]:
        if not nothing.any():
            return
        nothing &= is_nodata(pixels[band.name], band.fill)
    for band in others:
        np.copyto(pixels[band.name], np.asarray(band.fill, dtype=band.dtype), where=nothing)


def _valid(pixels: Mapping[str, np.ndarray], band: BandRequest) -> np.ndarray:
    missing = is_nodata(pixels[band.name], band.fill)
    np.logical_not(missing, out=missing)
    return missing


def _read_granule(
    granule: Granule, bands: Sequence[BandRequest], geobox: GeoBox, manner: Manner
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
    granules: Sequence[Granule], bands: Sequence[BandRequest], geobox: GeoBox, manner: Manner
) -> dict[str, np.ndarray]:
    near = [granules[place] for place in touching(granules, [geobox])[0]]
    out = {}
    for band in bands:
        joint = Joint(band, geobox)
        for granule in near:
            of_asset(granule, band, joint.add, manner)
        out[band.name] = joint.pixels()
    return out


def _read_band(granule: Granule, band: BandRequest, geobox: GeoBox, manner: Manner) -> np.ndarray:
    def read(image: Image, asset: AssetRef) -> np.ndarray:
        return cut_block(image, asset, band, geobox)

    pixels = of_asset(granule, band, read, manner)
    return np.full(geobox.shape, band.fill, dtype=band.dtype) if pixels is None else pixels
