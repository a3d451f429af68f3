"""Training of our networks: measured pictures are the reference, degraded and restored again (Wald et al. 1997)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from stac2cube.superres.backends import Agreement, Upscaler
from stac2cube.superres.networks import COARSE, FINE, NETWORKS, one_thread
from stac2cube.superres.optics import MTF, agreeing, bicubic, degraded, means
from stac2cube.superres.rules import Consistency

if TYPE_CHECKING:
    import torch
    from torch import nn


STEPS = {"sharpen": 3000, "fuse": 1000}
"""Steps of training from random weights."""

BATCH, PATCH = 24, 16
"""Patches per step, and their edge in pixels of the network's input for ``sharpen``; ``fuse`` has twice the edge."""

UNSURE = (-0.08, -0.04, 0.0, 0.04, 0.08)
"""Differences of the optics in training from the table, whose accuracy is no better than that."""

MOVES = ((0, 0), (1, 0), (0, 1), (1, 1), (0, 0))
"""Pixels of 20 m by which scenes are cropped for each of these optics, so that coarser pixels begin elsewhere."""

MEANS, DSEN2 = "means", "dsen2"
"""Optics other than a Gaussian: plain averages, and those of Lanaras et al. 2018 (doi:10.1016/j.isprsjprs.2018.09.018):
a Gaussian whose standard deviation is one fine pixel through the scale, then averages."""

Optics = float | str
"""Difference of the gain of a Gaussian from :data:`stac2cube.superres.optics.MTF`, or one of the names above."""

NOISE = 0.0015
"""Most noise that is added to the input, reflectance: detail below the noise must not be invented."""

REMEMBERED = 0.995
"""Weight of the previous steps in the running mean of the network's weights, which is kept."""

LEAST = 16
"""Smallest edge of a coarsened scene, in pixels, for which its bands of 20 m are scored at 2.5 m."""

BORDER = 8
"""Pixels at the edges that are not scored."""


@dataclass(frozen=True)
class TrainingArea:
    """Part of a scene, reflectance float32 without gaps.

    Attributes:
        fine: ``(4, rows, columns)``, bands of 10 m in the order of :data:`stac2cube.superres.networks.FINE`; sizes are
            multiples of 8.
        coarse: ``(6, rows / 2, columns / 2)``, bands of 20 m in the order of ``COARSE``.
    """

    fine: np.ndarray
    coarse: np.ndarray


@dataclass(frozen=True)
class TrainingSample:
    """Input of a network, and the result it should give.

    Attributes:
        given: ``(bands, rows, columns)`` the network's input.
        wanted: ``(out, scale * rows, scale * columns)`` the reference minus its back-projected picture.
    """

    given: np.ndarray
    wanted: np.ndarray


def gains_of(bands: Sequence[str], off: float = 0.0) -> list[float]:
    """Modulation transfer of some bands."""
    return [MTF[band] + off for band in bands]


def training_samples(truth: TrainingArea, name: str, off: float) -> list[TrainingSample]:
    """Training samples of a scene for one of the networks, by optics that differ from the table by ``off``."""
    if name == "sharpen":
        coarse = degraded(truth.fine, 4, gains_of(FINE, off))
        gains = gains_of(FINE)
        wanted = truth.fine - agreeing(bicubic(coarse, 4), coarse, 4, gains)
        return [
            TrainingSample(np.concatenate([coarse[band : band + 1], coarse]), wanted[band : band + 1])
            for band in range(4)
        ]
    coarse = degraded(truth.coarse, 2, gains_of(COARSE, off))
    raised = agreeing(bicubic(coarse, 2), coarse, 2, gains_of(COARSE))
    guide = degraded(truth.fine, 2, gains_of(FINE, off))
    return [TrainingSample(np.concatenate([raised, guide]), truth.coarse - raised)]


