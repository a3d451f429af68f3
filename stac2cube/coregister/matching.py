"""From pictures to one shift of a scene: per window, then robust, refined until nothing is left, and measured again.

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
    """What moves one window of a picture onto the same window of a reference.

    Attributes:
        right: Pixels to the right.
        down: Pixels down.
        reliability: 0 to 100; how far the match stands out.
    """

    right: float
    down: float
    reliability: float


UPSAMPLING = 100
"""Fractions of a pixel that are told apart."""

HIGHEST_FREQUENCY = 0.35
"""Cycles per pixel up to which phases count: near half a cycle the sensor passes little but noise."""

AROUND = np.arange(-UPSAMPLING, UPSAMPLING + 1) / UPSAMPLING
"""Pixels about a peak at which it is refined."""

REACH = 10
"""Pixels within which a peak is looked for."""

FAINTEST = 5.0
"""A peak must stand so many times above what phases at random would give."""


def phase_shift(reference: np.ndarray, target: np.ndarray) -> WindowShift | None:
    """Measure a window.

    Phase correlation (Kuglin and Hines 1975) of windows tapered by a Hann function, the peak refined by a matrix DFT
    about it (Guizar-Sicairos, Thurman and Fienup 2008, doi:10.1364/OL.33.000156).

    Args:
        reference: ``(rows, columns)`` float, without gaps.
        target: The same shape; its content lies where it should be moved away from.

    Returns:
        What is to be added to the positions of the target's pixels; None where no peak stands out, as between pictures
        of different places, of water, or of nothing.
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
    # Of real pictures one half of the spectrum says all, and of that only what has a weight.
    down, right = (np.exp(2j * np.pi * at * of) for at, of in zip(coarse, (frame.down, frame.right), strict=True))
    along = _product(frame.down_waves, down[:, None] * phases[frame.rows, : frame.right.size])
    waves = frame.right_waves * right[:, None]
    fine = _product(np.hstack([along.real, -along.imag]), np.vstack([waves.real, waves.imag]))
    row, column = np.unravel_index(int(np.argmax(fine)), fine.shape)
    return WindowShift(float(columns[column]), float(rows[row]), 100 * height)


@dataclass(frozen=True)
class _Frame:
    """What all windows of a shape have in common.

    Attributes:
        taper: ``(rows, columns)`` float64, a Hann function.
        weight: Of every frequency of a half spectrum, 0 or 1.
        total: Sum of the weights over the whole spectrum.
        rows: Places of the frequencies down that have a weight.
        down: Those frequencies, cycles per pixel.
        right: Frequencies to the right that have a weight, from 0.
        down_waves: ``(places, frequencies)`` complex128: waves of those frequencies at :data:`AROUND`.
        right_waves: ``(frequencies, places)``: the same, twice for each that stands for its negative, too.
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
"""Multiplications of real numbers in one matrix product up to which OpenBLAS takes no further thread. On a busy node
its threads wait for each other at full speed: four times the CPU time of one."""


def _product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A matrix product in pieces, by one thread; as many windows as there are cores are worked on already."""
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
    """Be sure that it can be imported.

    Raises:
        BadInputError: It cannot; the message says how to install it.
    """
    try:
        _parts()
    except ImportError as error:
        raise BadInputError(f"{INSTALL} ({error})") from error


def arosics_shift(reference: np.ndarray, target: np.ndarray) -> WindowShift | None:
    """Measure a window.

    The windows come without gaps, because AROSICS' global mode looks at no mask (it asks ``mask[y, x] is True`` of a
    numpy array, which is never so); one window per call, because its own choice is the middle of the overlap, cloud or
    not; the whole window, because halving it for any shift loses what was chosen; one core, because others work too.

    Args:
        reference: ``(rows, columns)`` float, without gaps.
        target: The same shape.

    Returns:
        See :func:`stac2cube.coregister.matching.phase_shift`; None where AROSICS finds no match.

    Raises:
        EngineError: AROSICS fails. Told to ignore errors, it tells of windows that do not match and raises nothing:
            what it raises is a fault of it, of GDAL or of the windows (they need more than 16 x 16 pixels).
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
    """Shifts at many points, by AROSICS' local mode; points under clouds, and those it doubts, are left out.

    Of its filters only the first, reliability, is used: with present versions of what they lean on the second marks
    every point and the third fails, and the fit that follows is robust by itself.

    Args:
        reference: ``(rows, columns)`` float, without gaps.
        target: The same shape.
        good: Where both show ground.
        edge: Of the windows, pixels; the points lie half of it apart.

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
    # It prints, whatever it is told; for that while nobody else may be heard.
    with _talking, contextlib.redirect_stdout(io.StringIO()), _failing():
        found = COREG_LOCAL(
            GeoArray(_counts(reference), *place),
            GeoArray(_counts(target), *place),
            grid_res=edge // 2,
            window_size=(edge, edge),
            tieP_filter_level=1,
            # Of one mask only: that of the reference fails where a point lies on the picture's last edge.
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
"""Pixels; how far is too far is decided later, for both engines alike."""

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
"""What both of AROSICS' modes are told."""


def _counts(window: np.ndarray) -> np.ndarray:
    """Numbers of one order of magnitude, whatever the band: AROSICS writes them into float32 in between."""
    spread = float(window.std())
    scaled: np.ndarray = (1000 + 100 * (window - window.mean()) / (spread or 1.0)).astype("float32")
    return scaled


def _place(rows: int) -> tuple[tuple[float, ...], str]:
    """Geotransform and projection of a window in pixels, from its lower left corner."""
    return (0.0, 1.0, 0.0, float(rows), 0.0, -1.0), _projection()


@cache
def _projection() -> str:
    """Any projection in metres, as WKT: AROSICS' last step reads every other text as WKT, and fails with GDAL 3.8."""
    from pyproj import CRS

    return str(CRS.from_epsg(32631).to_wkt("WKT1_GDAL"))


def _outline(rows: int, columns: int) -> str:
    return f"POLYGON((0 0, {columns} 0, {columns} {rows}, 0 {rows}, 0 0))"


@contextmanager
def _failing() -> Iterator[None]:
    """AROSICS without its warnings; what it raises says that it failed, and not that nothing matches."""
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
