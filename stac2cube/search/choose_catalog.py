"""Choose the catalog to search, and check that the site can read its files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stac2cube.access.sign import is_remote, opening, unsigned
from stac2cube.errors import BadInputError, CatalogError, NothingFoundError, ReadError
from stac2cube.model.catalog import Catalog, catalogs, find_catalog
from stac2cube.model.geometry import crs_name, parse_crs
from stac2cube.model.mission import Mission
from stac2cube.model.query import Query
from stac2cube.model.scene import AssetRef, Granule, Scene, is_zarr_array
from stac2cube.pixels.gdal import gdal_error, gdal_settings, open_image
from stac2cube.pixels.open import Engine, inspect
from stac2cube.search.parsing import Notes
from stac2cube.search.search import SearchResult, found_items, scenes_of
from stac2cube.trust.deadline import within

# Whether the assets that a catalog names can be read here.

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
        if is_zarr_array(asset.href):
            inspect(Engine(), asset, way, lambda image, _: image.geobox)
            return
        with gdal_settings(remote=way.remote, store=way.settings), open_image(way.location):
            pass

    try:
        within(LONGEST, look, "opening it")
    except (gdal_error(), OSError, ReadError, CatalogError) as error:
        return unsigned(str(error)).splitlines()[0]
    return ""


def crs_of_file(granule: Granule) -> tuple[str, str]:
    """The CRS that the file of a granule says, and why it says none, each "" where the other is not."""
    asset = next(iter(granule.assets.values()), None)
    if asset is None:
        return "", "it has no file"

    def look() -> str:
        way = opening(asset, granule.signer)
        if is_zarr_array(asset.href):
            return inspect(Engine(), asset, way, lambda image, _: crs_name(parse_crs(str(image.geobox.crs))))
        with gdal_settings(remote=way.remote, store=way.settings), open_image(way.location) as file:
            return "" if file.crs is None else crs_name(parse_crs(file.crs.to_wkt()))

    try:
        found = within(LONGEST, look, "opening it")
    except (gdal_error(), ReadError, CatalogError, BadInputError, OSError) as error:
        return "", f"its file cannot be read: {unsigned(str(error)).splitlines()[0]:.200}"
    return found, "" if found else "its file does not either"


# Which catalog a search goes to: the one asked for, the site's own inside its jobs, or the first open one.

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CatalogChoice:
    """A catalog to search, and why it.

    Attributes:
        catalog: The catalog.
        why: The reason, for log and ledger.
        probe: Whether it counts only if some of its assets open here.
        together: Whether it is one of several of which each scene is taken from the first that has it.
        last_resort: Whether it is asked only where all before it answered, and had nothing.
    """

    catalog: Catalog
    why: str
    probe: bool = False
    together: bool = False
    last_resort: bool = False


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        choice: Where; its reason says also why others were passed over.
        items: The items as the catalog gave them.
        scenes: The same as scenes.
        notes: What else was said by each catalog that was asked and is not passed over.
    """

    choice: CatalogChoice
    items: tuple[Mapping[str, Any], ...]
    scenes: tuple[Scene, ...]
    notes: tuple[Notes, ...] = ()


def catalog_choices(query: Query, *, on_cluster: bool = False) -> tuple[CatalogChoice, ...]:
    """The catalogs to try, in order.

    What is asked for by name always wins, and is the only one; of several names with commas, each scene is taken from
    the first that has it readable. For "auto", where blocks are made on the nodes of a cluster, come first the catalogs
    whose archive is mounted here: a site's own. Then comes the first open one that carries the mission; and where it
    has nothing, those that have samples only.

    Args:
        query: What is looked for: its mission, the catalog that it asks for, and a stored search result.
        on_cluster: Whether blocks are made on the nodes of a cluster: in a SLURM job, or by the place ``Slurm``.

    Raises:
        BadInputError: The catalog is unknown, or does not carry the mission.
    """
    name, mission, items = query.catalog, query.page, query.items
    if "," in name and not Path(name).exists():
        parts = [part.strip() for part in name.split(",") if part.strip()]
        listed = [choice for part in parts for choice in catalog_choices(replace(query, catalog=part, items=None))]
        return tuple(replace(choice, together=True) for choice in listed)
    if name != "auto":
        catalog = find_catalog(name)
        if catalog.like:
            mission.pages_in(catalog.like)
        if items is None:
            return (CatalogChoice(catalog, "asked for"),)
        return (CatalogChoice(catalog.kept_in(str(items)), f"asked for; search result stored in {items}"),)
    known = catalogs()
    sites = [catalog for catalog in known.values() if on_cluster and _mounted(catalog) and _carries(catalog, mission)]
    local = [
        CatalogChoice(site, f"the archive {', '.join(site.roots)} is mounted on this cluster", probe=True)
        for site in sites
    ]
    remote = [known[name] for name in mission.catalogs if name in known and not known[name].local_root]
    whole = [catalog for catalog in remote if not catalog.partial] or [find_catalog(mission.catalogs[0])]
    samples = [
        CatalogChoice(catalog, "it has samples, and the others have nothing for these words", last_resort=True)
        for catalog in remote
        if catalog.partial and catalog != whole[0]
    ]
    return (*local, CatalogChoice(whole[0], f"the first open catalog that carries {mission.name}"), *samples)


