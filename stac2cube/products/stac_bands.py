"""Layers and axes of a cube in the words of STAC: bands, variables, dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from stac2cube.cube.spec import CubeSpec, Layer
from stac2cube.mission import Mission

COMMON_NAMES = frozenset(
    (
        *("pan", "coastal", "blue", "green", "green05", "yellow", "red"),
        *("rededge", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09"),
        *("cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12"),
    )
)
"""Common names of the extension eo 2.0."""

RED_EDGE = {"rededge1": "rededge071", "rededge2": "rededge075", "rededge3": "rededge078"}
"""Red edges are numbered here; the extension calls them by their wavelength."""


def utc_text(time: datetime) -> str:
    """RFC 3339, UTC, with microseconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def bands_of(spec: CubeSpec, mission: Mission | None) -> list[dict[str, Any]]:
    """A STAC 1.1 band per layer.

    Args:
        spec: Of the cube.
        mission: Whose bands some layers are.
    """
    return [_band(layer, mission) for layer in spec.layers]


def _band(layer: Layer, mission: Mission | None) -> dict[str, Any]:
    own = mission.bands.get(layer.name) if mission else None
    common = RED_EDGE.get(own.common_name, own.common_name) if own else ""
    return {
        "name": layer.name,
        "description": layer.long_name or layer.name,
        "data_type": layer.dtype,
        # NaN as the text "nan" is valid, but a column of a table holds either numbers or texts.
        **({} if math.isnan(layer.fill) else {"nodata": _fill(layer)}),
        "unit": layer.units,
        **({"raster:scale": layer.scale, "raster:offset": layer.offset} if _packed(layer) else {}),
        **({"eo:common_name": common} if common in COMMON_NAMES else {}),
        **({"eo:center_wavelength": own.wavelength} if own and own.wavelength else {}),
        **({"classification:classes": _classes(layer)} if layer.flags else {}),
        **({"classification:bitfields": _bitfields(layer)} if layer.bits else {}),
    }


def variables_of(spec: CubeSpec) -> dict[str, Any]:
    """Layers in the words of the extension datacube."""
    return {
        layer.name: {
            "type": "data",
            "dimensions": ["time", "y", "x"],
            "description": layer.long_name or layer.name,
            "unit": layer.units,
            "data_type": layer.dtype,
            "nodata": _fill(layer),
            **({"scale": layer.scale, "offset": layer.offset} if _packed(layer) else {}),
        }
        for layer in spec.layers
    }


def dimensions_of(spec: CubeSpec, times: Sequence[datetime]) -> dict[str, Any]:
    """Axes in the words of the extension datacube: extents are those of pixel centres, times are listed."""
    grid = spec.grid
    code = int(grid.crs.removeprefix("EPSG:")) if grid.crs.startswith("EPSG:") else grid.crs
    west, north = grid.origin
    half, (rows, columns) = grid.resolution / 2, grid.shape
    moments = [utc_text(time) for time in times]
    horizontal = {
        "y": ([north - rows * grid.resolution + half, north - half], -grid.resolution),
        "x": ([west + half, west + columns * grid.resolution - half], grid.resolution),
    }
    return {
        "time": {"type": "temporal", "extent": [moments[0], moments[-1]], "values": moments},
        **{
            name: {"type": "spatial", "axis": name, "extent": extent, "step": step, "reference_system": code}
            for name, (extent, step) in horizontal.items()
        },
    }


def _fill(layer: Layer) -> Any:
    if math.isnan(layer.fill):
        return "nan"
    return int(layer.fill) if float(layer.fill).is_integer() else layer.fill


def _packed(layer: Layer) -> bool:
    return (layer.scale, layer.offset) != (1.0, 0.0)


def _classes(layer: Layer) -> list[dict[str, Any]]:
    return [
        {"value": value, "name": name, **({"nodata": True} if value == layer.fill else {})}
        for value, name in layer.flags
    ]


def _bitfields(layer: Layer) -> list[dict[str, Any]]:
    """Values under a mask, counted from its lowest bit."""
    fields = []
    for mask, members in groupby(sorted(layer.bits), key=lambda bit: bit[0]):
        offset = (mask & -mask).bit_length() - 1
        classes = [{"value": value >> offset, "name": name} for _, value, name in members]
        if all(one["value"] for one in classes):
            classes.insert(0, {"value": 0, "name": f"not_{classes[0]['name']}"})
        fields.append({"offset": offset, "length": mask.bit_length() - offset, "classes": classes})
    return fields
