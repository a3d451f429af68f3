"""A local ONNX model for the bands of 10 m, with a small YAML file that says how it wants to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from stac2cube.errors import BadInputError
from stac2cube.kernels.networks import FINE

MODEL, ABOUT = "model.onnx", "model.yaml"
"""Files of the folder."""

_WORDS = {"bands", "factor", "margin", "licence"}


@dataclass(frozen=True)
class OnnxModel:
    """A model that is asked for all its bands at once, ``(1, bands, rows, columns)`` float32, four times finer.

    Attributes:
        session: Of onnxruntime.
        bands: In the order in which it wants them, all of 10 m; it answers in the same order.
        factor: What reflectance is multiplied by before, and the answer divided by after.
        margin: Pixels around that it may look at.
    """

    session: Any
    bands: tuple[str, ...]
    factor: float
    margin: int

    def sharpened(self, every: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Its bands at 2.5 m, reflectance: ``(4 rows, 4 columns)`` each.

        Args:
            every: ``(n, rows, columns)`` reflectance at 10 m.
            names: Of these.

        Raises:
            BadInputError: A band is missing, or the model answers in another shape.
        """
        lacking = [band for band in self.bands if band not in names]
        if lacking:
            raise BadInputError(f"the model wants {', '.join(lacking)}, which the cube lacks")
        given = np.stack([every[list(names).index(band)] for band in self.bands])[None] * np.float32(self.factor)
        said = self.session.run(None, {self.session.get_inputs()[0].name: given})[0]
        rows, columns = every.shape[1:]
        if said.shape != (1, len(self.bands), 4 * rows, 4 * columns):
            raise BadInputError(f"the model made {said.shape} of {given.shape}, and not four times the pixels")
        return dict(zip(self.bands, (said[0] / self.factor).astype("float32"), strict=True))


def read_model(folder: Path, device: str) -> OnnxModel:
    """Open a model; onnxruntime runs its graph and no code.

    Raises:
        BadInputError: A file is not there or not what it should be, or onnxruntime is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BadInputError(f"ONNX models need onnxruntime: pip install 'stac2cube[onnx]' ({error})") from error
    lacking = [name for name in (MODEL, ABOUT) if not (folder / name).exists()]
    if lacking:
        raise BadInputError(f"{folder} has no {' and no '.join(lacking)}: say the folder as weights")
    about = yaml.safe_load((folder / ABOUT).read_text())
    if not isinstance(about, dict) or set(about) != _WORDS:
        raise BadInputError(f"{folder / ABOUT} should say {', '.join(sorted(_WORDS))}, and nothing else")
    bands = tuple(map(str, about["bands"]))
    if not set(FINE) <= set(bands):
        raise BadInputError(f"{folder / ABOUT}: the model should make {', '.join(FINE)}, it makes {', '.join(bands)}")
    wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
    options = onnxruntime.SessionOptions()
    # The place decides how many tasks work; sums over several threads would be rounded otherwise.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            str(folder / MODEL), options, providers=[*wanted, "CPUExecutionProvider"]
        )
    # It has a dozen kinds of its own, without a common one.
    except Exception as error:
        raise BadInputError(f"{folder / MODEL} is no ONNX model: {' '.join(str(error).split())[:160]}") from error
    if wanted and "CUDAExecutionProvider" not in session.get_providers():
        raise BadInputError("this onnxruntime cannot use the GPU: install onnxruntime-gpu, or say device 'cpu'")
    return OnnxModel(session, bands, float(about["factor"]), int(about["margin"]))
