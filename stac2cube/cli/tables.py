"""How plans and summaries read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from stac2cube.cli.screen import SafeConsole, raw

if TYPE_CHECKING:
    from stac2cube.stages.layers import LayersJob
    from stac2cube.work import Summary


def plan_table(job: LayersJob) -> Table:
    """What a build would do, scene by scene, with totals."""
    plan = job.plan()
    todo = {step.entry.key: step for step in plan.todo}
    superseded = {step.entry.key for _, step in plan.superseded}
    table = Table("scene", "time (UTC)", "cloud %", "items", "blocks", "what", box=None)
    for step in job.steps:
        key, entry = step.entry.key, step.entry
        what = "to build" if key in todo else "superseded" if key in superseded else "present"
        cloud = entry.properties["cloud_cover"]
        table.add_row(
            key,
            f"{entry.time:%Y-%m-%d %H:%M:%S}",
            "-" if cloud is None else f"{cloud:.1f}",
            str(len(entry.items)),
            str(len(step.tiles)),
            what,
        )
    table.caption = "\n".join(plan_lines(job))
    table.caption_justify = "left"
    return table


def plan_json(job: LayersJob) -> dict[str, Any]:
    """The same for programs."""
    from stac2cube.growth import outlook

    plan = job.plan()
    ahead = outlook(job.out, job.spec, plan, job.steps)
    return {
        "todo": [step.entry.key for step in plan.todo],
        "present": list(plan.present),
        "superseded": [step.entry.key for _, step in plan.superseded],
        "blocks": plan.blocks,
        **asdict(ahead),
    }


def figures_table(rows: list[dict[str, Any]]) -> str:
    """How well coarser pictures were brought back, a line per step and method."""
    lines = [f"{'step':<12} {'method':<15} {'PSNR, dB':>9} {'RMSE':>9} {'SAM, deg':>9} {'ERGAS':>6}"]
    for row in rows:
        figures = f"{row['psnr']:>9.2f} {row['rmse']:>9.5f} {row['sam']:>9.2f} {row['ergas']:>6.2f}"
        lines.append(f"{row['step']:<12} {row['method']:<15} {figures}")
    return "\n".join(lines)


def plan_lines(job: LayersJob) -> Iterator[str]:
    """Totals of a plan: blocks, bytes, files, now and with every year."""
    from stac2cube.growth import IN_FILES, outlook, to_read

    plan, grid, layers = job.plan(), job.spec.grid, job.spec.layers
    rows, columns = grid.shape
    ahead = outlook(job.out, job.spec, plan, job.steps)
    read = to_read(job.wanted.query.bands, job.spec, ahead.pixels)
    units = "m" if grid.geobox.crs is not None and grid.geobox.crs.projected else "degrees"
    yield f"grid     {grid.crs}, {rows} x {columns} pixels of {grid.resolution:g} {units}, {len(layers)} layers"
    yield f"steps    {len(plan.todo)} to build, {len(plan.present)} present, {len(plan.superseded)} superseded"
    yield f"blocks   {plan.blocks}"
    yield f"read     at most {human_bytes(read)} of pixels, about {IN_FILES:g} of it as compressed files"
    yield f"now      {ahead.now.files} files, {human_bytes(ahead.now.size)}"
    yield f"write    at most {ahead.more.files} files, about {human_bytes(ahead.more.size)}"
    year = ahead.year
    yield f"per year at most {year.files} files, about {human_bytes(year.size)}, for about {year.steps} steps"


def wide_console() -> Console:
    """Where tables are printed: on a terminal as wide as it is, in a file or a pipe wide enough for keys of scenes."""
    console = SafeConsole(file=raw(sys.stdout))
    return console if console.is_terminal else SafeConsole(file=raw(sys.stdout), width=160)


def summary_lines(out: Path, summary: Summary) -> Iterator[str]:
    """What a build did, for people."""
    yield (
        f"{out}: {len(summary.sealed)} steps sealed, {len(summary.present)} were present, "
        f"{len(summary.replaced)} replaced, {len(summary.failed)} failed, in {summary.seconds:.1f} s"
    )
    for why in dict.fromkeys(summary.empty.values()):
        yield f"{why}: {', '.join(key for key, reason in summary.empty.items() if reason == why)}"
    outdated = [key for key in summary.superseded if key not in summary.replaced and key not in summary.empty]
    if outdated:
        yield f"newer items exist for {', '.join(outdated)}: --replace-superseded makes these steps anew"
    for key, reason in summary.substituted.items():
        yield f"older items stand in: {key}: {reason}"
    for line in summary.failures():
        yield f"failed: {line}"
    if summary.stopped:
        yield "stopped before the end: the same command goes on"


def human_bytes(count: float) -> str:
    """``"3.2 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""
