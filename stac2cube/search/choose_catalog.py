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

# Whether the assets of a catalog can be read on this machine.

LONGEST = 60.0
"""Time limit for opening a file, in seconds."""


def problem_of(scenes: Sequence[Scene]) -> str:
    """Why the first or the last scene cannot be read here; "" if both can.

    One asset of each is opened; no pixels are read.
    """
    if not scenes:
        return "it has no scene for these words"
    for scene in {str(scene.key): scene for scene in (scenes[0], scenes[-1])}.values():
        if scene.problem or not scene.granules:
            continue  # a problem of the metadata, which is recorded when the scene is built
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
    """The CRS of a granule's file, and why there is none; one of the two is ""."""
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


# The catalog that is searched: the one requested, the site's own inside its jobs, or the first open one.

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CatalogChoice:
    """A catalog to search, with the reason.

    Attributes:
        catalog: The catalog.
        why: The reason, for log and ledger.
        probe: Whether it is used only if some of its assets can be opened here.
        together: Whether it is one of several catalogs; each scene is taken from the first of them that has it.
        last_resort: Whether it is searched only if all before it responded and had no scene.
    """

    catalog: Catalog
    why: str
    probe: bool = False
    together: bool = False
    last_resort: bool = False


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Attributes:
        choice: The catalog used; its reason includes why others were skipped.
        items: The items as the catalog returned them.
        scenes: The scenes made of these items.
        notes: Notes of each catalog that was searched and not skipped.
    """

    choice: CatalogChoice
    items: tuple[Mapping[str, Any], ...]
    scenes: tuple[Scene, ...]
    notes: tuple[Notes, ...] = ()


def catalog_choices(query: Query, *, on_cluster: bool = False) -> tuple[CatalogChoice, ...]:
    """The catalogs to try, in order.

    A catalog requested by name is the only one. Of several names with commas, each scene is taken from the first
    catalog in which it is readable. For "auto", where blocks are made on the nodes of a cluster, catalogs whose archive
    is mounted here come first: a site's own. Then follows the first open catalog that carries the mission, and, for the
    case that it has nothing, catalogs that have samples only.

    Args:
        query: The query: its mission, its catalog, and a stored search result.
        on_cluster: Whether blocks are made on the nodes of a cluster: in a SLURM job, or by the place ``Slurm``.
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
    """Search catalogs in order until one is usable; skipped catalogs are logged and listed with the reason.

    Args:
        query: The query.
        candidates: The catalogs, in order.
        gather: Searches one catalog. It may store items elsewhere and return only some of them: their scenes decide
            whether the catalog is usable.

    Raises:
        NothingFoundError: The last catalog has no scene.
        CatalogError: The last catalog cannot be read.
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
                raise  # samples of another catalog do not replace a catalog that cannot be reached
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
    """Why a search found nothing usable; reasons of its items take precedence."""
    return harvest.notes.why_nothing() or "it has no scene for these words"


def _is_whole(scene: Scene, query: Query) -> bool:
    """Whether a scene has no problem and all bands of the query."""
    wanted = {band.name for band in query.chosen}
    return not scene.problem and all(wanted <= granule.assets.keys() for granule in scene.granules)


def _find_together(query: Query, candidates: Sequence[CatalogChoice]) -> Found:
    """Each scene from the first catalog where it is readable, preferably complete; unreachable catalogs are skipped."""
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
            # Its items are unknown, so none may be treated as withdrawn.
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
        # Over a network only reading itself can tell; a file on disk either exists or does not.
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
    # The content of a user-defined catalog is unknown before it is searched.
    return not catalog.like or any(page.catalog == catalog.like for page in mission.pages)
