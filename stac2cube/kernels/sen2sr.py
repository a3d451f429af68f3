"""The networks of SEN2SR-Lite, in the layout in which they are published, by a module of our own.

Layout and order of operations follow ESAOpenSR/SEN2SR (CC0-1.0); its code is neither used nor run, and its constraint
in Fourier space, which cannot be tiled without seams, is left out: ours takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stac2cube.errors import BadInputError
from stac2cube.kernels.networks import answer, one_thread, read_tensors
from stac2cube.kernels.optics import linear

if TYPE_CHECKING:
    import torch
    from torch import nn

FILES = {"sr_model": (4, 4, 4), "f2_model": (10, 6, 1), "model": (10, 6, 1)}
"""Files of the published cascade ``SEN2SRLite/main``: bands in and out, and how much finer. The four bands of 10 m to
2.5 m; the six of 20 m to 10 m; the six to 2.5 m with the finer four beside them."""

SUFFIX = ".safetensor"

RADIUS = 7
"""Pixels of its input from which others change one of the answer."""

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
            """What the file's ``eval_conv`` should be, computed from the others as the published code does."""
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
        """Three of them, and how much of what they say counts."""

        def __init__(self) -> None:
            super().__init__()
            self.c1_r, self.c2_r, self.c3_r = (Conv3XC(_FEATURES, _FEATURES) for _ in range(3))

        def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            first = nn.functional.silu(self.c1_r(seen))
            third = self.c3_r(nn.functional.silu(self.c2_r(first)))
            return (third + seen) * (torch.sigmoid(third) - 0.5), first

    class Cnn(nn.Module):
        """Every block sees the same features, so that only the first and the last count; kept as published."""

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
    """The three networks of a local folder, folded and ready. Nothing in the folder is run.

    Raises:
        BadInputError: A file is not there, is no safetensors file, or holds other tensors.
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
        with one_thread(), torch.no_grad():  # sums over several threads are rounded otherwise
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
