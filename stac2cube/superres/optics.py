"""Model of a sensor's optics, agreement of pictures with it, and gates where a picture contradicts it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np

# The blur of a sensor's optics, and correction of a sharper picture until it agrees with the measured one.

MTF: Mapping[str, float] = {
    "B02": 0.26,
    "B03": 0.28,
    "B04": 0.24,
    "B05": 0.38,
    "B06": 0.34,
    "B07": 0.34,
    "B08": 0.26,
    "B8A": 0.33,
    "B11": 0.22,
    "B12": 0.23,
}
"""Modulation transfer of each Sentinel-2 band at half a cycle per pixel of its own size (as Ulfarsson, Palsson, Dalla
Mura and Sveinsson 2019, doi:10.1109/TGRS.2019.2906048, took them from ESA's data quality reports)."""

ITERATIONS = 5
"""Number of back-projections; three to ten give the same gain, thirty less."""

_SIGMAS = 3.0
"""Standard deviations at which a point spread function is truncated."""


def spread(scale: int, gain: float) -> np.ndarray:
    """Weights of fine pixels in a coarse one, along one axis: a Gaussian with the given gain at Nyquist.

    Args:
        scale: Fine pixels per coarse one.
        gain: Modulation transfer at half a cycle per coarse pixel.

    Returns:
        ``(scale + 2 * n,)`` float32 that sum to 1, centred on the coarse pixel.
    """
    sigma = scale * math.sqrt(-2 * math.log(gain)) / math.pi
    reach = _reach(scale, gain)
    places = np.arange(-reach * scale, (reach + 1) * scale) - (scale - 1) / 2
    weights = np.exp(-0.5 * (places / sigma) ** 2)
    normal: np.ndarray = (weights / weights.sum()).astype("float32")
    return normal


def degraded(picture: np.ndarray, scale: int, gains: Sequence[float]) -> np.ndarray:
    """Simulate the picture of a sensor with coarser pixels.

    Args:
        picture: ``(bands, rows, columns)`` float32, sizes multiples of ``scale``.
        scale: Fine pixels per coarse one.
        gains: Modulation transfer per band, see :func:`spread`.

    Returns:
        ``(bands, rows / scale, columns / scale)`` float32. Beyond the edge the picture is mirrored.
    """
    return np.stack([_seen(_phases(band, scale), scale, gain) for band, gain in zip(picture, gains, strict=True)])


def bicubic(picture: np.ndarray, scale: int) -> np.ndarray:
    """Cubic convolution (Keys 1981, a = -0.5): ``(bands, rows, columns)``, each axis times ``scale``.

    Pixel edges coincide: the centre of a coarse pixel is the centre of its fine ones.
    """
    return _pictures((_raised(band, scale, _keys) for band in picture), picture.shape, scale)


def linear(picture: np.ndarray, scale: int) -> np.ndarray:
    """Linear interpolation: ``(bands, rows, columns)``, each axis times ``scale``."""
    return _pictures((_raised(band, scale, _tent) for band in picture), picture.shape, scale)


def means(picture: np.ndarray, scale: int) -> np.ndarray:
    """Means of ``scale`` x ``scale`` pixels: ``(bands, rows / scale, columns / scale)`` float32."""
    bands, rows, columns = picture.shape
    high = picture.reshape(bands, rows // scale, scale, columns).sum(axis=2, dtype="float32")
    total = high[..., ::scale].copy()
    for place in range(1, scale):
        total += high[..., place::scale]
    average: np.ndarray = total / np.float32(scale**2)
    return average


def agreeing(fine: np.ndarray, coarse: np.ndarray, scale: int, gains: Sequence[float] | None) -> np.ndarray:
    """Correct a fine picture until the sensor would measure the coarse one in it (Irani and Peleg 1991).

    Args:
        fine: ``(bands, rows, columns)`` float32.
        coarse: ``(bands, rows / scale, columns / scale)`` float32, as measured.
        scale: Fine pixels per coarse one.
        gains: Modulation transfer per band; None for plain means, which are matched exactly.

    Returns:
        Shape of ``fine``.
    """
    if gains is None:
        # Adding each mean's error to all of its pixels matches the means in one step.
        missing = (coarse - means(fine, scale)).repeat(scale, axis=1).repeat(scale, axis=2)
    else:
        missing = bicubic(correction(coarse - degraded(fine, scale, gains), scale, gains), scale)
    moved: np.ndarray = fine + missing
    return moved


def correction(apart: np.ndarray, scale: int, gains: Sequence[float]) -> np.ndarray:
    """Correction of coarse pixels whose bicubic interpolation corrects the finer picture.

    Back-projecting ``ITERATIONS`` times adds ``U (1 + K + ... + K^(n-1)) e`` to the fine picture, with ``U`` bicubic
    interpolation, ``D`` the optics, ``K = 1 - D U``, ``e`` the difference between the measured and the simulated
    pixels: everything but the last ``U`` can be computed on coarse pixels.

    Args:
        apart: ``(bands, rows, columns)`` float32: measured minus simulated pixels.
        scale: Fine pixels per coarse one.
        gains: Modulation transfer per band.

    Returns:
        Shape of ``apart``.
    """
    corrected = np.empty_like(apart)
    for band, gain, out in zip(apart, gains, corrected, strict=True):
        weights = _there_and_back(scale, gain)
        left = band
        out[...] = band
        for _ in range(ITERATIONS - 1):
            left = left - _again(left, weights)
            np.add(out, left, out=out)
    return corrected


def gated(
    added: np.ndarray, coarse: np.ndarray, gains: Sequence[float], gate: np.ndarray, held: bool = True
) -> np.ndarray:
    """Bicubic interpolation; where a gate is open, also back-projection, the network's addition, and agreement again.

    Args:
        added: ``(bands, scale, scale, rows, columns)`` float32: what a network adds to the fine pixels of each coarse
            one of the back-projected picture.
        coarse: ``(bands, rows, columns)`` float32, as measured.
        gains: Modulation transfer per band.
        gate: ``(rows, columns)``, 0 to 1. If it is 1 everywhere, this is :func:`agreeing` of bicubic interpolation,
            then of the sum.
        held: Whether the sum is corrected for agreement again.

    Returns:
        ``(bands, scale * rows, scale * columns)`` float32.
    """
    scale = added.shape[1]

    def phases() -> Iterator[np.ndarray]:
        for band, more, gain in zip(coarse, added, gains, strict=True):
            weights = _there_and_back(scale, gain)
            wanted = band + gate * correction((band - _again(band, weights))[None], scale, [gain])[0]
            let = more * gate
            if held:
                apart = band - _again(wanted, weights) - _seen(let, scale, gain)
                wanted += gate * correction(apart[None], scale, [gain])[0]
            let += _raised(wanted, scale, _keys)
            yield let

    return _pictures(phases(), coarse.shape, scale)


def phases_of(pictures: np.ndarray, scale: int) -> np.ndarray:
    """Fine pixels by their position in the coarse one: ``(bands, scale, scale, rows / scale, columns / scale)``."""
    return np.stack([_phases(picture, scale) for picture in pictures])


def residual(fine: np.ndarray, coarse: np.ndarray, scale: int, gains: Sequence[float] | None) -> np.ndarray:
    """Difference between the simulated and the coarse picture per coarse pixel: mean absolute value over the bands."""
    seen = means(fine, scale) if gains is None else degraded(fine, scale, gains)
    apart: np.ndarray = np.abs(seen - coarse).mean(axis=0)
    return apart


def _reach(scale: int, gain: float) -> int:
    """Number of coarse pixels on each side from which light reaches a coarse pixel."""
    sigma = scale * math.sqrt(-2 * math.log(gain)) / math.pi
    return math.ceil(_SIGMAS * sigma / scale - 0.5)


def _phases(picture: np.ndarray, scale: int) -> np.ndarray:
    """Fine pixels by their position in the coarse one, ``(scale, scale, rows, columns)``.

    Every step of a filter then processes whole planes that are contiguous in memory.
    """
    rows, columns = picture.shape
    phases = np.empty((scale, scale, rows // scale, columns // scale), "float32")
    cells = picture.reshape(rows // scale, scale, columns // scale, scale)
    for down in range(scale):
        for right in range(scale):
            phases[down, right] = cells[:, down, :, right]
    return phases


def _pictures(phases: Iterable[np.ndarray], shape: tuple[int, ...], scale: int) -> np.ndarray:
    """Pictures from phases, ``(bands, scale * rows, scale * columns)``; ``shape`` is that of the coarse pictures."""
    bands, rows, columns = shape
    cells = np.empty((bands, rows, scale, columns, scale), "float32")
    for band, mine in zip(cells, phases, strict=True):
        for down in range(scale):
            for right in range(scale):
                band[:, down, :, right] = mine[down, right]
    return cells.reshape(bands, rows * scale, columns * scale)


def _seen(phases: np.ndarray, scale: int, gain: float) -> np.ndarray:
    """Simulated coarse pixels: filtered down the rows, then along them."""
    weights = spread(scale, gain)
    taps = weights.reshape(-1, scale)  # neighbouring coarse pixels x fine pixels in each
    columns = [_summed(phases[:, right], taps, 0) for right in range(scale)]
    return _summed(columns, taps, 1)


def _summed(planes: Sequence[np.ndarray] | np.ndarray, taps: np.ndarray, axis: int) -> np.ndarray:
    """Weighted sum of planes and of their neighbours along an axis.

    Args:
        planes: One per fine pixel within a coarse one, in order along the axis; ``(rows, columns)`` each.
        taps: ``(2 * reach + 1, planes)`` weights.
        axis: 0 or 1.
    """
    reach = len(taps) // 2
    total = np.zeros(planes[0].shape, "float32")
    product = np.empty_like(total)
    for place, plane in enumerate(planes):
        # Beyond the edge the fine picture is mirrored: its pixels are in reverse order.
        padded = _padded(plane, planes[len(planes) - 1 - place], reach, axis)
        for move, weight in enumerate(taps[:, place]):
            if weight:
                total += np.multiply(_from(padded, move, plane.shape, axis), weight, out=product)
    return total


def _again(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coarse pixels interpolated and simulated again, see :func:`_there_and_back`."""
    return _summed([_summed([picture], weights, 0)], weights, 1)


def _padded(plane: np.ndarray, mirror: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """A plane with ``reach`` lines before and after it along an axis, taken from its mirror image."""
    # Small pictures may be narrower than the reach: they are mirrored repeatedly.
    size = plane.shape[axis]
    outside = np.arange(1, reach + 1) - 1
    turns, places = np.divmod(outside, size)
    before = [
        (plane if turn % 2 else mirror).take(at if not turn % 2 else size - 1 - at, axis=axis)
        for turn, at in zip(turns, places, strict=True)
    ]
    behind = [
        (plane if turn % 2 else mirror).take(size - 1 - at if not turn % 2 else at, axis=axis)
        for turn, at in zip(turns, places, strict=True)
    ]
    edge = [np.expand_dims(line, axis) for line in (*before[::-1], *behind)]
    return np.concatenate([*edge[:reach], plane, *edge[reach:]], axis=axis)


def _from(padded: np.ndarray, start: int, shape: tuple[int, ...], axis: int) -> np.ndarray:
    return padded[start : start + shape[0]] if axis == 0 else padded[:, start : start + shape[1]]


def _raised(picture: np.ndarray, scale: int, kernel: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Phases of an interpolated picture, ``(scale, scale, rows, columns)``: along the rows, then down them."""
    taps = _raising(scale, kernel)
    phases = np.empty((scale, scale, *picture.shape), "float32")
    for right in range(scale):
        along = _summed([picture], taps[right], 1)
        for down in range(scale):
            phases[down, right] = _summed([along], taps[down], 0)
    return phases


@lru_cache(maxsize=64)
def _raising(scale: int, kernel: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Weights of five coarse pixels in each fine one: ``(scale, 5, 1)``."""
    taps = np.zeros((scale, 5, 1), "float32")
    for phase in range(scale):
        first, weights = _weights(phase, scale, kernel)
        taps[phase, 2 + first : 6 + first, 0] = weights
    return taps


@lru_cache(maxsize=64)
def _there_and_back(scale: int, gain: float) -> np.ndarray:
    """Weights of coarse pixels in one after interpolation and simulation, along one axis: ``(n, 1)``, n odd."""
    seen, raised = spread(scale, gain).reshape(-1, scale), _raising(scale, _keys)[:, :, 0]
    both = sum(np.convolve(seen[:, phase], raised[phase]) for phase in range(scale))
    return np.asarray(both, "float32")[:, None]


@lru_cache(maxsize=64)
def _weights(phase: int, scale: int, kernel: Callable[[np.ndarray], np.ndarray]) -> tuple[int, tuple[np.float32, ...]]:
    """Index of the first of four coarse pixels, and their weights in a fine pixel."""
    place = (phase + 0.5) / scale - 0.5
    base = math.floor(place)
    return base - 1, tuple(kernel(np.abs(place - (base + np.arange(-1, 3)))).astype("float32"))


def _keys(away: np.ndarray) -> np.ndarray:
    near = 1.5 * away**3 - 2.5 * away**2 + 1
    far = -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    weights: np.ndarray = np.where(away <= 1, near, far)
    return weights


def _tent(away: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.maximum(1 - away, 0)
    return weights


# Whether a picture is compatible with the assumed optics: gates between 0 and 1, and relations between bands.
#
# Agreement with the optics sharpens what they blurred, and the networks were trained on pictures blurred like that. A
# picture from sharper optics than those of the table would be sharpened twice; there the gates close. Nothing here is
# trained. All sums have a fixed order of elements, so that pixels do not depend on a library's threads.

_SHARP_WINDOW, _SHARP_MIDDLE, _SHARP_SLOPE = 25, 0.51, 30
"""Width in pixels of 10 m over which contrasts are averaged; value at which the gate is half open, and its steepness.
The ratio of contrast over one pixel to that over two is 0.41 to 0.47 on measured ground through the optics of the
table, and 0.50 to 0.60 with plain averages instead."""

_FUSE_WINDOWS, _FUSE_MIDDLE, _FUSE_SLOPE = (7, 7), 1.1, 12
"""Widths in pixels of 20 m over which bands are compared and errors averaged; the rest as above. The error with the
optics of the table is 0.6 to 0.85 of that with plain averages where the table holds, 1.1 to 1.4 where averages do."""

_BLUR = 0.3
"""Modulation transfer used for all bands of 20 m."""

_MIX_WINDOW = 5
"""Width in pixels of 10 m over which details of bands are compared."""

RIDGE = 0.02
"""Ridge, as a part of the guides' contrast, so that equal guides share what they explain."""

SHARP_SEEN = 2 + _SHARP_WINDOW // 2
"""Pixels of 10 m within which others affect :func:`sharp_gate`."""

FUSE_SEEN = 2 * (2 + 1 + sum(window // 2 for window in _FUSE_WINDOWS))
"""Pixels of 10 m within which others affect :func:`fuse_gate`."""


def sharp_gate(fine: np.ndarray) -> np.ndarray:
    """Gate that is open where bands of 10 m are as blurred as the table states.

    Args:
        fine: ``(4, rows, columns)`` reflectance, float32.

    Returns:
        ``(rows, columns)`` float32, 1 where they are, 0 where they are much sharper. Noise closes it, too.
    """
    padded = np.pad(fine, ((0, 0), (2, 2), (2, 2)), mode="symmetric")
    near, far = (boxed(_contrast(padded, step), _SHARP_WINDOW) + np.float32(1e-6) for step in (1, 2))
    return _opened(near / far, _SHARP_MIDDLE, _SHARP_SLOPE)


def fuse_gate(fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Gate that is open where bands of 20 m follow from those of 10 m better by the table's optics than by averages.

    Args:
        fine: ``(4, 2 rows, 2 columns)`` reflectance, float32.
        coarse: ``(n, rows, columns)``.

    Returns:
        ``(rows, columns)`` float32, 1 where they do.
    """
    wanted = _details(coarse, 3)
    errors = []
    for seen in (degraded(fine, 2, [_BLUR] * len(fine)), means(fine, 2)):
        guides = _details(seen, 3)
        left = wanted.copy()
        for band, parts in zip(left, mixed(guides, wanted, _FUSE_WINDOWS[0]), strict=True):
            for part, guide in zip(parts, guides, strict=True):
                np.subtract(band, part * guide, out=band)
        errors.append(boxed(np.square(left, out=left).sum(axis=0), _FUSE_WINDOWS[1]) + np.float32(1e-12))
    return _opened(np.sqrt(errors[0] / errors[1]), _FUSE_MIDDLE, _FUSE_SLOPE)


def details_mix(fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Coefficients of the details of some bands on those of the bands of 10 m, around each pixel.

    Args:
        fine: ``(4, rows, columns)`` reflectance, float32.
        coarse: ``(n, rows, columns)`` at 10 m too.

    Returns:
        ``(n, 4, rows, columns)`` float32: coefficients of each of the four.
    """
    return mixed(_details(fine, 5), _details(coarse, 5), _MIX_WINDOW)


def mixed(guides: np.ndarray, bands: np.ndarray, window: int) -> np.ndarray:
    """Ridge regression around each pixel: ``(n, guides, rows, columns)`` from ``(n, rows, columns)``."""
    count = len(guides)
    matrix: list[list[np.ndarray]] = [[guides[0]] * count for _ in range(count)]
    for row in range(count):
        for column in range(row, count):
            matrix[row][column] = matrix[column][row] = boxed(guides[row] * guides[column], window)
    ridge = np.float32(RIDGE) * _sum([matrix[place][place] for place in range(count)]) + np.float32(1e-10)
    for place in range(count):
        matrix[place][place] = matrix[place][place] + ridge
    sides = [[boxed(guide * band, window) for guide in guides] for band in bands]
    # Elimination without pivots: the matrix is positive definite.
    for place in range(count):
        for row in range(place + 1, count):
            factor = matrix[row][place] / matrix[place][place]
            for column in range(place + 1, count):
                matrix[row][column] = matrix[row][column] - factor * matrix[place][column]
            for side in sides:
                side[row] = side[row] - factor * side[place]
    for side in sides:
        for row in reversed(range(count)):
            known = _sum([matrix[row][column] * side[column] for column in range(row + 1, count)])
            side[row] = (side[row] - known) / matrix[row][row]
    return np.stack([np.stack(side) for side in sides])


def boxed(picture: np.ndarray, window: int) -> np.ndarray:
    """Means over squares of an odd number of pixels, ``(rows, columns)`` float32; beyond the edge it is mirrored."""
    reach = window // 2
    rows, columns = picture.shape
    padded = np.pad(picture, reach, mode="symmetric")
    down = padded[:rows].copy()
    for place in range(1, window):
        down += padded[place : place + rows]
    both = down[:, :columns].copy()
    for place in range(1, window):
        both += down[:, place : place + columns]
    return both / np.float32(window**2)


def _details(pictures: np.ndarray, window: int) -> np.ndarray:
    return np.stack([picture - boxed(picture, window) for picture in pictures])


def _contrast(padded: np.ndarray, step: int) -> np.ndarray:
    """Second differences over ``step`` pixels along both axes, summed over bands; two pixels less on every side."""
    rows, columns = (size - 4 for size in padded.shape[1:])
    middle = 2 * padded[:, 2:-2, 2:-2]
    total = np.zeros((rows, columns), "float32")
    for down, right in ((step, 0), (0, step)):
        before = padded[:, 2 - down : 2 - down + rows, 2 - right : 2 - right + columns]
        behind = padded[:, 2 + down : 2 + down + rows, 2 + right : 2 + right + columns]
        total += np.abs(before + behind - middle).sum(axis=0)
    return total


def _opened(ratio: np.ndarray, middle: float, slope: int) -> np.ndarray:
    # Ten times the middle closes any gate, and its power does not overflow.
    opened: np.ndarray = 1 / (1 + np.minimum(ratio / np.float32(middle), 10) ** slope)
    return opened.astype("float32")


def _sum(pictures: Sequence[np.ndarray]) -> np.ndarray | np.float32:
    total: np.ndarray | np.float32 = np.float32(0)
    for picture in pictures:
        total = total + picture
    return total
