"""Physical units of layers, speckle filter and terrain as lazy views."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from pyproj import CRS, Proj
from pyproj.exceptions import CRSError

from stac2cube.algorithms import raster as terrain
from stac2cube.algorithms.raster import check_window, lee
from stac2cube.errors import BadInputError
from stac2cube.model.cube_spec import STORED_FORM
from stac2cube.model.mission import Mission, find_mission, mission_names

# Properties of a layer of an opened cube: its band, whether it holds classes, its physical unit.

DAYS = "days since 1970-01-01"
"""Unit of times that are given as numbers."""

STORED = ("_FillValue", "scale_factor", "add_offset")
"""Attributes of a layer with stored values (``open_cube(..., decode=False)``); decoding moves them to the encoding."""

CLASSIFICATIONS = ("scl", "qa_pixel", "qa_radsat")
"""Names of layers, in lower case, that hold classes or bits, even without attributes of classes."""

CUBE_ONLY = ("stac2cube", "zarr_conventions")
"""Attributes of a cube's root that are not valid for Datasets derived from it."""


def is_class(layer: xr.DataArray) -> bool:
    """Whether a layer holds classes or bits, on which arithmetic is invalid."""
    told = "flag_values" in layer.attrs or "flag_masks" in layer.attrs
    return told or str(layer.name).lower() in CLASSIFICATIONS


def is_stored(layer: xr.DataArray) -> bool:
    """Whether a layer has stored values, which are not decoded yet."""
    return any(name in layer.attrs for name in STORED)


def physical(layer: xr.DataArray) -> xr.DataArray:
    """Convert a continuous layer to its physical unit, from stored or decoded values.

    Args:
        layer: Any dims.

    Returns:
        Same dims, float32, NaN without data: stored value * ``scale_factor`` + ``add_offset`` as in CF 1.11 section
        8.1, computed in float64. Times are days since 1970-01-01.

    Raises:
        BadInputError: The layer holds classes.
    """
    if is_class(layer):
        raise BadInputError(f"{layer.name} holds classes, not a quantity: leave it out of what is computed")
    if layer.dtype.kind == "M":
        days = (layer - np.datetime64("1970-01-01", "us")) / np.timedelta64(1, "D")
        return days.astype("float32").assign_attrs({**layer.attrs, "units": DAYS})
    if not is_stored(layer):
        return layer if layer.dtype == np.float32 else layer.astype("float32")
    scale, offset = layer.attrs.get("scale_factor", 1.0), layer.attrs.get("add_offset", 0.0)
    decoded: xr.DataArray = apply(
        _decode, layer, scale=scale, offset=offset, fill=layer.attrs.get("_FillValue", np.nan)
    )
    return decoded.assign_attrs({name: value for name, value in layer.attrs.items() if name not in STORED})


def hide(layer: xr.DataArray, keep: xr.DataArray) -> xr.DataArray:
    """Set pixels where ``keep`` is False to no data: NaN, or the fill value for stored integers."""
    if "_FillValue" in layer.attrs and layer.dtype.kind in "iu":
        return layer.where(keep, layer.dtype.type(layer.attrs["_FillValue"]))
    return layer.where(keep)


def apply(function: Callable[..., np.ndarray], *layers: xr.DataArray, dtype: str = "float32", **words: Any) -> Any:
    """Run a pixelwise kernel on layers, block by block for dask layers.

    Args:
        function: NumPy in, one array of the same shape out.
        *layers: On one grid.
        dtype: NumPy dtype name of the kernel's result.
        **words: Additional arguments of the kernel.

    Returns:
        A DataArray without name and attributes.
    """
    return xr.apply_ufunc(
        function, *layers, kwargs=words, dask="parallelized", output_dtypes=[np.dtype(dtype)], keep_attrs=False
    )


