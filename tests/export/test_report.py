"""The report, in a real browser: whole, alone, readable on a phone; and its figures, against the ledger."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jinja2.filters import do_filesizeformat as filesizeformat
from playwright.sync_api import Browser, Page

import stac2cube
from stac2cube.build.loop import build
from stac2cube.cli import cli
from stac2cube.coregister.rules import ShiftRules
from stac2cube.errors import BadInputError, CubeError, SlurmError
from stac2cube.executors.base import Threads
from stac2cube.export.report import calendar_of, figures_of, write_report
from stac2cube.store.ledger import Ledger
from stac2cube.store.metadata import read_root
from stac2cube.superres.rules import SuperresRules
from tests.build import toy
from tests.stages.shifted import Take, series

OUTSIDE = """width => [...document.querySelectorAll("main *")]
    .filter(node => !node.closest(".wide") && node.getBoundingClientRect().right > width + 1)
    .map(node => node.outerHTML)"""
"""What reaches beyond the window, but for tables, which scroll within their own frame."""

NO_JOBS = "no step was made by a SLURM job"


@pytest.fixture(scope="module")
def family(cube: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Cubes of all kinds that a report tells something special of, one of them with a scene that failed."""
    folder = tmp_path_factory.mktemp("family")
    clouds, moved, finer, toys = (folder / f"{name}.zarr" for name in ("clouds", "moved", "finer", "toys"))
    stac2cube.get_cloud_layers(cube, clouds, method="scl")
    layers = series(folder / "takes", (Take("2022-05-05"), Take("2022-05-15", x=8.0, y=-6.0)))
    stac2cube.coregister_scenes(layers, moved, rules=ShiftRules(engine="phase"))
    stac2cube.super_resolution(cube, finer, rules=SuperresRules(backend="backproject"))
    build(toys, toy.SPEC, toy.steps(range(5)), toy.Make(failing=(2,)), Threads())
    return [cube, clouds, moved, finer, toys]


