"""Small STAC items made by hand, for files that came without any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import rasterio
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry

from stac2cube.model.geometry import WGS84, Area
from stac2cube.model.query import Query

Json = dict[str, Any]


def item(name: str, collection: str, assets: Mapping[str, Path], **properties: Any) -> Json:
    """An item over the files of its assets."""
    with rasterio.open(next(iter(assets.values()))) as file:
        bounds = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
        properties.setdefault("proj:epsg", file.crs.to_epsg())
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": mapping(box(*bounds)),
        "bbox": list(bounds),
        "properties": properties,
        "assets": {key: {"href": str(path)} for key, path in assets.items()},
        "links": [],
    }


def catalog(path: Path, items: Sequence[Json]) -> str:
    """A local catalog of items; its path."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return str(path)


def query_over(
    shape: BaseGeometry,
    times: tuple[datetime, datetime],
    bands: str = "",
    *,
    mission: str = "sentinel-2-l2a",
    longitude: float | None = None,
    max_cloud_cover: float | None = None,
) -> Query:
    """A query over a shape in WGS84; the solar day may be that of another longitude."""
    area = Area("area", shape, shape, WGS84)
    if longitude is not None:
        vars(area)["longitude"] = longitude  # where it would be kept once it is computed
    time = "/".join(f"{when:%Y-%m-%dT%H:%M:%S.%fZ}" for when in times)
    names = tuple(bands.split(",")) if bands else None
    return Query(mission, area, time, names, max_cloud_cover=max_cloud_cover)
