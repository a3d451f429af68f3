"""Our two small networks, and reading their weights.

Both are without any bias and see only how a picture differs from its surroundings, so that twice the light gives twice
the answer: what they learned over one field holds over a brighter one, and there are no statistics of a tile that could
make a seam.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stac2cube.errors import BadInputError

if TYPE_CHECKING:
    import torch
    from torch import nn

FINE = ("B02", "B03", "B04", "B08")
"""Bands of 10 m."""

COARSE = ("B05", "B06", "B07", "B8A", "B11", "B12")
"""Bands of 20 m."""

FEATURES, LAYERS = 40, 4
"""Width and depth of both networks."""

RADIUS = 2 + 1 + LAYERS + 1
"""Pixels, at the networks' own input size, from which others can change a pixel of the answer."""

_SURROUNDINGS = 5
"""Pixels across which surroundings are averaged."""


def require_torch() -> None:
    """Be sure that torch can be imported.

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
    """Network of the second step: any one band with the four of 10 m beside it, to a fourth of the pixel size.

    ``(batch, 5, rows, columns)`` float32 -> ``(batch, 1, 4 rows, 4 columns)``: what is to be added to the band's own
    back-projected picture.
    """
    return _network(1 + len(FINE), 4**2, 4)


def fuser() -> nn.Module:
    """Network of the first step: the six bands of 20 m, back-projected to 10 m, with the four of 10 m.

    ``(batch, 10, rows, columns)`` float32 -> ``(batch, 6, rows, columns)``: what is to be added to the six.
    """
    return _network(len(COARSE) + len(FINE), len(COARSE), 1)


NETWORKS = {"sharpen": sharpener, "fuse": fuser}
"""What a file of ours holds, by the prefix of its tensors."""


def read_weights(path: Path) -> Mapping[str, nn.Module]:
    """Our networks from a safetensors file, ready to answer.

    Raises:
        BadInputError: Not there, not safetensors (pickles are never opened), or of other shapes.
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
    """Tensors of a safetensors file.

    Raises:
        BadInputError: Not there, or not such a file.
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
    """Whose pictures a file of ours makes: 1 without gates, as in older cubes, or 2.

    Raises:
        BadInputError: It is no safetensors file.
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
    """Let torch work with one thread: sums over several are rounded otherwise, and places run several tasks anyway."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def answer(network: nn.Module, pictures: np.ndarray, device: str, phases: bool = False) -> np.ndarray:
    """What a network says, in parts that fit the device: ``(batch, bands, rows, columns)`` float32.

    On a GPU the network runs in bfloat16, its answer is float32 again. What does not fit is halved until it does.

    Args:
        network: One of ours, or any other.
        pictures: ``(batch, bands, rows, columns)``.
        device: ``"cpu"`` or ``"cuda"``.
        phases: What ours says of the fine pixels of each coarse one as channels, ``(batch, out * scale**2, ...)``.

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
        # Convolutions are faster where the channels of a pixel lie beside each other.
        given = given.contiguous(memory_format=torch.channels_last)
        answered = asked.phases(given) if phases else asked(given)  # type: ignore[operator]
        said: np.ndarray = answered.float().cpu().contiguous().numpy()
    return said


def _network(bands: int, out: int, scale: int) -> nn.Module:
    from torch import nn
    from torch.nn.functional import avg_pool2d, pad

    class Residual(nn.Module):
        """Convolutions without bias over what differs from its surroundings."""

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
            """What is said of the fine pixels of each coarse one, as channels of this."""
            around = pad(pictures, [_SURROUNDINGS // 2] * 4, mode="replicate")
            seen = pictures - avg_pool2d(around, _SURROUNDINGS, stride=1)
            for place, layer in enumerate(self.layers):
                more = nn.functional.leaky_relu(layer(pad(seen, [1] * 4, mode="replicate")), 0.1)
                seen = more if place == 0 else seen + more
            said: torch.Tensor = self.last(pad(seen, [1] * 4, mode="replicate"))
            return said

    return Residual()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
