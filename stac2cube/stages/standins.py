"""Older items in the place of newer ones whose files cannot be read: chosen per step, said, and remembered.

A step is always read from one choice of items: no block of it from the newer, another from the older one. That the
newer one failed is remembered in the ledger, so that the next run does not try it again as long as the catalog says the
same of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stac2cube.cube.ledger import FAILED, SEALED, Entry
from stac2cube.scene import Scene
from stac2cube.work import VERSIONS, Summary

_MAY_PASS = re.compile(
    r"response code: (?:0|408|429|5\d\d)\b|timed? ?out|could not resolve|connection|temporar|try again|"
    r"No space left|Stale file handle|Input/output error|took longer|given up|search anew|search the catalog itself",
    re.IGNORECASE,
)
"""Words of failures that may be over when it is tried again; all others are for good."""


def is_for_good(reason: str) -> bool:
    """Whether a failure will be the same at the next try."""
    return _MAY_PASS.search(reason) is None


def remembered(scenes: Sequence[Scene], rows: Mapping[str, Entry]) -> tuple[Scene, ...]:
    """Scenes with older items in the place of those that the ledger says cannot be read.

    Args:
        scenes: As they were found.
        rows: The ledger's rows by key.
    """
    return tuple(_remembered(scene, rows.get(str(scene.key))) if scene.spares else scene for scene in scenes)


def _remembered(scene: Scene, row: Entry | None) -> Scene:
    if row is None:
        return scene
    if row.status == FAILED:
        return with_standins(scene, row.reason) or scene
    if row.status != SEALED:
        return scene
    told, had = row.properties.get("unreadable", {}), row.properties.get(VERSIONS, {})
    for name, reason in told.items():
        if had.get(name) == scene.versions.get(name):
            scene = with_standins(scene, reason, name) or scene
    return scene


def with_standins(scene: Scene, reason: str, name: str = "") -> Scene | None:
    """A scene with the next older item in the place of the one whose file cannot be read.

    Args:
        scene: The scene.
        reason: Why its step failed; names the item.
        name: The item; the one that the reason names if "".

    Returns:
        None where nothing can stand in, or the failure may pass by itself.
    """
    if not is_for_good(reason):
        return None
    for part, granule in scene.named.items():
        failed = name in granule.item_ids if name else any(f"item {one}," in reason for one in granule.item_ids)
        spares = scene.spares.get(part, ())
        if failed and spares:
            place = scene.granules.index(granule)
            granules = (*scene.granules[:place], spares[0], *scene.granules[place + 1 :])
            gone = dict.fromkeys(granule.item_ids, reason)
            others = set(scene.superseded) - set(spares[0].item_ids) | set(granule.item_ids)
            return replace(
                scene,
                granules=granules,
                superseded=tuple(sorted(others)),
                passed_over={**scene.passed_over, **gone},
                unreadable={**scene.unreadable, **gone},
                spares={**scene.spares, part: spares[1:]},
            )
    return None


def words_of(entry: Entry) -> str:
    """What is said of a step in which older items stand in, "" if none does."""
    passed = entry.properties.get("passed_over", {})
    if not passed:
        return ""
    return f"{', '.join(entry.items)} in the place of {'; '.join(f'{name}: {why}' for name, why in passed.items())}"


def add(summary: Summary, more: Summary) -> None:
    """Take over what a further build of failed steps did."""
    done = {*more.sealed, *more.replaced, *more.empty}
    summary.failed = {key: why for key, why in summary.failed.items() if key not in done} | more.failed
    summary.sealed += more.sealed
    summary.replaced += more.replaced
    summary.empty |= more.empty
    summary.stopped = more.stopped
    summary.seconds += more.seconds