def choose_layers(
    dataset: xr.Dataset, layers: Sequence[str] | None, fits: Callable[[xr.DataArray], bool], what: str
) -> list[str]:
    """Names of layers to work on: the requested ones, or all that fit.

    Raises:
        BadInputError: A requested layer does not exist, or none fits.
    """
    if layers is not None:
        lacking = [name for name in layers if name not in dataset.data_vars]
        if lacking:
            raise BadInputError(f"there is no layer {', '.join(lacking)}: there are {names_text(dataset.data_vars)}")
        return list(dict.fromkeys(layers))
    found = [str(name) for name, layer in dataset.data_vars.items() if fits(layer)]
    if not found:
        raise BadInputError(f"no layer is {what}: name some of {names_text(dataset.data_vars)} with layers=")
    return found


def mission_of(dataset: xr.Dataset) -> Mission | None:
    """The mission of a Dataset, from the cube's recipe or the attribute ``mission``; None without either."""
    own = dataset.attrs.get("stac2cube", {})
    own = json.loads(own) if isinstance(own, str) else own  # a text from open_cube, a table from plain xarray
    recipe = own.get("spec", {}).get("recipe", {})
    name = recipe.get("mission", dataset.attrs.get("mission"))
    return find_mission(name) if name in mission_names() else None


def common_names(dataset: xr.Dataset) -> dict[str, str]:
    """Layers by common name (``red``, ``nir``, ``vv``); a layer's own name in lower case if the mission is unknown.

    If a mission has no band ``nir``, its ``nir08`` gets both names (Landsat's only near infrared).
    """
    mission = mission_of(dataset)
    names = {str(name): str(name).lower() for name in dataset.data_vars}
    if mission is not None:
        names |= {name: mission.bands[name].common_name for name in names if name in mission.bands}
    found = {common: name for name, common in names.items()}
    known = {band.common_name for band in mission.bands.values()} if mission is not None else set(found)
    if "nir08" in found and "nir" not in known:
        found["nir"] = found["nir08"]
    return found


def derived_attributes(dataset: xr.Dataset) -> dict[str, Any]:
    """Attributes of a Dataset derived from a cube: those of the cube, without those valid only for a cube on disk."""
    mission = mission_of(dataset)
    attributes = {str(name): value for name, value in dataset.attrs.items() if name not in CUBE_ONLY}
    return attributes | ({"mission": mission.name} if mission is not None else {})


def names_text(names: Iterable[Any]) -> str:
    """Join names for an error message."""
    return ", ".join(str(name) for name in names) or "none"


def _decode(stored: np.ndarray, scale: float, offset: float, fill: float) -> np.ndarray:
    values = stored * np.float64(scale) + np.float64(offset)
    decoded: np.ndarray = np.where(stored == fill, np.nan, values).astype("float32")
    return decoded


# Kernels with a neighbourhood on arrays in blocks: each block gets a margin of its neighbours' pixels.


def over_windows(
    function: Callable[..., np.ndarray], layer: xr.DataArray, radius: int, *rows: np.ndarray
) -> xr.DataArray:
    """Run a kernel on a layer whose last dims are y and x.

    Args:
        function: Takes ``(..., y, x)`` float32 and, for each of ``rows``, ``(y, 1)`` float64; returns the shape of the
            first, float32. The result must be the same with NaN beyond the edge and without pixels there.
        layer: Float32, NaN without data.
        radius: Radius of the kernel's neighbourhood, pixels.
        *rows: Additional values, one per row, ``(y,)``.

    Returns:
        Like ``layer``, lazy for a dask layer.
    """
    columns = [values[:, None] for values in rows]
    if layer.chunks is None:
        return layer.copy(data=function(layer.values, *columns))
    import dask.array as da

    blocks = layer.data
    depth = dict.fromkeys(range(blocks.ndim), 0) | {blocks.ndim - 2: radius, blocks.ndim - 1: radius}
    # Values per row become images, so that every block gets its part of them, including its margin.
    images = [
        da.broadcast_to(
            da.from_array(values, chunks=(blocks.chunks[-2], 1)), blocks.shape[-2:], chunks=blocks.chunks[-2:]
        )
        for values in columns
    ]

    # dask trims the margin of the last array.
    def one(*parts: np.ndarray) -> np.ndarray:
        return function(parts[-1], *(part[:, radius : radius + 1] for part in parts[:-1]))

    result = da.map_overlap(
        one,
        *images,
        blocks,
        depth=[*({0: radius, 1: radius} for _ in images), depth],
        boundary=np.nan,
        dtype="float32",
        meta=np.empty((0,) * blocks.ndim, "float32"),
    )
    return layer.copy(data=result)


