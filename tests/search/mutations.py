"""Recorded items of all catalogs, and ways to make them odd."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from shapely.geometry import box

from stac2cube.errors import ItemError
from stac2cube.model.catalog import find_catalog
from stac2cube.model.mission import find_mission, mission_names
from stac2cube.model.scene import Scene, identify
from stac2cube.search.search import Query, search
from tests.real.recorded import STAC

Json = dict[str, Any]

PROVIDERS = (
    *("earth_search", "planetary_computer", "terrabyte", "cdse"),
    *("landsat_usgs", "landsat_stactools", "sentinel1_stactools", "cop_dem_stactools", "antimeridian"),
)
"""Folders of recorded answers: the four catalogs, then items of others."""

ALWAYS = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@cache
def recorded() -> tuple[tuple[str, str, Json], ...]:
    """Provider, mission and item of everything recorded that makes a scene by itself, at most six of each kind."""
    found: list[tuple[str, str, Json]] = []
    counts: dict[tuple[str, str], int] = {}
    for provider in PROVIDERS:
        for path in sorted((STAC / provider).rglob("*json")):
            if path.suffix not in (".json", ".geojson"):
                continue
            value = json.loads(path.read_text())
            features = value.get("features", [value]) if isinstance(value, dict) else value
            for feature in features:
                mission = _mission_of(feature)
                if mission and counts.setdefault((provider, mission), 0) < 6:
                    counts[provider, mission] += 1
                    found.append((provider, mission, feature))
    return tuple(found)


def _mission_of(item: Any) -> str:
    if not isinstance(item, dict) or item.get("type") != "Feature" or not item.get("assets"):
        return ""
    for name in mission_names():
        mission = find_mission(name)
        try:
            known = any(page.collection == item.get("collection") for page in mission.pages)
            if known and identify(item, mission) is not None:
                return name
        except ItemError:
            continue
    return ""


def query_of(mission: str) -> Query:
    """Everything of a mission, anywhere and at any time."""
    known = find_mission(mission)
    return Query(known, box(-180, -90, 180, 90), 9.5, (ALWAYS,), known.choose_bands(None))


def found_in(folder: Path, mission: str, items: Sequence[Any]) -> dict[str, Scene]:
    """Scenes by key that a local catalog of some items has."""
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return {str(scene.key): scene for scene in search(query_of(mission), find_catalog(str(path)))}


class Words(logging.Handler):
    """What is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"

    def __enter__(self) -> Words:
        self.logger = logging.getLogger("stac2cube")
        self.level = self.logger.level
        self.logger.setLevel(logging.INFO)
        self.logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        self.logger.setLevel(self.level)


def fate_of(odd: Any, scenes: dict[str, Scene], said: str) -> str:
    """What became of an item: ``"built"``, ``"failed"``, ``"left out"``, or "" if nothing tells."""
    name = str(odd.get("id")).encode("utf-8", "replace").decode() if isinstance(odd, dict) else ""
    for scene in scenes.values():
        if name in scene.item_ids or name in scene.superseded:
            return "failed" if scene.problem else "built"
        if scene.problem and name and name in scene.problem:
            return "failed"
    return "left out" if "left out" in said and (name in said or "not a STAC item" in said) else ""


_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 5.5, 1e308, float("nan"), float("inf"), 10**30, "", " ", "abc", "None", "EPSG:None"),
    *("NaN", "2023-13-45T99:99:99Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "12.5", "R065"),
    *("../../etc/passwd", "x" * 300, "\ud800", "ä\u0000", [], {}, [None], [[]], [{}], {"a": None}, [1, "a"]),
    *("http://[", "file://", "s3:", "//", "?", "#", "%", "%zz", "http://host:port/x.tif"),
)

