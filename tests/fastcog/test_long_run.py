"""Memory of a process that reads for long: it does not grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

READER = """
import sys
import psutil
from pathlib import Path
from tests.bench import readers
from tests.bench.data import BANDS, COMMON, make
import json
archive = make(Path(sys.argv[1]), 700, 2)
rounds = int(sys.argv[2])
items = Path(sys.argv[1]) / "items.json"
items.write_text(json.dumps({"features": archive.items(("32TQT", "33TTN"), 2)}))
corner = archive.lattice("32TQT").boundingbox
read = readers.stac2cube()
held = []
for number in range(rounds):
    left, top = corner.right - 2560 - 10 * (number % 40), corner.top - 1000 - 10 * (number % 23)
    bounds = [left, top - 2560, left + 2560, top]
    names = [COMMON[band] for band in BANDS]
    read({"items": str(items), "bands": names, "epsg": 32632, "threads": 2, "bounds": bounds, "block": 128})
    held.append(psutil.Process().memory_info().rss)
print(*held)
"""


@pytest.mark.parametrize("rounds", [12, pytest.param(300, marks=pytest.mark.soak)])
def test_memory_does_not_grow_with_the_blocks_read(rounds: int, tmp_path: Path) -> None:
    """Other blocks each time: eleven bands, two zones, two dates, at ever new places, in blocks of 128 pixels."""
    command = [sys.executable, "-c", READER, str(tmp_path), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd())
    held = [int(value) / 2**20 for value in done.stdout.split()]
    early, late = max(held[rounds // 4 : rounds // 2]), max(held[rounds // 2 :])
    print(f"{rounds} rounds: at most {early:.0f} MiB, then {late:.0f}")  # noqa: T201
    assert late < early + 16