# Physical units: reflectance, decibel, kelvin; and layers stacked along a new dimension.

POLARISATIONS = ("vv", "vh", "hh", "hv")

ZERO_CELSIUS = 273.15
"""Kelvin at 0 degrees Celsius (International System of Units, BIPM 2019, section 2.3.1)."""

CELSIUS = "degree_Celsius"

Saturated = Literal["keep", "mask"]


def to_reflectance(
    dataset: xr.Dataset, *, layers: Sequence[str] | None = None, saturated: Saturated = "keep"
) -> xr.Dataset:
    """Convert layers to reflectance, float32, by their scale and offset.

    Args:
        dataset: An opened cube, dims ``(time, y, x)``.
        layers: Names; those whose standard name ends in ``reflectance`` if None. Others are unchanged.
        saturated: Handling of the largest value of the stored dtype, which marks saturated pixels of Sentinel-2 (by the
            agency) and counts beyond the dtype (by us): ``"keep"`` keeps it (6.4535 for Sentinel-2) as a lower bound of
            the reflectance; ``"mask"`` makes it NaN.

    Returns:
        The Dataset with reflectance layers float32, unit 1, NaN without data.

    Raises:
        BadInputError: No such layer, no layer of reflectance, an invalid value of ``saturated``.
    """
    if saturated not in ("keep", "mask"):
        raise BadInputError(f"saturated pixels are kept or masked: 'keep' or 'mask', not {saturated!r}")

    def convert(layer: xr.DataArray) -> xr.DataArray:
        return physical(layer if saturated == "keep" else hide(layer, _unsaturated(layer)))

    return _convert(dataset, layers, _is_reflectance, "of reflectance", convert)


def to_db(data: xr.Dataset, *, layers: Sequence[str] | None = None) -> xr.Dataset:
    """Convert radar backscatter from linear power to decibel, 10 log10(power); power not above 0 becomes no data.

    Apply means, filters and resampling before this view: a mean of decibels is not the decibel of a mean.

    Args:
        data: An opened cube, dims ``(time, y, x)``.
        layers: Names; VV, VH, HH and HV in linear power if None. Others are unchanged.

    Returns:
        The Dataset with these layers float32, unit dB.

    Raises:
        BadInputError: No such layer, no layer of backscatter, a layer already in dB.
    """

    def convert(layer: xr.DataArray) -> xr.DataArray:
        if _in_db(layer):
            raise BadInputError(f"{layer.name} is in dB already")
        return _like(layer, apply(_db, physical(layer)), units="dB")

    return _convert(data, layers, lambda layer: is_power(layer) and not _in_db(layer), "linear backscatter", convert)


def from_db(data: xr.Dataset, *, layers: Sequence[str] | None = None) -> xr.Dataset:
    """Convert decibel to linear power, 10^(dB / 10).

    Args:
        data: Dims ``(time, y, x)``.
        layers: Names; those whose unit is dB if None. Others are unchanged.

    Returns:
        The Dataset with these layers float32, unit 1.

    Raises:
        BadInputError: No such layer, no layer in dB.
    """
    return _convert(
        data, layers, _in_db, "in dB", lambda layer: _like(layer, apply(_power, physical(layer)), units="1")
    )


def to_kelvin(data: xr.Dataset, *, layers: Sequence[str] | None = None) -> xr.Dataset:
    """Convert temperature layers to kelvin, float32: Landsat's surface temperature by its scale and offset.

    Args:
        data: An opened cube, dims ``(time, y, x)``.
        layers: Names; those whose unit is kelvin or degree Celsius if None. Others are unchanged.

    Returns:
        The Dataset with these layers float32, unit K, NaN without data.

    Raises:
        BadInputError: No such layer, no layer of temperature.
    """
    return _convert(data, layers, _is_temperature, "a temperature", lambda layer: _like(layer, _kelvin(layer), "K"))