def train(
    scenes: Sequence[TrainingArea],
    *,
    steps: Mapping[str, int] | None = None,
    seed: int = 0,
    start: Mapping[str, nn.Module] | None = None,
    device: str = "cpu",
    told: Callable[[str, int, float], None] = lambda *_: None,
) -> dict[str, nn.Module]:
    """Train both networks on one thread: the same seed gives the same weights whatever the number of cores.

    Args:
        scenes: Training data.
        steps: Steps per network; :data:`STEPS` if None.
        seed: Decides first weights and order; on a CPU the same seed gives the same weights.
        start: Networks to begin from, by name, which are not changed; random weights if None.
        device: ``"cpu"`` or ``"cuda"``.
        told: Called with network, step and loss at intervals.
    """
    import torch

    made = {}
    with one_thread(), torch.random.fork_rng(devices=[]):
        for name, build in NETWORKS.items():
            torch.manual_seed(seed)
            network = build() if start is None else deepcopy(start[name])
            taught = [
                lesson
                for off, by in zip(UNSURE, MOVES, strict=True)
                for scene in scenes
                for lesson in training_samples(_moved(scene, by), name, off)
            ]
            count = (STEPS if steps is None else steps)[name]
            edge = PATCH if name == "sharpen" else 2 * PATCH
            _fit(network.to(device), _batches(taught, edge, seed, device), count, partial(told, name))
            made[name] = network.cpu().eval()
    return made