def find(
    query: Query,
    candidates: Sequence[CatalogChoice],
    gather: Callable[[Query, Catalog], SearchResult] = found_items,
) -> Found:
    """Search the first of some catalogs that is of use; those passed over are logged and remembered with the reason.

    Args:
        query: What to look for.
        candidates: The catalogs, in order.
        gather: What searches one. It may keep what it finds elsewhere and give some items only: by their scenes is told
            whether the catalog is of use.

    Raises:
        NothingFoundError: No scene in the last of them.
        CatalogError: The last of them cannot be read.
    """
    if any(candidate.together for candidate in candidates):
        return _find_together(query, candidates)
    passed: list[str] = []
    for place, candidate in enumerate(candidates):
        last = all(later.last_resort for later in candidates[place + 1 :])
        try:
            harvest = gather(query, candidate.catalog)
            scenes = scenes_of(harvest.items, query, candidate.catalog, harvest.notes)
            harvest.notes.say(candidate.catalog.name)
            problem = problem_of(scenes) if candidate.probe and scenes else "" if scenes else _nothing(harvest)
        except CatalogError as error:
            if last and not candidate.last_resort:
                raise  # samples of another catalog do not stand in for one that cannot be asked
            problem = str(error)
        if not problem:
            why = "; ".join([candidate.why, *passed])
            log.info("catalog %s: %s", candidate.catalog.name, why)
            return Found(replace(candidate, why=why), tuple(harvest.items), tuple(scenes), (harvest.notes,))
        passed.append(f"not {candidate.catalog.name}: {problem}")
        if candidate is not candidates[-1]:
            log.warning("catalog %s is passed over: %s", candidate.catalog.name, problem)
    raise NothingFoundError(f"no scene of {query.mission}: {'; '.join(passed)}")


def _nothing(harvest: SearchResult) -> str:
    """Why a search is of no use, the reasons of its items first."""
    return harvest.notes.why_nothing() or "it has no scene for these words"


def _is_whole(scene: Scene, query: Query) -> bool:
    """Whether a scene has no problem and all bands that are asked for."""
    wanted = {band.name for band in query.chosen}
    return not scene.problem and all(wanted <= granule.assets.keys() for granule in scene.granules)


def _find_together(query: Query, candidates: Sequence[CatalogChoice]) -> Found:
    """Every scene from the first catalog that has it readable, and whole if any has; who is down is passed over."""
    chosen: dict[str, Scene] = {}
    items: list[Mapping[str, Any]] = []
    notes: list[Notes] = []
    problems: list[str] = []
    for candidate in candidates:
        name = candidate.catalog.name
        try:
            harvest = found_items(query, candidate.catalog)
        except CatalogError as error:
            problems.append(f"not {name}: {error}")
            log.warning("catalog %s is passed over: %s", name, error)
            # What it has cannot be known, so nothing may be taken for withdrawn.
            notes.append(Notes(incomplete=f"{name} cannot be read"))
            continue
        scenes = scenes_of(harvest.items, query, candidate.catalog, harvest.notes)
        harvest.notes.say(name)
        notes.append(harvest.notes)
        if not scenes and harvest.notes.left_out:
            problems.append(f"not {name}: {_nothing(harvest)}")
        lacking = {key for key, scene in chosen.items() if not _is_whole(scene, query)}
        new = [
            scene
            for scene in scenes
            if str(scene.key) not in chosen or (str(scene.key) in lacking and _is_whole(scene, query))
        ]
        # Over a network only reading itself can tell; what lies on disk is there or not.
        readable = [scene for scene in new if not _on_disk(scene) or not problem_of([scene])]
        chosen |= {str(scene.key): scene for scene in readable}
        items += harvest.items
        log.info("catalog %s: %d scenes, %d of them not readable here", name, len(new), len(new) - len(readable))
    if not chosen:
        raise NothingFoundError(f"no scene of {query.mission}: {'; '.join(problems) or 'in none of the catalogs'}")
    names = ", then ".join(candidate.catalog.name for candidate in candidates)
    why = "; ".join([f"the first that has it of {names}", *problems])
    ordered = tuple(sorted(chosen.values(), key=lambda scene: str(scene.key)))
    return Found(replace(candidates[0], why=why), tuple(items), ordered, tuple(notes))


def _on_disk(scene: Scene) -> bool:
    return any(not is_remote(asset.href) for granule in scene.granules for asset in granule.assets.values())


def _mounted(catalog: Catalog) -> bool:
    return any(Path(root).is_dir() for root in catalog.roots)


def _carries(catalog: Catalog, mission: Mission) -> bool:
    # Of a catalog that a person described, nobody knows what it carries before it is searched.
    return not catalog.like or any(page.catalog == catalog.like for page in mission.pages)
