"""How stubbornly a file is read: tried again where that may help, and what is said where it does not."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from rasterio.errors import RasterioError
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from stac2cube.errors import BadInputError, ReadError
from stac2cube.scene import AssetRef, Granule
from stac2cube.source.band import BandRequest
from stac2cube.source.cog.remote import refusal_of
from stac2cube.source.engine import Engine, look
from stac2cube.source.image import Image
from stac2cube.source.s3 import refusal_words
from stac2cube.source.sign import access, forget, is_remote, opening, unsigned
from stac2cube.trust.address import ends_at
from stac2cube.trust.deadline import within
from stac2cube.trust.text import printable

log = logging.getLogger(__name__)

SECONDS = "STAC2CUBE_READ_SECONDS"
"""Environment variable: seconds that one file behind a network is read for at most, all tries together."""

LONGEST = 110.0
"""The same where it is not set: a server that stalls, or sends a byte now and then, ends in a failure that says so."""


def longest_read() -> float:
    """Seconds that one file behind a network is read for at most.

    Raises:
        BadInputError: The environment variable holds no such number.
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
class Manner:
    """How assets are read: what changes no pixel.

    Attributes:
        retries: How stubbornly.
        engine: By whom; the one that the environment names if it is not said.
    """

    retries: RetryPolicy = DEFAULT_RETRIES
    engine: Engine = field(default_factory=Engine.of_environment)


T = TypeVar("T")


def of_asset(
    granule: Granule, band: BandRequest, read: Callable[[Image, AssetRef], T], manner: Manner | None = None
) -> T | None:
    """What ``read`` makes of the asset of a band, tried again where that may help; None if the band may be absent.

    Args:
        granule: Of the item.
        band: Its name, and whether it may be absent.
        read: Takes the asset, opened.
        manner: How; as ever if None.

    Raises:
        ReadError: The asset is missing or cannot be read.
    """
    asset, manner = granule.assets.get(band.name), manner or Manner()
    if asset is None:
        if band.optional:
            return None
        raise ReadError(f"item {granule.id} has no asset for band {band.name}")
    try:
        if is_remote(asset.href):
            work = partial(_again_and_again, granule, band, asset, read, manner)
            return within(longest_read(), work, "reading it, all tries together,")
        return look(manner.engine, asset, opening(asset, granule.signer), read)
    except (RasterioError, OSError, ReadError) as error:
        # Not chained: the text of what GDAL raised may hold a signature.
        raise _failure(granule, band, asset, error) from None


def _again_and_again(
    granule: Granule, band: BandRequest, asset: AssetRef, read: Callable[[Image, AssetRef], T], manner: Manner
) -> T:
    """What lies behind a network may be there a little later."""

    def again(state: RetryCallState) -> None:
        log.info("%s, band %s: try %d", granule.id, band.name, state.attempt_number + 1)
        if _is_refused(state):
            forget(granule.signer)

    retries = manner.retries
    attempts = Retrying(
        stop=lambda state: state.attempt_number >= (_REFUSED_TRIES if _is_refused(state) else retries.attempts),
        wait=wait_random_exponential(multiplier=retries.first_wait, max=retries.longest_wait),
        retry=retry_if_exception(lambda error: isinstance(error, (RasterioError, OSError))),
        before_sleep=again,
        reraise=True,
    )
    for attempt in attempts:
        way = opening(asset, granule.signer)
        fresh = attempt.retry_state.attempt_number > 1
        with attempt:
            made = look(manner.engine, asset, way, read, fresh=fresh)
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
    if asset.signed and re.search(r"response code: 40[0-9]", reason):
        return ReadError(f"item {granule.id}, band {band.name}: {href} cannot be read: {reason}. {_about(asset)}")
    if asset.href.startswith("s3:") and (refused := re.search(r"response code: 40[013](?: \((\w+)\))?", reason)):
        code = refused[1] or _code_of(asset, granule.signer)
        reason += f" ({code})" if code and not refused[1] else ""
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
    """The code of the error by which S3 refuses a file, which GDAL does not tell; "" if it cannot be found out."""
    try:
        return within(_SECONDS_FOR_CODE, lambda: refusal_of(opening(asset, signer)), "the reason of a refusal")
    except (OSError, ReadError):
        return ""


_SECONDS_FOR_CODE = 10.0


def _about(asset: AssetRef) -> str:
    """What to do about an address that its catalog signed and that is refused."""
    end = ends_at(asset.signed)
    if end is not None and end < datetime.now(UTC):
        return (
            f"The signature that its catalog gave ended at {end:%Y-%m-%d %H:%M} UTC: search anew, by the same command"
        )
    return "The signature that its catalog gave may have ended, or does not cover it: search anew, by the same command"
