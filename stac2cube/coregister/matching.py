"""Measure the shift of a scene from pairs of pictures: window by window, combined robustly, iterated, and verified.

Windows are matched by phase correlation or by AROSICS (Scheffler et al. 2017, doi:10.3390/rs9070676).
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np

from stac2cube.build.clear_pixels import Patch, infilled
from stac2cube.errors import BadInputError, EngineError

# Shift between two pictures by phase correlation, to a hundredth of a pixel.


@dataclass(frozen=True)
class WindowShift:
    """Shift that moves one window of a picture onto the same window of a reference.

    Attributes:
        right: Pixels to the right.
        down: Pixels down.
        reliability: 0 to 100; prominence of the match.
    """

    right: float
    down: float
    reliability: float


UPSAMPLING = 100
"""Resolution of a shift: steps per pixel."""

HIGHEST_FREQUENCY = 0.35
"""Upper limit of the frequencies used, in cycles per pixel: near half a cycle the sensor passes little but noise."""

AROUND = np.arange(-UPSAMPLING, UPSAMPLING + 1) / UPSAMPLING
"""Offsets in pixels from a peak at which it is refined."""

REACH = 10
"""Largest shift in pixels at which a peak is searched."""

FAINTEST = 5.0
"""Fewest times that a peak must exceed the level expected of random phases."""


def phase_shift(reference: np.ndarray, target: np.ndarray) -> WindowShift | None:
    """Measure the shift of a window by phase correlation.

    Phase correlation (Kuglin and Hines 1975) of windows tapered by a Hann function, the peak refined by a matrix DFT
    about it (Guizar-Sicairos, Thurman and Fienup 2008, doi:10.1364/OL.33.000156).

    Args:
        reference: ``(rows, columns)`` float, without gaps.
        target: Window of the same shape that is to be moved.

    Returns:
        The shift to add to the positions of the target's pixels; None if there is no clear peak, as between pictures of
        different places, of water, or without content.
    """
    frame = _frame(reference.shape)
    product = frame.spectrum(reference) * np.conj(frame.spectrum(target))
    size = np.abs(product)
    if not size.max() > 0:
        return None
    phases = frame.weight * product / np.maximum(size, 1e-12 * size.max())
    correlation = np.fft.irfft2(phases, reference.shape) * reference.size
    near = [np.abs(np.fft.fftfreq(size) * size) <= REACH for size in correlation.shape]
    peak = np.unravel_index(int(np.argmax(np.where(np.outer(*near), correlation, -np.inf))), correlation.shape)
    height = float(correlation[peak]) / frame.total
    if height < FAINTEST / np.sqrt(frame.total):
        return None
    coarse = [float(np.fft.fftfreq(n)[place] * n) for place, n in zip(peak, correlation.shape, strict=True)]
    rows, columns = coarse[0] + AROUND, coarse[1] + AROUND
    # For real pictures half of the spectrum suffices, and of it only the frequencies with a weight.
    down, right = (np.exp(2j * np.pi * at * of) for at, of in zip(coarse, (frame.down, frame.right), strict=True))
    along = _product(frame.down_waves, down[:, None] * phases[frame.rows, : frame.right.size])
    waves = frame.right_waves * right[:, None]
    fine = _product(np.hstack([along.real, -along.imag]), np.vstack([waves.real, waves.imag]))
    row, column = np.unravel_index(int(np.argmax(fine)), fine.shape)
    return WindowShift(float(columns[column]), float(rows[row]), 100 * height)


@dataclass(frozen=True)
class _Frame:
    """Values shared by all windows of a shape.

    Attributes:
        taper: ``(rows, columns)`` float64, a Hann function.
        weight: Weight of every frequency of a half spectrum, 0 or 1.
        total: Sum of the weights over the whole spectrum.
        rows: Indices of the vertical frequencies with a weight.
        down: Those frequencies, in cycles per pixel.
        right: Horizontal frequencies with a weight, from 0.
        down_waves: ``(offsets, frequencies)`` complex128: waves of the vertical frequencies at :data:`AROUND`.
        right_waves: ``(frequencies, offsets)``: waves of the horizontal frequencies, doubled for those that also
            represent their negative.
    """

    taper: np.ndarray
    weight: np.ndarray
    total: float
    rows: np.ndarray
    down: np.ndarray
    right: np.ndarray
    down_waves: np.ndarray
    right_waves: np.ndarray

    def spectrum(self, window: np.ndarray) -> np.ndarray:
        """Half of the spectrum of a window, complex128."""
        found: np.ndarray = np.fft.rfft2((window - window.mean()) * self.taper)
        return found


@lru_cache(maxsize=4)
def _frame(shape: tuple[int, int]) -> _Frame:
    down, right = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    weight = (np.hypot(down[:, None], right[None, :]) <= HIGHEST_FREQUENCY).astype(float)
    weight[0, 0] = 0.0
    rows = np.flatnonzero(np.abs(down) <= HIGHEST_FREQUENCY)
    taper = np.outer(np.hanning(shape[0]), np.hanning(shape[1]))
    total = float(weight[:, 0].sum() + 2 * weight[:, 1:].sum())
    down, right = down[rows], right[right <= HIGHEST_FREQUENCY]
    right_waves = np.exp(2j * np.pi * np.outer(right, AROUND))
    right_waves[1:] *= 2
    return _Frame(taper, weight, total, rows, down, right, np.exp(2j * np.pi * np.outer(AROUND, down)), right_waves)


_ALONE = 1 << 17
"""Real multiplications in one matrix product up to which OpenBLAS uses a single thread. On a busy node its threads wait
for each other at full speed, which takes four times the CPU time of one."""


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A matrix product in pieces, by one thread; as many windows as there are cores are processed already."""
    step = max(1, _ALONE // (right.size * (4 if np.iscomplexobj(right) else 1)))
    return np.concatenate([left[first : first + step] @ right for first in range(0, len(left), step)])


# Shift between two pictures by AROSICS (Scheffler et al. 2017, doi:10.3390/rs9070676), window by window.

INSTALL = (
    "AROSICS is not installed: conda install -c conda-forge arosics; or with pip, where GDAL's headers are "
    "(apt install libgdal-dev g++, or module load gdal), run envs/install-arosics of the stac2cube sources. "
    "Or say engine 'phase', which needs nothing more"
)

_importing = threading.Lock()
_talking = threading.Lock()


def require_arosics() -> None:
    """Check that AROSICS can be imported.

    Raises:
        BadInputError: It cannot be imported; the message explains how to install it.
    """
    try:
        _parts()
    except ImportError as error:
        raise BadInputError(f"{INSTALL} ({error})") from error


def arosics_shift(reference: np.ndarray, target: np.ndarray) -> WindowShift | None:
    """Measure the shift of a window with AROSICS.

    The windows have no gaps, because AROSICS' global mode ignores masks (it tests ``mask[y, x] is True`` on a numpy
    array, which is never true); one window per call, because its own choice is the middle of the overlap, cloudy or
    not; the whole window, because halving it for any shift discards the chosen part; one core, because other blocks are
    processed in parallel.

    Args:
        reference: ``(rows, columns)`` float, without gaps.
        target: The same shape.

    Returns:
        See :func:`stac2cube.coregister.matching.phase_shift`; None if AROSICS finds no match.

    Raises:
        EngineError: AROSICS fails. With errors ignored, it reports windows that do not match without an exception: an
            exception is a fault of AROSICS, of GDAL or of the windows (they need more than 16 x 16 pixels).
    """
    coreg, geoarray = _parts()
    rows, columns = reference.shape
    place, outline = _place(rows), _outline(rows, columns)
    with _failing():
        found = coreg(
            geoarray(_counts(reference), *place),
            geoarray(_counts(target), *place),
            ws=(columns, rows),
            wp=(columns / 2, rows / 2),
            footprint_poly_ref=outline,
            footprint_poly_tgt=outline,
            binary_ws=False,
            **_SETTINGS,
        )
        found.calculate_spatial_shifts()
    if not found.success or found.x_shift_px is None:
        return None
    reliability = 100.0 if found.shift_reliability is None else float(found.shift_reliability)
    return WindowShift(float(found.x_shift_px), float(found.y_shift_px), reliability)


def arosics_points(
    reference: np.ndarray, target: np.ndarray, good: np.ndarray, edge: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shifts at many points, by AROSICS' local mode; points under clouds and unreliable ones are left out.

    Only the first of its filters, reliability, is used: with current versions of its dependencies the second marks
    every point and the third fails, and the fit that follows is robust itself.

    Args:
        reference: ``(rows, columns)`` float, without gaps.
        target: The same shape.
        good: Mask of pixels where both show ground.
        edge: Edge of the windows in pixels; the points are half of it apart.

    Returns:
        ``(n, 2)`` columns and rows, and ``(n, 2)`` shifts to the right and down, pixels. Both may be empty.

    Raises:
        EngineError: AROSICS fails, see :func:`arosics_shift`.
    """
    import contextlib
    import io

    _parts()
    from arosics import COREG_LOCAL
    from geoarray import GeoArray

    rows, columns = reference.shape
    place, outline = _place(rows), _outline(rows, columns)
    # AROSICS prints whatever its settings are; stdout is therefore redirected, by one thread at a time.
    with _talking, contextlib.redirect_stdout(io.StringIO()), _failing():
        found = COREG_LOCAL(
            GeoArray(_counts(reference), *place),
            GeoArray(_counts(target), *place),
            grid_res=edge // 2,
            window_size=(edge, edge),
            tieP_filter_level=1,
            # A mask for one picture only: that of the reference fails if a point is on the picture's last edge.
            mask_baddata_tgt=GeoArray((~good).astype("uint8"), *place),
            footprint_poly_ref=outline,
            footprint_poly_tgt=outline,
            **_SETTINGS,
        )
        found.calculate_spatial_shifts()
        table = found.CoRegPoints_table
    if "OUTLIER" not in table:  # no point was placed, or none matched
        return np.empty((0, 2)), np.empty((0, 2))
    table = table[(table.ABS_SHIFT != _NODATA) & (table.OUTLIER == False)]  # noqa: E712 - a column, not a truth
    points = table[["X_IM", "Y_IM"]].to_numpy(dtype=float)
    inside = good[points[:, 1].astype(int).clip(0, rows - 1), points[:, 0].astype(int).clip(0, columns - 1)]
    return points[inside], table[["X_SHIFT_PX", "Y_SHIFT_PX"]].to_numpy(dtype=float)[inside]


_NODATA = -9999.0

_REACH = 10
"""Largest shift in pixels for AROSICS; the limit of the rules is applied later, for both engines alike."""

_SETTINGS: Mapping[str, Any] = {
    "max_shift": _REACH,
    "nodata": (_NODATA, _NODATA),
    "calc_corners": False,
    "ignore_errors": True,
    "CPUs": 1,
    "q": True,
    "progress": False,
    "v": False,
}
"""Settings of both modes of AROSICS."""


def _counts(window: np.ndarray) -> np.ndarray:
    """Scale values to one order of magnitude, whatever the band: AROSICS converts them to float32 in between."""
    spread = float(window.std())
    scaled: np.ndarray = (1000 + 100 * (window - window.mean()) / (spread or 1.0)).astype("float32")
    return scaled


def _place(rows: int) -> tuple[tuple[float, ...], str]:
    """Geotransform and projection of a window in pixels, from its lower left corner."""
    return (0.0, 1.0, 0.0, float(rows), 0.0, -1.0), _projection()


@cache
def _projection() -> str:
    """Any projection in metres, as WKT: AROSICS' last step parses any other text as WKT, and fails with GDAL 3.8."""
    from pyproj import CRS

    return str(CRS.from_epsg(32631).to_wkt("WKT1_GDAL"))


def _outline(rows: int, columns: int) -> str:
    return f"POLYGON((0 0, {columns} 0, {columns} {rows}, 0 {rows}, 0 0))"


@contextmanager
def _failing() -> Iterator[None]:
    """Suppress AROSICS' warnings; turn its exceptions into errors, so that they do not count as missing matches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (RuntimeError, ValueError, AssertionError, AttributeError, KeyError, TypeError) as error:
            from importlib.metadata import version

            said = f"AROSICS {version('arosics')} with GDAL's bindings {version('gdal')} failed: {type(error).__name__}"
            raise EngineError(f"{said}: {error}. If it does so again, say engine 'phase'") from error


def _parts() -> tuple[Any, Any]:
    with _importing, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from arosics import COREG
        from geoarray import GeoArray
    return COREG, GeoArray


MARGIN = 16
"""Pixels around a window, used to move the target."""

AT_REST = 0.03
"""Shift in pixels below which a pass is the last."""

Engine = Callable[[np.ndarray, np.ndarray], WindowShift | None]

ENGINES: Mapping[str, tuple[Engine, int]] = {"arosics": (arosics_shift, 1), "phase": (phase_shift, 3)}
"""Function of each engine that measures one window, and its largest number of passes; in each pass the target is moved
by the shift found before. AROSICS has one pass: for a moved, therefore smoother target it finds a quarter of a pixel
where there is no shift, because it derives fractions only from the height of the peak's neighbours. Phase correlation
adds what AROSICS misses; the larger that is, the less the result is trusted."""


@dataclass(frozen=True)
class Match:
    """Result of one engine for two pictures, in pixels.

    Attributes:
        right: Shift to the right, added to the target's positions.
        down: Shift down.
        windows: Number of windows that agree.
        tried: Number of windows compared.
        spread: Median absolute deviation of the windows' shifts, the larger of both axes.
        first: The shift found by the engine itself, to the right and down, without what phase correlation still found
            after the target was moved by it.
        residual: Length of that addition.
        reliability: Median reliability of the windows, 0 to 100.
        each: The shift of every window compared, to the right and down, None if none was found or it disagrees.
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
    """Measure the shift of a target against a reference.

    Args:
        patches: Windows of both, with :data:`MARGIN` pixels around each.
        engine: Name in :data:`ENGINES`.

    Returns:
        None if no window gives a shift.
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
    """The shift that remains after moving the targets; None if nothing matches any more."""
    found = [phase_shift(reference, target.inner(total)) for reference, target in pairs]
    known = np.array([(one.right, one.down) for one in found if one])
    return np.asarray(np.median(known[_agreeing(known)], axis=0)) if len(known) else None


def _pair(shift: np.ndarray) -> tuple[float, float]:
    return float(shift[0]), float(shift[1])


def _agreeing(shifts: np.ndarray) -> np.ndarray:
    """Mask of shifts near the median: within three robust deviations, at least a tenth of a pixel."""
    away = np.abs(shifts - np.median(shifts, axis=0))
    limit = np.maximum(3 * 1.4826 * np.median(away, axis=0), 0.1)
    near: np.ndarray = (away <= limit).all(axis=1)
    return near


def _inner(patch: np.ndarray) -> np.ndarray:
    return patch[MARGIN:-MARGIN, MARGIN:-MARGIN]


class _Movable:
    """A target whose inner part can be moved within its margin by a cubic spline, fitted once.

    The result equals that of :func:`scipy.ndimage.shift` (order 3, mode "nearest"); but since all pixels have the same
    shift, it is a sum of four neighbours along each axis, which takes a tenth of the time.
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
        """The inner part, moved to the right and down by a number of pixels; dtype of the target."""
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
"""Pixels by which a picture's edge is extended before a spline is fitted, as in SciPy."""


def _cubic(part: float) -> tuple[float, float, float, float]:
    """Cubic B-spline weights of the four neighbours of a position, ``part`` beyond the second (Unser 1999, eq. 4)."""
    rest = 1 - part
    inner = [2 / 3 - x * x * (2 - x) / 2 for x in (part, rest)]
    return rest**3 / 6, inner[0], inner[1], part**3 / 6