def to_celsius(data: xr.Dataset, *, layers: Sequence[str] | None = None) -> xr.Dataset:
    """Convert temperature layers to degrees Celsius, see :func:`to_kelvin`.

    Args:
        data: An opened cube ``(time, y, x)``, stored counts or decoded.
        layers: Layers to convert. Default: all layers of temperature.

    Returns:
        The same layers, float32, in degrees Celsius; NaN where there is no data. Other layers are unchanged.

    Raises:
        BadInputError: No such layer, or a layer that is not a temperature.
    """

    def convert(layer: xr.DataArray) -> xr.DataArray:
        if layer.attrs.get("units") == CELSIUS and not is_stored(layer):
            return physical(layer)
        return _like(layer, apply(_add, _kelvin(layer), amount=-ZERO_CELSIUS), CELSIUS)

    return _convert(data, layers, _is_temperature, "a temperature", convert)


def to_stack(dataset: xr.Dataset, dim: str = "band", *, layers: Sequence[str] | None = None) -> xr.DataArray:
    """Stack layers along a new dimension, values unchanged.

    Args:
        dataset: Dims ``(time, y, x)``.
        dim: Name of the dimension; its coordinate holds the names of the layers.
        layers: Names and order; all that are not classes if None.

    Returns:
        Dims ``(time, band, y, x)`` (without time if there is none), in the common dtype of the layers.

    Raises:
        BadInputError: No such layer, or layers that differ in dtype, scale, offset, fill value or unit.
    """
    names = choose_layers(dataset, layers, lambda layer: not is_class(layer), "a quantity")
    forms = {name: _form(dataset[name]) for name in names}
    if len(set(forms.values())) > 1:
        told = "; ".join(f"{name}: {' '.join(map(str, form))}" for name, form in forms.items())
        raise BadInputError(
            f"these layers do not stack, their numbers differ in kind ({told}): choose some with layers=, or convert "
            "them first, for example with to_reflectance"
        )
    plain: list[xr.DataArray] = [dataset[name].drop_attrs() for name in names]
    stacked = xr.concat(plain, dim=dim).assign_coords({dim: np.array(names, dtype=object)})
    attributes = {key: dataset[names[0]].attrs[key] for key in _SHARED if key in dataset[names[0]].attrs}
    place = [*[name for name in stacked.dims if name not in (dim, "y", "x")], dim, "y", "x"]
    stack: xr.DataArray = stacked.transpose(*place).rename(None)
    return stack.assign_attrs(attributes | derived_attributes(dataset))


_SHARED = ("units", "standard_name", "grid_mapping", "_FillValue", "scale_factor", "add_offset")


def is_power(layer: xr.DataArray) -> bool:
    """Whether a layer holds radar backscatter."""
    return str(layer.name).lower() in POLARISATIONS


def _in_db(layer: xr.DataArray) -> bool:
    return layer.attrs.get("units") in ("dB", "decibel")


def _is_reflectance(layer: xr.DataArray) -> bool:
    return str(layer.attrs.get("standard_name", "")).endswith("reflectance")


def _is_temperature(layer: xr.DataArray) -> bool:
    return layer.attrs.get("units") in ("K", "kelvin", CELSIUS, "degC", "celsius")


def _unsaturated(layer: xr.DataArray) -> xr.DataArray:
    """Where a layer does not hold the largest value of its stored dtype, decoded or not."""
    packing = layer.attrs if is_stored(layer) else layer.encoding.get(STORED_FORM, layer.encoding)
    stored = np.dtype(layer.dtype if is_stored(layer) else packing.get("dtype", "float32"))
    if stored.kind not in "iu":
        raise BadInputError(
            f"which pixels of {layer.name} are saturated cannot be told any more: mask them on what open_cube gives"
        )
    most = float(np.iinfo(stored).max)
    if is_stored(layer):
        return layer != most
    scale, offset = packing.get("scale_factor", 1.0), packing.get("add_offset", 0.0)
    unsaturated: xr.DataArray = ~(layer > (most - 0.5) * scale + offset)
    return unsaturated


