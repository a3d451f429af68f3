"""From the counts a provider delivers to the stored form of a band, decided per item from its own metadata.

Since processing baseline 04.00 (January 2022) ESA adds 1000 to every valid Sentinel-2 count, so that slightly negative
reflectance survives: reflectance = (count - 1000) / 10000 (Sentinel-2 Products Specification Document, issue 14.9,
``RADIO_ADD_OFFSET`` and ``BOA_ADD_OFFSET``). Reprocessed products carry the offset whatever their date. The stored form
is that of today, for all years: uint16, scale 1e-4, offset -0.1, 0 where there is no data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stac2cube.errors import RadiometryError

S2_OFFSET_COUNTS = 1000
"""Counts that baselines from 04.00 on add to every valid pixel."""

S2_OFFSET = -0.1
"""The same as catalogs declare it: what to add to count / 10000 to get reflectance."""

SATURATED = np.uint16(65535)
"""The agency's own mark of a saturated Sentinel-2 pixel, and the largest count that can be stored."""


@dataclass(frozen=True, slots=True)
class S2Facts:
    """What an item says about the offset of its reflectance bands.

    Attributes:
        item: Its id, for messages.
        baseline: Processing baseline ``"05.00"``, "" if the item does not say.
        declared: Offset that the band declares, in reflectance (0.0 or -0.1), None if it declares none.
        removed: Whether the provider says that it has subtracted the offset from the pixels
            (``earthsearch:boa_offset_applied``), None if it says nothing.
    """

    item: str
    baseline: str
    declared: float | None
    removed: bool | None


@lru_cache(maxsize=1024)  # the bands of an item mostly say the same
def s2_shift(facts: S2Facts) -> int:
    """Counts to add to the valid pixels of a Sentinel-2 reflectance band to reach the stored form.

    0 where the pixels carry the agency's offset, 1000 where they do not: before baseline 04.00, or where the provider
    has subtracted it. Earth Search keeps declaring -0.1 where its flag says that the pixels are shifted; there the flag
    wins (seen in the pixels of recorded items). Planetary Computer declares nothing; the baseline decides.

    Raises:
        RadiometryError: The item's own statements contradict each other, or it makes none.
    """
    since_0400, declared = _since_0400(facts), _declared(facts)
    if facts.removed:
        if since_0400 is False:
            raise _contradiction(facts, "its pixels are said to have lost an offset that its baseline never had")
        return S2_OFFSET_COUNTS
    if declared is not None and since_0400 is not None and declared != since_0400:
        raise _contradiction(facts, "the declared offset and the baseline disagree")
    carries = declared if since_0400 is None else since_0400
    if carries is None:
        raise RadiometryError(
            f"item {facts.item} says neither its processing baseline nor an offset: whether its counts carry the "
            "+1000 of baseline 04.00 cannot be known"
        )
    return 0 if carries else S2_OFFSET_COUNTS


def apply_shift(counts: np.ndarray, shift: int, fill: int = 0) -> np.ndarray:
    """Bring counts to the stored form: exact for every count that fits.

    A pixel without data stays without data. A count that would exceed 65535 becomes 65535, the agency's mark of
    saturation. A count that a provider has already clipped at 0 looks like no data and stays so: what it was is lost.

    Args:
        counts: Any shape, uint16, counts as delivered.
        shift: Counts to add, 0 or more.
        fill: Value of pixels without data.

    Returns:
        Same shape, uint16; the input itself if the shift is 0.
    """
    if shift == 0:
        return counts
    shifted: np.ndarray = counts + np.uint16(shift)  # those beyond the end come round, and are put right
    np.putmask(shifted, counts > SATURATED - shift, SATURATED)
    np.putmask(shifted, counts == fill, fill)
    return shifted


def _since_0400(facts: S2Facts) -> bool | None:
    if not facts.baseline:
        return None
    if not re.fullmatch(r"\d{1,2}\.\d{1,2}", facts.baseline):
        raise RadiometryError(f"item {facts.item} has a processing baseline that is no number: {facts.baseline!r}")
    return float(facts.baseline) >= 4.0


def _declared(facts: S2Facts) -> bool | None:
    """Whether the band declares the agency's offset; any other offset is one that no rule covers."""
    if facts.declared is None:
        return None
    for offset, carries in ((0.0, False), (S2_OFFSET, True)):
        if abs(facts.declared - offset) < 1e-9:
            return carries
    raise _contradiction(facts, "it declares an offset that Sentinel-2 never had")


def _contradiction(facts: S2Facts, what: str) -> RadiometryError:
    return RadiometryError(
        f"item {facts.item} contradicts itself: {what} (baseline {facts.baseline or 'unknown'}, declared offset "
        f"{facts.declared}, offset said to be removed: {facts.removed})"
    )
