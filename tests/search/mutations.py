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
from stac2cube.model.query import Query
from stac2cube.model.scene import Scene, identify
from stac2cube.search.search import search
from tests.items import query_over
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


def query_of(mission: str, longitude: float = 9.5) -> Query:
    """Everything of a mission, anywhere and at any time."""
    return query_over(box(-180, -90, 180, 90), ALWAYS, mission=mission, longitude=longitude)


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


def _ring(geometry: Json) -> list[Any]:
    rings: list[Any] = geometry["coordinates"]
    ring: list[Any] = rings[0][0] if geometry["type"] == "MultiPolygon" else rings[0]
    return ring


def _shape(name: str, fates: str, draw: Callable[[Json], Any]) -> Kind:
    return _kind(f"geometry: {name}", fates, lambda item: item | {"geometry": draw(item["geometry"])})


def _polygon(name: str, fates: str, change: Callable[[list[Any]], Any]) -> Kind:
    return _shape(name, fates, lambda one: {"type": "Polygon", "coordinates": [change(_ring(one))]})


def _all_assets(name: str, fates: str, change: Callable[[Json], Json]) -> Kind:
    """Every asset has other members; those of them that are ``...`` are taken out."""

    def changed(item: Json) -> Json:
        assets = {key: asset | change(asset) for key, asset in item["assets"].items()}
        kept = {key: {n: v for n, v in asset.items() if v is not ...} for key, asset in assets.items()}
        return item | {"assets": kept}

    return _kind(f"assets: {name}", fates, changed)


def _bands(words: str, fates: str, **members: Any) -> Kind:
    """Every band of every asset has other members."""

    def change(asset: Json) -> Json:
        lists = {key: asset[key] for key in ("raster:bands", "bands", "eo:bands") if isinstance(asset.get(key), list)}
        return {key: [band | members for band in bands] for key, bands in lists.items()}

    return _all_assets(f"bands with {words}", fates, change)


_NO_CRS = {"proj:code": ..., "proj:epsg": ..., "proj:wkt2": ..., "proj:projjson": ...}


def _crs(**said: Any) -> Kind:
    """The item says its CRS in one way only, or in none that has a meaning."""
    members = {f"proj:{key}": value for key, value in said.items()}

    def changed(item: Json) -> Json:
        plain = {key: value for key, value in item["properties"].items() if key not in _NO_CRS}
        return item | {"properties": plain | members}

    bare = _all_assets("", "built", lambda _: _NO_CRS)
    return _kind(f"crs {said!r:.40}", "built", lambda item: changed(bare.change(item)))


def _href(name: str, fates: str, change: Callable[[str], Any]) -> Kind:
    return _all_assets(f"href {name}", fates, lambda asset: {"href": change(asset["href"])})


_NAN, _INF = float("nan"), float("inf")

