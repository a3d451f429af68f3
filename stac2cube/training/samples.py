"""Sets of samples: planned, made wherever they are told to be, and written down in one index."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from stac2cube.cube.files import remove_partials, remove_tree
from stac2cube.errors import BadInputError, IncompleteError
from stac2cube.flow import Flow, timed
from stac2cube.places.place import Place
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress
from stac2cube.training.documents import made_folder
from stac2cube.training.files import META, MakeSample, present, utc_text
from stac2cube.training.index import Sample, SampleIndex
from stac2cube.training.index_file import INDEX, read_index, write_index
from stac2cube.training.parts import failure_of
from stac2cube.training.rules import GRID, SampleRules
from stac2cube.training.scenes import scene_sources
from stac2cube.training.sources import Request, SampleSource
from stac2cube.training.steps import step_sources, with_clouds
from stac2cube.work import Orders

log = logging.getLogger(__name__)

Incomplete = Literal["refuse", "list"]
"""What becomes of a run in which something is missing before it begins: nothing is made; or all else is made, and those
samples are listed as failed."""


@dataclass
class Report:
    """What a run did.

    Attributes:
        index: The set as it is now.
        made: Ids of the samples made.
        present: Ids of those that were there already.
        failed: Id and reason of those that could not be made; the next run tries them again.
        stopped: Whether it was asked to stop before it was through.
    """

    index: SampleIndex
    made: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    @property
    def exit_code(self) -> int:
        """0 done, 2 some failed, 10 stopped in time: after 2 and 10 the same command goes on."""
        return 10 if self.stopped else 2 if self.failed else 0


def make_samples(
    source: str | Path | Request,
    out: str | Path,
    rules: SampleRules | None = None,
    *,
    place: Place | None = None,
    overwrite: bool = False,
    incomplete: Incomplete = "refuse",
) -> SampleIndex:
    """Make training samples of every scene of a manifest, a catalog or a cube.

    Running it again makes what lacks; samples that are there are left alone.

    Args:
        source: A manifest of ``stac2cube download`` or its folder, another catalog, a cube, or a request that says
            which of its scenes.
        out: Folder of the set: ``index.json``, and a folder per sample with ``x.tif`` (bands and validity, float32),
            ``y.tif`` (classes, uint8), ``angles.tif`` (float32) and ``meta.json``. As a cube:
            :func:`stac2cube.make_sample_cube`.
        rules: What decides the numbers.
        place: Where the work runs; threads of this process if None.
        overwrite: Make a set that is there anew, by other rules; what it holds goes.
        incomplete: See :data:`Incomplete`.

    Returns:
        The index.

    Raises:
        BadInputError: A word is wrong, an input is missing (all are named), or the set was made by other rules.
        CatalogError: The catalog cannot be read.
        IncompleteError: Some samples failed; the others are there, the index lists both.
    """
    request = source if isinstance(source, Request) else Request(str(source))
    report = run_samples(
        request, Path(out), rules or SampleRules(), place or Threads(), overwrite=overwrite, incomplete=incomplete
    )
    if report.failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in report.failed.items())
        raise IncompleteError(f"{len(report.failed)} sample(s) of {out} failed, run again to try them: {reasons}")
    return report.index


def plan_samples(request: Request, rules: SampleRules, incomplete: Incomplete = "refuse") -> list[SampleSource]:
    """The samples to be, each with what it lacks.

    Raises:
        BadInputError: Words do not fit; or, where ``incomplete`` refuses, an input is missing: all are named.
        NothingFoundError: No scene.
        CatalogError: The catalog cannot be read.
    """
    sources = step_sources(request, rules) if request.is_cube else scene_sources(request, rules)
    if rules.labels is not None and rules.labels.backend == "clouds":
        sources = with_clouds(sources, Path(rules.labels.path))
    if rules.labels is not None and rules.labels.backend in ("raster", "vector"):
        sources = [_with_label_file(source, rules.labels.path) for source in sources]
    lacking = [source for source in sources if source.lacking]
    if lacking and incomplete == "refuse":
        lines = "\n".join(f"  {source.id}: {'; '.join(source.lacking)}" for source in lacking)
        raise BadInputError(
            f"{len(lacking)} of {len(sources)} samples lack an input; nothing was made. Fetch what is missing, or say "
            f"--incomplete list to make the others and have these listed as failed:\n{lines}"
        )
    return sources


def run_samples(
    request: Request,
    out: Path,
    rules: SampleRules,
    place: Place,
    *,
    overwrite: bool = False,
    incomplete: Incomplete = "refuse",
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Report:
    """Make or complete a set; raises what :func:`make_samples` does, but for failed samples, which the report has."""
    sources = plan_samples(request, rules, incomplete)
    before = _before(out, rules, overwrite=overwrite)
    known = {} if overwrite else {s.id: found for s in sources if (found := present(out, s, rules)) is not None}
    made_folder(out)
    remove_partials(out)
    report = Report(_index(rules, sources, before), present=sorted(known))
    samples = {sample.id: sample for sample in before} | known
    todo = [source for source in sources if source.id not in known]
    flow = Flow(place, orders or Orders(), progress or Progress())
    try:
        for source, made, reason in _made(todo, MakeSample(rules, str(out.resolve())), flow):
            samples[source.id] = made or _failed(source, reason)
            if made is None:
                report.failed[source.id] = reason
                log.info("%s: %s", source.id, reason)
            else:
                report.made.append(source.id)
    finally:
        report.index = replace(report.index, samples=tuple(samples[name] for name in sorted(samples)))
        write_index(out, report.index)
    report.stopped = len(report.made) + len(report.failed) < len(todo)
    if overwrite:
        _clear(out, samples)
    return report


def _made(
    todo: Sequence[SampleSource], task: MakeSample, flow: Flow
) -> Iterator[tuple[SampleSource, Sample | None, str]]:
    """Hand out samples, a few at a time, and give back each with what came of it."""
    if not todo:
        return
    with (
        flow.place.open() as executor,
        flow.progress.over(len(todo)),
        closing(flow.handed_out(iter(todo), partial(executor.submit, timed, task))) as coming,
    ):
        for source, future in coming:
            if reason := failure_of(future, flow):
                flow.progress.advance()
                yield source, None, reason
            else:
                made, seconds = future.result()
                flow.made(seconds)
                yield source, made, ""


def _with_label_file(source: SampleSource, pattern: str) -> SampleSource:
    path = source.labels_path(pattern)
    return source if path.is_file() else replace(source, lacking=(*source.lacking, f"labels: {path} does not exist"))


def _before(out: Path, rules: SampleRules, *, overwrite: bool) -> tuple[Sample, ...]:
    """Samples of a set that is there already.

    Raises:
        BadInputError: It was made by other rules, or is no set.
    """
    if not (out / INDEX).exists():
        if out.exists() and any(path.name != INDEX for path in out.iterdir()) and not _ours(out):
            raise BadInputError(f"{out} holds something else: give a folder that is new, or one of samples")
        return ()
    old = read_index(out)
    if overwrite:
        return ()
    new = _index(rules, (), old.samples)
    differing = [name for name in _AGREED if str(getattr(old, name)) != str(getattr(new, name))]
    if differing:
        told = "; ".join(f"{name}: it has {getattr(old, name)}, asked for {getattr(new, name)}" for name in differing)
        raise BadInputError(f"{out} was made by other rules. {told}. Give another folder, or say --overwrite")
    return old.samples


_AGREED = ("mission", "bands", "radiometry", "nodata", "target_grid", "validity", "angles", "labels")


def _ours(out: Path) -> bool:
    """Whether all that a folder holds are samples, as a run leaves them that was killed before its index."""
    return all(path.name.startswith(".") or (path / META).exists() for path in out.iterdir())


def _index(rules: SampleRules, sources: Sequence[SampleSource], before: Sequence[Sample]) -> SampleIndex:
    sizes = [source.grid.resolution for source in sources if source.grid is not None]
    sizes += [sample.grid.resolution for sample in before if sample.grid is not None]
    return SampleIndex(
        mission=rules.mission,
        bands=rules.names,
        radiometry=rules.kind,
        nodata=rules.nodata,
        target_grid=rules.target_band or GRID,
        resolution=sizes[0] if sizes else 0.0,
        validity=rules.described_validity,
        angles=None if rules.angles is None else rules.angles.described(rules.names),
        labels=None if rules.labels is None else rules.labels.described(),
        samples=tuple(before),
    )


def _failed(source: SampleSource, reason: str) -> Sample:
    return Sample(
        id=source.id,
        status="failed",
        reason=reason,
        x_path=None,
        y_path=None,
        angles_path=None,
        meta_path=None,
        time=utc_text(source.time),
        tile=source.tile,
        platform=source.platform,
        orbit=source.orbit,
        cloud_cover=source.cloud_cover,
    )


def _clear(out: Path, samples: dict[str, Sample]) -> None:
    """Remove what a set held before and does no longer."""
    for meta in sorted(out.glob(f"*/{META}")):
        known = samples.get(meta.parent.name)
        if known is None or known.status == "failed":
            remove_tree(meta.parent)
