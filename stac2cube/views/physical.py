"""Physical units: reflectance, decibel, kelvin; and layers stacked along a dimension of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from stac2cube.errors import BadInputError
from stac2cube.views.layer import apply, choose, derived_attributes, hide, is_class, is_stored, names_text, physical

POLARISATIONS = ("vv", "vh", "hh", "hv")

ZERO_CELSIUS = 273.15
"""Kelvin at 0 degrees Celsius (International System of Units, BIPM 2019, section 2.3.1)."""

CELSIUS = "degree_Celsius"

Saturated = Literal["keep", "mask"]


def to_reflectance(
    dataset: xr.Dataset, *, layers: Sequence[str] | None = None, saturated: Saturated = "keep"
) -> xr.Dataset:
    """Reflectance as float32, by the scale and offset each layer carries.

    Args:
        dataset: An opened cube, dims ``(time, y, x)``.
        layers: Names; those whose standard name ends in ``reflectance`` if None. Others are left as they are.
        saturated: What becomes of the largest number the stored type holds, the agency's mark of a saturated Sentinel-2
            pixel and ours of a count beyond it: ``"keep"`` leaves that number (6.4535 for Sentinel-2), at least so
            bright it was; ``"mask"`` makes it NaN.

    Returns:
        The Dataset with reflectance layers float32, unit 1, NaN without data.

    Raises:
        BadInputError: No such layer, none of reflectance, another rule for saturation.
    """
    if saturated not in ("keep", "mask"):
        raise BadInputError(f"saturated pixels are kept or masked: 'keep' or 'mask', not {saturated!r}")

    def convert(layer: xr.DataArray) -> xr.DataArray:
        return physical(layer if saturated == "keep" else hide(layer, _unsaturated(layer)))

    return _convert(dataset, layers, _is_reflectance, "of reflectance", convert)


def to_db(data: xr.Dataset, *, layers: Sequence[str] | None = None) -> xr.Dataset:
    """Radar backscatter from linear power to decibel, 10 log10(power); power not above 0 has no data.

    Means, filters and resampling belong before this view: a mean of decibels is not the decibel of a mean.

    Args:
        data: An opened cube, dims ``(time, y, x)``.
        layers: Names; VV, VH, HH and HV in linear power if None. Others are left as they are.

    Returns:
        The Dataset with these layers float32, unit dB.

    Raises:
        BadInputError: No such layer, none of backscatter, one that is in dB already.
    """

    def convert(layer: xr.DataArray) -> xr.DataArray:
        if _in_db(layer):
            raise BadInputError(f"{layer.name} is in dB already")
        return _like(layer, apply(_db, physical(layer)), units="dB")

    return _convert(data, layers, lambda layer: is_power(layer) and not _in_db(layer), "linear backscatter", convert)


def from_db(data: xr.Dataset, *, layers: Sequence[str] | None = None) -> xr.Dataset:
    """Back from decibel to linear power, 10^(dB / 10).

    Args:
        data: Dims ``(time, y, x)``.
        layers: Names; those whose unit is dB if None. Others are left as they are.

    Returns:
        The Dataset with these layers float32, unit 1.

    Raises:
        BadInputError: No such layer, none in dB.
    """
    return _convert(
        data, layers, _in_db, "in dB", lambda layer: _like(layer, apply(_power, physical(layer)), units="1")
    )


def to_kelvin(data: xr.Dataset, *, layers: Sequence[str] | None = None) -> xr.Dataset:
    """Temperature layers in kelvin, float32: Landsat's surface temperature by the scale and offset it carries.

    Args:
        data: An opened cube, dims ``(time, y, x)``.
        layers: Names; those whose unit is kelvin or degree Celsius if None. Others are left as they are.

    Returns:
        The Dataset with these layers float32, unit K, NaN without data.

    Raises:
        BadInputError: No such layer, none of temperature.
    """
    return _convert(data, layers, _is_temperature, "a temperature", lambda layer: _like(layer, _kelvin(layer), "K"))


def to_celsius(data: xr.Dataset, *, layers: Sequence[str] | None = None) -> xr.Dataset:
    """As :func:`to_kelvin`, in degrees Celsius."""

    def convert(layer: xr.DataArray) -> xr.DataArray:
        if layer.attrs.get("units") == CELSIUS and not is_stored(layer):
            return physical(layer)
        return _like(layer, apply(_add, _kelvin(layer), amount=-ZERO_CELSIUS), CELSIUS)

    return _convert(data, layers, _is_temperature, "a temperature", convert)


def to_stack(dataset: xr.Dataset, dim: str = "band", *, layers: Sequence[str] | None = None) -> xr.DataArray:
    """Layers one behind the other along a new dimension, values unchanged.

    Args:
        dataset: Dims ``(time, y, x)``.
        dim: Name of the dimension; its coordinate holds the layers' names.
        layers: Names and order; all that are not classes if None.

    Returns:
        Dims ``(time, band, y, x)`` (without time if there is none), of the dtype the layers have in common.

    Raises:
        BadInputError: No such layer, or layers whose numbers do not mean the same (dtype, scale, offset, fill or unit
            differ).
    """
    names = choose(dataset, layers, lambda layer: not is_class(layer), "a quantity")
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
    """Where a layer does not hold the largest number of its stored type, decoded or not."""
    packing = layer.attrs if is_stored(layer) else layer.encoding
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
    names = choose(dataset, layers, fits, what)
    classes = [name for name in names if is_class(dataset[name])]
    if classes:
        raise BadInputError(f"{names_text(classes)} holds classes, not a quantity: leave it out")
    converted = dataset.assign({name: convert(dataset[name]) for name in names})
    return converted.drop_attrs(deep=False).assign_attrs(derived_attributes(dataset))


def _like(layer: xr.DataArray, values: xr.DataArray, units: str) -> xr.DataArray:
    """Values with the attributes of a layer that still hold."""
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
