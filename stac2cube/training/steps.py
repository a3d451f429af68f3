"""Steps of a cube as sources of samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from stac2cube.cube.ledger import Entry
from stac2cube.errors import BadInputError, NothingFoundError
from stac2cube.period import parse_period
from stac2cube.scene import Granule
from stac2cube.stages.follow import Parent
from stac2cube.training.rules import GRID, SampleRules
from stac2cube.training.sources import CubeStep, Part, Request, SampleSource, metadata_file, noting


def step_sources(request: Request, rules: SampleRules) -> list[SampleSource]:
    """The samples of a cube: a step each, on the cube's own grid; each with what it lacks.

    Raises:
        BadInputError: Request and rules do not fit the cube.
        NothingFoundError: No step fits the words.
        CubeError: It is no cube.
    """
    parent = Parent.read(request.source)
    layers = {layer.name: layer for layer in parent.spec.layers}
    if parent.mission != rules.mission:
        raise BadInputError(f"{request.source} is a cube of {parent.mission or 'no mission'}, not of {rules.mission}")
    if rules.target != GRID or request.grid is not None or request.area is not None:
        raise BadInputError("samples of a cube lie on the cube's own grid: say target 'grid', and neither area nor crs")
    if not rules.factored:
        raise BadInputError("a cube holds harmonised numbers, not counts as delivered: raw samples need the products")
    lacking = [name for name in rules.names if name not in layers]
    wants_classes = rules.labels is not None and rules.labels.backend == "scl"
    if wants_classes and "SCL" not in layers:
        lacking.append("SCL")
    if lacking:
        raise BadInputError(f"{request.source} has no layer {', '.join(lacking)}; it has {', '.join(layers)}")
    wanted = tuple(layers[name] for name in [*rules.names, *(["SCL"] if wants_classes else [])])
    rows = [row for row in parent.rows.values() if _fits(row, request)][: request.max_scenes]
    if not rows:
        raise NothingFoundError(f"{request.source} has no step for these words")
    return [_source(parent, row, CubeStep(parent.stored(row), wanted, parent.spec.grid), rules) for row in rows]


def with_clouds(sources: list[SampleSource], path: Path) -> list[SampleSource]:
    """Sources with their steps of a clouds cube, found by the scene's key.

    Raises:
        CubeError: It is no cube.
        BadInputError: It has no masks.
    """
    parent = Parent.read(path)
    layers = {layer.name: layer for layer in parent.spec.layers}
    if "cloud_mask" not in layers:
        raise BadInputError(f"{path} is no clouds cube: it has no layer cloud_mask")
    wanted = tuple(layers[name] for name in ("cloud_mask", "shadow_mask") if name in layers)
    out = []
    for source in sources:
        row = parent.rows.get(source.key)
        if row is None:
            out.append(replace(source, lacking=(*source.lacking, f"labels: {path} has no step {source.key}")))
        else:
            out.append(replace(source, clouds=CubeStep(parent.stored(row), wanted, parent.spec.grid)))
    return out


def _fits(row: Entry, request: Request) -> bool:
    if request.time and not any(first <= row.time <= last for first, last in parse_period(request.time).intervals):
        return False
    limit, cover = request.max_cloud_cover, row.cloud_percent
    return limit is None or cover is None or cover <= limit


def _source(parent: Parent, row: Entry, step: CubeStep, rules: SampleRules) -> SampleSource:
    lacking: list[str] = []
    parts: list[Part] = []
    if rules.angles is not None:
        if not row.sources:
            lacking.append("tile_metadata: the cube does not keep the items of this step; take samples of its layers")
        for text in row.sources:
            item = json.loads(text)
            with noting(lacking):
                parts.append(Part(_nameless(item["id"], row), {}, metadata_file(item, "tile_metadata")))
    return SampleSource(
        id=row.key,
        key=row.key,
        time=row.time,
        tile="",
        platform=str(row.properties.get("platform", "")),
        orbit=int(row.properties.get("orbit", 0)),
        cloud_cover=row.properties.get("cloud_cover"),
        grid=parent.spec.grid,
        items=row.items,
        versions=parent.entry(row).parts,
        parts=tuple(parts),
        step=step,
        lacking=tuple(lacking),
    )


def _nameless(item: str, row: Entry) -> Granule:
    """A granule of which nothing is read but its metadata file."""
    return Granule(item, "", "", "none", row.time, "", "", "", None, {}, "", None, {}, "")
