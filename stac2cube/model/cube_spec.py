"""The specification of a cube: its layers, its grid and the recipe that decides its pixels."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.errors import BadInputError, CubeError, CubeMismatchError
from stac2cube.model.fields import equal_nan
from stac2cube.model.grid import Grid
from stac2cube.trust.names import is_name
from stac2cube.trust.text import printable

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1
"""Version of the layout on disk; a newer one is refused by older software."""

STORED_FORM = "stored_form"
"""Key in the ``encoding`` of a layer returned by ``open_cube``: its stored ``dtype``, ``scale_factor`` and
``add_offset``. xarray ignores this key and writes the layer in the form that it has in memory."""


@equal_nan
@dataclass(frozen=True)
class Layer:
    """One variable of a cube with dims ``(time, y, x)``, in its stored form.

    Attributes:
        name: Variable name, ``"B04"``.
        dtype: NumPy dtype name of the stored integers or floats.
        fill: Stored value of a pixel without data.
        scale: Physical value = stored value * scale + offset; 1 and 0 for classes.
        offset: See ``scale``.
        units: UDUNITS text of the physical value; ``"1"`` for ratios and classes.
        long_name: Display name.
        standard_name: CF standard name, or "".
        flags: Value and meaning of each class, empty for continuous layers.
        bits: Mask, value under that mask, and meaning, of layers that hold bits.
    """

    name: str
    dtype: str
    fill: float
    scale: float = 1.0
    offset: float = 0.0
    units: str = "1"
    long_name: str = ""
    standard_name: str = ""
    flags: tuple[tuple[int, str], ...] = ()
    bits: tuple[tuple[int, int, str], ...] = ()

    @cached_property
    def fill_scalar(self) -> Any:
        """The fill as a NumPy scalar of the layer's dtype."""
        return np.dtype(self.dtype).type(self.fill)

    @property
    def _guard(self) -> int:
        """A bit that no flag uses: set where there is no data and nowhere else, and part of every flag's mask.

        CF 1.11, section 3.5: a flag is set where value & mask = flag value. A fill with all bits set would match every
        flag; with this bit in the masks it matches none. 0 where the fill matches no flag, or has a flag of its own.
        """
        if np.dtype(self.dtype).kind != "u" or not any(int(self.fill) & mask == value for mask, value, _ in self.bits):
            return 0
        used = np.bitwise_or.reduce([mask for mask, _, _ in self.bits])
        free = int(self.fill) & ~int(used)
        return 1 << free.bit_length() - 1 if free else 0

    def decoded(self, stored: np.ndarray) -> np.ndarray:
        """Stored numbers as physical values: float32 of the same shape, NaN without data.

        CF 1.11 section 8.1: stored number * ``scale`` + ``offset``, computed in float64.
        """
        values: np.ndarray = (stored * np.float64(self.scale) + np.float64(self.offset)).astype("float32")
        values[np.isnan(stored) if np.isnan(self.fill) else stored == self.fill_scalar] = np.nan
        return values

    def attributes(self) -> dict[str, Any]:
        """CF attributes, so that any reader decodes the layer the same way."""
        attributes: dict[str, Any] = {"grid_mapping": "spatial_ref", "units": self.units}
        if self.long_name:
            attributes["long_name"] = self.long_name
        if self.standard_name:
            attributes["standard_name"] = self.standard_name
        if "temperature" in self.standard_name:  # CF 1.11, 3.1.2: degrees of a scale, not of a difference
            attributes["units_metadata"] = "temperature: on_scale"
        if self.flags:
            attributes["flag_values"] = [value for value, _ in self.flags]
            attributes["flag_meanings"] = " ".join(meaning for _, meaning in self.flags)
        if self.bits:
            attributes["flag_masks"] = [mask | self._guard for mask, _, _ in self.bits]
            attributes["flag_values"] = [value for _, value, _ in self.bits]
            attributes["flag_meanings"] = " ".join(meaning for _, _, meaning in self.bits)
        if (self.scale, self.offset) != (1.0, 0.0):
            attributes["scale_factor"] = self.scale
            attributes["add_offset"] = self.offset
        # xarray turns a layer with _FillValue into floats. NaN needs no attribute, and a fill that is itself a class
        # (0, "no_data", of the scene classification) or a bit is best left an integer. It is stored as "nodata", which
        # xarray ignores: without it, rioxarray and odc-geo fill with 0 (no cloud) what they clip and reproject.
        told = bool(self.bits) or self.fill in [value for value, _ in self.flags]
        if np.dtype(self.dtype).kind in "iu":
            attributes["nodata" if told else "_FillValue"] = int(self.fill)
        return attributes


