"""One odd item never stops the others: recorded items of all catalogs, made odd in every way.

Each mutated item stands between two good ones. Nothing but a named, per-item reason may come of it, and the scenes of
the others are those that are found without it.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stac2cube.model.catalog import find_catalog
from stac2cube.model.grid import Grid
from stac2cube.model.mission import find_mission
from stac2cube.model.scene import Scene
from stac2cube.search.index_commits import content_of, records_of
from stac2cube.search.parsing import counted_reasons
from stac2cube.search.search import Conditions, found_items
from stac2cube.stages.layers import steps_for
from tests.real.recorded import DATA, real
from tests.search.mutations import (
    JUNK,
    MORE,
    Json,
    Kind,
    Words,
    cut,
    fate_of,
    found_in,
    kinds_of,
    paths,
    put,
    query_of,
    recorded,
)

pytestmark = real

GRID = Grid("EPSG:32632", 10.0, (600_000.0, 5_300_040.0), (64, 64), shard=(64, 64))


def neighbours(item: Json, mission: str) -> list[Json]:
    """Two good scenes of other days."""
    made = []
    for day in ("1999-01-01", "1999-01-02"):
        one = copy.deepcopy(item)
        one["id"] = f"{item['id']}_{day}"
        for key in ("datetime", "start_datetime", "end_datetime"):
            if one["properties"].get(key):
                one["properties"][key] = f"{day}T10:00:00Z"
        made.append(one)
    return made


_EXPECTED: dict[str, dict[str, Scene]] = {}


def expected(folder: Path, mission: str, others: list[Json]) -> dict[str, Scene]:
    """The scenes of good items, found once for each."""
    key = mission + json.dumps(others[0])
    if key not in _EXPECTED:
        _EXPECTED[key] = {name: _here(scene) for name, scene in found_in(folder, mission, others).items()}
    return _EXPECTED[key]


def _here(scene: Scene) -> Scene:
    """A scene without the path of its catalog, which is another in each test."""
    return replace(scene, granules=tuple(replace(granule, catalog="") for granule in scene.granules))


def same(odd: Any, item: Json, mission: str, folder: Path) -> tuple[str, str]:
    """What became of an odd item, and what was said; the others must be as they are without it."""
    others = neighbours(item, mission)
    without = expected(folder, mission, others)
    with Words() as words:
        scenes = found_in(folder, mission, [others[0], odd, others[1]])
        (folder / "index").mkdir(exist_ok=True)
        # What a build, an index and its conditions make of them.
        steps_for(list(scenes.values()), GRID, "", [band.name for band in query_of(mission).chosen])
        items = found_items(query_of(mission), find_catalog(str(folder / "items.json"))).items
        content_of(list(records_of(items).values()))
        Conditions(max_cloud_cover=50, platforms=("sentinel-2a",), orbit="ascending").keep(items)
    assert {key: _here(scene) for key, scene in scenes.items() if key in without} == without
    return fate_of(odd, scenes, words.text), words.text


def cases(every: bool = False) -> list[tuple[str, str, Json, int]]:
    """Provider, mission, item and number of the kind of oddity; of each provider and mission one item, or every one."""
    seen: set[tuple[str, str]] = set()
    made = []
    for provider, mission, item in recorded():
        if every or (provider, mission) not in seen:
            seen.add((provider, mission))
            made += [(provider, mission, item, number) for number in range(len(kinds_of(mission)))]
    return made


def check(provider: str, mission: str, item: Json, number: int, folder: Path) -> None:
    check_kind(provider, mission, item, kinds_of(mission)[number], folder)


def check_kind(provider: str, mission: str, item: Json, kind: Kind, folder: Path) -> None:
    fate, said = same(kind.change(copy.deepcopy(item)), item, mission, folder)
    assert fate in kind.fates, f"{provider}, {mission}, {item['id']}, {kind.name}: {fate!r}; said: {said[-300:]}"


def test_each_kind_of_oddity_has_its_fate(tmp_path: Path) -> None:
    """Every second kind, at one provider in turn; the campaign below takes all of them everywhere."""
    known = cases()
    assert {"earth_search", "planetary_computer", "terrabyte", "cdse"} <= {provider for provider, *_ in known}
    numbers = sorted({(mission, number) for _, mission, _, number in known})
    for place, (mission, number) in enumerate(numbers[::2]):
        fitting = [case for case in known if case[1] == mission and case[3] == number]
        check(*fitting[place % len(fitting)], tmp_path)


def test_seldom_kinds_have_their_fate(tmp_path: Path) -> None:
    """Every third kind, at one recorded item in turn."""
    known = of_all_catalogs()
    for place, kind in enumerate(MORE[::3]):
        check_kind(*known[place % len(known)], kind, tmp_path)


@pytest.mark.soak
def test_seldom_kinds_have_their_fate_everywhere(tmp_path: Path) -> None:
    known = of_all_catalogs()
    assert len(known) * len(MORE) > 2000
    for provider, mission, item in known:
        for kind in MORE:
            check_kind(provider, mission, item, kind, tmp_path)


def of_all_catalogs() -> list[tuple[str, str, Json]]:
    """One recorded item of each provider and mission, those of EOPF among them."""
    found = {(provider, mission): item for provider, mission, item in reversed(recorded())}
    eopf = {
        f"eopf {path.stem}": json.loads(path.read_text()) for path in sorted((DATA / "eopf/stac").glob("S2?_*.json"))
    }
    found |= {(name, "sentinel-2-l2a"): item for name, item in list(eopf.items())[::4]}
    return [(provider, mission, item) for (provider, mission), item in found.items()]


@pytest.mark.soak
def test_each_kind_of_oddity_has_its_fate_everywhere(tmp_path: Path) -> None:
    known = cases(every=True)
    assert len(known) > 2000
    for case in known:
        check(*case, tmp_path)


def change_anywhere(data: st.DataObject) -> tuple[Any, Json, str]:
    """A recorded item with one or two values that are not as they were, the item, and its mission."""
    _, mission, item = recorded()[data.draw(st.integers(0, len(recorded()) - 1))]
    odd = item
    for _ in range(data.draw(st.integers(1, 2))):
        places = sorted(paths(odd), key=lambda place: (len(place), str(place)))
        place = places[data.draw(st.integers(0, len(places) - 1))]
        odd = cut(odd, place) if data.draw(st.booleans()) else put(odd, place, data.draw(JUNK))
    return odd, item, mission


def never_stops_the_others(data: st.DataObject, folder: Path) -> None:
    odd, item, mission = change_anywhere(data)
    fate, said = same(odd, item, mission, folder)
    assert fate or "unknown platforms" in said or _is_elsewhere(odd, mission), f"{odd!r:.300}; said: {said[-300:]}"


def _is_elsewhere(odd: Json, mission: str) -> bool:
    """Whether an item is of another collection, names no platform, or is deprecated: then nobody need speak of it."""
    collections = [page.collection for page in find_mission(mission).pages]
    properties = odd["properties"]
    return (
        odd.get("collection") not in collections
        or not properties.get("platform")
        or properties.get("deprecated") is True
    )


QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_no_value_anywhere_stops_the_others(tmp_path: Path, data: st.DataObject) -> None:
    never_stops_the_others(data, tmp_path)


@pytest.mark.soak
@settings(max_examples=3000, deadline=None, database=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_no_value_anywhere_stops_the_others_for_long(tmp_path: Path, data: st.DataObject) -> None:
    never_stops_the_others(data, tmp_path)


def test_reasons_are_counted() -> None:
    reasons = ["item A has no geometry", "item B has no time", "item C has no geometry", "something that is not one"]
    assert counted_reasons(reasons) == (
        "2 x item A has no geometry (also C); item B has no time; something that is not one"
    )
    assert counted_reasons([f"item A {number}" for number in range(9)]).endswith("; and 3 more")
