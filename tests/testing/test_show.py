"""The demo says so at once when a stage of it fails."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from stac2cube.cli import main
from stac2cube.testing.archive import ArchiveSpec

BROKEN = ArchiveSpec(years=(2022, 2023, 2024), dates_per_year=4, tile_px=96, faults=True)
"""One of its files is cut off."""


def test_a_stage_with_failed_steps_ends_the_demo_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stac2cube.testing.archive.ArchiveSpec", lambda **_: BROKEN)
    monkeypatch.setattr(sys, "argv", ["stac2cube", "demo", str(tmp_path / "demo")])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("stac2cube: 1 step(s) of ")
    assert "failed, run again to try them: sentinel-2" in said
    assert (tmp_path / "demo" / "layers.zarr").exists()
    assert not (tmp_path / "demo" / "coregistered.zarr").exists(), "no further stage was tried"
