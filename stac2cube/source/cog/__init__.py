"""Reading cloud-optimised GeoTIFF without GDAL: header, byte ranges, tiles."""
