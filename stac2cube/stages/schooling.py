"""Training our networks on a person's own cubes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.cube.spec import Layer
from stac2cube.errors import BadInputError
from stac2cube.grid import Grid
from stac2cube.kernels.brightness import BRIGHT
from stac2cube.kernels.classes import says
from stac2cube.kernels.halving import halved
from stac2cube.kernels.networks import COARSE, FINE, read_weights, require_torch, sha256_of
from stac2cube.kernels.training import Truth, judged, train
from stac2cube.kernels.upscaling import Gated
from stac2cube.source.asset import is_nodata
from stac2cube.stages.follow import Parent
from stac2cube.stages.pictures import HIDING
from stac2cube.stages.superres_rules import ways_back
from stac2cube.weights import shipped

EDGE = 128
"""Edge of the parts of scenes that teach or judge, pixels of 10 m."""

MOST = 48
"""Parts taken at most, spread over places and dates."""

HELD_OUT = 5
"""Every fifth place judges and never teaches, whatever the date."""

QUICK = {"sharpen": 500, "fuse": 400}
"""Steps of training from the shipped weights on: minutes on one core."""


def train_on(
    cubes: Sequence[Path],
    out: Path,
    *,
    steps: Mapping[str, int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    told: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train on cubes, from the shipped weights on, and judge on parts of them that were held out.

    Args:
        cubes: Layers of Sentinel-2 with all ten bands, pixels of 10 m.
        out: The safetensors file; beside it a card, ``.json``: data, seed, figures.
        steps: Per network; :data:`QUICK` if None.
        seed: Decides the order of what is shown.
        device: ``"cpu"`` or ``"cuda"``.
        told: Hears how it goes.

    Returns:
        The file.

    Raises:
        BadInputError: A band is missing, or there is too little that is clear.
    """
    require_torch()
    from safetensors.torch import save_file

    begun = time.monotonic()
    learn: list[Truth] = []
    unseen: dict[str, Truth] = {}
    for cube in cubes:
        mine, others = parts_of(Parent.read(cube))
        learn += mine
        unseen |= {f"{cube.name} {name}": part for name, part in others.items()}
    if not learn or not unseen:
        raise BadInputError(
            f"{', '.join(map(str, cubes))}: too little is clear to train on: {EDGE} x {EDGE} pixels without cloud or "
            f"gap at {HELD_OUT} places or more are needed"
        )
    told(f"{len(learn)} parts of {EDGE} x {EDGE} pixels teach, {len(unseen)} judge")
    networks = train(
        learn,
        steps=QUICK if steps is None else steps,
        seed=seed,
        start=read_weights(shipped()),
        device=device,
        told=lambda name, step, loss: told(f"{name}: step {step}, loss {loss:.4f}"),
    )
    tensors = {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    save_file(tensors, part, metadata={"seed": str(seed), "generation": "2"})
    part.rename(out)
    card = {
        "made_from": [str(cube) for cube in cubes],
        "seed": seed,
        "steps": dict(QUICK if steps is None else steps),
        "parts": {"taught": len(learn), "judged": len(unseen)},
        "seconds": round(time.monotonic() - begun, 1),
        "sha256": sha256_of(out),
        "figures": mean_figures(judged(unseen, Gated(networks, "cpu"))),
        "words": "a grid of 2.5 m, not details of 2.5 m",
    }
    out.with_suffix(".json").write_text(json.dumps(card, indent=1))
    return out


def mean_figures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means over scenes, per step and method."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["method"]), []).append(row)
    names = ("psnr", "rmse", "sam", "ergas")
    return [
        {"step": step, "method": method, **{name: round(float(np.mean([r[name] for r in some])), 5) for name in names}}
        for (step, method), some in groups.items()
    ]


def parts_of(parent: Parent) -> tuple[list[Truth], dict[str, Truth]]:
    """Clear parts of a cube that teach, and others, at other places, that judge.

    Raises:
        BadInputError: A band is missing.
    """
    layers = {layer.name: layer for layer in parent.spec.layers}
    lacking = [band for band in (*FINE, *COARSE) if band not in layers]
    if lacking or abs(parent.spec.grid.resolution - 10) > 1e-6:
        raise BadInputError(f"{parent.path} lacks {', '.join(lacking) or 'pixels of 10 m'}: nothing to train on")
    bands = [layers[band] for band in (*FINE, *COARSE)]
    learn: list[Truth] = []
    unseen: dict[str, Truth] = {}
    looked = list(_places(parent.spec.grid))
    keys = list(parent.rows)
    for turn in range(len(keys)):
        for number, (top, left) in enumerate(looked):
            key = keys[(turn + number) % len(keys)]
            judges = number % HELD_OUT == HELD_OUT - 1
            if len(unseen) >= MOST // HELD_OUT if judges else len(learn) >= MOST:
                continue
            window = slice(top, top + EDGE), slice(left, left + EDGE)
            stored = parent.stored(parent.rows[key]).read((*bands, *_classes(parent)), window)
            if any(is_nodata(stored[layer.name], layer.fill).any() for layer in bands) or _cloudy(parent, stored):
                continue
            ways = ways_back(parent.spec, bands, parent.rows[key])
            values = [stored[b.name] * np.float32(b.scale) + np.float32(b.offset) for b in bands]
            if max(float(picture.max()) for picture in values) > BRIGHT:
                continue
            coarse = [halved(picture, way) for picture, way in zip(values[len(FINE) :], ways, strict=True)]
            truth = Truth(np.stack(values[: len(FINE)]), np.stack(coarse))
            if judges:
                unseen[f"{key} {top},{left}"] = truth
            else:
                learn.append(truth)
    return learn, unseen


def _places(grid: Grid) -> list[tuple[int, int]]:
    rows, columns = grid.shape
    places = [(t, le) for t in range(0, rows - EDGE + 1, EDGE) for le in range(0, columns - EDGE + 1, EDGE)]
    order = np.random.default_rng(0).permutation(len(places))
    return [places[place] for place in order]


def _classes(parent: Parent) -> tuple[Layer, ...]:
    return tuple(layer for layer in parent.spec.layers if layer.name == "SCL")


def _cloudy(parent: Parent, stored: Mapping[str, np.ndarray]) -> bool:
    return any(bool(says("scl", stored[layer.name], HIDING).any()) for layer in _classes(parent))
