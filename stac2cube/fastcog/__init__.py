"""Reading cloud-optimised GeoTIFF without GDAL: header, byte ranges, tiles."""

from __future__ import annotations
