"""What the makers of the data ask of those who pass them on: terms of use, attribution, and who they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import xarray as xr

from stac2cube.cube.ledger import Entry
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
class Origin:
    """Where the pixels of some steps come from.

    Attributes:
        catalogs: Names of those through which they were read, where that is known.
        simulated: Whether some are simulated.
        measured: Whether some are what a satellite measured.
    """

    catalogs: frozenset[str] = frozenset()
    simulated: bool = False
    measured: bool = True

    @classmethod
    def of_rows(cls, rows: Iterable[Entry]) -> Origin:
        """Of rows of a ledger."""
        facts = [row.properties for row in rows]
        catalogs = [str(fact.get("catalog", "")) for fact in facts]
        return cls._of(catalogs, [bool(fact.get("simulated")) for fact in facts])

    @classmethod
    def of_steps(cls, *datasets: xr.Dataset) -> Origin:
        """Of opened cubes, or parts of them."""
        catalogs: list[str] = []
        simulated: list[bool] = []
        for dataset in datasets:
            names, marks = (dataset.coords.get(name) for name in ("catalog", "simulated"))
            catalogs += [] if names is None else [str(name) for name in np.atleast_1d(names.values)]
            # A step that says nothing is NaN beside those that do.
            simulated += [False] if marks is None else [bool(mark == 1) for mark in np.atleast_1d(marks.values)]
        return cls._of(catalogs, simulated)

    @classmethod
    def _of(cls, catalogs: Iterable[str], simulated: Sequence[bool]) -> Origin:
        names = frozenset(name for text in catalogs for name in text.split(",") if name)
        return cls(names, any(simulated), not simulated or not all(simulated))


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


SIMULATED = "Simulated by stac2cube, not measured by a satellite"
"""What is said of scenes that are."""


def mission_of(spec: CubeSpec) -> str:
    """Name of the mission that a cube was made from, over however many cubes; "" where nobody can tell any more."""
    while "mission" not in spec.recipe:
        parent = Path(str(spec.request.get("layers", "")))
        if not spec.request.get("layers") or not (parent / "zarr.json").exists():
            return ""
        spec = read_root(parent).spec
    return str(spec.recipe["mission"])


def terms_of(spec: CubeSpec, origin: Origin) -> Terms | None:
    """The terms of a cube's mission, None for one of which none are written down, and where nothing was measured."""
    mission = mission_of(spec) if origin.measured else ""
    return next((terms for name, terms in MISSIONS.items() if mission.startswith(name)), None)


def attribution_of(spec: CubeSpec, times: Collection[datetime], origin: Origin) -> str:
    """What a cube's makers and sources are to be named with; "" where nothing is asked for.

    Simulated scenes are said to be so, and nobody is named for them.

    Args:
        spec: Of the cube.
        times: Of its steps.
        origin: Where their pixels come from.
    """
    terms = terms_of(spec, origin)
    said = [terms.words(times)] if terms else []
    said += [SIMULATED] if origin.simulated else []
    return ". ".join([*said, *(THANKS[name] for name in sorted(origin.catalogs & THANKS.keys()))])
