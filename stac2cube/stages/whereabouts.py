"""Whether items that a search did not find are gone: their catalog is asked for each of them.

A search may be incomplete: servers time out, page wrongly, hide items for an hour, or change a property that the search
goes by. Steps are taken out of cubes only for items of which their own catalog says, by 404 or 410, that it has them no
more (RFC 9110, 15.5.5 and 15.5.11), or that they are deprecated.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from stac2cube.catalog import Catalog
from stac2cube.cube.ledger import Entry, Ledger
from stac2cube.cube.root import read_root
from stac2cube.source.api import is_gone
from stac2cube.source.parsing import Notes
from stac2cube.stages.choice import Found
from stac2cube.stages.request import Wanted

log = logging.getLogger(__name__)

_AT_ONCE = 8
"""Items that a catalog is asked for at the same time."""


@dataclass
class Whereabouts:
    """What became of items.

    Attributes:
        cube: The cube that was made from them.
        withdrawn: Ids of items that an inventory knows to be gone.
        wanted: What was searched.
        found: What was found, None if nothing.
    """

    cube: Path
    withdrawn: Collection[str]
    wanted: Wanted
    found: Found | None
    _asked: dict[tuple[str, str], bool] = field(default_factory=dict)
    _serves: dict[str, bool] = field(default_factory=dict)

    def all_gone(self, row: Entry) -> bool:
        """Whether all items of a step are."""
        return self.are_gone(row, row.items)

    def are_gone(self, row: Entry, items: Collection[str]) -> bool:
        """Whether some items of a step are gone for certain."""
        names = [name for name in items if name not in self.withdrawn]
        if not names:
            return True
        catalogs = [catalog for name in self._names(row) for catalog in self._catalogs() if catalog.name == name]
        if len({catalog.name for catalog in catalogs}) < len(self._names(row)):
            return False  # of a catalog that was not asked nobody knows
        if any(self._is_met(name) for name in names):
            log.warning("%s: the catalog has its items, but not as a scene for these words: it is kept", row.key)
            return False
        remote = [catalog for catalog in catalogs if not catalog.is_local]
        if not remote:
            return not any(note.incomplete for note in self._notes())
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="items") as pool:
            answers = list(pool.map(lambda one: self._is_gone(remote, *one), self._collections(row, names)))
        if not all(answers):
            log.warning("%s: its catalog was not found to have withdrawn all its items: it is kept", row.key)
        return all(answers)

    def _names(self, row: Entry) -> set[str]:
        return set(str(row.properties.get("catalog", "")).split(",")) if self._is_several(row) else {_whole(row)}

    def _is_several(self, row: Entry) -> bool:
        return _whole(row) not in {catalog.name for catalog in self._catalogs()}

    def _catalogs(self) -> list[Catalog]:
        """Those that could have told of an item: what another one lacks was not withdrawn."""
        together = [choice.catalog for choice in self.wanted.choices if choice.together]
        if together:
            return together
        return [self.found.choice.catalog if self.found else self.wanted.choices[-1].catalog]

    def _notes(self) -> tuple[Notes, ...]:
        return self.found.notes if self.found else ()

    def _is_met(self, name: str) -> bool:
        """Whether the search met an item that its catalog does not call deprecated."""
        notes = self._notes()
        met = any(name in note.met or name in note.left_out for note in notes)
        return met and not any(name in note.deprecated for note in notes)

    def _is_gone(self, catalogs: Collection[Catalog], collection: str, name: str) -> bool:
        if any(name in note.deprecated for note in self._notes()):
            return True
        if (collection, name) not in self._asked:
            gone = (is_gone(one.url, collection, name, one.login) is True and self._has_items(one) for one in catalogs)
            self._asked[collection, name] = all(gone)
        return self._asked[collection, name]

    def _has_items(self, catalog: Catalog) -> bool:
        """Whether a catalog can be asked for items: it must not call one gone that the search just found there."""
        if catalog.url not in self._serves:
            granules = [one for scene in (self.found.scenes if self.found else ()) for one in scene.granules]
            there = next((one for one in granules if one.catalog == catalog.name), None)
            self._serves[catalog.url] = (
                there is None or is_gone(catalog.url, there.collection, there.id, catalog.login) is False
            )
        return self._serves[catalog.url]

    def _collections(self, row: Entry, names: Collection[str]) -> list[tuple[str, str]]:
        """Collection and id of items, from the items that the ledger keeps."""
        whole = Ledger(self.cube, read_root(self.cube).ledger).entries(keys=[row.key])[row.key]
        items = [json.loads(text) for text in whole.sources]
        known = {str(item["id"]): str(item.get("collection") or "") for item in items}
        return [(known.get(name, ""), name) for name in names]


def _whole(row: Entry) -> str:
    return str(row.properties.get("catalog", ""))
