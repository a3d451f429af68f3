"""The same pixels from threads and processes, however many threads a library may use; the same weights from a seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from stac2cube.superres.train import TrainingArea, train  # noqa: E402
from stac2cube.superres.weights import all_shipped  # noqa: E402
from tests.algorithms.same_pixels import digests  # noqa: E402
from tests.algorithms.test_networks import cascade, convolving_model  # noqa: E402

THREADS = (1, 2, 4)
"""Threads that libraries are told to use before a task begins."""


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    cascade(folder / "lite")
    convolving_model(folder / "onnx")
    ours = {f"native {one.name}": str(one.path) for one in all_shipped()}
    return {"bicubic": "", "backproject": "", "sen2sr": str(folder / "lite"), "onnx": str(folder / "onnx"), **ours}


def test_every_backend_makes_the_same_pixels_anywhere(backends: dict[str, str], tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        seen = {}
        for threads in THREADS:
            torch.set_num_threads(threads)
            seen[f"{threads} here"] = digests(backends)
            assert torch.get_num_threads() == threads, "as it was found"
    finally:
        torch.set_num_threads(before)
    with ThreadPoolExecutor(2) as pool:
        for number, made in enumerate(pool.map(digests, [backends] * 2)):
            seen[f"thread {number}"] = made
    out = tmp_path / "digests.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4", "MKL_NUM_THREADS": "4"}
    words = [sys.executable, "-m", "tests.algorithms.same_pixels", json.dumps(backends), "4", str(out)]
    subprocess.run(words, check=True, env=environment, cwd=Path(__file__).parents[2])
    seen["a process"] = json.loads(out.read_text())
    first = seen["1 here"]
    assert len(set(first.values())) == len(first), "each backend says something of its own"
    for where, made in seen.items():
        assert made == first, where


def test_a_seed_gives_the_same_weights_for_any_number_of_cores() -> None:
    rng = np.random.default_rng(0)
    scene = TrainingArea(
        rng.uniform(0.05, 0.4, (4, 64, 64)).astype("float32"), rng.uniform(0.05, 0.4, (6, 32, 32)).astype("float32")
    )
    made, before = [], torch.get_num_threads()
    state = torch.random.get_rng_state()
    try:
        for threads in THREADS[::2]:
            torch.set_num_threads(threads)
            made.append(train([scene], steps={"fuse": 2, "sharpen": 2}, seed=3))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(state, torch.random.get_rng_state()), "the seed of others is left alone"
    for name, network in made[0].items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, made[1][name].state_dict()[key]), (name, key)
