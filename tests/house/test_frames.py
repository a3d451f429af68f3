"""How many functions of ours a pixel passes: one more makes code harder to follow, and is a decision."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import stac2cube
from stac2cube.fastcog import image
from stac2cube.testing.archive import ArchiveSpec, simulate
from tests.house.frozen import AREA
from tests.house.rooms import PACKAGE

MOST_FRAMES = 19
"""Frames from ``get_stac_layers`` to the library that decodes a tile; 23 before."""


class Inline(Executor):
    """Makes a block where it is submitted, so that frames of both sides are on one stack."""

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(task(*arguments))
        return done


class Here:
    parallel = 1
    on_cluster = False

    @contextmanager
    def open(self) -> Iterator[Executor]:
        yield Inline()

    def explain(self, _error: BaseException) -> str:
        return ""


def own_frames() -> list[str]:
    frames = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
    return [f"{path.relative_to(PACKAGE)}: {name}" for path, name in frames if path.is_relative_to(PACKAGE)]


def test_a_pixel_passes_few_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isal_zlib = pytest.importorskip("isal.isal_zlib", reason="the fast reader is an extra")
    pytest.importorskip("numba", reason="the fast reader is an extra")
    decompress, seen = isal_zlib.decompress, []

    def counting(*arguments: Any, **options: Any) -> bytes:
        seen.append(own_frames())
        return decompress(*arguments, **options)

    monkeypatch.setattr(isal_zlib, "decompress", counting)
    image._unpacker.cache_clear()  # it keeps the function
    archive = simulate(tmp_path / "archive", ArchiveSpec(years=(2023,), dates_per_year=1))
    words = {"mission": "sentinel-2-l2a", "aoi": AREA, "time": "2023", "bands": ["red"]}
    try:
        stac2cube.get_stac_layers(
            tmp_path / "a.zarr", catalog=str(archive.catalog("earth-search")), place=Here(), **words
        )
    finally:
        image._unpacker.cache_clear()
    passed = [frames for frames in seen if "pixels/warp.py: source_window" in frames]
    assert passed
    assert all(frames[0] == "stages/layers.py: get_stac_layers" for frames in passed)
    assert max(map(len, passed)) <= MOST_FRAMES, "\n".join(max(passed, key=len))
