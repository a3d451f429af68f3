"""Networks: ours, SEN2SR-Lite and local ONNX models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from stac2cube.errors import BadInputError
from stac2cube.superres.optics import linear

if TYPE_CHECKING:
    import torch
    from torch import nn


# Our two small networks, and reading their weights.
#
# Both have no bias and take as input only the difference of a picture from its surroundings, so that twice the light
# gives twice the result: what they learned over one field holds over a brighter one, and no statistics of a tile can
# make a seam.

FINE = ("B02", "B03", "B04", "B08")
"""Bands of 10 m."""

COARSE = ("B05", "B06", "B07", "B8A", "B11", "B12")
"""Bands of 20 m."""

FEATURES, LAYERS = 40, 4
"""Width and depth of both networks."""

RADIUS = 2 + 1 + LAYERS + 1
"""Pixels, at the networks' own input size, within which others affect a pixel of the result."""

_SURROUNDINGS = 5
"""Width in pixels over which surroundings are averaged."""


def require_torch() -> None:
    """Require that torch can be imported.

    Raises:
        BadInputError: It cannot.
    """
    try:
        import_module("safetensors.torch")
    except ImportError as error:
        raise BadInputError(
            f"networks need torch and safetensors: pip install 'stac2cube[superres]' ({error})"
        ) from error


def sharpener() -> nn.Module:
    """Network of the second step: any one band together with the four of 10 m, to a fourth of the pixel size.

    ``(batch, 5, rows, columns)`` float32 -> ``(batch, 1, 4 rows, 4 columns)``: the addition to the band's
    back-projected picture.
    """
    return _network(1 + len(FINE), 4**2, 4)


def fuser() -> nn.Module:
    """Network of the first step: the six bands of 20 m, back-projected to 10 m, with the four of 10 m.

    ``(batch, 10, rows, columns)`` float32 -> ``(batch, 6, rows, columns)``: the addition to the six.
    """
    return _network(len(COARSE) + len(FINE), len(COARSE), 1)


NETWORKS = {"sharpen": sharpener, "fuse": fuser}
"""Networks in a file of ours, by the prefix of their tensors."""