JUNK = st.one_of(
    st.sampled_from(_ODD),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
"""Values that stand where others are expected."""


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all values within a JSON value."""
    if before:
        yield before
    if isinstance(value, dict):
        for name in value:
            yield from paths(value[name], (*before, name))
    elif isinstance(value, list):
        for place in range(min(len(value), 2)):
            yield from paths(value[place], (*before, place))


def put(item: Json, path: tuple[Any, ...], value: Any) -> Json:
    """An item with another value at a place."""
    changed = copy.deepcopy(item)
    inner: Any = changed
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return changed


def cut(item: Json, path: tuple[Any, ...]) -> Json:
    """An item without what stands at a place."""
    changed = copy.deepcopy(item)
    inner: Any = changed
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return changed


@dataclass(frozen=True)
class Kind:
    """A kind of oddity that catalogs have.

    Attributes:
        name: For people.
        change: Makes an item odd.
        fates: What may become of it.
    """

    name: str
    change: Callable[[Json], Any]
    fates: frozenset[str]


def _kind(name: str, fates: str, change: Callable[[Json], Any]) -> Kind:
    return Kind(name, change, frozenset(fates.split("|")))


def _set(fates: str, key: str, *values: Any) -> list[Kind]:
    return [
        _kind(f"{key} {value!r:.40}", fates, lambda item, value=value: put(item, ("properties", key), value))
        for value in values
    ]


def _whole(fates: str, key: str, *values: Any) -> list[Kind]:
    return [_kind(f"{key} {value!r:.40}", fates, lambda item, value=value: item | {key: value}) for value in values]


def _flat(item: Json) -> Json:
    return item | {"geometry": {"type": "Point", "coordinates": [9.5, 47.5]}}


def _metres(item: Json) -> Json:
    ring = [[600000, 5200000], [700000, 5200000], [700000, 5300000], [600000, 5200000]]
    return item | {"geometry": {"type": "Polygon", "coordinates": [ring]}}


KINDS: tuple[Kind, ...] = (
    _kind("nothing", "built", copy.deepcopy),
    *_whole("built", "links", None, [], [None], "none", {"rel": "self"}),
    *_whole("built", "bbox", None, [], [1], "text"),
    *_whole("built", "stac_version", None, "2.0.0", 1),
    *_whole("built", "stac_extensions", None, "none", [None]),
    *_whole("built", "unknown", {"a": [1]}, None),
    *_whole("left out", "geometry", None, {}, [], "POLYGON", {"type": "Polygon", "coordinates": []}, {"type": "Blob"}),
    *_whole("left out", "id", None, "", True, {}, []),
    *_whole("left out", "properties", None, [], "none"),
    *_whole("left out", "assets", None, [], "none"),
    *_whole("failed", "assets", {}, {"thumbnail": {"href": "https://host/t.jpg"}}, {"x": None}, {"x": {"href": None}}),
    _kind("a point", "left out", _flat),
    _kind("metres for degrees", "left out", _metres),
    _kind("a list", "left out", lambda item: [item]),
    _kind("null", "left out", lambda item: None),
    _kind("a text", "left out", lambda item: "item"),
    *_set("built", "eo:cloud_cover", None, "12.5", "n/a", -5, 250, float("nan"), True, [1], {"a": 1}),
    *_set("built", "created", "long ago", 5, None, {}),
    *_set("built", "updated", "0000", [], "9999-99-99"),
    *_set("built", "gsd", "ten", None),
    *_set("built", "proj:shape", "none", [None], 5),
    *_set("built", "proj:transform", "none", [1], [None] * 6, {}, ["a"] * 6),
    *_set("built", "proj:centroid", None, "none"),
    *_set("left out", "datetime", "soon", 5, True, {}, "2023-13-01T00:00:00Z", "0001-01-01T00:00:00+23:00"),
    *_set("left out", "platform", {}, [1], True),
    *_set("left out", "sat:orbit_state", {}, [1], True),
)
"""What any item of any mission may have, and what becomes of it."""

SENTINEL_2: tuple[Kind, ...] = (
    *_set("left out", "sat:relative_orbit", "abc", 0, 144, -1, True, {}, 65.5, "R999"),
    *_set("built", "sat:relative_orbit", "R065", "65", 65.0, 65),
    *_set("failed", "s2:processing_baseline", "abc", "0509", "v5", "nan"),
    *_set("left out", "s2:processing_baseline", {}, [], True),
    *_set("left out", "grid:code", {}, [1], True),
)
"""What only those of Sentinel-2 have."""

LANDSAT: tuple[Kind, ...] = (
    *_set("left out", "landsat:wrs_path", "abc", 0, 999, {}, True),
    *_set("left out", "landsat:wrs_row", "abc", -1, "249", []),
    *_set("built", "landsat:wrs_path", 193, "193", 193.0),
)

SENTINEL_1: tuple[Kind, ...] = (
    *_set("left out", "sat:relative_orbit", None, "abc", 0, 176, True, {}),
    *_set("built", "sat:relative_orbit", 66, "66", "R066", 66.0),
    *_set("left out", "start_datetime", "soon", 5),
)


def kinds_of(mission: str) -> tuple[Kind, ...]:
    """Kinds of oddity that items of a mission may have."""
    rule = find_mission(mission).identity
    return KINDS + {"sentinel-2": SENTINEL_2, "landsat": LANDSAT, "sentinel-1": SENTINEL_1}.get(rule, ())