def _moved(scene: TrainingArea, by: tuple[int, int]) -> TrainingArea:
    """A scene without its first rows and columns, pixels of 20 m; unchanged if the rest would be too small."""
    rows, columns = by
    size = [(edge - 2 * move) // 8 * 8 for edge, move in zip(scene.fine.shape[1:], by, strict=True)]
    if min(size) < 4 * PATCH:
        return scene
    fine = scene.fine[:, 2 * rows : 2 * rows + size[0], 2 * columns : 2 * columns + size[1]]
    coarse = scene.coarse[:, rows : rows + size[0] // 2, columns : columns + size[1] // 2]
    return TrainingArea(np.ascontiguousarray(fine), np.ascontiguousarray(coarse))


def _fit(
    network: nn.Module,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    steps: int,
    told: Callable[[int, float], None],
) -> None:
    import torch

    # Convolutions are faster where the channels of a pixel are contiguous in memory.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = torch.optim.Adam(network.parameters(), lr=2e-3)
    pace = torch.optim.lr_scheduler.OneCycleLR(learner, 2e-3, total_steps=max(steps, 2), pct_start=0.1)
    mean = torch.optim.swa_utils.AveragedModel(network, avg_fn=_running_mean)
    network.train()
    for step in range(steps):
        given, wanted = next(batches)
        loss = (network(given) - wanted).abs().mean()
        learner.zero_grad()
        loss.backward()
        learner.step()
        pace.step()
        mean.update_parameters(network)
        if step % 50 == 49:
            told(step + 1, float(loss.detach()))
    network.load_state_dict(mean.module.state_dict())
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def _running_mean(mean: torch.Tensor, now: torch.Tensor, _: object) -> torch.Tensor:
    return REMEMBERED * mean + (1 - REMEMBERED) * now


def _batches(
    taught: Sequence[TrainingSample], edge: int, seed: int, device: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random patches, rotated and mirrored, scaled to similar contrast: a field counts as much as a town."""
    import torch

    rng = np.random.default_rng(seed)
    weights = np.array([lesson.given[0].size for lesson in taught], dtype=float)
    while True:
        given: list[np.ndarray] = []
        wanted: list[np.ndarray] = []
        for place in rng.choice(len(taught), BATCH, p=weights / weights.sum()):
            lesson = taught[place]
            scale = lesson.wanted.shape[1] // lesson.given.shape[1]
            size = [min(edge, part) for part in lesson.given.shape[1:]]
            top, left = (
                int(rng.integers(0, whole - part + 1)) for whole, part in zip(lesson.given.shape[1:], size, strict=True)
            )
            one = lesson.given[:, top : top + size[0], left : left + size[1]]
            other = lesson.wanted[:, scale * top : scale * (top + size[0]), scale * left : scale * (left + size[1])]
            turn, mirror = int(rng.integers(4)), bool(rng.integers(2))
            contrast = max(float(one[0].std()), 2e-3)
            noise = rng.normal(0, rng.uniform(0, NOISE), one.shape)
            for part, into in ((one + noise, given), (other, wanted)):
                turned = np.rot90(part[..., ::-1] if mirror else part, turn, axes=(1, 2))
                into.append(np.ascontiguousarray(turned / contrast, dtype="float32"))
        pictures = torch.from_numpy(np.stack(given)).to(device).contiguous(memory_format=torch.channels_last)
        yield pictures, torch.from_numpy(np.stack(wanted)).to(device)


def seen_by(picture: np.ndarray, scale: int, bands: Sequence[str], optics: Optics) -> np.ndarray:
    """Simulate a sensor with coarser pixels and some optics, like ``degraded`` of the optics."""
    if optics == MEANS:
        return means(picture, scale)
    if optics == DSEN2:
        return means(np.stack([ndimage.gaussian_filter(band, 1 / scale) for band in picture]), scale)
    assert not isinstance(optics, str)
    return degraded(picture, scale, gains_of(bands, optics))


def judged(scenes: Mapping[str, TrainingArea], upscaler: Upscaler, optics: Optics = 0.0) -> list[dict[str, Any]]:
    """Score how well each method restores coarser pictures of scenes.

    Args:
        scenes: Scenes by title.
        upscaler: A network.
        optics: Optics by which the scenes are made coarser; all methods assume those of the table.

    Returns:
        Per scene, step and method: ``psnr`` (dB, peak 1), ``rmse`` (reflectance), ``sam`` (degrees), ``ergas``.
        ``"10 to 2.5 m"`` is scored with the four bands of 10 m, from 40 to 10 m; ``"10 to 2.5 m, bands of 20 m"`` with
        the six others, from 80 to 20 m.
    """
    rows = []
    for title, scene in scenes.items():
        for step, (low, guide, truth, bands) in _exams(scene, optics).items():
            scale = truth.shape[1] // low.shape[1]
            gains, raised = gains_of(bands), bicubic(low, scale)
            pictures = {"bicubic": raised, "backproject": agreeing(raised, low, scale, gains)}
            ways: tuple[Consistency, ...] = ("none", "mtf", "mean")
            for way in ways:
                agreement = Agreement("native", way)
                asked = agreement.asked(upscaler)
                if scale == 2:
                    said = asked.fuse(guide, low, bands)
                elif bands == FINE:
                    said = asked.sharpen(low, low[:0], ())
                else:
                    said = asked.sharpen(guide, low, bands)[len(FINE) :]
                pictures[f"network, {way}"] = agreement.made(said, low, scale, bands, asked.agrees)
            rows += [
                {"scene": title, "step": step, "method": method, **scores(picture, truth, scale)}
                for method, picture in pictures.items()
            ]
    return rows


def _exams(scene: TrainingArea, optics: Optics) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, Sequence[str]]]:
    """Per step: coarse picture, guide, reference, and bands that are scored."""
    fine, coarse = scene.fine, scene.coarse
    low = seen_by(coarse, 2, COARSE, optics)
    exams: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, Sequence[str]]] = {}
    exams["20 to 10 m"] = (low, seen_by(fine, 2, FINE, optics), coarse, COARSE)
    four = seen_by(fine, 4, FINE, optics)
    exams["10 to 2.5 m"] = (four, four, fine, FINE)
    rows, columns = (size // 4 * 4 for size in coarse.shape[1:])
    if min(rows, columns) >= 4 * LEAST:
        as_20_m = degraded(fine, 2, gains_of(FINE))[:, :rows, :columns]
        six = np.ascontiguousarray(coarse[:, :rows, :columns])
        guide, low = seen_by(as_20_m, 4, FINE, optics), seen_by(six, 4, COARSE, optics)
        exams["10 to 2.5 m, bands of 20 m"] = (low, guide, six, COARSE)
    return exams


def scores(picture: np.ndarray, truth: np.ndarray, scale: int) -> dict[str, float]:
    """Peak signal to noise (dB, peak 1), root mean square error, spectral angle (degrees) and ERGAS (Wald 2000)."""
    inner = slice(BORDER, -BORDER)
    one, other = picture[:, inner, inner].astype("float64"), truth[:, inner, inner].astype("float64")
    squares = np.mean((one - other) ** 2, axis=(1, 2))
    cosine = (one * other).sum(axis=0) / np.maximum(np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0), 1e-9)
    return {
        "psnr": float(-10 * np.log10(squares.mean())),
        "rmse": float(np.sqrt(squares.mean())),
        "sam": float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()),
        "ergas": float(100 / scale * np.sqrt(np.mean(squares / other.mean(axis=(1, 2)) ** 2))),
    }
