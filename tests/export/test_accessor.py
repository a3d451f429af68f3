"""What an opened cube says of itself in Python and in a notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from playwright.sync_api import Page

import stac2cube
from stac2cube.build.loop import build
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Threads
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from tests.build import toy
from tests.views.cubes import DATES, truths


def test_it_comes_with_what_gives_datasets_and_costs_nothing_else() -> None:
    code = (
        "import sys, stac2cube; stac2cube.Slurm; assert 'xarray' not in sys.modules;"
        "stac2cube.open_cube; import xarray; assert hasattr(xarray.Dataset, 's2c');"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_provenance_is_the_ledgers_in_the_order_of_the_dataset(cube: Path) -> None:
    opened = stac2cube.open_cube(cube)
    table = opened.s2c.provenance
    assert [str(day)[:10] for day in table.index] == list(DATES)
    rows = Ledger(cube, read_root(cube).ledger).sealed()
    assert list(table.scene) == list(rows)
    assert list(table["items"]) == [list(row.items) for row in rows.values()]
    assert table.bytes.sum() == stac2cube.cube_status(cube).size
    assert (table.platform == "sentinel-2a").all()
    some = opened.isel(time=[4, 1])[["B04"]]
    assert list(some.s2c.provenance.scene) == [list(rows)[4], list(rows)[1]]
    assert len(opened.isel(time=3).s2c.provenance) == 1


def test_gaps_are_what_failed_and_why(tmp_path: Path) -> None:
    build(tmp_path / "a.zarr", toy.SPEC, toy.steps(range(4)), toy.Make(failing=(2,)), Threads())
    gaps = stac2cube.open_cube(tmp_path / "a.zarr").s2c.gaps()
    assert list(gaps.scene) == ["toy_0002"]
    assert list(gaps.time) == ["2020-01-03"]
    assert "block of 2 cannot be made" in gaps.reason[0]


@pytest.mark.parametrize("decode", [True, False])
def test_a_quicklook_shows_the_pixels(cube: Path, decode: bool) -> None:
    picture = np.asarray(stac2cube.open_cube(cube, decode=decode).isel(time=[2]).s2c.quicklook())
    assert picture.shape == (90 + 14, 70, 3)
    red = truths("B04")[2]
    shown = picture[14:, :, 0].astype("float64")
    known = np.isfinite(red) & np.isfinite(truths("B03")[2])
    assert np.corrcoef(np.clip(red[known], 0, 0.45), shown[known])[0, 1] > 0.95
    assert (picture[14:][~known] == round(0.82 * 255)).all()


def test_a_dataset_that_lost_its_cube_says_so(cube: Path) -> None:
    with pytest.raises(BadInputError, match="does not know its cube"):
        xr.Dataset().s2c.provenance  # noqa: B018
    with pytest.raises(BadInputError, match="needs also B02, B03"):
        stac2cube.open_cube(cube)[["B04"]].s2c.quicklook()


def test_the_card_of_a_notebook(cube: Path, page: Page) -> None:
    opened = stac2cube.open_cube(cube)
    assert repr(opened.s2c) == f"<stac2cube cube {cube}: 7 steps>"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": 700, "height": 900})
    page.set_content(f"<p id=before>text</p>{opened.s2c._repr_html_()}")
    card = page.locator(".s2c-card")
    assert [url for url in asked if not url.startswith("data:")] == []
    words = card.inner_text()
    for what in (
        "7, 2022-12-20 to 2024-01-10",
        "90 \N{MULTIPLICATION SIGN} 70 pixels of 10 m, EPSG:32632",
        "B8A",
        str(cube),
    ):
        assert what in words
    assert card.locator(".strip").count() == 3
    assert card.locator(".strip i").count() == 7
    assert card.locator("svg.globe").bounding_box()["width"] > 80
    assert card.locator("img").evaluate("one => one.naturalWidth") > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    colour = "getComputedStyle(document.querySelector('#before')).color"
    assert page.evaluate(colour) == "rgb(0, 0, 0)", "its style stays within the card"
    page.set_content(opened.isel(time=slice(2, 4)).s2c._repr_html_())
    assert "2 of 7" in page.locator(".s2c-card").inner_text()
    assert page.locator(".strip i").count() == 2
