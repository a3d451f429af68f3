"""Whether the assets that a catalog names can be read here."""

from __future__ import annotations

from collections.abc import Sequence

from rasterio.errors import RasterioError

from stac2cube.errors import BadInputError, CatalogError, ReadError
from stac2cube.globe import crs_name, parse_crs
from stac2cube.scene import AssetRef, Granule, Scene
from stac2cube.source.gdal import gdal_settings, open_image
from stac2cube.source.sign import opening, unsigned
from stac2cube.trust.deadline import within

LONGEST = 60.0
"""Seconds that are waited for a file to open."""


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
    def look() -> None:
        way = opening(asset, granule.signer)
        with gdal_settings(remote=way.remote, store=way.settings), open_image(way.location):
            pass

    try:
        within(LONGEST, look, "opening it")
    except (RasterioError, OSError, ReadError, CatalogError) as error:
        return unsigned(str(error)).splitlines()[0]
    return ""


def crs_of_file(granule: Granule) -> tuple[str, str]:
    """The CRS that the file of a granule says, and why it says none, each "" where the other is not."""
    asset = next(iter(granule.assets.values()), None)
    if asset is None:
        return "", "it has no file"

    def look() -> str:
        way = opening(asset, granule.signer)
        with gdal_settings(remote=way.remote, store=way.settings), open_image(way.location) as file:
            return "" if file.crs is None else crs_name(parse_crs(file.crs.to_wkt()))

    try:
        found = within(LONGEST, look, "opening it")
    except (RasterioError, ReadError, CatalogError, BadInputError, OSError) as error:
        return "", f"its file cannot be read: {unsigned(str(error)).splitlines()[0]:.200}"
    return found, "" if found else "its file does not either"