@pytest.fixture(scope="module")
def report(family: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "family.html"
    assert cli.main(["report", *map(str, family), str(out)], standalone_mode=False) is None
    return out


def show(page: Page, report: Path) -> list[str]:
    """Open the page; what it asked for besides itself."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    return [url for url in asked if not url.startswith("data:") and url != report.as_uri()]


def test_it_is_one_file_and_shows_every_cube(page: Page, report: Path, family: list[Path]) -> None:
    assert show(page, report) == []
    assert not re.search(
        r"<(?:script|link|iframe)|(?:src|srcset)=\"(?!data:)|url\((?!data:)|@import", report.read_text()
    )
    assert page.locator("article").count() == len(family)
    assert page.locator("article h2").all_inner_texts() == [cube.stem for cube in family]
    page.click("nav >> text=finer")
    assert page.locator("#cube-4 h2").evaluate("node => node.getBoundingClientRect().top") < 900
    pictures = page.locator("img").evaluate_all("all => all.map(one => [one.naturalWidth, one.alt])")
    assert len(pictures) == 7 + 7 + (2 + 1) + (7 + 2 * 3) + 4
    assert all(width > 0 and alt for width, alt in pictures), "every picture is there, and says what it is"


def test_nothing_is_wider_than_a_phone(browser: Browser, report: Path) -> None:
    for width in (1280, 390, 320):
        context = browser.new_context(viewport={"width": width, "height": 800})
        page = context.new_page()
        show(page, report)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        over = page.evaluate(OUTSIDE, width)
        assert over == []
        sizes = page.evaluate(
            """() => [...document.querySelectorAll("main p, main li, main td, main dd")].map(node =>
            parseFloat(getComputedStyle(node).fontSize))"""
        )
        assert min(sizes) >= 12
        context.close()


def contrast(page: Page, selector: str) -> float:
    """Contrast of a text with the page, as WCAG 2.1 defines it."""
    colours = page.eval_on_selector(
        selector, "node => [getComputedStyle(node).color, getComputedStyle(document.body).backgroundColor]"
    )
    lights = []
    for colour in colours:
        channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_it_reads_well_by_day_by_night_and_on_paper(browser: Browser, report: Path) -> None:
    papers = []
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        show(page, report)
        for selector in (".lead", ".note", ".path", "a", "figcaption", "th", ".eyebrow", ".off td"):
            assert contrast(page, selector) >= 4.5, f"{selector} by {scheme}"
        papers.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        if scheme == "light":
            assert page.pdf(format="A4").startswith(b"%PDF")
        context.close()
    assert papers[0] != papers[1]


def test_it_has_a_tree_that_a_screen_reader_can_walk(page: Page, report: Path) -> None:
    show(page, report)
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.locator("html").get_attribute("lang") == "en"
    unnamed = page.locator("svg, [role=img], [role=region]").evaluate_all(
        "all => all.filter(one => !one.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
    ids = page.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))


def test_what_failed_is_said(page: Page, report: Path, family: list[Path]) -> None:
    show(page, report)
    toys = page.locator("#cube-5")
    assert "1 scene failed; the next update tries again" in toys.inner_text()
    assert "block of 2 cannot be made" in toys.locator(".lacking").inner_text()
    marks = toys.locator(".strip i").evaluate_all("all => all.map(one => [one.className, one.title])")
    assert [kind for kind, _ in marks] == ["unknown", "unknown", "failed", "unknown", "unknown"]
    assert "block of 2 cannot be made" in marks[2][1]
    assert toys.locator("tr.off").count() == 1
    assert "Nothing that this cube knows of" in page.locator("#cube-1").inner_text()


def test_figures_are_the_ledgers(family: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", *map(str, family), "--json"], standalone_mode=False) is None
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told] == [cube.stem for cube in family]
    for cube, one in zip(family, told, strict=True):
        rows = Ledger(cube, read_root(cube).ledger).entries()
        sealed = [row for row in rows.values() if row.status == "sealed"]
        shards = [shard for row in sealed for receipt in row.receipts for shard in receipt.shards if shard.size]
        assert (one["steps"], one["files"]) == (len(sealed), len(shards))
        assert one["size"] == sum(shard.size for shard in shards)
        assert [scene["key"] for scene in one["scenes"]] == list(rows)
        assert sum(one["mix"].get("satellite", {}).values()) == len(sealed)
        assert one["resources"]["blocks"] == sum(len(row.receipts) for row in sealed)
        assert one["resources"]["no_accounts"] == NO_JOBS
    layers, clouds, moved, finer, toys = told
    assert layers["grid"] | {"bbox": 0} == {
        "crs": "EPSG:32632",
        "resolution": 10.0,
        "rows": 90,
        "columns": 70,
        "width_km": 0.7,
        "height_km": 0.9,
        "files": [2, 2],
        "bbox": 0,
    }
    assert (layers["first"], layers["last"]) == ("2022-12-20", "2024-01-10")
    assert layers["in_order"]
    assert clouds["clouds"]["counted"] == clouds["clouds"]["of"] == 7
    assert clouds["clouds"]["longest_wait"] == {"days": 304, "from": "2023-03-12", "to": "2024-01-10"}
    assert sum(month["scenes"] for month in clouds["clouds"]["months"]) == 7
    assert clouds["clouds"]["months"][0]["scenes"] == 4
    assert [len(moved["shifts"]["scenes"]), moved["shifts"]["measured"]] == [2, 2]
    assert moved["shifts"]["largest_m"] == pytest.approx(10, abs=1)
    assert [step["day"] for step in finer["superres"]["steps"]] == [scene["time"][:10] for scene in finer["scenes"]]
    assert toys["lacking"][0]["kind"] == "failed"
    assert layers["attribution"] == clouds["attribution"] == "Contains modified Copernicus Sentinel data 2022-2024"


def test_months_and_years_of_the_calendar() -> None:
    def scene(time: str, status: str = "sealed", cloud: float | None = None) -> dict[str, Any]:
        return {"time": time, "status": status, "cloud": cloud, "reason": "", "platform": "a"}

    strips = calendar_of(
        [
            scene("2020-01-01 00:00:00", cloud=0.0),
            scene("2020-07-02 00:00:00", cloud=100.0),
            scene("2022-12-31 23:59:59", "failed"),
            scene("2022-12-31 23:59:59", cloud=59.9),
        ]
    )
    assert [(strip["year"], strip["sealed"]) for strip in strips] == [(2020, 2), (2021, 0), (2022, 1)]
    assert [mark["kind"] for strip in strips for mark in strip["marks"]] == ["clear0", "clear4", "failed", "clear2"]
    places = [mark["place"] for strip in strips for mark in strip["marks"]]
    assert places[:2] == [0.0, 50.0], "2020 is a leap year"
    assert places[2] == pytest.approx(100.0)


def test_what_slurm_accounts_for_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    build(tmp_path / "a.zarr", toy.SPEC, toy.steps(range(2)), toy.Make(), Threads())
    monkeypatch.delenv("SLURM_JOB_ID")

    def account(jobs: Any) -> list[dict[str, str]]:
        assert list(jobs) == ["4711"]
        words = ("s2c-layers", "COMPLETED", "00:10:00", "00:19:00", "2", "900M", "node7")
        names = ("job", "name", "state", "elapsed", "cpu", "cpus", "memory", "nodes")
        return [dict(zip(names, ("4711", *words), strict=True))]

    page = write_report(tmp_path / "a.zarr", tmp_path / "a.html", account=account).read_text()
    assert "node7" in page
    assert "900M" in page

    def silent(jobs: Any) -> list[dict[str, str]]:
        raise SlurmError("accounting is off")

    assert figures_of(tmp_path / "a.zarr", silent)["resources"]["no_accounts"].endswith("accounting is off")
    page = write_report(tmp_path / "a.zarr", tmp_path / "a.html", account=silent).read_text()
    assert "Jobs 4711; SLURM&#39;s accounting cannot be asked" in page


def test_a_sealed_year_is_said_and_when_it_is_behind(browser: Browser, tmp_path: Path) -> None:
    cube = tmp_path / "a.zarr"
    build(cube, toy.SPEC, toy.steps(range(3)), toy.Make(), Threads())
    done = stac2cube.seal_year(cube, 2020)
    figures = figures_of(cube)
    assert figures["sealed_years"] == [2020]
    assert (figures["deep"]["files"], figures["deep"]["size"]) == (done.files, done.size)
    assert figures["lacking"] == []
    page = browser.new_page(viewport={"width": 390, "height": 800})
    show(page, write_report(cube, tmp_path / "a.html"))
    words = page.locator("section", has=page.locator("h3", has_text="Resources")).inner_text()
    assert f"Sealed years 2020 take a further {filesizeformat(done.size)} in {done.files} files." in words
    assert "Nothing that this cube knows of" in page.inner_text("article")
    assert page.evaluate(OUTSIDE, 390) == []
    build(cube, toy.SPEC, toy.steps(range(4)), toy.Make(), Threads())
    show(page, write_report(cube, tmp_path / "a.html"))
    behind = "The deep files of 2020 do not hold all that the years do by now: seal-year"
    assert behind in page.inner_text(".lacking")
    page.close()


def test_names_cannot_break_the_page(page: Page, tmp_path: Path) -> None:
    cube = tmp_path / "<script>window.broken = 1<" / "a.zarr"
    cube.parent.mkdir()
    build(cube, toy.SPEC, toy.steps(range(1)), toy.Make(), Threads())
    show(page, write_report(cube, tmp_path / "a.html"))
    assert "<script>window.broken" in page.inner_text(".path")
    assert page.evaluate("window.broken") is None


def test_what_cannot_be_reported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CubeError, match="not a cube"):
        write_report(tmp_path, tmp_path / "a.html")
    with pytest.raises(BadInputError, match="name one"):
        write_report([], tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
