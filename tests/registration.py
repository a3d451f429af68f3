"""What tests of co-registration share."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

HAS_AROSICS = importlib.util.find_spec("arosics") is not None
NEEDS_AROSICS = pytest.mark.skipif(not HAS_AROSICS, reason="AROSICS is not installed (envs/install-arosics)")


def engines() -> list[Any]:
    """Both engines as parameters; AROSICS is skipped where it is not installed."""
    return [pytest.param("arosics", marks=NEEDS_AROSICS), "phase"]


def fourier_moved(picture: np.ndarray, right: float, down: float, pad: int = 32) -> np.ndarray:
    """The content of a picture moved, by the phases of its spectrum: nothing is blurred."""
    spectrum = np.fft.fft2(np.pad(picture, pad, mode="reflect"))
    rows, columns = (np.fft.fftfreq(size) for size in spectrum.shape)
    turned = spectrum * np.exp(-2j * np.pi * (rows[:, None] * down + columns[None, :] * right))
    inner = slice(pad, -pad)
    moved: np.ndarray = np.fft.ifft2(turned).real[inner, inner]
    return moved
