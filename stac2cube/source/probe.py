"""Whether the assets that a catalog names can be read here."""

from __future__ import annotations

from collections.abc import Sequence

from stac2cube.errors import BadInputError, CatalogError, ReadError
from stac2cube.globe import crs_name, parse_crs
from stac2cube.scene import AssetRef, Granule, Scene
from stac2cube.source.gdal import gdal_settings
from stac2cube.source.sign import opening, unsigned


def problem_of(scenes: Sequence[Scene]) -> str:
    """Why the first or the last of some scenes cannot be read here; "" if both can.

    One asset of each is opened, and of its pixels nothing is read.
    """
    if not scenes:
        return "it has no scene for these words"
    for scene in {str(scene.key): scene for scene in (scenes[0], scenes[-1])}.values():
        if scene.problem or not scene.granules:
            continue  # a matter of its metadata, recorded when it is built
        granule = scene.granules[0]
        if problem := _problem_of_asset(granule, next(iter(granule.assets.values()))):
            return f"{granule.id} cannot be read here: {problem}"
    return ""


def _problem_of_asset(granule: Granule, asset: AssetRef) -> str:
    import rasterio

    try:
        way = opening(asset, granule.signer)
        with gdal_settings(remote=way.remote, store=way.settings), rasterio.open(way.location):
            return ""
    except (rasterio.errors.RasterioIOError, ReadError, CatalogError) as error:
        return str(error).splitlines()[0]


def crs_of_file(granule: Granule) -> tuple[str, str]:
    """The CRS that the file of a granule says, and why it says none, each "" where the other is not."""
    import rasterio

    for asset in granule.assets.values():
        try:
            way = opening(asset, granule.signer)
            with gdal_settings(remote=way.remote, store=way.settings), rasterio.open(way.location) as file:
                if file.crs is None:
                    return "", "its file does not either"
                return crs_name(parse_crs(file.crs.to_wkt())), ""
        except (rasterio.errors.RasterioError, ReadError, CatalogError, BadInputError, OSError) as error:
            return "", f"its file cannot be read: {unsigned(str(error)).splitlines()[0]:.200}"
    return "", "it has no file"
