"""Shift between two pictures by AROSICS (Scheffler et al. 2017, doi:10.3390/rs9070676) or by phase correlation."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

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
        See :func:`stac2cube.coregister.engines.phase_shift`; None where AROSICS finds no match.

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
            max_shift=_REACH,
            footprint_poly_ref=outline,
            footprint_poly_tgt=outline,
            nodata=(_NODATA, _NODATA),
            binary_ws=False,
            calc_corners=False,
            ignore_errors=True,
            CPUs=1,
            q=True,
            progress=False,
            v=False,
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
            max_shift=_REACH,
            tieP_filter_level=1,
            # Of one mask only: that of the reference fails where a point lies on the picture's last edge.
            mask_baddata_tgt=GeoArray((~good).astype("uint8"), *place),
            footprint_poly_ref=outline,
            footprint_poly_tgt=outline,
            nodata=(_NODATA, _NODATA),
            calc_corners=False,
            ignore_errors=True,
            CPUs=1,
            q=True,
            progress=False,
            v=False,
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
