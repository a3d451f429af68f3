"""Where a GeoTIFF lies: what its georeferencing tags mean.

Source: OGC GeoTIFF 1.1 (19-008r4). What coordinate reference system the GeoTIFF keys mean, GDAL is asked: once for each
set of keys that a process meets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stac2cube.source.cog.header import UnusualFileError

_POINT = 2
_RASTER_TYPE = 1025


def transform_of(tags: dict[str, Any]) -> tuple[float, float, float, float, float, float]:
    """From pixel corners to coordinates, as GDAL has it: where pixels are points, they are taken for their centres.

    Raises:
        UnusualFileError: There is none, or one of another kind.
    """
    if "matrix" in tags and tags["matrix"].size == 16:
        matrix = tags["matrix"]
        made = [float(matrix[place]) for place in (0, 1, 3, 4, 5, 7)]
    elif "pixel_scale" in tags and tags.get("tie_points", np.empty(0)).size == 6:
        (right, down), (column, row, _, x, y, _) = tags["pixel_scale"][:2].tolist(), tags["tie_points"].tolist()
        made = [right, 0.0, x - column * right, 0.0, -abs(down), y + row * abs(down)]
    else:
        raise UnusualFileError("it has no georeference, or an unusual one")
    if _key(tags, _RASTER_TYPE) == _POINT:
        made[2] -= made[0] * 0.5 + made[1] * 0.5
        made[5] -= made[3] * 0.5 + made[4] * 0.5
    if not np.isfinite(made).all() or made[0] * made[4] == made[1] * made[3]:
        raise UnusualFileError("its georeference is degenerate")
    return made[0], made[1], made[2], made[3], made[4], made[5]


def _key(tags: dict[str, Any], wanted: int) -> int | None:
    """A short GeoTIFF key."""
    for key, place, count, value in tags.get("keys", np.zeros(4, "u2"))[4:].reshape(-1, 4).tolist():
        if key == wanted and place == 0 and count == 1:
            return int(value)
    return None


_KNOWN_CRS: dict[tuple[bytes, bytes, bytes], str] = {}


def crs_of(tags: dict[str, Any], head: bytes) -> str:
    """What the keys mean, as a text.

    Args:
        tags: Of the first directory.
        head: The file's first bytes, with that directory.

    Raises:
        UnusualFileError: There is no CRS, or GDAL does not understand it.
    """
    if "keys" not in tags:
        raise UnusualFileError("it has no CRS")
    numbers = tags.get("key_numbers", np.empty(0, "f8"))
    said = (tags["keys"].astype("<u2").tobytes(), numbers.astype("<f8").tobytes(), tags.get("key_texts", b""))
    if said not in _KNOWN_CRS:
        _KNOWN_CRS[said] = _crs_by_gdal(head)
    return _KNOWN_CRS[said]


def _crs_by_gdal(head: bytes) -> str:
    from odc.geo.crs import CRS
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    try:
        with MemoryFile(head) as memory, memory.open() as dataset:
            found = dataset.crs
    except RasterioError as error:
        raise UnusualFileError("its CRS cannot be read from its first bytes") from error
    if found is None:
        raise UnusualFileError("it has no CRS")
    written = CRS(found)
    authority = found.to_authority()
    name = ":".join(authority) if authority else ""
    return name if name and CRS(name) == written else str(written)