def read_weights(path: Path) -> Mapping[str, nn.Module]:
    """Our networks from a safetensors file, in evaluation mode.

    Raises:
        BadInputError: The file is missing, not safetensors (pickles are never opened), or has other shapes.
    """
    tensors = read_tensors(path)
    made = {}
    for name, build in NETWORKS.items():
        mine = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        network = build()
        try:
            network.load_state_dict(mine)
        except RuntimeError as error:
            raise BadInputError(f"{path} holds other weights than the network {name!r} has: {_short(error)}") from error
        made[name] = network.eval()
    return made


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors file.

    Raises:
        BadInputError: The file is missing, or not safetensors.
    """
    require_torch()
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists():
        raise BadInputError(f"there are no weights {path}")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInputError(
            f"{path} is no safetensors file ({_short(error)}); pickles are never opened, since they can run code"
        ) from error


def generation_of(path: Path) -> int:
    """Generation of a file of ours: 1 is used without gates, as in older cubes, 2 with them.

    Raises:
        BadInputError: It is not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return int((file.metadata() or {}).get("generation", 1))
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInputError(f"{path} is no safetensors file ({_short(error)})") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch with one thread: sums over several are rounded differently, and places run several tasks anyway."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def answer(network: nn.Module, pictures: np.ndarray, device: str, phases: bool = False) -> np.ndarray:
    """Result of a network, computed in parts that fit the device: ``(batch, bands, rows, columns)`` float32.

    On a GPU the network runs in bfloat16, and its result is converted to float32. Parts are halved until they fit.

    Args:
        network: One of ours, or any other.
        pictures: ``(batch, bands, rows, columns)``.
        device: ``"cpu"`` or ``"cuda"``.
        phases: Return the fine pixels of each coarse one as channels, ``(batch, out * scale**2, ...)``; ours only.

    Raises:
        MemoryError: Not even one picture fits.
    """
    import torch

    size = len(pictures)
    while True:
        try:
            parts = [
                _answer(network, pictures[start : start + size], device, phases)
                for start in range(0, len(pictures), size)
            ]
            return np.concatenate(parts)
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise MemoryError("one tile does not fit the GPU: say a smaller tile") from error
            size = -(-size // 2)
            torch.cuda.empty_cache()


def _answer(network: nn.Module, pictures: np.ndarray, device: str, phases: bool) -> np.ndarray:
    import torch

    with one_thread(), torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        given = torch.from_numpy(np.ascontiguousarray(pictures, dtype="float32")).to(device)
        asked = network.to(device)
        # Convolutions are faster where the channels of a pixel are contiguous in memory.
        given = given.contiguous(memory_format=torch.channels_last)
        answered = asked.phases(given) if phases else asked(given)  # type: ignore[operator]
        said: np.ndarray = answered.float().cpu().contiguous().numpy()
    return said


def _network(bands: int, out: int, scale: int) -> nn.Module:
    from torch import is_inference_mode_enabled, nn
    from torch.nn.functional import avg_pool2d, pad

    class Residual(nn.Module):
        """Convolutions without bias over the difference from the surroundings."""

        def __init__(self) -> None:
            super().__init__()
            widths = [bands, *[FEATURES] * (LAYERS + 1)]
            self.layers = nn.ModuleList(nn.Conv2d(one, two, 3, bias=False) for one, two in pairwise(widths))
            self.last = nn.Conv2d(FEATURES, out, 3, bias=False)
            self.shuffle = nn.PixelShuffle(scale)

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            said: torch.Tensor = self.shuffle(self.phases(pictures))
            return said

        def phases(self, pictures: torch.Tensor) -> torch.Tensor:
            """Result for the fine pixels of each coarse one, as channels."""
            around = pad(pictures, [_SURROUNDINGS // 2] * 4, mode="replicate")
            seen = pictures - avg_pool2d(around, _SURROUNDINGS, stride=1)
            for place, layer in enumerate(self.layers):
                more = nn.functional.leaky_relu(layer(pad(seen, [1] * 4, mode="replicate")), 0.1, inplace=True)
                if place and not is_inference_mode_enabled():
                    more = more + seen
                elif place:  # no gradients: the same sum in place, without another array of all features
                    more += seen
                seen = more
            said: torch.Tensor = self.last(pad(seen, [1] * 4, mode="replicate"))
            return said

    return Residual()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


# A local ONNX model for the bands of 10 m, with a small YAML file that describes its input.

MODEL, ABOUT = "model.onnx", "model.yaml"
"""Files in the folder of a model."""

_WORDS = {"bands", "factor", "margin", "licence"}


@dataclass(frozen=True)
class OnnxModel:
    """A model of all its bands at once, ``(1, bands, rows, columns)`` float32, that returns them four times finer.

    Attributes:
        session: Session of onnxruntime.
        bands: Bands of 10 m in the order of the model's input, which is that of its output, too.
        factor: Factor by which reflectance is multiplied before, and the result divided after.
        margin: Pixels around each pixel that may affect its result.
    """

    session: Any
    bands: tuple[str, ...]
    factor: float
    margin: int

    def sharpened(self, every: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Run the model; its bands at 2.5 m, reflectance: ``(4 rows, 4 columns)`` each.

        Args:
            every: ``(n, rows, columns)`` reflectance at 10 m.
            names: Names of these bands.

        Raises:
            BadInputError: A band is missing, or the model's result has another shape.
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
        BadInputError: A file is missing or invalid, or onnxruntime is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise BadInputError(f"ONNX models need onnxruntime: pip install 'stac2cube[onnx]' ({error})") from error
    lacking = [name for name in (MODEL, ABOUT) if not (folder / name).exists()]
    if lacking:
        raise BadInputError(f"{folder} has no {' and no '.join(lacking)}: give the folder as weights")
    about = yaml.safe_load((folder / ABOUT).read_text(encoding="utf-8"))
    if not isinstance(about, dict) or set(about) != _WORDS:
        raise BadInputError(f"{folder / ABOUT} should say {', '.join(sorted(_WORDS))}, and nothing else")
    bands = tuple(map(str, about["bands"]))
    if not set(FINE) <= set(bands):
        raise BadInputError(f"{folder / ABOUT}: the model should make {', '.join(FINE)}, it makes {', '.join(bands)}")
    wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
    options = onnxruntime.SessionOptions()
    # The place decides how many tasks run; sums over several threads would be rounded differently.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            str(folder / MODEL), options, providers=[*wanted, "CPUExecutionProvider"]
        )
    # onnxruntime has a dozen kinds of errors without a common class.
    except Exception as error:
        raise BadInputError(f"{folder / MODEL} is no ONNX model: {' '.join(str(error).split())[:160]}") from error
    if wanted and "CUDAExecutionProvider" not in session.get_providers():
        raise BadInputError("this onnxruntime cannot use the GPU: install onnxruntime-gpu, or use device 'cpu'")
    return OnnxModel(session, bands, float(about["factor"]), int(about["margin"]))


# The networks of SEN2SR-Lite, in the layout in which they are published, by a module of our own.
#
# Layout and order of operations follow ESAOpenSR/SEN2SR (CC0-1.0); its code is neither used nor run. Its constraint in
# Fourier space, which cannot be tiled without seams, is replaced by ours.

FILES = {"sr_model": (4, 4, 4), "f2_model": (10, 6, 1), "model": (10, 6, 1)}
"""Files of the published cascade ``SEN2SRLite/main``: bands in and out, and increase in resolution. The four bands of
10 m to 2.5 m; the six of 20 m to 10 m; the six to 2.5 m together with the finer four."""

SUFFIX = ".safetensor"

SEN2SR_RADIUS = 7
"""Pixels of the input within which others affect one of the result."""

_FEATURES = 24
_BLOCKS = 6


def network(bands: int, out: int, finer: int) -> nn.Module:
    """One of the networks, with the tensors of the published files: ``(batch, bands, rows, columns)`` float32."""
    import torch
    from torch import nn

    class Conv3XC(nn.Module):
        """Three convolutions and a shortcut that fold into one of 3 x 3."""

        def __init__(self, given: int, made: int) -> None:
            super().__init__()
            self.sk = nn.Conv2d(given, made, 1)
            self.conv = nn.Sequential(
                nn.Conv2d(given, 2 * given, 1), nn.Conv2d(2 * given, 2 * made, 3), nn.Conv2d(2 * made, made, 1)
            )
            self.eval_conv = nn.Conv2d(given, made, 3, padding=1)

        def fold(self) -> None:
            """Compute ``eval_conv`` from the other tensors, as the published code does."""
            first, middle, last = self.conv
            assert isinstance(first, nn.Conv2d)
            assert isinstance(middle, nn.Conv2d)
            assert isinstance(last, nn.Conv2d)
            assert first.bias is not None
            assert middle.bias is not None
            assert last.bias is not None
            assert self.sk.bias is not None
            assert self.eval_conv.bias is not None
            weight = torch.einsum("omyx,mi->oiyx", middle.weight, first.weight[:, :, 0, 0])
            bias = torch.einsum("omyx,m->o", middle.weight, first.bias) + middle.bias
            weight = torch.einsum("po,oiyx->piyx", last.weight[:, :, 0, 0], weight)
            bias = last.weight[:, :, 0, 0] @ bias + last.bias
            weight[:, :, 1, 1] += self.sk.weight[:, :, 0, 0]
            self.eval_conv.weight.data, self.eval_conv.bias.data = weight, bias + self.sk.bias

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.eval_conv(pictures)
            return made

    class Block(nn.Module):
        """Three such convolutions, with attention computed from their result."""

        def __init__(self) -> None:
            super().__init__()
            self.c1_r, self.c2_r, self.c3_r = (Conv3XC(_FEATURES, _FEATURES) for _ in range(3))

        def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            first = nn.functional.silu(self.c1_r(seen))
            third = self.c3_r(nn.functional.silu(self.c2_r(first)))
            return (third + seen) * (torch.sigmoid(third) - 0.5), first

    class Cnn(nn.Module):
        """All blocks have the same input, so that only the first and the last matter; kept as published."""

        def __init__(self) -> None:
            super().__init__()
            self.conv_1 = Conv3XC(bands, _FEATURES)
            self.blocks = nn.ModuleList(Block() for _ in range(_BLOCKS))
            self.conv_cat = nn.Conv2d(4 * _FEATURES, _FEATURES, 1)
            self.conv_2 = Conv3XC(_FEATURES, _FEATURES)
            self.upsampler = nn.Sequential(nn.Conv2d(_FEATURES, out * finer**2, 3, padding=1), nn.PixelShuffle(finer))

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            seen = self.conv_1(pictures)
            first, _ = self.blocks[0](seen)
            last, activated = self.blocks[-1](seen)
            together = torch.cat([seen, self.conv_2(last), first, activated], dim=1)
            made: torch.Tensor = self.upsampler(self.conv_cat(together))
            return made

    return Cnn()


def read_cascade(folder: Path) -> dict[str, nn.Module]:
    """The three networks of a local folder, folded, in evaluation mode. No code in the folder is run.

    Raises:
        BadInputError: A file is missing, is not a safetensors file, or holds other tensors.
    """
    import torch

    made = {}
    for name, (bands, out, finer) in FILES.items():
        path = folder / f"{name}{SUFFIX}"
        tensors = read_tensors(path)
        one = network(bands, out, finer)
        try:
            one.load_state_dict(tensors)
        except RuntimeError as error:
            problem = " ".join(str(error).split())[:160]
            raise BadInputError(f"{path} does not hold the network of SEN2SR-Lite: {problem}") from error
        with one_thread(), torch.no_grad():  # sums over several threads are rounded differently
            for part in one.modules():
                fold = getattr(part, "fold", None)
                if fold is not None:
                    fold()
        made[name] = one.eval()
    return made


def fused(networks: Mapping[str, nn.Module], fine: np.ndarray, coarse: np.ndarray, device: str) -> np.ndarray:
    """Six bands of 20 m at 10 m: ``(6, rows, columns)`` from ``(4, rows, columns)`` and half of that."""
    given = np.concatenate([linear(coarse, 2), fine])
    made: np.ndarray = answer(networks["f2_model"], given[None], device)[0].clip(0)
    return made


def sharpened(networks: Mapping[str, nn.Module], fine: np.ndarray, coarse: np.ndarray, device: str) -> np.ndarray:
    """Four bands and six, both of 10 m, at 2.5 m: ``(10, 4 rows, 4 columns)``, the four first."""
    red_first = fine[[2, 1, 0, 3]]
    sharp = answer(networks["sr_model"], red_first[None], device)[0].clip(0)[[2, 1, 0, 3]]
    given = np.concatenate([linear(coarse, 4), sharp])
    return np.concatenate([sharp, answer(networks["model"], given[None], device)[0].clip(0)])
