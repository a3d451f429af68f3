"""A stage whose blocks take more memory than their job has."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stac2cube.build.plan import Block
from tests.build.toy import Make


@dataclass(frozen=True)
class Hoard(Make):
    megabytes: int = 0

    def __call__(self, number: int, block: Block) -> Mapping[str, np.ndarray]:
        kept = []
        for _ in range(self.megabytes // 50):
            kept.append(np.ones(50 * 2**20, "uint8"))
            time.sleep(0.15)
        return super().__call__(number, block)
