"""Shift between two pictures by phase correlation, to a hundredth of a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class WindowShift:
    """What moves one window of a picture onto the same window of a reference.

    Attributes:
        right: Pixels to the right.
        down: Pixels down.
        reliability: 0 to 100; how far the match stands out.
    """

    right: float
    down: float
    reliability: float


UPSAMPLING = 100
"""Fractions of a pixel that are told apart."""

HIGHEST_FREQUENCY = 0.35
"""Cycles per pixel up to which phases count: near half a cycle the sensor passes little but noise."""

REACH = 10
"""Pixels within which a peak is looked for."""

FAINTEST = 5.0
"""A peak must stand so many times above what phases at random would give."""


def phase_shift(reference: np.ndarray, target: np.ndarray) -> WindowShift | None:
    """Measure a window.

    Phase correlation (Kuglin and Hines 1975) of windows tapered by a Hann function, the peak refined by a matrix DFT
    about it (Guizar-Sicairos, Thurman and Fienup 2008, doi:10.1364/OL.33.000156).

    Args:
        reference: ``(rows, columns)`` float, without gaps.
        target: The same shape; its content lies where it should be moved away from.

    Returns:
        What is to be added to the positions of the target's pixels; None where no peak stands out, as between pictures
        of different places, of water, or of nothing.
    """
    taper, weight, down, right = _frame(reference.shape)
    product = _spectrum(reference, taper) * np.conj(_spectrum(target, taper))
    size = np.abs(product)
    if not size.max() > 0:
        return None
    phases = weight * product / np.maximum(size, 1e-12 * size.max())
    correlation = np.fft.ifft2(phases).real * phases.size
    near = [np.abs(np.fft.fftfreq(size) * size) <= REACH for size in correlation.shape]
    peak = np.unravel_index(int(np.argmax(np.where(np.outer(*near), correlation, -np.inf))), correlation.shape)
    total = float(weight.sum())
    height = float(correlation[peak]) / total
    if height < FAINTEST / np.sqrt(total):
        return None
    coarse = [float(np.fft.fftfreq(n)[place] * n) for place, n in zip(peak, correlation.shape, strict=True)]
    around = np.arange(-UPSAMPLING, UPSAMPLING + 1) / UPSAMPLING
    rows, columns = coarse[0] + around, coarse[1] + around
    fine = (np.exp(2j * np.pi * np.outer(rows, down)) @ phases @ np.exp(2j * np.pi * np.outer(right, columns))).real
    row, column = np.unravel_index(int(np.argmax(fine)), fine.shape)
    return WindowShift(float(columns[column]), float(rows[row]), 100 * height)


def _spectrum(window: np.ndarray, taper: np.ndarray) -> np.ndarray:
    spectrum: np.ndarray = np.fft.fft2((window - window.mean()) * taper)
    return spectrum


@lru_cache(maxsize=4)
def _frame(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Hann taper, weight of every frequency, and the frequencies down and to the right."""
    taper = np.outer(np.hanning(shape[0]), np.hanning(shape[1]))
    down, right = np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1])
    weight = (np.hypot(down[:, None], right[None, :]) <= HIGHEST_FREQUENCY).astype(float)
    weight[0, 0] = 0.0
    return taper, weight, down, right
