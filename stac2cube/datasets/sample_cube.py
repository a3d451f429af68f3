"""Samples as a cube: the same values as layers, one step per scene; and updates of samples, in a cube or in files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from shapely.geometry import mapping

from stac2cube.build.derived import CubesBeside
from stac2cube.build.loop import build
from stac2cube.build.plan import Block, BuildOptions, Step, Summary, known_entries, plan
from stac2cube.datasets.config import rules_of_words
from stac2cube.datasets.index import INDEX, read_sample_index
from stac2cube.datasets.rules import GRID, SampleRequest, SampleRules, SampleSource
from stac2cube.datasets.sample_files import META, make_pixels, present
from stac2cube.datasets.samples import (
    REQUEST,
    Incomplete,
    Report,
    drop_samples,
    plan_samples,
    recall,
    request_from_json,
    request_to_json,
    run_samples,
)
from stac2cube.errors import BadInputError, NothingFoundError, ReadError
from stac2cube.executors.base import Place, place_or_threads
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.pixels.read import intersecting
from stac2cube.progress import Progress
from stac2cube.store.ledger import SEALED, Entry
from stac2cube.store.metadata import read_root
from stac2cube.version import __version__

if TYPE_CHECKING:
    import xarray as xr


STAGE = "samples"
"""Name of the stage in the cubes it makes."""

LABEL = "label"
"""Name of the layer of classes."""


@dataclass(frozen=True)
class MakeBlock:
    """Task: make one block of a sample.

    Attributes:
        rules: Rules of the samples.
    """

    rules: SampleRules

    def __call__(self, source: SampleSource, block: Block) -> Mapping[str, np.ndarray]:
        """Make the layers of one block.

        Raises:
            ReadError: An input is missing, or cannot be read.
        """
        if source.lacking:
            raise ReadError("; ".join(source.lacking))
        rules = self.rules
        pixels = make_pixels(source, rules, block.grid.window(block.tile))
        out = dict(zip(rules.names, pixels.bands, strict=True))
        validity = pixels.validity(rules).astype("uint8")
        out |= dict(zip(rules.described_validity.channels, validity, strict=True))
        if pixels.angles is not None and rules.angles is not None:
            out |= dict(zip(rules.angles.described(rules.names).channels, pixels.angles, strict=True))
        if pixels.labels is not None:
            out[LABEL] = pixels.labels
        return out


def make_sample_cube(
    source: str | Path | SampleRequest,
    out: str | Path,
    rules: SampleRules,
    *,
    place: Place | None = None,
    incomplete: Incomplete = "refuse",
) -> xr.Dataset:
    """Make training samples as a cube: one step per scene, on one grid.

    Running it again adds new scenes, as ``stac2cube update`` does, and rebuilds steps that were rebuilt in its source.

    Args:
        source: As for :func:`stac2cube.make_samples`.
        out: Path of the cube, created or extended.
        rules: Rules that determine the values; the target must be ``"grid"``.
        place: Where the work runs; threads of this process if None.
        incomplete: As for :func:`stac2cube.make_samples`.

    Returns:
        The cube: bands and angles float32, NaN where not valid or unknown; ``valid`` and ``label`` uint8.

    Raises:
        BadInputError: An argument is invalid, or inputs are missing; the message names all.
        CubeMismatchError: The cube was made with other options; nothing was changed.
        IncompleteError: Some steps failed; the others are sealed.
    """
    from stac2cube.store.reader import open_cube

    summary = run_sample_cube(
        SampleRequest.of(source), Path(out), rules, place_or_threads(place), incomplete=incomplete
    )
    summary.require_complete(out)
    return open_cube(out)


def run_sample_cube(
    request: SampleRequest,
    out: Path,
    rules: SampleRules,
    place: Place,
    *,
    incomplete: Incomplete = "refuse",
    options: BuildOptions | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a cube of samples.

    Raises:
        BadInputError: An argument is invalid, the target is not a grid, or an input is missing.
        CubeMismatchError: The cube was made with other options; nothing was changed.
        CatalogError: The catalog cannot be read.
    """
    if rules.target != GRID:
        raise BadInputError("a cube has one grid: say target 'grid', with an area, crs and resolution")
    sources = plan_samples(request, rules, incomplete)
    grid = sources[0].grid
    assert grid is not None  # a target grid was given, or is the cube's
    recipe = json.loads(json.dumps({**rules.to_json(), "title": f"samples of {rules.page.title}"}))
    spec = CubeSpec(STAGE, grid, layers_of(rules), recipe, request_to_json(request))
    # As for samples in files: a rebuilt source step means that its sample is rebuilt too.
    options = replace(options or BuildOptions(), superseded="replace")
    return build(out, spec, steps_of(sources, grid), MakeBlock(rules), place, options=options, progress=progress)


