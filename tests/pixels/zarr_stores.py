"""Small Zarr stores and items in the form of ESA's EOPF, made by zarr."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import LocalStore

CORNER = (300_000.0, 5_300_040.0)
CRS = "EPSG:32632"
SAFE = "S2A_MSIL2A_20240512T102601_N{baseline}_R008_T32TLT_20240512T150000"

PATHS = {
    "reflectance": "measurements/reflectance/r{gsd}m/{name}",
    "scl": "conditions/mask/l2a_classification/r{gsd}m/scl",
    "aot": "quality/atmosphere/r{gsd}m/aot",
    "wvp": "quality/atmosphere/r{gsd}m/wvp",
}
L2A = {
    **dict.fromkeys(("b02", "b03", "b04", "b08"), 10),
    **dict.fromkeys(("b05", "b06", "b07", "b8a", "b11", "b12", "scl"), 20),
    **dict.fromkeys(("aot", "wvp"), 10),
    **dict.fromkeys(("b01", "b09"), 60),
}
L1C = {
    **dict.fromkeys(("b02", "b03", "b04", "b08"), 10),
    **dict.fromkeys(("b05", "b06", "b07", "b8a", "b11", "b12"), 20),
    **dict.fromkeys(("b01", "b09", "b10"), 60),
}


@dataclass(frozen=True)
class StoreForm:
    """How a store is written.

    Attributes:
        version: Of Zarr.
        chunk: Pixels of 10 m along the edge of a chunk; others in proportion.
        shard: The same of a shard, 0 for none.
        fill: Fill value, None for null (version 2).
        floats: Whether reflectance is decoded, as in the Explorer's GeoZarr.
        consolidated: Whether the store has consolidated metadata.
        bands: Resolution by name.
        extent: Metres along the edge of the tile.
        offset: Added to every count of reflectance but 0.
        place: Where its arrays say where they lie: "axes", "attributes" or "group".
    """

    version: int = 2
    chunk: int = 60
    shard: int = 0
    fill: float | None = 0
    floats: bool = False
    consolidated: bool = True
    bands: Mapping[str, int] = field(default_factory=lambda: L2A)
    extent: int = 1200
    offset: int = 0
    place: str = "axes"


def path_of(name: str, gsd: int) -> str:
    """Where an array lies."""
    return PATHS.get(name, PATHS["reflectance"]).format(gsd=gsd, name=name)


def counts(name: str, form: StoreForm) -> np.ndarray:
    """Pixels of a band: no data in the first tenth of its rows, extremes in the middle, else anything."""
    edge = form.extent // form.bands[name]
    rng = np.random.default_rng(sum(name.encode()))
    if name == "scl":
        pixels = rng.integers(1, 12, (edge, edge), dtype="uint8")
    else:
        pixels = rng.integers(1, 12_000, (edge, edge), dtype="uint16")
        pixels[edge // 2, : min(4, edge)] = (1, 500, 65_535, 2)[: min(4, edge)]
        if "reflectance" in path_of(name, 10):  # saturated pixels stay so
            pixels[pixels < 65_535] += np.uint16(form.offset)
    pixels[: edge // 10] = 0
    return pixels


def write_store(folder: Path, form: StoreForm, name: str = SAFE.format(baseline="0510")) -> Path:
    """Write a store; its path."""
    path = folder / f"{name}.zarr"
    bbox = [CORNER[0], CORNER[1] - form.extent, CORNER[0] + form.extent, CORNER[1]]
    discovery = {"properties": {"proj:code": CRS, "proj:bbox": bbox, "eopf:datatake_id": "none"}}
    store = LocalStore(path)
    root = zarr.create_group(
        store,
        zarr_format=form.version,
        attributes={
            "stac_discovery": discovery,
            "other_metadata": {"horizontal_crs_code": CRS},
            "proj:code": "EPSG:4326",
        },
    )
    for band, gsd in form.bands.items():
        _write_band(root, band, gsd, form)
    if form.consolidated:
        zarr.consolidate_metadata(store, zarr_format=form.version)
    return path


def _write_band(root: zarr.Group, band: str, gsd: int, form: StoreForm) -> None:
    where, pixels = path_of(band, gsd), counts(band, form)
    group, reflectance = where.rpartition("/")[0], "reflectance" in where
    transform = [float(gsd), 0.0, CORNER[0], 0.0, -float(gsd), CORNER[1]]
    attributes: dict[str, Any] = {}
    if reflectance and not form.floats:
        attributes |= {"scale_factor": 1e-4, "add_offset": -0.1, "valid_min": 1}
    if form.place == "attributes":
        attributes |= {
            "proj:transform": [*transform, 0.0, 0.0, 1.0],
            "proj:shape": list(pixels.shape),
            "proj:epsg": 32632,
        }
    if reflectance and form.floats:
        pixels = np.where(pixels == 0, np.nan, pixels * 1e-4 - 0.1).astype("float32")
    chunk = max(form.chunk * 10 // gsd, 1)
    shard = form.shard * 10 // gsd
    old = form.version == 2
    array = root.create_array(
        where,
        shape=pixels.shape,
        chunks=(chunk, chunk),
        shards=(shard, shard) if shard else None,
        dtype=pixels.dtype,
        compressors=_blosc(form.version) if old or shard else ZstdCodec(level=0),
        fill_value=np.nan if pixels.dtype.kind == "f" else form.fill,
        attributes=attributes if not old else {**attributes, "_ARRAY_DIMENSIONS": ["y", "x"]},
        dimension_names=None if old else ("y", "x"),
    )
    array[...] = pixels
    if form.place == "group":
        said = {"spatial:transform": transform, "spatial:shape": list(pixels.shape), "proj:code": CRS}
        root[group].attrs.update(said)
    for axis, first, step in (("x", CORNER[0], gsd), ("y", CORNER[1], -gsd)):
        if form.place != "axes" or f"{group}/{axis}" in root:
            continue
        positions = (first + step * (np.arange(pixels.shape[0]) + 0.5)).astype("float32")
        written = root.create_array(
            f"{group}/{axis}",
            shape=positions.shape,
            chunks=positions.shape,
            dtype="float32",
            attributes={"_ARRAY_DIMENSIONS": [axis]} if old else {},
            dimension_names=None if old else (axis,),
        )
        written[...] = positions


def _blosc(version: int) -> Any:
    return numcodecs.Blosc("zstd", 3, numcodecs.Blosc.BITSHUFFLE) if version == 2 else BloscCodec(cname="lz4")


def sound_item(
    href: str, form: StoreForm, *, baseline: str = "0510", name: str = "", properties: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A STAC item of the sample service's form for a store.

    Args:
        href: Of the store.
        form: Of the store.
        baseline: Of the product.
        name: Its id; the product's if "".
        properties: Further ones; None as a value takes one out.
    """
    from pyproj import Transformer

    to = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    west, north = CORNER
    corners = [
        (west, north),
        (west + form.extent, north),
        (west + form.extent, north - form.extent),
        (west, north - form.extent),
    ]
    ring = [list(to.transform(*corner)) for corner in [*corners, corners[0]]]
    dotted = f"{baseline[:2]}.{baseline[2:]}"
    said: dict[str, Any] = {
        "datetime": "2024-05-12T10:26:01.024000Z",
        "created": "2026-03-19T17:00:29.839866Z",
        "platform": "sentinel-2a",
        "grid:code": "MGRS-32TLT",
        "proj:code": CRS,
        "proj:bbox": [west, north - form.extent, west + form.extent, north],
        "eo:cloud_cover": 5.0,
        "sat:relative_orbit": 8,
        "sat:orbit_state": "descending",
        "product:type": "S02MSIL2A",
        "processing:version": dotted,
        "eopf:datatake_id": f"GS2A_20240512T102601_046432_N{dotted}",
        "eopf:datastrip_id": f"S2A_OPER_MSI_L2A_DS_2APS_20240512T150000_S20240512T102600_N{dotted}",
    }
    said |= properties or {}
    assets: dict[str, Any] = {"product": {"href": href, "type": "application/vnd+zarr"}}
    for band, gsd in form.bands.items():
        if band in ("b01", "b10"):  # of 20 m only, or not there, in the service's items
            continue
        key = f"{band.upper()}_{gsd}m"
        assets[key] = {
            "href": f"{href}/{path_of(band, gsd)}",
            "type": "application/vnd+zarr",
            "raster:scale": 1e-4,
            "raster:offset": -0.1,
        }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name or SAFE.format(baseline=baseline),
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [min(x for x, _ in ring), min(y for _, y in ring), max(x for x, _ in ring), max(y for _, y in ring)],
        "properties": {key: value for key, value in said.items() if value is not None},
        "links": [],
        "assets": assets,
    }


def write_catalog(folder: Path, items: Sequence[Mapping[str, Any]]) -> Path:
    """Items as a local catalog; its path."""
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path
