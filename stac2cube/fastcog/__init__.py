"""Read cloud-optimised GeoTIFF and JPEG 2000 without GDAL: headers, byte ranges, tiles."""

from __future__ import annotations