def holds_samples(cube: Path) -> bool:
    """Whether a path is a cube of samples; False where there is no cube."""
    return cube.exists() and read_root(cube).spec.stage == STAGE


def holds_sample_files(folder: Path) -> bool:
    """Whether a path is a folder of samples in files that stores its request."""
    return (folder / REQUEST).is_file() and not (folder / "zarr.json").exists()


def follow_samples(
    cube: Path,
    place: Place,
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    incomplete: Incomplete = "refuse",
) -> Summary:
    """Add the new steps of its source to a cube of samples, and rebuild those that were rebuilt in the source.

    The cube stores its source, area, time, limits and rules, from the last run that made or extended it.

    Args:
        cube: A cube for which :func:`holds_samples` is true.
        place: Where the work runs.
        options: Build options.
        progress: Called for every block.
        incomplete: As for :func:`stac2cube.make_samples`.

    Raises:
        BadInputError: The source does not exist any more, or inputs are missing; the message names all.
    """
    request, rules = _asked(cube)
    return run_sample_cube(request, cube, rules, place, incomplete=incomplete, options=options, progress=progress)


class SampleKind(CubesBeside):
    """Cubes of samples that were made from a cube, for :func:`stac2cube.maintain.sync.sync`."""

    def parent(self, cube: Path) -> Path | None:
        """The cube that the samples were made from; None for other cubes, and for samples of products."""
        source = Path(str(read_root(cube).spec.request.get("source", "")))
        return source if holds_samples(cube) and (source / "zarr.json").exists() else None

    def inputs(self, cube: Path) -> set[Path]:
        """The clouds cube that is the source of their labels."""
        labels = read_root(cube).spec.recipe.get("labels") or {}
        return {Path(labels["path"]).resolve()} if labels.get("backend") == "clouds" else set()

    def behind(self, cube: Path) -> tuple[int, int]:
        """Number of samples missing by the stored request, and number of samples whose step was rebuilt."""
        try:
            sources = plan_samples(*_asked(cube), "list")
        except NothingFoundError:
            return 0, 0
        steps = steps_of(sources, read_root(cube).spec.grid)
        work = plan(steps, known_entries(cube, steps))
        return len(work.todo), len(work.superseded)

    def follow(self, cube: Path, place: Place, *, options: BuildOptions, progress: Progress | None) -> Summary:
        """As :func:`follow_samples`; samples without an input fail, and are reported."""
        try:
            return follow_samples(cube, place, options=options, progress=progress, incomplete="list")
        except NothingFoundError:
            return Summary()


def follow_sample_files(
    out: Path,
    place: Place,
    *,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    incomplete: Incomplete = "refuse",
) -> Report:
    """Add the new steps of its source to a folder of samples, and rebuild those that were rebuilt in the source.

    Args:
        out: A folder of samples that stores its request.
        place: Where the work runs.
        options: Build options.
        progress: Called for every sample.
        incomplete: As for :func:`stac2cube.make_samples`.

    Raises:
        BadInputError: No stored request, the source does not exist any more, or inputs are missing; all are named.
    """
    request, rules = recall(out)
    return run_samples(request, out, rules, place, incomplete=incomplete, options=options, progress=progress)


