"""Choose the items of a tile that are read, and combine their bands.

Items of one tile and datastrip are versions of the same pixels, or parts of them by band: the USGS serves reflectance
and temperature of one scene as two items, and archives lack files. So the newest version is used that has all bands
that any version has; its items complete each other by band. If no version has all bands, the newest is completed by
others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shapely import union_all
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from stac2cube.errors import CatalogError, ItemError, RadiometryError
from stac2cube.model.mission import Mission
from stac2cube.model.scene import Granule, Identity, Item, converted, generated, version_of, written
from stac2cube.search.items import Reading, to_granule
from stac2cube.search.parsing import footprint_of

Known = tuple[Item, Identity]
"""An item and its identity."""

_HALF = 0.5
"""Overlap, as a fraction of the smaller footprint, below which items of a tile without datastrip are halves of the tile
and not versions of each other."""


def group_items(items: Sequence[Known], mission: Mission) -> list[list[Known]]:
    """Group items by tile and datastrip, in mosaic order; within each group the preferred item is first.

    Preference: newest baseline; then latest processing time; then, for products in Zarr, latest conversion; then the
    collection that the mission lists first; then the latest change by the catalog; then the id, so that the order of a
    server's response never matters.
    """
    preference: dict[str, int] = {}
    for place, page in enumerate(mission.pages):
        preference.setdefault(page.collection, -place)

    def rank(known: Known) -> tuple[Any, ...]:
        item, identity = known
        first = preference.get(str(item.get("collection")), -len(preference))
        return (number_of(identity.baseline), generated(item), converted(item), first, written(item), item["id"])

    found: dict[tuple[str, str], list[Known]] = {}
    for item, identity in items:
        found.setdefault((identity.tile, identity.datastrip), []).append((item, identity))
    _settle(found)
    groups = []
    for (tile, datastrip), members in sorted(found.items(), key=lambda entry: entry[0]):
        ordered = sorted(members, key=rank, reverse=True)
        # Where the datastrip is unknown, items of one tile are versions of each other if they overlap enough.
        unknown = bool(tile) and not datastrip and len(ordered) > 1
        groups += _halves(ordered) if unknown else [ordered]
    return groups


def _settle(found: dict[tuple[str, str], list[Known]]) -> None:
    """Assign items without datastrip to the datastrip of their tile, if they overlap exactly one."""
    for tile in [tile for tile, datastrip in found if tile and not datastrip]:
        strips = [(key, footprint_of(members[0][0])) for key, members in found.items() if key[0] == tile and key[1]]
        if not strips:
            continue
        homeless = []
        for known in found.pop((tile, "")):
            area = footprint_of(known[0])
            homes = [key for key, strip in strips if _lies_on(area, strip)]
            if len(homes) == 1:
                found[homes[0]].append(known)
            else:
                homeless.append(known)
        if homeless:
            found[tile, ""] = homeless


def _lies_on(one: BaseGeometry, other: BaseGeometry) -> bool:
    return bool(one.intersection(other).area >= _HALF * min(one.area, other.area))


def _halves(ordered: Sequence[Known]) -> list[list[Known]]:
    halves: list[tuple[Any, list[Known]]] = []
    for known in ordered:
        area = footprint_of(known[0])
        for first, members in halves:
            if _lies_on(first, area):
                members.append(known)
                break
        else:
            halves.append((area, [known]))
    return [members for _, members in halves]


def number_of(baseline: str) -> float:
    """A processing baseline as a sortable number, -1 if it is not a number."""
    try:
        return float(baseline)
    except ValueError:
        return -1.0


@dataclass(frozen=True)
class Chosen:
    """What is read of the items of one tile and datastrip.

    Attributes:
        granule: The granule that they form, None if they form none.
        used: Items that are read.
        problem: Why they cannot be used, "" if they can.
        left_out: Ids of the other items.
        passed_over: Reason, by id, why a preferred item was not used.
        spares: Granules with the same bands from other files: first of items of the same version, then of older ones.
        versions: All items of the group, with the properties that show whether an item changed.
    """

    granule: Granule | None
    used: tuple[Known, ...]
    problem: str
    left_out: tuple[str, ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict)
    spares: tuple[Granule, ...] = ()
    versions: tuple[tuple[Item, dict[str, str]], ...] = ()


def choose_items(group: Sequence[Known], reading: Reading) -> Chosen:
    """Choose what to read of the items of one tile and datastrip.

    Args:
        group: The items, the preferred one first.
        reading: How they are read.
    """
    if len(group) == 1:
        granule, problem = _attempt(group, reading)
        return Chosen(granule, tuple(group), problem, versions=_versions(group, reading))
    offers = {_key(known): _offered(known, reading) for known in group}
    everything = frozenset[str]().union(*offers.values())
    tried: dict[tuple[tuple[str, str], ...], tuple[Granule | None, str]] = {}

    def attempt(members: Sequence[Known]) -> tuple[Granule | None, str]:
        names = tuple(map(_key, members))
        if names not in tried:
            tried[names] = _attempt(members, reading)
        return tried[names]

    whole: list[tuple[Sequence[Known], Granule]] = []
    passed_over: dict[str, str] = {}
    for version in _versions_of(group):
        members = _complete(version, offers)
        lacking = everything - frozenset[str]().union(*(offers[_key(known)] for known in members))
        granule, problem = attempt(members) if not lacking else (None, f"it lacks {_named(lacking)}")
        if granule is not None and not problem:
            whole.append((members, granule))
        elif not whole:
            passed_over |= {item["id"]: problem for item, _ in members}
    if whole:
        used, granule = whole[0]
        problem = ""
        whole[1:1] = _made_otherwise(group, used, offers, attempt)
    else:
        used = _complete(group, offers)
        granule, problem = attempt(used)
    taken = {item["id"] for item, _ in used}
    return Chosen(
        granule=granule,
        used=tuple(used),
        problem=problem,
        left_out=tuple(item["id"] for item, _ in group if item["id"] not in taken),
        passed_over={name: why for name, why in passed_over.items() if name not in taken},
        spares=_spares([granule for _, granule in whole]),
        versions=_versions(group, reading),
    )


def _made_otherwise(
    group: Sequence[Known],
    used: Sequence[Known],
    offers: Mapping[tuple[str, str], frozenset[str]],
    attempt: Callable[[Sequence[Known]], tuple[Granule | None, str]],
) -> list[tuple[Sequence[Known], Granule]]:
    """Granules of the version used in which bands that several items have are read from the other items.

    A file of the item that has all bands may be missing while another item of the same product has it: the USGS serves
    the temperature of a scene also in an item of its own.
    """
    made = (number_of(used[0][1].baseline), generated(used[0][0]))
    same = [known for known in group if (number_of(known[1].baseline), generated(known[0])) == made]
    found: list[tuple[Sequence[Known], Granule]] = []
    for first in same:
        if first in used or not offers[_key(first)]:
            continue
        members = _in_turn([first, *used], offers)
        granule, problem = attempt(members)
        if granule is not None and not problem:
            found.append((members, granule))
    return found


def _spares(whole: Sequence[Granule]) -> tuple[Granule, ...]:
    """Granules that read other files than the first granule and than those before them."""
    found: dict[tuple[tuple[str, str], ...], Granule] = {}
    for granule in whole:
        found.setdefault(tuple(sorted((band, asset.href) for band, asset in granule.assets.items())), granule)
    return tuple(found.values())[1:]


def _key(known: Known) -> tuple[str, str]:
    return str(known[0].get("collection") or ""), known[0]["id"]


def _offered(known: Known, reading: Reading) -> frozenset[str]:
    """Names of the wanted bands that an item has."""
    chosen = reading.assets_of(known[0])
    return frozenset(band.name for band, _ in chosen[1]) if chosen else frozenset()


def _versions_of(group: Sequence[Known]) -> list[list[Known]]:
    """Candidate versions: items of one baseline and processing time, the preferred first; then items of one baseline.

    Each item alone comes last: one of two copies may be broken.
    """
    made: dict[tuple[float, str], list[Known]] = {}
    for known in group:
        made.setdefault((number_of(known[1].baseline), generated(known[0])), []).append(known)
    versions = list(made.values())
    baselines: dict[float, list[Known]] = {}
    for known in group:
        baselines.setdefault(number_of(known[1].baseline), []).append(known)
    further = [*baselines.values(), *([known] for known in group)]
    return versions + [members for members in further if members not in versions]


def _complete(members: Sequence[Known], offers: Mapping[tuple[str, str], frozenset[str]]) -> list[Known]:
    """The first item that has all bands that any has; else the first item and those that add lacking bands."""
    everything = frozenset[str]().union(*(offers[_key(known)] for known in members))
    alone = next((known for known in members if offers[_key(known)] == everything), None)
    return [alone] if alone is not None else _in_turn(members, offers)


def _in_turn(members: Sequence[Known], offers: Mapping[tuple[str, str], frozenset[str]]) -> list[Known]:
    """The items, in order, that add bands which the items before them lack."""
    taken, have = [], frozenset[str]()
    for known in members:
        if offers[_key(known)] - have:
            taken.append(known)
            have |= offers[_key(known)]
    return taken


def _attempt(members: Sequence[Known], reading: Reading) -> tuple[Granule | None, str]:
    """The granule that items form together, and why it cannot be used."""
    try:
        granules = [to_granule(item, reading, identity) for item, identity in members]
        joined = _joined(granules)
    except (RadiometryError, CatalogError) as error:
        return None, str(error)
    if not joined.assets:
        wanted = _named(band.name for band in reading.bands)
        return joined, f"item {joined.id} has no asset for band {wanted}"
    return joined, ""


def _joined(granules: Sequence[Granule]) -> Granule:
    """Combine granules of one tile; each band comes from the first granule that has it.

    Raises:
        ItemError: They are in different CRSs, or are not opened in the same way.
    """
    first, *others = granules
    for other in others:
        if other.crs and first.crs and other.crs != first.crs:
            raise ItemError(f"item {first.id} lies in {first.crs}, and {other.id}, which completes it, in {other.crs}")
        if other.signer != first.signer:
            raise ItemError(f"item {first.id} and {other.id}, which completes it, are signed in different ways")
    if not others:
        return first
    assets = {band: asset for granule in reversed(granules) for band, asset in granule.assets.items()}
    covers = [granule.cloud_cover for granule in granules if granule.cloud_cover is not None]
    return replace(
        first,
        crs=next((granule.crs for granule in granules if granule.crs), ""),
        corner=next((granule.corner for granule in granules if granule.corner), None),
        cloud_cover=covers[0] if covers else None,
        footprint=dict(mapping(union_all([shape(granule.footprint) for granule in granules]))),
        assets=assets,
        signed={place: href for granule in reversed(granules) for place, href in granule.signed.items()},
        completed_by=tuple((granule.id, granule.item) for granule in others),
    )


def _named(bands: Any) -> str:
    return ", ".join(sorted(bands))


def _versions(group: Sequence[Known], reading: Reading) -> tuple[tuple[Item, dict[str, str]], ...]:
    found = []
    for item, _ in group:
        chosen = reading.assets_of(item)
        found.append((item, version_of(item, [asset for _, asset in chosen[1]] if chosen else [])))
    return tuple(found)