MORE: tuple[Kind, ...] = (
    *(
        _polygon(f"first corner {one}", "left out", lambda ring, one=one: [[one, 1], *ring])
        for one in (_NAN, _INF, None)
    ),
    _polygon("texts for numbers", "built", lambda ring: [[str(part) for part in corner] for corner in ring]),
    _polygon("with heights", "built", lambda ring: [[*corner[:2], 5.0] for corner in ring]),
    _polygon(
        "heights here and there", "left out", lambda ring: [[*c[:2], *[5.0] * (n % 2)] for n, c in enumerate(ring)]
    ),
    _polygon("not closed", "built", lambda ring: ring[:-1]),
    _polygon("two corners", "left out", lambda ring: ring[:2]),
    _polygon("one coordinate each", "left out", lambda _: [[1], [2], [3], [1]]),
    _polygon("beyond 180 degrees", "built", lambda ring: [[corner[0] + 360, corner[1]] for corner in ring]),
    _polygon("no degrees", "left out", lambda ring: [[corner[0] * 1e300, corner[1]] for corner in ring]),
    _polygon("across the antimeridian", "built", lambda _: [[179, 47], [-179, 47], [-179, 48], [179, 48], [179, 47]]),
    _polygon("a bow", "built", lambda _: [[9, 47], [10, 48], [10, 47], [9, 48], [9, 47]]),
    _shape("a line", "left out", lambda one: {"type": "LineString", "coordinates": _ring(one)}),
    _shape("too flat", "left out", lambda one: {"type": "Polygon", "coordinates": _ring(one)}),
    _shape("no corners", "left out", lambda _: {"type": "MultiPolygon", "coordinates": [[[]]]}),
    _shape("coordinates null", "left out", lambda _: {"type": "Polygon", "coordinates": None}),
    _shape("a collection", "built", lambda one: {"type": "GeometryCollection", "geometries": [one]}),
    _shape("an empty collection", "left out", lambda _: {"type": "GeometryCollection", "geometries": []}),
    _shape("a collection of null", "left out", lambda _: {"type": "GeometryCollection", "geometries": None}),
    _kind(
        "a period only",
        "built",
        lambda item: (
            item | {"properties": item["properties"] | {"datetime": None, "start_datetime": "2023-01-01T00:00:00Z"}}
        ),
    ),
    _kind(
        "the end only",
        "left out",
        lambda item: (
            item
            | {
                "properties": {k: v for k, v in item["properties"].items() if k != "start_datetime"}
                | {"datetime": None}
            }
        ),
    ),
    *_set("built", "datetime", "2023-06-01", "2023-06-01 10:00:00", "2023-06-01T10:00:00+02:00"),
    *_set("built", "datetime", "2023-06-01T10:00:00.123456789Z", "2016-12-31T23:59:60Z", "2023-06-01T10:00:00,5Z"),
    *_set("left out", "datetime", "2023-01-01T00:00:00Z/2023-01-02T00:00:00Z", 1685613600, "1685613600"),
    *_set("left out", "datetime", "Thu, 01 Jun 2023 10:00:00 GMT", ["2023-06-01T10:00:00Z"], "-0001-01-01T00:00:00Z"),
    *(_crs(code=code) for code in ("epsg:32632", "urn:ogc:def:crs:EPSG::32632", 32632, ["EPSG:32632"], "/etc/passwd")),
    *(_crs(epsg=code) for code in (0, -1, 10**12, _NAN, True, 5773, 4978)),
    *(_crs(wkt2=text) for text in ("PROJCS[broken", "+proj=utm +zone=32", 'ENGCRS["x",EDATUM["y"],CS[Cartesian,2]]')),
    *(_crs(projjson=value) for value in ({"type": "ProjectedCRS"}, "{}", [])),
    *(
        _all_assets(f"proj:transform {numbers!r:.30}", "built", lambda _, numbers=numbers: {"proj:transform": numbers})
        for numbers in (
            None,
            [0] * 6,
            [_NAN] * 6,
            ["10"] * 6,
            [10, 0, 10**400, 0, -10, 5],
            [1e308] * 6,
            [7, 7, 6, 7, -7, 5],
        )
    ),
    *(
        _all_assets(f"proj:shape {numbers!r}", "built", lambda _, numbers=numbers: {"proj:shape": numbers})
        for numbers in ([-1, -1], ["10980", "10980"], [10980.0, 10980.0])
    ),
    *_set("built", "proj:bbox", ["1", "2", "3", "4"], [4, 3, 2, 1], [10**400] * 4, [1, 2, 0, 3, 4, 1]),
    *_whole("built", "bbox", ["a"] * 4, [_NAN] * 4, [10**400] * 4, [179, -10, -179, 10]),
    _bands("no names", "built", name=None, common_name=None),
    *(_bands(f"nodata {value!r}", "built", nodata=value) for value in ("nan", "-inf", None, [0], "none", True, {})),
    *(_bands(f"scale {value!r}", "built|failed", scale=value) for value in ("0.0001", None, 0, [1], _NAN)),
    *(
        _bands(f"offset {value!r}", "built|failed", offset=value)
        for value in ("-0.1", "minus", [1], None, _NAN, _INF, {})
    ),
    *(_bands(f"unit {value!r}", "built", unit=value) for value in (5, ["m"], {"a": 1})),
    *(
        _all_assets(f"{key} {value!r}", "built|failed", lambda _, key=key, value=value: {key: value})
        for key in ("raster:bands", "bands", "eo:bands")
        for value in (None, {}, [None], "x", [[{}]])
    ),
    *(
        _all_assets(f"{key} {value!r:.30}", "built", lambda _, key=key, value=value: {key: value})
        for key, values in {
            "file:size": ("123", 1e9, -1, True, 10**40),
            "file:checksum": (5, ["a"], {"a": 1}),
            "type": (5, None, []),
            "roles": ("data", None, {}),
            "title": (5, ["a"]),
            "alternate": ("x", {"https": {"href": None}}, [1], {"https": {"href": "https://[x"}}),
        }.items()
        for value in values
    ),
    _href("in capitals", "built", lambda href: href.replace("https://", "HTTPS://")),
    _href("with blanks", "failed", lambda href: f" {href} "),
    _href("with a line end", "failed", lambda href: f"{href}\n"),
    _href("relative", "built", lambda href: "./" + href.rsplit("/", 1)[-1]),
    _href("percent-encoded", "built", lambda href: href.replace("_", "%5F")),
    _href("with a percent sign", "built", lambda href: f"{href}%zz"),
    _href("with a fragment", "built", lambda href: f"{href}#a=b"),
    _href("signed", "built", lambda href: f"{href}?a=b&sig=x%2Fy"),
    *(
        _href(f"{value!r:.40}", "failed", lambda _, value=value: value)
        for value in (5, ["x"], {}, None, "", "https://[x")
    ),
    *(
        _href(value[:20], "failed", lambda _, value=value: value)
        for value in ("https://h:99999/x", "ftp://h/x", "data:,x")
    ),
    _href("without end", "failed", lambda _: "https://h/" + "x" * 9000),
    _whole("built", "links", [5, None, {"rel": 5}, {"rel": "self", "href": None}, {"rel": "self", "href": ["a"]}])[0],
    *_whole("left out", "collection", 5, [], True),
    *_whole("left out", "id", 5.5, {"a": 1}),
    *_set("built", "eo:cloud_cover", "12,5", 10**400, "1e1", "inf"),
    *_set("built", "created", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00"),
    *_set("built", "s2:product_uri", ["a"], 5, None),
    *_set("left out|built", "s2:datastrip_id", ["a"], {}),
    *_set("built|failed", "earthsearch:boa_offset_applied", "true", 1),
    *_set("built", "deprecated", "true", 1, None),
    *_set("built", "geometry", 5),
    *_set("built", "unknown", "y" * 100_000, json.loads("[" * 400 + "]" * 400), _NAN),
)
"""What any item of any mission may have besides, each seldom."""
