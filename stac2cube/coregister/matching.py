"""From windows to one shift of a scene: robust, refined until nothing is left, and measured again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from stac2cube.build.clear_pixels import Patch, infilled
from stac2cube.coregister.engines import WindowShift, arosics_shift, phase_shift

MARGIN = 16
"""Pixels around a window, from which a moved target is drawn."""

AT_REST = 0.03
"""Pixels; a pass that finds less is the last."""

Engine = Callable[[np.ndarray, np.ndarray], WindowShift | None]

ENGINES: Mapping[str, tuple[Engine, int]] = {"arosics": (arosics_shift, 1), "phase": (phase_shift, 3)}
"""What measures one window, and passes at most, each of the target moved by what was found before. AROSICS gets one: of
a moved, therefore smoother target it finds a quarter of a pixel where there is nothing, for its fractions come from the
height of the peak's neighbours alone. What it misses phase correlation adds; the more that is, the less is believed."""


@dataclass(frozen=True)
class Match:
    """What one engine found between two pictures, pixels.

    Attributes:
        right: To be added to the target's positions, to the right.
        down: The same, down.
        windows: That agree.
        tried: Windows compared.
        spread: Median absolute deviation of the windows' shifts, the larger of both axes.
        first: The shift as the engine itself found it, to the right and down; by then the target was moved, and what
            phase correlation still found was added.
        residual: Length of what was added.
        reliability: Median of the windows', 0 to 100.
        each: For every window tried its shift to the right and down, None where none was found that agrees.
    """

    right: float
    down: float
    windows: int
    tried: int
    spread: float
    first: tuple[float, float]
    residual: float
    reliability: float
    each: tuple[tuple[float, float] | None, ...] = field(default=(), repr=False)

    @property
    def sigma(self) -> float:
        """Standard error of the median, pixels."""
        return 1.4826 * self.spread * math.sqrt(math.pi / 2 / max(self.windows, 1))

    @property
    def size(self) -> float:
        """Length of the shift."""
        return math.hypot(self.right, self.down)


def match(patches: Sequence[Patch], engine: str) -> Match | None:
    """Measure a target against a reference.

    Args:
        patches: Windows of both, with :data:`MARGIN` pixels around each.
        engine: Of :data:`ENGINES`.

    Returns:
        None where no window gives a shift.
    """
    filled = [infilled((patch.reference, patch.target), patch.good) for patch in patches]
    pairs = [(_inner(reference), _Movable(target)) for reference, target in filled]
    measure, passes = ENGINES[engine]
    total = np.zeros(2)
    for _ in range(passes):
        found = [measure(reference, target.inner(total)) for reference, target in pairs]
        shifts = [np.array((one.right, one.down)) if one else None for one in found]
        known = np.array([shift for shift in shifts if shift is not None])
        if not len(known):
            return None
        agreeing = _agreeing(known)
        step = np.median(known[agreeing], axis=0)
        agrees = iter(agreeing)
        each = tuple(_pair(total + shift) if shift is not None and next(agrees) else None for shift in shifts)
        total = total + step
        if np.hypot(*step) < AT_REST:
            break
    spread = float(np.median(np.abs(known[agreeing] - step), axis=0).max())
    reliability = float(np.median([one.reliability for one in found if one]))
    left = _left(pairs, total)
    right, down = _pair(total if left is None else total + left)
    residual = math.inf if left is None else float(np.hypot(*left))
    return Match(right, down, int(agreeing.sum()), len(pairs), spread, _pair(total), residual, reliability, each)


def _left(pairs: Sequence[tuple[np.ndarray, _Movable]], total: np.ndarray) -> np.ndarray | None:
    """What is still found after moving the targets; None where nothing matches any more."""
    found = [phase_shift(reference, target.inner(total)) for reference, target in pairs]
    known = np.array([(one.right, one.down) for one in found if one])
    return np.asarray(np.median(known[_agreeing(known)], axis=0)) if len(known) else None


def _pair(shift: np.ndarray) -> tuple[float, float]:
    return float(shift[0]), float(shift[1])


def _agreeing(shifts: np.ndarray) -> np.ndarray:
    """Which shifts lie near the median: within three robust deviations, at least a tenth of a pixel."""
    away = np.abs(shifts - np.median(shifts, axis=0))
    limit = np.maximum(3 * 1.4826 * np.median(away, axis=0), 0.1)
    near: np.ndarray = (away <= limit).all(axis=1)
    return near


def _inner(patch: np.ndarray) -> np.ndarray:
    return patch[MARGIN:-MARGIN, MARGIN:-MARGIN]


class _Movable:
    """A target, whose inner part can be drawn from anywhere within its margin: a cubic spline, fitted once.

    What :func:`scipy.ndimage.shift` (order 3, mode "nearest") gives there; but the same shift of all pixels is one
    sum of four neighbours along each axis, which takes a tenth of its time.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    @cached_property
    def _coefficients(self) -> np.ndarray:
        from scipy import ndimage

        padded = np.pad(self._pixels, _EDGE, mode="edge")
        found: np.ndarray = ndimage.spline_filter(padded, order=3, output="float64", mode="nearest")
        return found

    def inner(self, shift: np.ndarray) -> np.ndarray:
        """The inner part, moved to the right and down by some pixels; of the type of the target."""
        if not shift.any():
            return _inner(self._pixels)
        drawn = self._coefficients
        for axis, length in enumerate(self._pixels.shape):
            begin = MARGIN - float(shift[1 - axis])
            whole = math.floor(begin)
            places = [
                np.clip(np.arange(whole - 1 + n, whole - 1 + n + length - 2 * MARGIN), 0, length - 1) for n in range(4)
            ]
            weights = _cubic(begin - whole)
            drawn = np.sum(
                [w * np.take(drawn, _EDGE + place, axis) for w, place in zip(weights, places, strict=True)], axis=0
            )
        return drawn.astype(self._pixels.dtype)


_EDGE = 12
"""Pixels of the edge repeated around a picture before a spline is fitted, as SciPy does."""


def _cubic(part: float) -> tuple[float, float, float, float]:
    """Cubic B-spline of the four neighbours of a place that lies ``part`` beyond the second (Unser 1999, eq. 4)."""
    rest = 1 - part
    inner = [2 / 3 - x * x * (2 - x) / 2 for x in (part, rest)]
    return rest**3 / 6, inner[0], inner[1], part**3 / 6
