"""Statistics of a whole set in two passes: histograms set limits, then mean and deviation of what is clipped to them.

The first pass writes ``histogram.npz`` and ``stats.json``; the second adds moments to ``stats.json``. Both add up parts
made at any place, one per frame; the sums are exact, so neither workers nor order change a digit.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from stac2cube.cube.files import remove_partials, remove_tree, write_whole
from stac2cube.errors import BadInputError
from stac2cube.kernels.histogram import Moments, clipped_moments, mean_and_std, thinned
from stac2cube.training.documents import made_folder
from stac2cube.training.frames import Frame, Source
from stac2cube.training.parts import Making
from stac2cube.training.patch_rules import digest_of
from stac2cube.training.statistics import (
    HISTOGRAM,
    STATS,
    Band,
    Statistics,
    StatisticsRules,
    read_statistics,
    write_statistics,
)


def count_values(
    source: Source, rules: StatisticsRules, folder: str | Path, making: Making | None = None
) -> Statistics | None:
    """The first pass: a histogram per band over all valid pixels, and the limits that it sets.

    Where the folder has it already, of the same pixels and by the same rules, nothing is done.

    Args:
        source: The frames.
        rules: How.
        folder: For ``stats.json`` and ``histogram.npz``.
        making: Where the work is done; in threads of this process if None.

    Returns:
        The statistics so far; None if it was stopped: run it again.

    Raises:
        BadInputError: A band has no valid pixel.
        IncompleteError: Frames could not be read; run it again.
    """
    out = Path(folder)
    if (known := _known(source, rules, out)) is not None:
        _clear(out)
        return known
    gathered = out / f".counting-{source.digest}-{digest_of(asdict(rules))}"
    parts = _parts(source, rules, gathered)
    if not (making or Making()).make(parts, _count):
        return None
    total: np.ndarray = np.sum([np.load(path) for path in parts], axis=0)
    bins, bands = rules.bins, []
    for name, histogram in zip(source.bands, total, strict=True):
        try:
            lower, upper = (bins.percentile(histogram, percent) for percent in rules.percentiles)
        except BadInputError as error:
            raise BadInputError(f"{source.name}, {name}: {error}") from error
        bands.append(Band(name, int(histogram.sum()), int(histogram[0]), int(histogram[-1]), (lower, upper)))
    packed = io.BytesIO()
    np.savez_compressed(packed, counts=total[:, 1:-1], edges=bins.edges, bands=np.array(source.bands))
    write_whole(out / HISTOGRAM, packed.getvalue())
    made = Statistics(source.name, source.radiometry, rules, len(source.frames), source.digest, tuple(bands))
    write_statistics(out, made)
    _clear(out)
    return made


def add_moments(
    source: Source, folder: str | Path, making: Making | None = None, *, rules: StatisticsRules | None = None
) -> Statistics | None:
    """The second pass: mean and standard deviation of the same pixels, clipped to the limits of the first.

    Args:
        source: The frames.
        folder: Of the first pass.
        making: Where the work is done; in threads of this process if None.
        rules: Those that the first pass has to have followed; whichever it did if None.

    Returns:
        The whole statistics; None if it was stopped.

    Raises:
        BadInputError: The first pass was of other bands, another radiometry, other frames, or by other rules.
        IncompleteError: Frames could not be read; run it again.
    """
    out = Path(folder)
    known = read_statistics(out)
    known.require_fit(source.bands, source.radiometry)
    if rules is not None and rules != known.rules:
        differing = [
            f"{field.name} {getattr(known.rules, field.name)}, not {getattr(rules, field.name)}"
            for field in fields(rules)
            if getattr(known.rules, field.name) != getattr(rules, field.name)
        ]
        raise BadInputError(f"{out}: the first pass was by other rules ({'; '.join(differing)}): make it again")
    if known.digest != source.digest:
        raise BadInputError(f"{out}: the first pass was of {known.frames} other frames: make it again")
    if all(band.mean is not None for band in known.bands):
        _clear(out)
        return known
    limits = tuple(band.limits for band in known.bands)
    gathered = out / f".moments-{known.digest}-{digest_of([asdict(known.rules), limits])}"
    parts = _parts(source, known.rules, gathered, limits)
    if not (making or Making()).make(parts, _measure):
        return None
    loaded = [json.loads(path.read_text()) for path in parts]
    bands = []
    for place, band in enumerate(known.bands):
        moments = [Moments(*moment) for part in loaded for moment in part[place]]
        mean, std = mean_and_std(moments, *band.limits)
        bands.append(replace(band, mean=mean, std=std))
    made = replace(known, bands=tuple(bands))
    write_statistics(out, made)
    _clear(out)
    return made


@dataclass(frozen=True)
class _Look:
    """A frame, and how it is looked at."""

    frame: Frame
    rules: StatisticsRules
    limits: tuple[tuple[float, float], ...] = ()

    def __str__(self) -> str:
        return self.frame.key

    def strips(self) -> Iterator[np.ndarray]:
        """Values ``(bands, pixels)`` of the chosen pixels, strip by strip."""
        rows, columns = self.frame.shape
        strips = self.frame.strips()
        seed = [self.rules.seed, *blake2b(self.frame.key.encode(), digest_size=8).digest()]
        places = thinned(rows, columns, self.rules.max_pixels_per_scene, strips, seed)
        for strip, chosen in zip(strips, places, strict=True):
            values = self.frame.pixels.read(strip, slice(0, columns)).values
            yield values.reshape(len(values), -1)[:, chosen]


def _count(look: _Look, out: Path) -> None:
    bins = look.rules.bins
    total = np.sum([[bins.histogram(band) for band in values] for values in look.strips()], axis=0)
    packed = io.BytesIO()
    np.save(packed, total)
    write_whole(out, packed.getvalue())


def _measure(look: _Look, out: Path) -> None:
    found: list[list[list[float]]] = [[] for _ in look.limits]
    for values in look.strips():
        for place, (band, (low, high)) in enumerate(zip(values, look.limits, strict=True)):
            moments = clipped_moments(band, low, high)
            found[place].append([moments.count, moments.first, moments.second])
    write_whole(out, json.dumps(found).encode())


def _parts(
    source: Source, rules: StatisticsRules, folder: Path, limits: tuple[tuple[float, float], ...] = ()
) -> Mapping[Path, _Look]:
    if not source.frames:
        raise BadInputError(f"{source.name} has no frames")
    made_folder(folder)
    return {folder / f"{at:06d}": _Look(frame, rules, limits) for at, frame in enumerate(source.frames)}


def _known(source: Source, rules: StatisticsRules, out: Path) -> Statistics | None:
    """What an earlier run counted of the same pixels by the same rules, if it did."""
    if not ((out / STATS).exists() and (out / HISTOGRAM).exists()):
        return None
    known = read_statistics(out)
    same = (known.names, known.radiometry, known.rules, known.digest)
    return known if same == (source.bands, source.radiometry, rules, source.digest) else None


def _clear(out: Path) -> None:
    """A pass is through: its parts go, and what killed runs left."""
    for left in [*out.glob(".counting-*"), *out.glob(".moments-*")]:
        remove_tree(left)
    remove_partials(out)
