"""The main job on simulated scenes, start to finish: build a year, add the next, add the one before, look at it."""

from __future__ import annotations

import logging
from pathlib import Path

from rich.console import Console

from stac2cube.clouds.stage import get_cloud_layers
from stac2cube.coregister.rules import ShiftRules
from stac2cube.coregister.stage import coregister_scenes
from stac2cube.executors.base import Threads
from stac2cube.export.pictures import draw
from stac2cube.export.report import write_report
from stac2cube.progress import progress_for
from stac2cube.stages.layers import area_words, prepare, query_of_words, run
from stac2cube.stages.stored_views import apply_masks
from stac2cube.store.reader import open_cube
from stac2cube.superres.rules import SuperresRules
from stac2cube.superres.stage import super_resolution
from stac2cube.testing.archive import ArchiveSpec, simulate

log = logging.getLogger(__name__)

YEARS = ("2023", "2024", "2022")
"""In the order in which they are built: the last one lies before the first."""


def show(folder: Path, console: Console) -> dict[str, Path]:
    """Run the demo.

    Args:
        folder: Where everything goes.
        console: Where progress is shown.

    Returns:
        What there is to look at, and where it lies.

    Raises:
        IncompleteError: Steps of a stage failed: those after it are not tried.
        Stac2cubeError: Anything else that goes wrong.
    """
    cube, catalog = folder / "layers.zarr", "earth-search"
    simulating = progress_for(console, "simulated granules")
    spec = ArchiveSpec(dates_per_year=6)
    log.info("simulating an archive of Sentinel-2-like scenes in %s", folder / "archive")
    with simulating.over(len(spec.years) * spec.dates_per_year * 3):
        archive = simulate(folder / "archive", spec, lambda _done, _all: simulating.advance())
    words = {
        "mission": "sentinel-2-l2a",
        "catalog": str(archive.catalog(catalog)),
        **area_words(archive.area(two_zones=True)),
    }
    for year in YEARS:
        log.info("%s %s", "updating" if cube.exists() else "building", f"{cube} with {year}")
        summary = run(prepare(cube, *query_of_words(words | {"time": year})), Threads(), progress=progress_for(console))
        summary.require_complete(cube)
        log.info("%d steps sealed, %d were present", len(summary.sealed), len(summary.present))
    log.info("%s holds %d steps, sorted by time", cube, open_cube(cube).sizes["time"])
    finer = _finer(folder, cube)
    return {
        "cube": cube,
        "quicklook": draw(cube, folder / "quicklook.png"),
        "animation": draw(cube, folder / "timelapse.gif"),
        "report": write_report(cube, folder / "report.html"),
        "shifts": write_report(folder / "coregistered.zarr", folder / "report-coregistered.html"),
        "2.5 m grid": write_report(finer, folder / "report-superres.html"),
        "archive": archive.catalog(catalog),
    }


def _finer(folder: Path, cube: Path) -> Path:
    """The other stages, by engines that need no extra: co-registered, masked, on a grid of 2.5 m."""
    moved, clouds, clear, finer = (folder / f"{name}.zarr" for name in ("coregistered", "clouds", "clear", "superres"))
    log.info("co-registering, masking and super-resolving %s", cube)
    coregister_scenes(cube, moved, rules=ShiftRules(engine="phase"))
    get_cloud_layers(moved, clouds, method="scl")
    apply_masks(moved, clouds, clear, max_cloud=0.3)
    super_resolution(clear, finer, rules=SuperresRules(backend="backproject"))
    return finer
