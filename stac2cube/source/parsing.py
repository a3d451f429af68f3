"""Any JSON value as a STAC item whose fields have the types that we rely on, or the reason why it is none.

Catalogs are written by many programs. What a specification allows is understood in all its forms; what it does not
allow is either of no consequence and left out of the item, or the reason why the item as a whole is left out. One such
item never stops the others.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from stac2cube.errors import CatalogError, ItemError
from stac2cube.source.identity import Item, time_of

log = logging.getLogger(__name__)


def parse_item(value: Any) -> Item:
    """A STAC item with an id that is a text, properties, and assets that all have an address.

    An item that is as it should be comes back as it is, and keeps what it was stored with. An id that is a number
    becomes a text. A cloud cover that is no percentage counts as not said, one that is written as a text is read.
    Assets without an address are left out.

    Args:
        value: Parsed JSON.

    Raises:
        ItemError: It is no item, or one without a time or geometry.
    """
    if not isinstance(value, Mapping):
        raise ItemError(f"something that is not a STAC item: {value!r:.60}")
    name = value.get("id")
    if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
        raise ItemError(f"something that is not a STAC item: its id is {name!r:.60}")
    for key in ("properties", "assets"):
        if not isinstance(value.get(key), Mapping):
            raise ItemError(f"item {name} is not a STAC item: it has no {key}")
    collection = value.get("collection")
    if collection is not None and not isinstance(collection, str):
        raise ItemError(f"item {name} has a collection that is no text: {collection!r:.60}")
    if not isinstance(value.get("geometry"), Mapping):
        raise ItemError(f"item {name} has no geometry")
    changes: dict[str, Any] = {} if isinstance(name, str) else {"id": str(name)}
    sound = {key: asset for key, asset in value["assets"].items() if _has_address(asset)}
    if len(sound) < len(value["assets"]):
        changes["assets"] = sound
    if (said := value["properties"].get("eo:cloud_cover")) is not None:
        cover = _percentage(said)
        if cover is None or isinstance(said, str):
            changes["properties"] = {**value["properties"], "eo:cloud_cover": cover}
    item = {**value, **changes} if changes else value
    time_of(item)
    return item


def unicode_only(value: Any, text: str | bytes) -> Any:
    """A JSON value without halves of characters, which JSON can escape and neither files nor tables can hold.

    Args:
        value: The value.
        text: What it was parsed from; nothing is done if it escapes no such half.
    """
    found = _HALF.search(text) if isinstance(text, str) else _HALF_BYTES.search(text)
    return _whole_characters(value) if found else value


_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_HALF_BYTES = re.compile(rb"\\u[dD][89a-fA-F]")


def _whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole_characters(name): _whole_characters(part) for name, part in value.items()}
    return [_whole_characters(part) for part in value] if isinstance(value, list) else value


def _has_address(asset: Any) -> bool:
    return isinstance(asset, Mapping) and isinstance(asset.get("href"), str) and bool(asset["href"].strip())


def _percentage(said: Any) -> float | None:
    """A number from 0 to 100, also where it is written as a text; None for anything else."""
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None
    try:
        number = float(said.strip().removesuffix("%") if isinstance(said, str) else said)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 <= number <= 100 else None


@dataclass
class Notes:
    """What is to be said of a search besides what it found.

    Attributes:
        left_out: Why an item was left out, by its id, or by a number where it has none.
        met: Ids of all items that the catalog gave, whatever became of them.
        deprecated: Ids of those that their catalog calls deprecated.
        strangers: Ids of items of platforms that the mission does not have.
        elsewhere: How many items of a local catalog are of collections that the mission does not know, by collection.
        incomplete: Why more items may be there than were found, "" if nothing speaks for it.
    """

    left_out: dict[str, str] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    deprecated: set[str] = field(default_factory=set)
    strangers: set[str] = field(default_factory=set)
    elsewhere: Counter[str] = field(default_factory=Counter)
    incomplete: str = ""

    def leave_out(self, value: Any, error: CatalogError) -> None:
        """Remember why an item is left out."""
        name = value.get("id") if isinstance(value, Mapping) else None
        self.left_out[str(name) if isinstance(name, (str, int)) else f"#{len(self.left_out) + 1}"] = str(error)

    def say(self, catalog: str) -> None:
        """Say it, once for all items."""
        if self.left_out:
            log.warning("%s: left out %d items: %s", catalog, len(self.left_out), counted(self.left_out.values()))
        if self.incomplete:
            log.warning("%s: the search may be incomplete: %s", catalog, self.incomplete)

    def why_nothing(self) -> str:
        """Why a search found no scene that can be used, as far as its items tell."""
        reasons = []
        if self.left_out:
            reasons.append(f"{len(self.left_out)} items cannot be used: {counted(self.left_out.values())}")
        if self.strangers:
            reasons.append(f"{len(self.strangers)} items are of unknown platforms, as {min(self.strangers)}")
        if self.elsewhere:
            names = ", ".join(f"{name} ({count})" for name, count in self.elsewhere.most_common(5))
            reasons.append(f"it has items of other collections, {names}")
        return "; ".join(reasons)


def counted(reasons: Iterable[str], most: int = 6) -> str:
    """Reasons with how often each kind occurs, the most frequent first: of one kind are those that begin alike.

    Args:
        reasons: Sentences that name an item, ``"item X has no geometry"``.
        most: Kinds that are said; of the others only how many there are.
    """
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(_kind(reason), []).append(reason)
    ordered = sorted(kinds.values(), key=lambda members: -len(members))
    texts = [members[0] if len(members) == 1 else f"{len(members)} x {_joined(members)}" for members in ordered[:most]]
    more = sum(map(len, ordered[most:]))
    return "; ".join([*texts, f"and {more} more"] if more else texts)


def _kind(reason: str) -> str:
    """A reason without the id of the item that it begins with."""
    words = reason.split(" ", 2)
    return words[2] if words[0] == "item" and len(words) == 3 else reason


def _joined(members: list[str]) -> str:
    names = [member.split(" ", 2)[1] for member in members if member.startswith("item ")]
    others = ", ".join(names[1:4]) + (" ..." if len(names) > 4 else "")
    return members[0] + (f" (also {others})" if others else "")