def _convert(
    dataset: xr.Dataset,
    layers: Sequence[str] | None,
    fits: Callable[[xr.DataArray], bool],
    what: str,
    convert: Callable[[xr.DataArray], xr.DataArray],
) -> xr.Dataset:
    names = choose_layers(dataset, layers, fits, what)
    classes = [name for name in names if is_class(dataset[name])]
    if classes:
        raise BadInputError(f"{names_text(classes)} holds classes, not a quantity: leave it out")
    converted = dataset.assign({name: convert(dataset[name]) for name in names})
    return converted.drop_attrs(deep=False).assign_attrs(derived_attributes(dataset))


def _like(layer: xr.DataArray, values: xr.DataArray, units: str) -> xr.DataArray:
    """Add the attributes of a layer that are still valid to values."""
    kept = {name: layer.attrs[name] for name in ("long_name", "standard_name", "grid_mapping") if name in layer.attrs}
    named: xr.DataArray = values.rename(layer.name)
    return named.assign_attrs({**kept, "units": units})


def _kelvin(layer: xr.DataArray) -> xr.DataArray:
    values = physical(layer)
    celsius = layer.attrs.get("units") not in ("K", "kelvin")
    if not celsius:
        return values
    warmer: xr.DataArray = apply(_add, values, amount=ZERO_CELSIUS)
    return warmer


def _form(layer: xr.DataArray) -> tuple[Any, ...]:
    return (layer.dtype.name, layer.attrs.get("units", ""), *(layer.attrs.get(name, "") for name in _SHARED[3:]))


def _db(power: np.ndarray) -> np.ndarray:
    decibel: np.ndarray = 10 * np.log10(np.where(power > 0, power, np.float32(np.nan)))
    return decibel.astype("float32")


def _power(decibel: np.ndarray) -> np.ndarray:
    power: np.ndarray = (10 ** (decibel.astype("float64") / 10)).astype("float32")
    return power


def _add(values: np.ndarray, amount: float) -> np.ndarray:
    summed: np.ndarray = (values.astype("float64") + amount).astype("float32")
    return summed


# Speckle filter of radar images, as a view.

SENTINEL_1_LOOKS = 4.4
"""Equivalent number of looks of Sentinel-1's IW GRD in high resolution (ESA, Sentinel-1 Product Definition,
S1-RS-MDA-52-7440, table 5-1), from which RTC products of 10 m are made."""


