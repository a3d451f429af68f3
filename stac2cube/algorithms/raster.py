"""NumPy on rasters: speckle filter, terrain, statistics in time, halving."""

from __future__ import annotations

from typing import Any

import numpy as np

from stac2cube.errors import BadInputError

# Speckle of radar images: Lee's filter on linear power, aware of pixels without data.


def lee(power: np.ndarray, window: int, looks: float) -> np.ndarray:
    """Lee's local-statistics filter for multiplicative noise.

    With speckle of mean 1 and variance ``s² = 1 / looks`` the observed ``z = x v`` has, in a window, mean ``m`` and
    variance ``V``; the surface then varies by ``Q = (V + m²) / (s² + 1) - m²`` (not less than 0) and is estimated as
    ``m + k (z - m)`` with ``k = Q / (m² s² + Q)``. Source: J.-S. Lee, "Digital image enhancement and noise filtering by
    use of local statistics", IEEE TPAMI 2(2), 165-168, 1980 (multiplicative case), doi:10.1109/TPAMI.1980.4766994.
    Statistics are those of the pixels with data in the window; there is no data beyond the edge.

    Args:
        power: ``(..., y, x)`` float, linear power; NaN and values not above 0 are without data.
        window: Edge of the square window, pixels, odd, 3 or more.
        looks: Equivalent number of looks of the image, above 0.

    Returns:
        Same shape, float32; NaN exactly where the input has no data.

    Raises:
        BadInputError: An even or too small window, looks not above 0.
    """
    check_window(window)
    if not (np.isfinite(looks) and looks > 0):
        raise BadInputError(f"looks must be a number above 0, not {looks!r}")
    valid = power > 0
    observed = np.where(valid, power, 0).astype("float64")
    radius = window // 2
    count = box_sum(valid.astype("float64"), radius)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = box_sum(observed, radius) / count
        variance = np.maximum(box_sum(observed**2, radius) / count - mean**2, 0)
        noise = 1 / looks
        surface = np.maximum((variance + mean**2) / (noise + 1) - mean**2, 0)
        weight = surface / (mean**2 * noise + surface)
        estimate = mean + weight * (observed - mean)
    filtered: np.ndarray = np.where(valid, estimate, np.nan).astype("float32")
    return filtered


def check_window(window: int) -> None:
    """Refuse a window without a central pixel.

    Raises:
        BadInputError: It is even or smaller than 3.
    """
    if window < 3 or window % 2 == 0:
        raise BadInputError(f"a window is an odd number of pixels, 3 or more, not {window!r}")


def box_sum(values: np.ndarray, radius: int) -> np.ndarray:
    """Sums over square windows; pixels beyond the edge count as 0.

    The terms are added in the same order for every pixel, whatever the size of the array, so that blocks with a halo of
    ``radius`` give exactly the values of the whole image (running sums would not).

    Args:
        values: ``(..., y, x)`` float, finite.
        radius: Half the window, pixels: the edge is ``2 radius + 1``.

    Returns:
        Same shape and dtype.
    """
    total = values
    for axis in (-2, -1):
        length = total.shape[axis]
        around = [(0, 0)] * total.ndim
        around[axis] = (radius, radius)
        padded = np.pad(total, around)
        rows: list[slice] = [slice(None)] * total.ndim
        total = np.zeros_like(total)
        for shift in range(2 * radius + 1):
            rows[axis] = slice(shift, shift + length)
            total += padded[tuple(rows)]
    return total


# Terrain from heights: slope, aspect and hillshade after Horn.
#
# Gradients are those of B. K. P. Horn, "Hill shading and the reflectance map", Proceedings of the IEEE 69(1), 14-47,
# 1981, doi:10.1109/PROC.1981.11918: central differences over 3 x 3 pixels, the middle row or column weighted twice.


