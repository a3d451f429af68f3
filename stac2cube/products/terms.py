"""What the makers of the data ask of those who pass them on: terms of use, attribution, and who they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from stac2cube.cube.root import read_root
from stac2cube.cube.spec import CubeSpec


@dataclass(frozen=True)
class Provider:
    """Somebody who made, processed or hosts data.

    Attributes:
        name: As they call themselves.
        url: Their page.
        roles: STAC's words: producer, licensor, processor, host.
    """

    name: str
    url: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Terms:
    """The terms of a mission.

    Attributes:
        url: Where they are written.
        attribution: The words they ask for; ``{years}`` stands for the years of the data.
        providers: Who is to be named.
    """

    url: str
    attribution: str
    providers: tuple[Provider, ...]

    def words(self, times: Collection[datetime]) -> str:
        """The attribution for data of some times."""
        years = sorted({time.year for time in times})
        text = "" if not years else f"{years[0]}" if len(years) == 1 else f"{years[0]}-{years[-1]}"
        return " ".join(self.attribution.format(years=text).split())


_ESA = Provider("ESA", "https://www.esa.int", ("producer",))

MISSIONS = {
    "sentinel": Terms(
        "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
        "Contains modified Copernicus Sentinel data {years}",
        (_ESA, Provider("European Union, Copernicus", "https://www.copernicus.eu", ("licensor",))),
    ),
    "landsat": Terms(
        "https://www.usgs.gov/emergency-operations-portal/data-policy",
        "Landsat data courtesy of the U.S. Geological Survey",
        (Provider("USGS", "https://www.usgs.gov", ("producer", "licensor")),),
    ),
    "cop-dem": Terms(
        "https://spacedata.copernicus.eu/collections/copernicus-digital-elevation-model",
        "Produced using Copernicus WorldDEM-30 © DLR e.V. 2010-2014 and © Airbus Defence and Space GmbH 2014-2018 "
        "provided under COPERNICUS by the European Union and ESA; all rights reserved",
        (
            Provider("DLR and Airbus Defence and Space", "https://spacedata.copernicus.eu", ("producer",)),
            Provider("European Union, Copernicus", "https://www.copernicus.eu", ("licensor",)),
        ),
    ),
}
"""By the beginning of a mission's name. Sources: the legal notice on Sentinel data (EU 1159/2013), USGS's data policy,
and the licence of the Copernicus DEM."""

SOURCES = {
    "terrabyte": "terrabyte of DLR and LRZ",
    "planetary-computer": "Microsoft Planetary Computer",
    "earth-search": "Earth Search by Element 84",
    "cdse": "Copernicus Data Space Ecosystem",
}
"""Catalogs through which data are read, by name, as people know them."""

THANKS = {
    "terrabyte": "Data were accessed by terrabyte, the platform of the German Aerospace Center (DLR) and the Leibniz "
    "Supercomputing Centre (LRZ)",
}
"""What is to be said of some of them besides."""


def mission_of(spec: CubeSpec) -> str:
    """Name of the mission that a cube was made from, over however many cubes; "" where nobody can tell any more."""
    while "mission" not in spec.recipe:
        parent = Path(str(spec.request.get("layers", "")))
        if not spec.request.get("layers") or not (parent / "zarr.json").exists():
            return ""
        spec = read_root(parent).spec
    return str(spec.recipe["mission"])


def terms_of(spec: CubeSpec) -> Terms | None:
    """The terms of a cube's mission, None for one of which none are written down."""
    mission = mission_of(spec)
    return next((terms for name, terms in MISSIONS.items() if mission.startswith(name)), None)


def attribution_of(spec: CubeSpec, times: Collection[datetime], catalogs: Collection[str]) -> str:
    """What a cube's makers and sources are to be named with; "" where nothing is asked for.

    Args:
        spec: Of the cube.
        times: Of its steps.
        catalogs: Names of those through which it was read.
    """
    terms = terms_of(spec)
    said = [terms.words(times)] if terms else []
    return ". ".join([*said, *(THANKS[name] for name in sorted(set(catalogs) & THANKS.keys()))])
