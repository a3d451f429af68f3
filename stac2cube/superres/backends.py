"""Backends of super-resolution with a common interface; handling of pixels that are too bright for a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import ndimage

from stac2cube.errors import BadInputError
from stac2cube.superres import networks as sen2sr
from stac2cube.superres.networks import FINE, RADIUS, OnnxModel, answer, generation_of, read_model, read_weights
from stac2cube.superres.optics import (
    FUSE_SEEN,
    MTF,
    SHARP_SEEN,
    agreeing,
    bicubic,
    details_mix,
    fuse_gate,
    gated,
    phases_of,
    residual,
    sharp_gate,
)
from stac2cube.superres.rules import Consistency, SuperresRules

# Pixels too bright for a network: saturated ones hold no measurement, others are beyond its training data.

BRIGHT = 1.2
"""Reflectance above which no network is used: surfaces are below it; clouds, glint and mirrors may be above."""

SATURATED = 2.0
"""Reflectance above which a pixel holds no measurement. The agency's value for saturation, count 65535, reads as 6.45;
a pixel that resampling mixed from it and its neighbours is between. Detectors of Sentinel-2 reach at most about 1.8
(Sentinel-2 User Handbook, table of Lref and Lmax, for a low sun)."""

_SQUARE = np.ones((3, 3), dtype=bool)


def saturated(picture: np.ndarray, around: int) -> np.ndarray:
    """Mask of the pixels of a band that hold no measurement.

    Args:
        picture: ``(rows, columns)`` reflectance.
        around: Pixels around each saturated one into which resampling may have mixed it.

    Returns:
        ``(rows, columns)`` bool, True where there is no measurement.
    """
    return grown_mask(picture > SATURATED, around)


def grown_mask(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Dilate a mask by ``pixels`` steps, diagonally too; ``(rows, columns)`` bool."""
    if not pixels or not mask.any():
        return mask
    wider: np.ndarray = ndimage.binary_dilation(mask, _SQUARE, iterations=pixels)
    return wider


def without(picture: np.ndarray, gone: np.ndarray, reach: int) -> np.ndarray:
    """Fill the gaps of a picture with the nearest pixel within ``reach`` pixels, with 0 farther in.

    Args:
        picture: ``(rows, columns)`` float32.
        gone: ``(rows, columns)`` bool, True in gaps.
        reach: Pixels.
    """
    return without_all([picture], gone, reach)[0]


def without_all(pictures: Sequence[np.ndarray], gone: np.ndarray, reach: int) -> list[np.ndarray]:
    """Fill the gaps of pictures, as in :func:`without`, that have them at the same places."""
    if not gone.any():
        return list(pictures)
    away, (rows, columns) = ndimage.distance_transform_edt(gone, return_indices=True)
    near = away <= reach
    return [np.where(near, picture[rows, columns], np.float32(0)) for picture in pictures]


# From bands of 10 and 20 m to 10 m and to 2.5 m, by backends with a common interface.

FOLDERS = ("sen2sr", "onnx")
"""Backends whose weights are a folder."""


