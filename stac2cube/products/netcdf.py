"""Steps of a cube as one CF NetCDF 4 file, for programs that read no Zarr."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr

from stac2cube.cube.reader import open_cube
from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec
from stac2cube.errors import BadInputError
from stac2cube.period import parse_period
from stac2cube.products.terms import attribution_of, mission_of, terms_of
from stac2cube.status import cube_history

KEPT = ("Conventions", "title", "spatial_ref")
"""Attributes of the store that mean something in NetCDF; names with a colon are not allowed there."""


def export_netcdf(cube: str | Path, out: str | Path, time: str = "") -> Path:
    """Write steps of a cube, their stored numbers unchanged, with CF metadata.

    Args:
        cube: The cube.
        out: The file; replaced whole if it exists.
        time: Which steps, in the words of :func:`stac2cube.period.parse_period`; all of them if "".

    Returns:
        The file.

    Raises:
        BadInputError: No step in that time, or h5netcdf is not installed.
        CubeError: Not a cube.
    """
    if importlib.util.find_spec("h5netcdf") is None:
        raise BadInputError("NetCDF needs h5netcdf: pip install 'stac2cube[netcdf]'")
    path, target = Path(cube), Path(out)
    root = read_root(path)
    dataset = open_cube(path, decode=False)
    if time:
        wanted = parse_period(time)
        moments = dataset["time"].values.astype("datetime64[us]").tolist()
        dataset = dataset.isel(time=[place for place, moment in enumerate(moments) if moment in wanted])
    if dataset.sizes["time"] == 0:
        raise BadInputError(f"{cube} has no step in {time or 'it'} to write")
    dataset = _described(dataset, path, root.spec)
    chunk = (1, *root.spec.grid.chunk)
    encoding: dict[str, dict[str, Any]] = {name: {"_FillValue": None} for name in ("x", "y")}
    encoding |= {
        layer.name: {
            "chunksizes": tuple(min(size, edge) for size, edge in zip(dataset[layer.name].shape, chunk, strict=True)),
            "zlib": True,
            "complevel": 1,
            "shuffle": True,
        }
        for layer in root.spec.layers
    }
    partial = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        dataset.to_netcdf(partial, engine="h5netcdf", encoding=encoding)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _described(dataset: xr.Dataset, cube: Path, spec: CubeSpec) -> xr.Dataset:
    """The same with attributes as NetCDF has them: global ones as text, flags in the type of their layer."""
    described = dataset.copy()
    described.attrs = {name: dataset.attrs[name] for name in KEPT if name in dataset.attrs}
    commits = cube_history(cube)
    lines = [f"{commit.made} stac2cube commit {commit.number}: {commit.steps} steps" for commit in reversed(commits)]
    described.attrs["history"] = "\n".join([*lines, str(dataset.attrs.get("history", ""))]).strip()
    described.attrs["source"] = f"stac2cube {spec.stage} of {mission_of(spec) or 'no mission'}"
    times = dataset["time"].values.astype("datetime64[us]").tolist()
    catalogs = [str(name) for name in dataset["catalog"].values] if "catalog" in dataset.coords else []
    if attribution := attribution_of(spec, times, catalogs):
        described.attrs["acknowledgement"] = attribution
    if terms := terms_of(spec):
        described.attrs["license"] = terms.url
    # Cubes made by older versions lack these.
    described["time"].attrs.setdefault("units_metadata", "leap_seconds: none")
    described["spatial_ref"].attrs.setdefault("long_name", "coordinate reference system")
    for layer in spec.layers:
        attributes = {"long_name": layer.name, **layer.attributes(), **described[layer.name].attrs}
        for name in ("flag_values", "flag_masks"):
            if name in attributes:
                attributes[name] = np.asarray(attributes[name], dtype=layer.dtype)
        described[layer.name].attrs = attributes
    return described