@dataclass(frozen=True)
class CubeSpec:
    """Everything that decides the pixels of a cube. An update must be given an equal spec.

    Attributes:
        stage: The stage that makes it: ``"layers"``, ``"clouds"``, ...
        grid: Its lattice.
        layers: Its variables.
        recipe: Everything else that changes pixels (mission, resampling, thresholds ...), as plain JSON values.
        request: Options that may change from run to run (area, times, catalog, cloud limit): the defaults of the
            next update. They are not compared.
    """

    stage: str
    grid: Grid
    layers: tuple[Layer, ...]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse two layers of one name.

        Raises:
            BadInputError: A layer is given twice.
        """
        names = [layer.name for layer in self.layers]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise BadInputError(f"layer {twice!r} is given twice")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as stored in the attributes of a cube's root."""
        return {
            "stage": self.stage,
            "grid": self.grid.to_json(),
            "layers": [_layer_to_json(layer) for layer in self.layers],
            "recipe": dict(self.recipe),
            "request": dict(self.request),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CubeSpec:
        """Read the value of :meth:`to_json`."""
        layers = tuple(_layer_from_json(layer) for layer in value["layers"])
        if wrong := next((layer.name for layer in layers if not is_name(layer.name)), None):
            raise CubeError(f"the cube has a layer {printable(wrong)!r}, which is no name: it is not stac2cube's")
        return cls(value["stage"], Grid.from_json(value["grid"]), layers, value["recipe"], value["request"])

    def require_same(self, asked: CubeSpec, where: str) -> None:
        """Refuse a spec that differs from the one that the cube was made with.

        Args:
            asked: The spec of the current run.
            where: The cube, for the message.

        Raises:
            CubeMismatchError: Lists every difference: the cube's value and the requested one.
        """
        mine, theirs = _comparable(self), _comparable(asked)
        # Facts of a layer that only one spec has are left out: the difference of the layers is reported already.
        alone = {layer.name for layer in self.layers} ^ {layer.name for layer in asked.layers}
        mine, theirs = _without(mine, alone), _without(theirs, alone)
        differences = [
            f"{name}: the cube has {mine.get(name, 'none')}, asked for {theirs.get(name, 'none')}"
            for name in sorted(mine.keys() | theirs.keys())
            if mine.get(name) != theirs.get(name)
        ]
        if differences:
            raise CubeMismatchError(
                f"{where} was made otherwise; nothing was changed. {'; '.join(differences)}. "
                "Ask for the same, or give another output path for a new cube."
            )


def _without(facts: Mapping[str, Any], layers: Set[str]) -> dict[str, Any]:
    """Comparable facts without those of some layers."""
    return {
        name: {key: part for key, part in value.items() if key not in layers} if isinstance(value, Mapping) else value
        for name, value in facts.items()
        if name.rpartition(" of ")[2] not in layers
    }


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    fill = "NaN" if np.isnan(layer.fill) else layer.fill  # JSON has no NaN
    written = asdict(layer) | {"fill": fill, "flags": [list(flag) for flag in layer.flags]}
    return written | {"bits": [list(bit) for bit in layer.bits]}


def _layer_from_json(value: Mapping[str, Any]) -> Layer:
    flags = tuple((number, name) for number, name in value["flags"])
    bits = tuple((mask, number, name) for mask, number, name in value.get("bits", ()))
    return Layer(**{**value, "fill": float(value["fill"]), "flags": flags, "bits": bits})


def _comparable(spec: CubeSpec) -> dict[str, Any]:
    """One flat mapping of everything that must agree, with readable names."""
    value = spec.to_json()
    flat: dict[str, Any] = {"stage": value["stage"]}
    flat |= {f"grid {name}": part for name, part in value["grid"].items()}
    flat |= {str(name): part for name, part in value["recipe"].items()}
    flat["layers"] = [layer["name"] for layer in value["layers"]]
    for layer in value["layers"]:
        for name in ("dtype", "fill", "scale", "offset"):
            flat[f"{name} of {layer['name']}"] = layer[name]
    return flat


def seconds_since(first: np.datetime64, fill: float | None) -> dict[str, Any]:
    """The encoding of times as float64 seconds, the only unit below a minute that CDO supports.

    It reads microseconds as the date 0000-00-00. Within 136 years of the first time they are exact to the microsecond.

    Args:
        first: The first time; seconds count from the begin of its day, UTC.
        fill: Number for no time; None for coordinates, where CF allows none.
    """
    units = {"units": f"seconds since {first.astype('datetime64[D]')} 00:00:00", "calendar": "proleptic_gregorian"}
    return {**units, "dtype": np.dtype("float64"), "_FillValue": fill}


def prepare_for_writing(dataset: xr.Dataset) -> None:
    """Set the encoding of a Dataset so that xarray writes it, and results computed from it, correctly.

    The stored form of the layers must not decide that. xarray keeps the encoding through ``coarsen``, ``roll`` and
    ``shift``: sums would be written as integers that wrap, means of classes rounded; chunks and codecs would disturb
    ``to_zarr``. The stored form stays under a key that xarray ignores, for ``to_reflectance``, which needs the largest
    number.

    Times are written as seconds, see :func:`seconds_since`. xarray gives a float64 NaN as ``_FillValue``, which CF does
    not allow for coordinates.

    Args:
        dataset: Layers with dims ``(time, y, x)``, decoded or not. Its encoding is changed, and a ``GeoTransform``
            is removed, because it would be wrong for a subset.
    """
    for layer in dataset.data_vars.values():
        # CF 1.11, 3.5: flags have the type of their variable. xarray would write a list as 64 bit integers.
        flags = {name: layer.attrs[name] for name in ("flag_values", "flag_masks") if name in layer.attrs}
        layer.attrs |= {name: np.array(values, dtype=layer.dtype) for name, values in flags.items()}
        packing = {name: layer.encoding[name] for name in ("scale_factor", "add_offset") if name in layer.encoding}
        stored = np.dtype(layer.encoding.get("dtype", layer.dtype))
        layer.encoding = {STORED_FORM: {"dtype": np.dtype(stored.name), **packing}}
    times = dataset["time"]
    if times.size:
        times.encoding = seconds_since(times.values.min(), None)
    for axis in ("x", "y"):
        dataset[axis].encoding = {"_FillValue": None}
    dataset["spatial_ref"].encoding = {}
    dataset["spatial_ref"].attrs.pop("GeoTransform", None)