class Upscaler(Protocol):
    """Interface of a backend. Pictures are reflectance, float32, without gaps."""

    @property
    def radius(self) -> int:
        """Pixels of 10 m within which others may affect a pixel of the result."""
        ...

    @property
    def reach(self) -> int:
        """The same for the network of one step alone, to 10 m or to 2.5 m; 0 without a network."""
        ...

    @property
    def spare(self) -> int:
        """Pixels of 10 m at the edges that the second step does not need."""
        ...

    @property
    def agrees(self) -> bool:
        """Whether its pictures already agree with the measured pixels, as far as they should."""
        ...

    def fuse(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:
        """Bands of 20 m at 10 m: ``(n, rows, columns)`` from ``(4, rows, columns)`` and ``(n, rows/2, columns/2)``."""
        ...

    def sharpen(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:
        """All bands at 2.5 m: ``(4 + n, 4 rows, 4 columns)``, both inputs at 10 m."""
        ...


@dataclass(frozen=True)
class Bicubic:
    """Bicubic interpolation alone."""

    radius: int = 4
    reach: int = 0
    spare: int = 16
    agrees: bool = False

    def fuse(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:  # noqa: ARG002
        """See :class:`Upscaler`."""
        return bicubic(coarse, 2)

    def sharpen(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:  # noqa: ARG002
        """See :class:`Upscaler`."""
        return bicubic(np.concatenate([fine, coarse]), 4)


@dataclass(frozen=True)
class Native:
    """Our networks as used for older cubes: they add to the back-projected picture everywhere.

    Attributes:
        networks: Networks by name, see :mod:`stac2cube.superres.networks`.
        device: ``"cpu"`` or ``"cuda"``.
    """

    networks: Any
    device: str
    radius: int = 2 * RADIUS
    reach: int = RADIUS
    spare: int = 0
    agrees: bool = False

    def fuse(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:
        """See :class:`Upscaler`."""
        raised = agreeing(bicubic(coarse, 2), coarse, 2, gains(bands))
        added: np.ndarray = answer(self.networks["fuse"], np.concatenate([raised, fine])[None], self.device)[0]
        fused: np.ndarray = raised + added
        return fused

    def sharpen(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:
        """See :class:`Upscaler`."""
        every = np.concatenate([fine, coarse])
        raised = agreeing(bicubic(every, 4), every, 4, gains([*FINE, *bands]))
        # One band after the other: all at once would need ten times the memory for features.
        for place, band in enumerate(every):
            raised[place] += answer(self.networks["sharpen"], np.concatenate([band[None], fine])[None], self.device)[
                0, 0
            ]
        return raised


@dataclass(frozen=True)
class Gated:
    """Our networks, where the picture is compatible with the assumed optics, see :mod:`stac2cube.superres.optics`.

    To 2.5 m the network is run for the four bands of 10 m only. The others receive a combination of its additions, with
    the coefficients that relate their details to those of the four.

    Attributes:
        networks: Networks by name, see :mod:`stac2cube.superres.networks`.
        device: ``"cpu"`` or ``"cuda"``.
        held: Whether the pictures are brought into agreement with the measured pixels.
    """

    networks: Any
    device: str
    held: bool = True
    radius: int = max(RADIUS, FUSE_SEEN) + max(RADIUS, SHARP_SEEN)
    reach: int = RADIUS
    spare: int = 16
    agrees: bool = True

    def fuse(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:
        """See :class:`Upscaler`."""
        believed = gains(bands)
        raised = agreeing(bicubic(coarse, 2), coarse, 2, believed)
        said = answer(self.networks["fuse"], np.concatenate([raised, fine])[None], self.device)[0]
        return gated(phases_of(said, 2), coarse, believed, fuse_gate(fine, coarse), self.held)

    def sharpen(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:
        """See :class:`Upscaler`."""
        every = np.concatenate([fine, coarse])
        added = np.zeros((len(every), 4, 4, *fine.shape[1:]), "float32")
        for place, band in enumerate(fine):
            given = np.concatenate([band[None], fine])[None]
            added[place] = answer(self.networks["sharpen"], given, self.device, phases=True)[0].reshape(
                added[place].shape
            )
        for more, parts in zip(added[len(fine) :], details_mix(fine, coarse) if len(coarse) else (), strict=True):
            for part, said in zip(parts, added[: len(fine)], strict=True):
                np.add(more, part * said, out=more)
        return gated(added, every, gains([*FINE, *bands]), sharp_gate(fine), self.held)


@dataclass(frozen=True)
class Sen2sr:
    """SEN2SR-Lite, see :mod:`stac2cube.superres.networks`."""

    networks: Any
    device: str
    radius: int = 3 * sen2sr.SEN2SR_RADIUS
    reach: int = 3 * sen2sr.SEN2SR_RADIUS
    spare: int = 0
    agrees: bool = False

    def fuse(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:  # noqa: ARG002
        """See :class:`Upscaler`."""
        return sen2sr.fused(self.networks, fine, coarse, self.device)

    def sharpen(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:  # noqa: ARG002
        """See :class:`Upscaler`."""
        return sen2sr.sharpened(self.networks, fine, coarse, self.device)


@dataclass(frozen=True)
class Onnx:
    """A model by others, see :mod:`stac2cube.superres.networks`."""

    model: OnnxModel
    spare: int = 0
    agrees: bool = False

    @property
    def radius(self) -> int:
        """See :class:`Upscaler`."""
        return self.model.margin

    @property
    def reach(self) -> int:
        """See :class:`Upscaler`."""
        return self.model.margin

    def fuse(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:  # noqa: ARG002
        """See :class:`Upscaler`."""
        return bicubic(coarse, 2)

    def sharpen(self, fine: np.ndarray, coarse: np.ndarray, bands: Sequence[str]) -> np.ndarray:
        """See :class:`Upscaler`."""
        names, every = [*FINE, *bands], np.concatenate([fine, coarse])
        made = self.model.sharpened(every, names)
        return np.stack([made[b] if b in made else bicubic(every[i : i + 1], 4)[0] for i, b in enumerate(names)])


@dataclass(frozen=True)
class Agreement:
    """The kind of agreement with the measured pixels.

    Attributes:
        backend: One of :data:`stac2cube.superres.rules.BACKENDS`.
        consistency: ``"mtf"``: through the sensor's optics the picture gives the measured pixels; ``"mean"``: its
            means give them, exactly; ``"none"``.
    """

    backend: str
    consistency: Consistency

    @classmethod
    def by(cls, rules: SuperresRules) -> Agreement:
        """The agreement that options request."""
        return cls(rules.backend, rules.consistency)

    def asked(self, upscaler: Upscaler) -> Upscaler:
        """The backend; one that can ensure agreement by itself is configured to do so or not."""
        return replace(upscaler, held=self.consistency != "none") if isinstance(upscaler, Gated) else upscaler

    def made(
        self, picture: np.ndarray, measured: np.ndarray, scale: int, bands: Sequence[str], agrees: bool = False
    ) -> np.ndarray:
        """Bring a picture into agreement, where requested and not done already."""
        if self.backend == "bicubic" or self.consistency == "none" or (agrees and self.consistency == "mtf"):
            return picture
        return agreeing(picture, measured, scale, gains(bands) if self.consistency == "mtf" else None)

    def calmed(
        self,
        picture: np.ndarray,
        measured: np.ndarray,
        scale: int,
        bands: Sequence[str],
        near: np.ndarray | None,
        agrees: bool = False,
    ) -> np.ndarray:
        """A network's picture, by back-projection alone where ``near`` is True, ``(rows, columns)`` of 10 m or None."""
        if near is None or not near.any():
            return picture
        plain = bicubic(measured, scale)
        if self.consistency != "mtf" or agrees:  # otherwise :meth:`made` ensures agreement
            plain = agreeing(plain, measured, scale, gains(bands))
        times = picture.shape[-1] // near.shape[-1]
        calmed: np.ndarray = np.where(near.repeat(times, axis=0).repeat(times, axis=1), plain, picture)
        return calmed


def gains(bands: Sequence[str]) -> list[float]:
    """Modulation transfer of some bands."""
    return [MTF[band] for band in bands]


def upscale(
    upscaler: Upscaler,
    agreement: Agreement,
    fine: np.ndarray,
    coarse: np.ndarray,
    bands: Sequence[str],
    target: float,
    bright: np.ndarray | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Compute the finer picture from reflectance.

    Args:
        upscaler: The backend. For a target of 2.5 m the edges that it does not need are left out of the result.
        agreement: The kind of agreement.
        fine: ``(4, rows, columns)`` reflectance of the bands of 10 m, float32, without gaps, sizes even.
        coarse: ``(n, rows / 2, columns / 2)`` of bands of 20 m; n may be 0.
        bands: Names of these.
        target: 10 or 2.5, metres.
        bright: ``(rows, columns)`` bool, True where some band is too bright for a network: its result for these pixels,
            and for all that they affect, is replaced by the back-projected picture. None for nowhere.

    Returns:
        ``(4 + n, rows, columns)``, or four times the rows and columns, without ``4 * spare`` at each edge; and its
        difference from the measured pixels, reflectance per measured pixel: ``residual_mtf`` and ``residual_mean``.
    """
    upscaler = agreement.asked(upscaler)
    near, agrees = None, upscaler.agrees
    if bright is not None and upscaler.reach and bright.any():
        near = grown_mask(bright, upscaler.reach)
    fused = np.empty((0, *fine.shape[1:]), dtype="float32")
    if len(bands):
        fused = agreement.calmed(upscaler.fuse(fine, coarse, bands), coarse, 2, bands, near, agrees)
        fused = agreement.made(fused, coarse, 2, bands, agrees)
    if target == 10:
        made, measured, scale, judged = fused, coarse, 2, list(bands)
    else:
        kept = tuple(slice(upscaler.spare, size - upscaler.spare) for size in fine.shape[1:])
        fine, fused, near = fine[:, *kept], fused[:, *kept], None if near is None else near[kept]
        measured, scale, judged = np.concatenate([fine, fused]), 4, [*FINE, *bands]
        made = agreement.calmed(upscaler.sharpen(fine, fused, bands), measured, 4, judged, near, agrees)
        made = agreement.made(made, measured, 4, judged, agrees)
    left = {}
    if judged:
        for name, with_gains in (("residual_mtf", gains(judged)), ("residual_mean", None)):
            left[name] = residual(made, measured, scale, with_gains)
    return np.concatenate([fine, fused]) if target == 10 else made, left


@lru_cache(maxsize=2)
def open_upscaler(backend: str, weights: str, device: str) -> Upscaler:
    """A backend, opened once per process.

    Raises:
        BadInputError: Weights are missing or invalid.
    """
    if backend in ("bicubic", "backproject"):
        return Bicubic()
    if backend == "onnx":
        return Onnx(read_model(Path(weights), device))
    if backend == "sen2sr":
        return Sen2sr(sen2sr.read_cascade(Path(weights)), device)
    networks = read_weights(Path(weights))
    return Gated(networks, device) if generation_of(Path(weights)) > 1 else Native(networks, device)


def device_for(wanted: str) -> str:
    """Device for the networks: ``"cpu"`` or ``"cuda"``.

    Raises:
        BadInputError: A GPU was requested, and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise BadInputError("there is no GPU here that torch can use: use device 'cpu' or 'auto'")
    return "cuda" if there and wanted != "cpu" else "cpu"
