"""``python -m tests.bench.shifts PICTURE``: how well shifts are found, beside AROSICS with its defaults and chains.

PICTURE holds a band of real texture, 600 x 600 pixels or more (anything rasterio opens, or the ``im10`` of a MATLAB
file). Shifts are made by the phases of its spectrum, clouds from noise; seeds are fixed. Prints the tables of
docs/coregistration.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from stac2cube.build.clear_pixels import Patch, choose_windows, edge_for, per_cell, texture
from stac2cube.coregister.matching import MARGIN, Match, match
from stac2cube.coregister.measure import REFERENCE, WINDOWS, MeasuredPair, along, graph
from stac2cube.coregister.rules import ShiftRules
from tests.real.recorded import MAT_FINE
from tests.registration import HAS_AROSICS, fourier_moved

COVERS = (0.0, 0.2, 0.5, 0.8)


@dataclass(frozen=True)
class Seen:
    """A scene: its pixels, which of them show the ground, and by what it lies beside."""

    pixels: np.ndarray
    good: np.ndarray
    off: tuple[float, float]


@dataclass(frozen=True)
class Errors:
    """How far accepted measurements were off, pixels per axis, of how many tried."""

    tried: int
    accepted: tuple[tuple[float, float], ...]

    def row(self) -> str:
        if not self.accepted:
            return f"0 of {self.tried} | | | "
        size = np.hypot(*np.array(self.accepted).T)
        rmse = float(np.sqrt(np.mean(np.square(self.accepted))))
        return f"{len(size)} of {self.tried} | {rmse:.3f} | {size.max():.3f} | {int((size > 0.5).sum())}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--trials", type=int, default=50, help="per cloud cover")
    chosen = parser.parse_args()
    picture = opened(chosen.picture)
    pairs(picture, chosen.trials)
    chains(picture)


def opened(path: Path) -> np.ndarray:
    """600 x 600 pixels, float64; of a MATLAB file blue, with which the tables were made."""
    if path.suffix == ".mat":
        import h5py

        with h5py.File(path) as file:
            return np.asarray(file["im10"][MAT_FINE.index("B02")], dtype="float64")[:600, :600]
    import rasterio

    with rasterio.open(path) as file:
        return np.asarray(file.read(1)[:600, :600], dtype="float64")


def taken(picture: np.ndarray, off: tuple[float, float], cover: float, seed: int) -> Seen:
    """The picture as a sensor has it that lies beside by ``off``, through clouds."""
    rng = np.random.default_rng(seed)
    rough = [ndimage.gaussian_filter(rng.standard_normal(picture.shape), s) * s for s in (rng.uniform(8, 24), 5)]
    field = rough[0] + 0.3 * rough[1]
    opacity = np.clip((field - np.quantile(field, 1 - cover)) / (0.3 * field.std()), 0, 1) if cover else 0 * field
    bright = 4 * picture.mean() * (1 + 0.3 * rough[1] / rough[1].std() * 0.3)
    light = rng.uniform(0.8, 1.2)
    noise = rng.normal(0, 0.01 * picture.mean(), picture.shape)
    pixels = (light * fourier_moved(picture, *off) + noise) * (1 - opacity) + bright * opacity
    return Seen(pixels.astype("float32"), opacity < 0.05, off)


def compared(reference: Seen, target: Seen) -> list[Patch]:
    """The windows that the stage would compare."""
    edge = edge_for(reference.pixels.shape)
    assert edge is not None
    step, good = edge // 2, reference.good & target.good
    clear, rough = per_cell(good, step), per_cell(texture(reference.pixels, reference.good), step)
    over = [(cells[1:, 1:] + cells[1:, :-1] + cells[:-1, 1:] + cells[:-1, :-1]) / 4 for cells in (clear, rough)]
    padded = [np.pad(array, MARGIN, mode="edge") for array in (reference.pixels, target.pixels)]
    inside = np.pad(good, MARGIN)
    size = edge + 2 * MARGIN
    windows = [
        (slice(r * step, r * step + size), slice(c * step, c * step + size))
        for r, c in choose_windows(over[0], over[1], max(WINDOWS.values()))
    ]
    return [Patch(padded[0][window], padded[1][window], inside[window]) for window in windows]


def measured(reference: Seen, target: Seen, engine: str) -> Match | None:
    """As the stage measures and believes it, None where it does not."""
    rules = ShiftRules(engine=engine, max_shift=5)
    patches = compared(reference, target)
    if not patches:
        return None
    found = match(patches[: WINDOWS[engine]], engine)
    check = match(patches, "phase") if engine == "arosics" else None
    return found if found and not rules.verdict(found, check) else None


def plain_arosics(reference: Seen, target: Seen) -> tuple[float, float] | None:
    """AROSICS with its defaults on whole pictures, told of the clouds as its documentation says."""
    from arosics import COREG
    from geoarray import GeoArray

    rows = reference.pixels.shape[0]
    place = ((0.0, 1.0, 0.0, float(rows), 0.0, -1.0), "EPSG:32631")
    images = [GeoArray(seen.pixels, *place) for seen in (reference, target)]
    masks = [GeoArray((~seen.good).astype("uint8"), *place) for seen in (reference, target)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = COREG(
                *images, mask_baddata_ref=masks[0], mask_baddata_tgt=masks[1], nodata=(-9999, -9999),
                ignore_errors=True, CPUs=1, q=True, progress=False,
            )  # fmt: skip
            found.calculate_spatial_shifts()
        except (RuntimeError, ValueError, AssertionError):
            return None
    return (
        (float(found.x_shift_px), float(found.y_shift_px)) if found.success and found.x_shift_px is not None else None
    )


def pairs(picture: np.ndarray, trials: int) -> None:
    """Pairs of pictures, shifts of up to 2.8 pixels per axis."""
    tools = ["phase", *(("arosics", "AROSICS, defaults") if HAS_AROSICS else ())]
    print("| cloud | tool | believed | RMSE per axis, px | largest, px | above 0.5 px | s per pair |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for cover in COVERS:
        errors: dict[str, list[tuple[float, float]]] = {tool: [] for tool in tools}
        spent = dict.fromkeys(tools, 0.0)
        for trial in range(trials):
            rng = np.random.default_rng(trial)
            off = (float(rng.uniform(-2.8, 2.8)), float(rng.uniform(-2.8, 2.8)))
            reference, target = taken(picture, (0, 0), 0, 10_000 + trial), taken(picture, off, cover, trial)
            for tool in tools:
                begun = time.perf_counter()
                if tool in WINDOWS:
                    found = measured(reference, target, tool)
                    shift = (found.right, found.down) if found else None
                else:
                    shift = plain_arosics(reference, target)
                spent[tool] += time.perf_counter() - begun
                if shift:
                    errors[tool].append((shift[0] + off[0], shift[1] + off[1]))
        for tool in tools:
            row = Errors(trials, tuple(errors[tool])).row()
            print(f"| {cover:.0%} | {tool} | {row} | {spent[tool] / trials:.2f} |", flush=True)


def chains(picture: np.ndarray, scenes: int = 40, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """A series of scenes, most of them cloudy: what is left of its shifts, by strategy."""
    print(f"\n| left in a series of {scenes}, RMSE per axis, px (scenes believed) | {' | '.join(map(str, seeds))} |")
    print("| --- |" + " --- |" * len(seeds))
    table: dict[str, list[str]] = {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        series = []
        for place in range(scenes):
            cover = 0.0 if place == 0 else float(rng.choice([0.05, 0.2, 0.4, 0.6, 0.8]))
            off = (float(rng.normal(0, 0.6)), float(rng.normal(0, 0.6)))
            series.append(taken(picture, off if place else (0.0, 0.0), cover, 1000 * seed + place))
        table.setdefault("uncorrected", []).append(_left(series, {}))
        found: dict[tuple[int, int], MeasuredPair] = {}
        for place, seen in enumerate(series):
            for other in {0, *range(max(0, place - 3), place)} - {place}:
                match_ = measured(series[other], seen, "phase")
                if match_:
                    name = REFERENCE if other == 0 else str(other)
                    found[place, other] = MeasuredPair(str(place), name, (match_.right, match_.down), match_.sigma)
        star = [pair for (_, other), pair in found.items() if other == 0]
        chain = [pair for (place, other), pair in found.items() if other == place - 1]
        table.setdefault("reference", []).append(_left(series, along(star, {}, unknown_is_still=False)))
        table.setdefault("graph", []).append(_left(series, graph(list(found.values()), {})))
        table.setdefault("consecutive", []).append(_left(series, along(chain, {}, unknown_is_still=True)))
        if HAS_AROSICS:
            total, naive = np.zeros(2), {}
            for place in range(1, scenes):
                shift = plain_arosics(series[place - 1], series[place])
                total = total + (shift if shift else (0.0, 0.0))
                naive[str(place)] = (float(total[0]), float(total[1]))
            table.setdefault("chain of AROSICS with defaults", []).append(_left(series, naive))
    for name, cells in table.items():
        print(f"| {name} | {' | '.join(cells)} |")


def _left(series: Sequence[Seen], shifts: dict[str, tuple[float, float]]) -> str:
    """Of the scenes that were moved, or of all where none was."""
    kept = [
        np.add(seen.off, shifts.get(str(place), (0, 0)))
        for place, seen in enumerate(series)
        if place and (not shifts or str(place) in shifts)
    ]
    return f"{np.sqrt(np.mean(np.square(kept))):.3f} ({len(kept)})"


if __name__ == "__main__":
    main()
