"""Items of Sentinel-2 products written down by hand, in the shape of the Planetary Computer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12", "SCL")
SQUARE = [[[9.0, 47.0], [10.0, 47.0], [10.0, 48.0], [9.0, 48.0], [9.0, 47.0]]]


def product(
    name: str = "S2A_MSIL2A_20230512T102601_R108_T32TNT_20230512T161500",
    *,
    time: str = "2023-05-12T10:26:01.024000Z",
    tile: str = "32TNT",
    strip: str = "20230512T103010",
    baseline: str = "05.09",
    platform: str = "Sentinel-2A",
    rings: list | None = None,
    **properties: Any,
) -> Json:
    given = {
        "datetime": time,
        "platform": platform,
        "sat:relative_orbit": 108,
        "s2:mgrs_tile": tile,
        "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_2APS_20230512T161500_S{strip}_N{baseline}" if strip else None,
        "s2:processing_baseline": baseline,
        "eo:cloud_cover": 10.0,
        "proj:epsg": 32632,
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": rings or SQUARE},
        "bbox": [9.0, 47.0, 10.0, 48.0],
        "properties": {key: value for key, value in (given | properties).items() if value is not None},
        "links": [],
        "assets": {band: {"href": f"/data/{name}/{band}.tif"} for band in BANDS},
    }


def collection(path: Path, *items: Json) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path