class SampleFilesKind:
    """Folders of samples that were made from a cube, for :func:`stac2cube.maintain.sync.sync`."""

    def candidates(self, cube: Path) -> Iterable[Path]:
        """Folders beside a cube that are sets of samples."""
        return sorted(path.parent for path in cube.parent.glob(f"*/{REQUEST}"))

    def parent(self, cube: Path) -> Path | None:
        """The cube that the samples were made from; None for samples of products, and without a stored request."""
        try:
            request, _ = recall(cube)
        except BadInputError:
            return None
        return Path(request.source).resolve() if request.is_cube else None

    def behind(self, cube: Path) -> tuple[int, int]:
        """Number of missing samples, and number of samples whose step was rebuilt."""
        request, rules = recall(cube)
        try:
            sources = plan_samples(request, rules, "list")
        except NothingFoundError:
            return 0, 0
        todo = [source.id for source in sources if present(cube, source, rules) is None]
        stale = [name for name in todo if (cube / name / META).exists()]
        return len(todo) - len(stale), len(stale)

    def too_many(self, cube: Path, keys: Collection[str]) -> set[str]:
        """Samples whose steps the cube no longer has; none if a first run died before it wrote an index."""
        if not (cube / INDEX).exists():
            return set()
        return {sample.id for sample in read_sample_index(cube).samples} - set(keys)

    def drop(self, cube: Path, keys: Collection[str], options: BuildOptions) -> None:  # noqa: ARG002 - as all kinds
        """Remove samples."""
        drop_samples(cube, keys)

    def inputs(self, cube: Path) -> set[Path]:
        """The clouds cube that is the source of their labels."""
        labels = recall(cube)[1].labels
        return {Path(labels.path).resolve()} if labels is not None and labels.backend == "clouds" else set()

    def follow(self, cube: Path, place: Place, *, options: BuildOptions, progress: Progress | None) -> Summary:
        """As :func:`follow_sample_files`; samples without an input fail, and are reported."""
        try:
            report = follow_sample_files(cube, place, options=options, progress=progress, incomplete="list")
        except NothingFoundError:
            return Summary()
        return Summary(sealed=report.made, failed=report.failed, stopped=report.stopped)


def _asked(cube: Path) -> tuple[SampleRequest, SampleRules]:
    """The request and rules stored in a cube of samples.

    Raises:
        BadInputError: The cube has no stored request.
    """
    spec = read_root(cube).spec
    if "max_scenes" not in spec.request:
        raise BadInputError(f"{cube} does not know what it was made of: run `stac2cube samples SOURCE {cube}` again")
    request = request_from_json(spec.request)
    rules = rules_of_words({name: value for name, value in spec.recipe.items() if name != "title"})
    return request if request.is_cube else replace(request, grid=spec.grid), rules


def layers_of(rules: SampleRules) -> tuple[Layer, ...]:
    """The layers of a cube of samples: bands, validity, angles, classes."""
    nan, layers = float("nan"), []
    for band in rules.chosen:
        name = band.quantity.standard_name if rules.factored else ""
        layers.append(Layer(band.name, "float32", nan, long_name=band.long_name, standard_name=name))
    channels = rules.described_validity.channels
    flags = ((0, "not_valid"), (1, "valid"))
    layers += [Layer(channel, "uint8", 255, long_name="whether the pixel counts", flags=flags) for channel in channels]
    if rules.angles is not None:
        units = "degree" if rules.angles.form == "degrees" else "1"
        names = rules.angles.described(rules.names).channels
        layers += [Layer(name, "float32", nan, units=units, long_name=name.replace("_", " ")) for name in names]
    if rules.labels is not None:
        classes = rules.labels.described().classes
        described = tuple(
            (number, name.replace(", ", "_or_").replace(" ", "_") or "unnamed") for number, name in classes.items()
        )
        layers.append(Layer(LABEL, "uint8", rules.labels.ignore_index, long_name="class", flags=described))
    return tuple(layers)


def steps_of(sources: Sequence[SampleSource], grid: Grid) -> list[Step]:
    """Samples as steps: their ledger entries, and the blocks that can hold data."""
    tiles = list(grid.tiles())
    footprint: Any = mapping(grid.geobox.geographic_extent.geom)
    steps = []
    for source in sources:
        entry = Entry(
            key=source.id,
            time=source.time,
            status=SEALED,
            items=tuple(sorted(source.items)),
            parts=source.versions,
            footprint=footprint,
            properties={
                "platform": source.platform,
                "orbit": source.orbit,
                "cloud_cover": source.cloud_cover,
                "software": {"stac2cube": __version__},
            },
        )
        blocks = tiles
        if source.step is None and not source.lacking:
            touched = intersecting([part.granule for part in source.parts], [grid.tile_geobox(tile) for tile in tiles])
            blocks = [tile for tile, places in zip(tiles, touched, strict=True) if places]
        steps.append(Step(entry, source, tuple(blocks)))
    return steps
