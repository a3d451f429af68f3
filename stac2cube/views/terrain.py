"""Slope, aspect and hillshade of a height model, as views; pixels are measured in metres whatever the CRS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from pyproj import CRS, Proj
from pyproj.exceptions import CRSError

from stac2cube.errors import BadInputError
from stac2cube.kernels import terrain
from stac2cube.views.layer import physical
from stac2cube.views.neighbours import over_windows

WGS84_AXIS = 6378137.0
"""Semi-major axis of the WGS84 ellipsoid, metres (NGA.STND.0036)."""

WGS84_ECCENTRICITY_SQUARED = 0.00669437999014
"""First eccentricity squared of the WGS84 ellipsoid (NGA.STND.0036)."""

DISTORTION = 0.02
"""How far lengths in a projection may be off before slopes in it are refused: 2 per cent. UTM is within 0.1."""


def slope(heights: xr.DataArray) -> xr.DataArray:
    """Steepness of the ground after Horn (1981), see :mod:`stac2cube.kernels.terrain`.

    Args:
        heights: Height above a level surface, metres, dims ``(..., y, x)`` with their coordinates and a CRS in the
            coordinate ``spatial_ref``, as a layer of an opened cube has them.

    Returns:
        Same dims, float32, degrees, 0 (flat) to 90; NaN where any of the 3 x 3 pixels around lacks data, and along the
        outer rim.

    Raises:
        BadInputError: No CRS, no regular axes, or a projection in which lengths are off by more than 2 per cent.
    """
    return _view(heights, terrain.slope, "slope", "degree")


def aspect(heights: xr.DataArray) -> xr.DataArray:
    """The direction the ground faces after Horn (1981), degrees clockwise from grid north; NaN where it is flat.

    Arguments, NaN and errors otherwise as in :func:`slope`. In a geographic CRS and along the central meridian of a UTM
    zone grid north is north.
    """
    return _view(heights, terrain.aspect, "aspect", "degree")


def hillshade(heights: xr.DataArray, *, azimuth: float = 315.0, altitude: float = 45.0) -> xr.DataArray:
    """Light of a low sun on the ground, 0 to 1, float32.

    Args:
        heights: As in :func:`slope`.
        azimuth: Where the sun stands, degrees clockwise from grid north.
        altitude: How high, degrees above the horizon, 0 to 90.

    Returns:
        Same dims; NaN as in :func:`slope`.

    Raises:
        BadInputError: As :func:`slope`, or a sun below the horizon.
    """
    if not 0 <= altitude <= 90:
        raise BadInputError(f"the sun stands 0 to 90 degrees above the horizon, not {altitude!r}")

    def shade(values: np.ndarray, east: np.ndarray, north: np.ndarray) -> np.ndarray:
        return terrain.hillshade(values, east, north, azimuth, altitude)

    return _view(heights, shade, "hillshade", "1")


def _view(heights: xr.DataArray, function: Callable[..., np.ndarray], name: str, units: str) -> xr.DataArray:
    east, north = pixel_sizes(heights)
    seen = over_windows(function, physical(heights), 1, east, north)
    kept = {key: heights.attrs[key] for key in ("grid_mapping",) if key in heights.attrs}
    return seen.rename(name).drop_attrs().assign_attrs({**kept, "long_name": name, "units": units})


def pixel_sizes(layer: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Width and height of the pixels of each row, metres.

    On a projection they are its grid's steps. In degrees they are arcs of the WGS84 ellipsoid at the row's latitude:
    the prime vertical's radius ``a / sqrt(1 - e² sin² φ)`` times ``cos φ`` eastwards, the meridian's
    ``a (1 - e²) / (1 - e² sin² φ)^1.5`` northwards (J. P. Snyder, "Map projections: a working manual", USGS
    Professional Paper 1395, 1987, equations 4-18 to 4-21).

    Args:
        layer: Dims ``(..., y, x)`` with coordinates and a CRS.

    Returns:
        Two arrays ``(y,)`` float64; the second is negative where rows go from south to north.

    Raises:
        BadInputError: As :func:`slope`.
    """
    if tuple(layer.dims[-2:]) != ("y", "x"):
        raise BadInputError(f"heights have y and x as their last dims, not {layer.dims}")
    crs = _crs(layer)
    width, height = _step(layer, "x"), -_step(layer, "y")
    rows = layer["y"].values.astype("float64")
    if not crs.is_geographic:
        _require_true_lengths(layer, crs)
        metres = crs.axis_info[0].unit_conversion_factor
        return np.full(rows.shape, width * metres), np.full(rows.shape, height * metres)
    latitude = np.radians(rows)
    bulge = 1 - WGS84_ECCENTRICITY_SQUARED * np.sin(latitude) ** 2
    east = WGS84_AXIS / np.sqrt(bulge) * np.cos(latitude)
    north = WGS84_AXIS * (1 - WGS84_ECCENTRICITY_SQUARED) / bulge**1.5
    return east * np.radians(width), north * np.radians(height)


def _crs(layer: xr.DataArray) -> CRS:
    attributes = layer.coords["spatial_ref"].attrs if "spatial_ref" in layer.coords else {}
    text = attributes.get("spatial_ref", attributes.get("crs_wkt"))
    if not text:
        raise BadInputError(
            "the heights have no CRS (coordinate spatial_ref): use a layer of an opened cube, or give it one with "
            ".odc.assign_crs"
        )
    try:
        return CRS.from_user_input(text)
    except CRSError as error:
        raise BadInputError(f"the CRS of the heights is not understood: {error}") from error


def _step(layer: xr.DataArray, axis: str) -> float:
    values = layer[axis].values.astype("float64")
    if len(values) < 2:
        raise BadInputError(f"slopes need at least 2 pixels along {axis}")
    steps = np.diff(values)
    step = (values[-1] - values[0]) / (len(values) - 1)
    if step == 0 or np.abs(steps - step).max() > 1e-3 * abs(step):
        raise BadInputError(f"the pixels are not evenly spaced along {axis}")
    return float(step)


def _require_true_lengths(layer: xr.DataArray, crs: CRS) -> None:
    """Refuse projections that stretch: a Mercator slope at 60 degrees would be half of what it is."""
    x, y = (float(layer[axis].values[[0, -1]].mean()) for axis in ("x", "y"))
    projection = Proj(crs)
    factors = projection.get_factors(*projection(x, y, inverse=True))
    off = max(abs(factors.meridional_scale - 1), abs(factors.parallel_scale - 1))
    if not off <= DISTORTION:
        raise BadInputError(
            f"lengths in {crs.name} are off by {off:.0%} here, and so would be the slopes: build the height cube "
            "in UTM or in degrees (crs=)"
        )
