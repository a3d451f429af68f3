"""``python -m tests.bench.report_pictures docs/images``: the pictures of reports in the docs, from simulated scenes."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

import stac2cube
from stac2cube.coregister.rules import ShiftRules
from stac2cube.export.report import write_report
from stac2cube.export.report_figures import draw_before_after
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.servers.browser import running_browser
from tests.stages.shifted import Take, series

COLOURS = 160
"""Of a picture in the docs: few enough to be small, enough for a quicklook."""


def main(images: Path) -> None:
    """Make the cubes, open the reports, take the pictures."""
    target = images.resolve()
    # From within the folder: a report shows the path that it was given.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), running_browser() as browser:
        page = browser.new_page(viewport={"width": 1180, "height": 1010})
        page.goto(write_report(_layers(Path("alps")), Path("layers.html")).resolve().as_uri())
        _save(page.screenshot(), target / "report.png")
        page.goto(write_report(_moved(Path("takes").resolve(), 0.1), Path("moved.html")).resolve().as_uri())
        _save(page.locator("section", has=page.locator("h3", has_text="Shifts")).screenshot(), target / "shifts.png")
        before_after(Path("clear").resolve(), target / "coregistration.gif")


def before_after(folder: Path, out: Path) -> None:
    """The series before and after, without clouds so that the ground is seen to move."""
    draw_before_after(_moved(folder, 0.0), out)


def _layers(folder: Path) -> Path:
    archive = simulate(folder / "archive", ArchiveSpec(dates_per_year=9))
    words = {"mission": "sentinel-2-l2a", "catalog": str(archive.catalog("earth-search")), "time": "2022/2024"}
    stac2cube.get_stac_layers(folder / "alps.zarr", aoi=archive.area(two_zones=True), **words)
    return folder / "alps.zarr"


def _moved(folder: Path, cover: float) -> Path:
    shifts = ((0, 0), (12, -7), (-6, 9), (3, 14), (-15, -4), (8, 8), (1, -11), (-9, 2))
    takes = [Take(f"2022-{month:02d}-15", *shift, cover=cover) for month, shift in enumerate(shifts, start=3)]
    stac2cube.coregister_scenes(series(folder, takes), folder / "moved.zarr", rules=ShiftRules(engine="phase"))
    return folder / "moved.zarr"


def _save(taken: bytes, out: Path) -> None:
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(COLOURS).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
