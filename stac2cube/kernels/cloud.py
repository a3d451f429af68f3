"""Cloud probability of a pixel from its Sentinel-2 L1C reflectance: the model of s2cloudless.

s2cloudless (Sinergise; code and model CC BY-SA 4.0) is a gradient-boosted forest over ten bands of one pixel. Its model
file is read from the installed package; nothing of it is part of this one.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from stac2cube.errors import BadInputError
from stac2cube.kernels.forest import read_forest

if TYPE_CHECKING:
    from lightgbm import Booster

Engine = Literal["forest", "library"]
"""What runs the model: our own flat copy of it (:mod:`stac2cube.kernels.forest`), or LightGBM itself."""

BANDS = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")
"""The bands that the model sees, in its order."""

NODATA = 255
"""Probability of a pixel without data: never 0, which would be clear."""

DARKEST = 0.02
"""Top-of-atmosphere reflectance of B02 below which no hundredth of a scene lies: clear air alone scatters 0.05 and more
into it."""

PLAUSIBLE = 0.95
"""Share of pixels that may be cloud beyond doubt before the offset is suspected."""

OFFSET = 0.1
"""The agency's offset since baseline 04.00, in reflectance (Sentinel-2 Products Specification Document, issue 14.9)."""

_NOISE = 0.005
"""Reflectance that noise may take from the darkest hundredth of a dark band."""


def cloud_probability(toa: np.ndarray, engine: Engine = "forest") -> np.ndarray:
    """Probability of cloud.

    Args:
        toa: ``(..., 10)`` float, top-of-atmosphere reflectance 0 to 1 in the order of :data:`BANDS`; NaN in any band
            where there is no data.
        engine: The answers of both are the same to the last bit.

    Returns:
        ``(...)`` float64, 0 to 1; NaN where there is no data.

    Raises:
        BadInputError: The packages that hold and run the model are not installed.
    """
    flat = toa.reshape(-1, len(BANDS))
    valid = ~np.isnan(flat).any(axis=1)
    out = np.full(len(flat), np.nan)
    if valid.any():
        if engine == "forest":
            out[valid] = read_forest(model_file()).probability(flat[valid])
        else:  # one thread: as many blocks as there are cores are worked on already
            out[valid] = np.asarray(_booster().predict(flat[valid], num_threads=1))
    probability: np.ndarray = out.reshape(toa.shape[:-1])
    return probability


def as_percent(probability: np.ndarray) -> np.ndarray:
    """Probability as it is stored: uint8, whole percent, :data:`NODATA` where it is NaN."""
    percent = np.rint(np.where(np.isnan(probability), 0, probability) * 100).astype("uint8")
    return np.where(np.isnan(probability), np.uint8(NODATA), percent)


def implausible(probability: np.ndarray, toa: np.ndarray) -> str:
    """Why probabilities cannot be right, "" if they can.

    Counts whose offset was taken off twice or not at all drive the model to either end. What clouds themselves do to a
    scene is told apart by B10 and B12: without clouds the air lets next to no light through in B10, and dark ground and
    water give next to none in B12, so a missed offset of 0.1 is the least that both hold anywhere, and one that was
    taken off twice leaves B10 near -0.1. Thin cirrus leaves B10 or dark places of B12 below that, and as soon as it
    does not, it is bright in B02.

    Args:
        probability: ``(...)``, NaN without data.
        toa: ``(..., 10)`` reflectance in the order of :data:`BANDS`.
    """
    known = ~np.isnan(probability)
    if known.sum() < 1000:
        return ""
    blue, cirrus, swir = (toa[..., BANDS.index(band)][known] for band in ("B02", "B10", "B12"))
    darkest, least = float(np.percentile(blue, 1)), float(np.percentile(cirrus, 1))
    if darkest < DARKEST and least < _NOISE - OFFSET / 2:
        return f"the darkest B02 is {darkest:.3f}, less than air alone: its offset was probably taken off twice"
    if min(least, float(np.percentile(swir, 1))) < OFFSET - _NOISE:
        return ""
    if (probability[known] > 0.99).mean() > PLAUSIBLE and float(np.percentile(blue, 5)) < 0.2:
        return (
            f"nearly every pixel is cloud beyond doubt though many are dark, and B10 is nowhere below {least:.3f}: its "
            "offset was probably not taken off"
        )
    return ""


def model_file() -> Path:
    """The model in the installed package, found without importing it (which would load OpenCV and more).

    Raises:
        BadInputError: s2cloudless is not installed.
    """
    spec = find_spec("s2cloudless")
    if spec is None or not spec.submodule_search_locations:
        raise BadInputError("cloud probabilities need s2cloudless: pip install 'stac2cube[clouds]'")
    found = sorted((Path(next(iter(spec.submodule_search_locations))) / "models").glob("*.txt"))
    if not found:
        raise BadInputError(
            "the installed s2cloudless holds no model: reinstall it (pip install --force-reinstall s2cloudless)"
        )
    return found[-1]


@cache
def _booster() -> Booster:
    try:
        import lightgbm
    except ImportError as error:
        raise BadInputError("cloud probabilities need lightgbm: pip install 'stac2cube[clouds]'") from error
    except OSError as error:
        # Its wheel brings no OpenMP, and a fresh system has none before something else asks for it.
        raise BadInputError(f"lightgbm cannot be loaded ({error}): apt install libgomp1, or module load gcc") from error
    return lightgbm.Booster(model_file=str(model_file()))