def gradients(
    heights: np.ndarray, east: np.ndarray | float, north: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Rise of the ground to the east and to the north.

    Args:
        heights: ``(..., y, x)`` float, metres, NaN without data; rows from north to south, columns from west to east.
        east: Width of a pixel, metres; one number, or ``(y, 1)`` if it differs between rows.
        north: Height of a pixel, metres; likewise.

    Returns:
        Rise to the east and to the north, ``(..., y, x)`` float64, metres per metre. NaN where any of the 3 x 3 pixels
        has no data, and along the outer edge.
    """
    padding = [(0, 0)] * (heights.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(heights.astype("float64"), padding, constant_values=np.nan)
    rows, columns = heights.shape[-2:]

    def at(row: int, column: int) -> np.ndarray:
        part: np.ndarray = padded[..., 1 + row : 1 + row + rows, 1 + column : 1 + column + columns]
        return part

    to_east = (at(-1, 1) + 2 * at(0, 1) + at(1, 1)) - (at(-1, -1) + 2 * at(0, -1) + at(1, -1))
    to_north = (at(-1, -1) + 2 * at(-1, 0) + at(-1, 1)) - (at(1, -1) + 2 * at(1, 0) + at(1, 1))
    whole = np.isfinite(to_east) & np.isfinite(to_north) & np.isfinite(heights)
    return np.where(whole, to_east / (8 * east), np.nan), np.where(whole, to_north / (8 * north), np.nan)


def horn_slope(heights: np.ndarray, east: np.ndarray | float, north: np.ndarray | float) -> np.ndarray:
    """Steepness, degrees: 0 flat, 90 a wall. Arguments and NaN as in :func:`gradients`; float32."""
    to_east, to_north = gradients(heights, east, north)
    degrees: np.ndarray = np.degrees(np.arctan(np.hypot(to_east, to_north))).astype("float32")
    return degrees


def horn_aspect(heights: np.ndarray, east: np.ndarray | float, north: np.ndarray | float) -> np.ndarray:
    """The direction the ground faces (downhill), degrees clockwise from north, 0 to below 360; NaN on flat ground.

    Arguments and NaN otherwise as in :func:`gradients`; float32.
    """
    to_east, to_north = gradients(heights, east, north)
    degrees = (np.degrees(np.arctan2(-to_east, -to_north)) % 360).astype("float32")
    degrees[degrees == 360] = 0  # rounding to float32 may close the circle
    flat = (to_east == 0) & (to_north == 0)
    facing: np.ndarray = np.where(flat, np.float32(np.nan), degrees)
    return facing


def horn_hillshade(
    heights: np.ndarray, east: np.ndarray | float, north: np.ndarray | float, azimuth: float, altitude: float
) -> np.ndarray:
    """Hillshade: the cosine of the angle between the sun and the surface normal, 0 where the surface faces away.

    Args:
        heights: As in :func:`gradients`.
        east: As in :func:`gradients`.
        north: As in :func:`gradients`.
        azimuth: Azimuth of the sun, degrees clockwise from north.
        altitude: Elevation of the sun, degrees above the horizon.

    Returns:
        ``(..., y, x)`` float32, 0 to 1; NaN as in :func:`gradients`. Cast shadows are not included.
    """
    to_east, to_north = gradients(heights, east, north)
    toward, up = np.radians(azimuth), np.radians(altitude)
    sun = (np.sin(toward) * np.cos(up), np.cos(toward) * np.cos(up), np.sin(up))
    light = (sun[2] - to_east * sun[0] - to_north * sun[1]) / np.sqrt(1 + to_east**2 + to_north**2)
    shade: np.ndarray = np.clip(light, 0, 1).astype("float32")
    return shade


# Statistics of the observations of a pixel along the last axis, ignoring those without data.
#
# Values are ``(..., time)`` float, NaN without data; results lack the last axis. Places are indices along it, or -1.


def quantile(values: np.ndarray, part: float) -> np.ndarray:
    """A quantile of the observations with data, linear between neighbours (type 7 of Hyndman and Fan, 1996).

    Args:
        values: ``(..., time)`` float.
        part: 0 for the lowest, 0.5 the median, 1 the highest.

    Returns:
        float32; NaN where no observation has data.
    """
    ordered = np.sort(values, axis=-1)  # NaN is sorted last
    count = np.isfinite(values).sum(axis=-1, keepdims=True)
    place = np.maximum(count - 1, 0) * part
    lower = np.floor(place).astype("int64")
    low = np.take_along_axis(ordered, lower, axis=-1).astype("float64")
    high = np.take_along_axis(ordered, np.minimum(lower + 1, np.maximum(count - 1, 0)), axis=-1)
    found: np.ndarray = (low + (high - low) * (place - lower))[..., 0].astype("float32")
    return found


def median(values: np.ndarray) -> np.ndarray:
    """The middle observation, or the mean of the two in the middle; float32."""
    return quantile(values, 0.5)


def mean(values: np.ndarray) -> np.ndarray:
    """The mean of the observations with data, summed in float64; float32."""
    valid = np.isfinite(values)
    total = np.where(valid, values, 0).sum(axis=-1, dtype="float64")
    with np.errstate(invalid="ignore"):
        average: np.ndarray = (total / valid.sum(axis=-1)).astype("float32")
    return average


def lowest(values: np.ndarray) -> np.ndarray:
    """The lowest observation; float32."""
    least: np.ndarray = np.fmin.reduce(values, axis=-1).astype("float32")
    return least


def highest(values: np.ndarray) -> np.ndarray:
    """The highest observation; float32."""
    most: np.ndarray = np.fmax.reduce(values, axis=-1).astype("float32")
    return most


def count_whole(*layers: np.ndarray) -> np.ndarray:
    """The number of observations with data in every layer; uint16."""
    counted: np.ndarray = _whole(layers).sum(axis=-1).astype("uint16")
    return counted


def medoid_place(*layers: np.ndarray) -> np.ndarray:
    """The observation nearest to all others: the one with the least sum of distances over all layers.

    Distances are Euclidean, among observations with data in every layer. Source: N. Flood, "Seasonal composite
    Landsat TM/ETM+ images using the medoid (a multi-dimensional median)", Remote Sensing 5(12), 6481-6500, 2013,
    doi:10.3390/rs5126481. The earliest of equals is chosen.

    Args:
        *layers: Each ``(..., time)`` float, in units that make their distances comparable.

    Returns:
        Its place, int16; -1 where no observation has data in every layer.
    """
    whole = _whole(layers)
    steps = whole.shape[-1]
    sums = np.zeros(whole.shape, "float64")
    for one in range(steps):
        for other in range(one + 1, steps):
            both = whole[..., one] & whole[..., other]
            square = np.zeros(both.shape, "float64")
            for layer in layers:
                square += (layer[..., one].astype("float64") - layer[..., other]) ** 2
            distance = np.sqrt(np.where(both, square, 0))
            sums[..., one] += distance
            sums[..., other] += distance
    nearest = np.where(whole, sums, np.inf).argmin(axis=-1)
    return _or_none(nearest, whole)


def best_place(score: np.ndarray, *layers: np.ndarray) -> np.ndarray:
    """The observation of the highest score among those with data in every layer; the earliest of equals.

    Args:
        score: ``(..., time)`` float; NaN is never best.
        *layers: Each ``(..., time)`` float.

    Returns:
        Its place, int16; -1 where there is none.
    """
    whole = _whole((score, *layers))
    return _or_none(np.where(whole, score, -np.inf).argmax(axis=-1), whole)


def take(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The observation at a place; float32, NaN where the place is -1."""
    found = np.take_along_axis(values, np.maximum(place, 0)[..., None].astype("int64"), axis=-1)[..., 0]
    taken: np.ndarray = np.where(place >= 0, found, np.nan).astype("float32")
    return taken


def _whole(layers: tuple[np.ndarray, ...]) -> np.ndarray:
    whole = np.ones(layers[0].shape, bool)
    for layer in layers:
        whole &= np.isfinite(layer)
    return whole


def _or_none(place: np.ndarray, whole: np.ndarray) -> np.ndarray:
    chosen: np.ndarray = np.where(whole.any(axis=-1), place, -1).astype("int16")
    return chosen


# Halving of a picture: four pixels become one.


def _fours(values: np.ndarray) -> np.ndarray:
    """The four pixels of each new one: ``(4, rows / 2, columns / 2)``, in row-major order."""
    rows, columns = values.shape
    return values.reshape(rows // 2, 2, columns // 2, 2).transpose(1, 3, 0, 2).reshape(4, rows // 2, columns // 2)


def halved_mean(values: np.ndarray, fill: Any) -> np.ndarray:
    """Means of the pixels with data; integers are rounded to the nearest, halves to even.

    A mean that equals the fill value becomes the number beside it: it is data.

    Args:
        values: ``(rows, columns)``, both even.
        fill: Value of pixels without data; NaN counts as no data too.

    Returns:
        ``(rows / 2, columns / 2)`` of the same dtype; fill where none of the four has data.
    """
    floating = values.dtype.kind == "f"
    fours = _fours(values)
    valid = np.isfinite(fours) & (fours != fill) if floating else fours != fill
    count = valid.sum(axis=0)
    mean = np.where(valid, fours, 0).sum(axis=0, dtype="float64") / np.maximum(count, 1)
    if not floating:
        mean = np.rint(mean)
    halved: np.ndarray = np.where(count > 0, mean, fill).astype(values.dtype)
    halved[(count > 0) & (halved == fill)] = _beside(values.dtype.type(fill))
    return halved


def _beside(fill: Any) -> Any:
    """The integer below a fill value, or above the lowest one of its type; for floats the next larger number."""
    kind = fill.dtype.type
    if fill.dtype.kind == "f":
        return np.nextafter(fill, kind(np.inf))
    return kind(int(fill) + 1 if fill == np.iinfo(kind).min else int(fill) - 1)


def halved_mode(values: np.ndarray, fill: Any) -> np.ndarray:
    """The most frequent of the values that are not fill; of equally frequent ones the first in row-major order.

    Args:
        values: ``(rows, columns)`` integers, both even: classes or bits.
        fill: Value of pixels without data.

    Returns:
        ``(rows / 2, columns / 2)`` of the same dtype; fill where none of the four has data.
    """
    fours = _fours(values)
    alike = (fours[:, None] == fours[None]).sum(axis=1, dtype="int8")
    votes = np.where(fours == fill, 0, alike)
    halved: np.ndarray = np.take_along_axis(fours, votes.argmax(axis=0)[None], axis=0)[0]
    return halved


def halved(picture: np.ndarray, way: str) -> np.ndarray:
    """Recover pixels of 20 m from pixels of 10 m that were resampled from them.

    Args:
        picture: ``(rows, columns)``, even, beginning at the corner of a 20 m pixel.
        way: ``"nearest"``: every pixel was repeated four times; ``"bilinear"``: each is a mix, three to one, along both
            axes, which is inverted exactly from two pixels either side of an edge; ``"mean"`` of four, for pixels that
            were shifted by fractions of a pixel: smoother than the measurement.
    """
    if way == "bilinear":
        return _unmixed(_unmixed(picture).T).T
    rows, columns = picture.shape
    means: np.ndarray = picture.reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3), dtype="float32")
    return means


def _unmixed(picture: np.ndarray) -> np.ndarray:
    """Invert the mix along rows, 3/4 a + 1/4 b and 1/4 a + 3/4 b either side of an edge; returns means of a and b."""
    first, second = picture[0::2], picture[1::2]
    upper = first.copy()
    upper[1:] = 1.5 * first[1:] - 0.5 * second[:-1]
    lower = second.copy()
    lower[:-1] = 1.5 * second[:-1] - 0.5 * first[1:]
    mean: np.ndarray = (upper + lower) / 2
    return mean
