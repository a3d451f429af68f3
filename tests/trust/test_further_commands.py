"""The same hostile catalog before further commands: the page that explores, clouds from L1C, headers, samples."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from stac2cube.explorer.session import explore
from stac2cube.trust.text import is_printable
from tests.explorer.test_server import request
from tests.stages.skies import NAMES
from tests.trust.conftest import Run
from tests.trust.hostile import AOI, GOOD, WORDS, Json, Server, hrefs, item
from tests.trust.test_commands import TIME, WHAT, clean, stored

L1C = "sentinel-2-l1c"


def test_the_page_shows_what_is_good_and_reads_nothing_of_ours(bad: Server, place: Path) -> None:
    with explore(place, catalog=bad.api) as page:
        status, area, _ = request(page, "POST", "area", {"text": AOI})
        assert status == 200, area
        said: dict[str, Any] = {"area": area["id"], "mission": "sentinel-2-l2a", "catalog": bad.api, "time": TIME}
        said |= {"name": "x", "bands": ["B04"]}
        status, answer, _ = request(page, "POST", "search", said)
        text = json.dumps(answer, ensure_ascii=False)
        assert status == 200, text
        assert answer["scenes"]
        assert WORDS not in text
        assert is_printable(text)
        for name in ("../../outside", "a/b", "x\x1b[31m", str(place.parent / "absolute")):
            status, answer, _ = request(page, "POST", "write", said | {"name": name})
            assert status == 422, answer
        assert request(page, "POST", "write", said)[0] == 200
    assert {path.parent for path in place.rglob("*") if path.is_file()} == {place}


def l1c(name: str, href: object, good: str, day: int) -> Json:
    """A Level-1C item with all bands, one of which lies at an href."""
    assets = {asset: {"href": good, "type": "image/tiff"} for asset in NAMES.values()}
    one = item(name, good, day, **assets)
    one["assets"]["blue"] = {"href": href, "type": "image/tiff"}
    one["properties"]["s2:product_uri"] = one["properties"]["s2:product_uri"].replace("MSIL2A", "MSIL1C")
    return one | {"collection": L1C}


def test_clouds_from_the_l1c_of_a_catalog_that_is_no_friend(
    private: Path, server: Server, place: Path, run: Run
) -> None:
    pytest.importorskip("lightgbm")
    good = f"{server.url}/f/good.tif"
    tried = [good, *list(hrefs(private, server).values())[::4], f"{server.url}/f/redirect.tif"]
    days = {20 + number: href for number, href in enumerate(tried)}
    server.items = [item(f"layer-{day}", good, day) for day in days]
    assert run("layers", place / "layers.zarr", *WHAT, "--catalog", server.api).code == 0
    server.items = [
        l1c(f"l1c-{day}\x1b[31m" if day % 5 == 4 else f"l1c-{day}", href, good, day) for day, href in days.items()
    ]
    done = run("clouds", place / "layers.zarr", place / "clouds.zarr", "--no-shadows", "--catalog", server.api)
    clean(done)
    assert done.code == 2
    sealed = [str(key) for key in xr.open_zarr(place / "clouds.zarr")["scene"].values]
    assert len(sealed) == 1, "of the one whose files all lie where they may"
    assert all(f"l1c-{day}" in done.said for day in list(days)[1:] if day % 5 != 4)
    clean(run("update", place / "clouds.zarr"))
    clean(run("status", place / "clouds.zarr"))


def test_headers_are_read_of_what_may_be_read(bad: Server, private: Path, place: Path, run: Run) -> None:
    begun = time.monotonic()
    clean(run("index", "create", place / "bad", *WHAT, "--headers", "--catalog", bad.api))
    assert time.monotonic() - begun < 60
    clean(run("index", "update", place / "bad", "--check"))
    clean(run("index", "show", place / "bad"))
    clean(run("index", "export", place / "bad", place / "items.json"))
    clean(run("layers", place / "a.zarr", *WHAT, "--catalog", place / "bad"))
    assert set(stored(place / "a.zarr").ravel().tolist()) <= {0, 1500}


def test_samples_of_a_hostile_manifest_and_catalog(bad: Server, private: Path, place: Path, run: Run) -> None:
    """By a catalog of one's own that was copied from a stranger's, whose paths may not lead out of the set."""
    words = ("--mission", "sentinel-2-l2a", "--bands", "B04")
    clean(run("samples", bad.api, place / "from-api", *words, "--time", TIME, "--incomplete", "list"))
    good = str(private / "image.tif")
    names = ("../../outside", str(private / "absolute"), "..", "CON", "a" * 400, "x\x1b[31m", "a\nb", GOOD)
    items = [item(name, good, 10 + number) for number, name in enumerate(names)]
    for number, one in enumerate(items):
        one["properties"]["grid:code"] = f"MGRS-{names[number]}"
        one["properties"]["platform"] = names[number]
    (place / "own.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    clean(run("samples", place / "own.json", place / "set", *words, "--incomplete", "list"))
    folders = [path.name for path in (place / "set").iterdir()] if (place / "set").is_dir() else []
    assert all(is_printable(name) and len(name) < 200 for name in folders)
    (place / "own.json").unlink()
    for path in (place / "set").rglob("*.tif"):
        path.unlink()  # which hold the image of this catalog of one's own, rightly
