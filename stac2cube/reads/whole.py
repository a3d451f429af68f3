"""Geometries as one Dataset: all scenes and bands on one lattice, pixels outside the geometries left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.errors import BadInputError
from stac2cube.reads.selection import Selection, Source, Words, features_of, inside, select, window_over
from stac2cube.reads.windows import Pixels, geobox_of, read_windows
from stac2cube.scene import Scene

if TYPE_CHECKING:
    import xarray as xr

MOST_BYTES = 8 << 30
"""Largest Dataset that is read into memory; what is larger wants a cube."""


def read(
    source: Source,
    geometries: Any,
    bands: Sequence[str] | None = None,
    *,
    time: Any = None,
    mission: str | None = None,
    resolution: float | None = None,
    crs: str | None = None,
    resampling: str | Mapping[str, str] | None = None,
    max_cloud_cover: float | None = None,
) -> xr.Dataset:
    """Read the pixels of geometries into memory, without building a cube.

    Bands of all pixel sizes, scenes of all UTM zones come on one lattice, that of a cube over the same area; nodata and
    offset are understood as there. Only what the geometries touch is read.

    Args:
        source: An index or a catalog by name, path or URL; or STAC items.
        geometries: Anything that can be an area of interest, a GeoDataFrame of many for example.
        bands: Names or common names; the mission's default if None.
        time: Period; all times of an index or of given items if None.
        mission: Name of the mission; what the index or the items tell if None.
        resolution: Pixel edge in units of the CRS; the finest band's if None.
        crs: CRS of the pixels; that in which most of the area was delivered if None.
        resampling: As of :func:`stac2cube.get_stac_layers`.
        max_cloud_cover: Percent; scenes with more are left out.

    Returns:
        Layers ``(time, y, x)`` in physical units (float64, NaN without data and where the centre of a pixel lies in no
        geometry; classes stay integers).

    Raises:
        BadInputError: A word that is not understood, nothing found, more than fits into memory.
        CatalogError: The source cannot be read.
        ReadError: An asset is missing or cannot be read.
    """
    import odc.geo.xr  # noqa: F401 - gives Datasets the accessor that writes a CRS
    import xarray as xr

    words = Words(bands, time, mission, resolution, crs, resampling, max_cloud_cover)
    area, areas = features_of(geometries)
    selection = select(source, area, words)
    stored = _stored(selection, [selection.shape_in_grid(a.native, a.native_crs) for a in areas])
    rows, columns = selection.grid.geobox.dimensions
    coordinates = {
        "time": np.array([scene.time.replace(tzinfo=None) for scene in selection.scenes], dtype="datetime64[us]"),
        "scene": ("time", np.array([str(scene.key) for scene in selection.scenes], dtype=object)),
        "y": selection.grid.geobox.coordinates[rows].values,
        "x": selection.grid.geobox.coordinates[columns].values,
    }
    data = {name: (("time", "y", "x"), pixels) for name, pixels in stored.items()}
    dataset = xr.Dataset(data, coordinates).odc.assign_crs(selection.grid.crs)
    for layer in selection.layers:
        dataset[layer.name].attrs.update(layer.attributes())
    decoded: xr.Dataset = xr.decode_cf(dataset).load()
    return decoded


def _stored(selection: Selection, shapes: Sequence[Any]) -> dict[str, np.ndarray]:
    """Stored numbers per layer, ``(time, y, x)``, fill outside all geometries."""
    shape = (len(selection.scenes), *selection.grid.shape)
    needed = sum(int(np.prod(shape)) * max(np.dtype(layer.dtype).itemsize, 8) for layer in selection.layers)
    if needed > MOST_BYTES:
        raise BadInputError(
            f"{shape[0]} scenes of {shape[1]} x {shape[2]} pixels would take {needed / 2**30:.0f} GiB: build a cube "
            "(get_stac_layers), or read geometry by geometry (read_arrays, zonal_statistics)"
        )
    out = {layer.name: np.full(shape, layer.fill_scalar, layer.dtype) for layer in selection.layers}
    windows = [window_over(selection.grid, geometry) for geometry in shapes]
    places = {scene.key: place for place, scene in enumerate(selection.scenes)}

    def put(scene: Scene, place: int, pixels: Pixels) -> None:
        within = inside(geobox_of(selection, windows[place]), shapes[place])
        for name, layer in pixels.items():
            # Where geometries overlap, threads may write a pixel twice, the same number both times.
            np.copyto(out[name][places[scene.key]][windows[place]], layer, where=within)

    read_windows(selection, windows, put)
    return out