def despeckle(
    dataset: xr.Dataset, *, window: int = 7, looks: float = SENTINEL_1_LOOKS, layers: Sequence[str] | None = None
) -> xr.Dataset:
    """Apply Lee's filter to radar backscatter in linear power, see :func:`stac2cube.algorithms.raster.lee`.

    Args:
        dataset: An opened cube, dims ``(time, y, x)`` or ``(y, x)``.
        window: Edge of the filter's window, pixels, odd.
        looks: Equivalent number of looks of the images: the fewer, the smoother the result.
        layers: Names; VV, VH, HH and HV if None. Others are unchanged.

    Returns:
        The Dataset with these layers float32, NaN exactly where there was no data or power not above 0. The result does
        not depend on the chunks.

    Raises:
        BadInputError: No such layer, no layer of backscatter, a layer in dB, an even window, looks not above 0.
    """
    check_window(window)
    names = choose_layers(dataset, layers, is_power, "radar backscatter")
    in_db = [name for name in names if dataset[name].attrs.get("units") == "dB"]
    if in_db:
        raise BadInputError(f"speckle is filtered in linear power, {in_db[0]} is in dB: filter first, then to_db")
    if not (np.isfinite(looks) and looks > 0):
        raise BadInputError(f"looks must be a number above 0, not {looks!r}")

    def one(values: np.ndarray) -> np.ndarray:
        return lee(values, window, looks)

    filtered = {name: over_windows(one, physical(dataset[name]), window // 2) for name in names}
    return dataset.assign(filtered).drop_attrs(deep=False).assign_attrs(derived_attributes(dataset))


# Slope, aspect and hillshade of a height model, as views; pixel sizes are in metres for any CRS.

WGS84_AXIS = 6378137.0
"""Semi-major axis of the WGS84 ellipsoid, metres (NGA.STND.0036)."""

WGS84_ECCENTRICITY_SQUARED = 0.00669437999014
"""First eccentricity squared of the WGS84 ellipsoid (NGA.STND.0036)."""

DISTORTION = 0.02
"""Largest error of lengths in a projection for which slopes are computed: 2 per cent. UTM is within 0.1."""


def slope(heights: xr.DataArray) -> xr.DataArray:
    """Steepness of the ground after Horn (1981), see :mod:`stac2cube.algorithms.raster`.

    Args:
        heights: Height above a level surface, metres, dims ``(..., y, x)`` with their coordinates and a CRS in the
            coordinate ``spatial_ref``, like a layer of an opened cube.

    Returns:
        Same dims, float32, degrees, 0 (flat) to 90; NaN where any of the 3 x 3 pixels around has no data, and along the
        outer edge.

    Raises:
        BadInputError: No CRS, irregular axes, or a projection with errors of lengths above 2 per cent.
    """
    return _view(heights, terrain.horn_slope, "slope", "degree")


def aspect(heights: xr.DataArray) -> xr.DataArray:
    """The direction the ground faces after Horn (1981), degrees clockwise from grid north; NaN where it is flat.

    In a geographic CRS, and along the central meridian of a UTM zone, grid north is true north.

    Args:
        heights: Heights in metres ``(..., y, x)``, as in :func:`slope`.

    Returns:
        Same dims, float32, degrees from 0 to 360. NaN where the ground is flat, next to pixels without data, and along
        the edge.

    Raises:
        BadInputError: As :func:`slope`.
    """
    return _view(heights, terrain.horn_aspect, "aspect", "degree")


def hillshade(heights: xr.DataArray, *, azimuth: float = 315.0, altitude: float = 45.0) -> xr.DataArray:
    """Hillshade of terrain after Horn (1981): 0 to 1, float32.

    Args:
        heights: As in :func:`slope`.
        azimuth: Azimuth of the sun, degrees clockwise from grid north.
        altitude: Height of the sun, degrees above the horizon, 0 to 90.

    Returns:
        Same dims; NaN as in :func:`slope`.

    Raises:
        BadInputError: As :func:`slope`, or a sun below the horizon.
    """
    if not 0 <= altitude <= 90:
        raise BadInputError(f"the sun stands 0 to 90 degrees above the horizon, not {altitude!r}")

    def shade(values: np.ndarray, east: np.ndarray, north: np.ndarray) -> np.ndarray:
        return terrain.horn_hillshade(values, east, north, azimuth, altitude)

    return _view(heights, shade, "hillshade", "1")


def _view(heights: xr.DataArray, function: Callable[..., np.ndarray], name: str, units: str) -> xr.DataArray:
    east, north = pixel_sizes(heights)
    seen = over_windows(function, physical(heights), 1, east, north)
    kept = {key: heights.attrs[key] for key in ("grid_mapping",) if key in heights.attrs}
    return seen.rename(name).drop_attrs().assign_attrs({**kept, "long_name": name, "units": units})


def pixel_sizes(layer: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Width and height of the pixels of each row, metres.

    In a projection they are the spacing of the grid. In degrees they are arcs of the WGS84 ellipsoid at the row's
    latitude: the prime vertical's radius ``a / sqrt(1 - e² sin² φ)`` times ``cos φ`` eastwards, the meridian's
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
    """Refuse projections that distort lengths: a slope in Mercator at 60 degrees would be half of the true one."""
    x, y = (float(layer[axis].values[[0, -1]].mean()) for axis in ("x", "y"))
    projection = Proj(crs)
    factors = projection.get_factors(*projection(x, y, inverse=True))
    off = max(abs(factors.meridional_scale - 1), abs(factors.parallel_scale - 1))
    if not off <= DISTORTION:
        raise BadInputError(
            f"lengths in {crs.name} are off by {off:.0%} here, and so would be the slopes: build the height cube "
            "in UTM or in degrees (crs=)"
        )
