"""Two passes over a cube against NumPy on all of its pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from click.testing import CliRunner
from odc.geo.geobox import GeoBox

from stac2cube.cli import cli
from stac2cube.datasets import frames as frames_room
from stac2cube.datasets.files import Making
from stac2cube.datasets.frames import Frame, FrameSet, FrameWindow, frames_of_cube
from stac2cube.datasets.statistics import StatisticsRules, add_moments, count_values, read_statistics
from stac2cube.errors import BadInputError, IncompleteError
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from tests.datasets.conftest import DAYS, reflectance

RULES = StatisticsRules(low=-0.1, high=0.5, width=0.001, percentiles=(5.0, 95.0))


def both_passes(cube: Path, out: Path, rules: StatisticsRules = RULES, making: Making | None = None):
    source = frames_of_cube(cube)
    making = making or Making(Threads(2))
    assert count_values(source, rules, out, making) is not None
    made = add_moments(source, out, making)
    assert made is not None
    return made


def test_both_passes_are_numpys_on_all_pixels(cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames_room, "STRIP", 100)  # several strips per frame
    made = both_passes(cube, tmp_path)
    for place, band in enumerate(made.bands):
        values = np.stack([reflectance(place, number) for number in range(len(DAYS))]).astype("float32")
        values = values[np.isfinite(values)].astype("float64")
        low, high = band.limits
        assert band.pixels == values.size
        assert low == pytest.approx(np.percentile(values, 5), abs=RULES.width)
        assert high == pytest.approx(np.percentile(values, 95), abs=RULES.width)
        clipped = np.clip(values, low, high)
        assert band.mean == pytest.approx(clipped.mean(), abs=1e-9)
        assert band.std == pytest.approx(clipped.std(), abs=1e-9)
        histogram = np.load(tmp_path / "histogram.npz")
        assert histogram["counts"][place].sum() == ((values >= -0.1) & (values < 0.5)).sum()
    assert not list(tmp_path.glob(".*")), "parts are left"


def test_places_and_order_change_no_byte(cube: Path, tmp_path: Path) -> None:
    for folder, place in (("one", Threads(1)), ("two", Threads(3)), ("three", Local(workers=2))):
        both_passes(cube, tmp_path / folder, making=Making(place))
    for name in ("stats.json", "histogram.npz"):
        assert len({(tmp_path / folder / name).read_bytes() for folder in ("one", "two", "three")}) == 1


def test_a_seeded_part_of_each_scene(cube: Path, tmp_path: Path) -> None:
    rules = replace(RULES, max_pixels_per_scene=5000)
    made = both_passes(cube, tmp_path / "a", rules)
    assert made.bands[0].pixels <= 5000 * len(DAYS)
    assert made.bands[0].pixels > 4500 * len(DAYS)  # but for those without data
    again = both_passes(cube, tmp_path / "b", rules)
    other = both_passes(cube, tmp_path / "c", replace(rules, seed=1))
    assert again == made
    assert other.bands != made.bands
    whole = both_passes(cube, tmp_path / "d")
    assert made.bands[0].mean == pytest.approx(whole.bands[0].mean, rel=0.02)


def test_the_second_pass_refuses_what_does_not_fit(cube: Path, tmp_path: Path) -> None:
    count_values(frames_of_cube(cube), RULES, tmp_path, Making(Threads(2)))
    making = Making(Threads(2))
    with pytest.raises(BadInputError, match="bands B03, B08, not B08"):
        add_moments(frames_of_cube(cube, ["B08"]), tmp_path, making)
    source = frames_of_cube(cube)
    with pytest.raises(BadInputError, match="the pixels are 'raw'"):
        add_moments(replace(source, radiometry="raw"), tmp_path, making)
    with pytest.raises(BadInputError, match="other frames"):
        add_moments(replace(source, frames=source.frames[:3]), tmp_path, making)
    anew = (replace(source.frames[0], version="made of a newer baseline"), *source.frames[1:])
    with pytest.raises(BadInputError, match="other frames"):
        add_moments(replace(source, frames=anew), tmp_path, making)
    for words, told in (
        ({"high": 0.6}, r"high 0\.5, not 0\.6"),
        ({"low": 0.0, "width": 0.002}, r"low -0\.1, not 0\.0; width 0\.001, not 0\.002"),
        ({"percentiles": (1.0, 99.0)}, "percentiles"),
        ({"max_pixels_per_scene": 5}, "max_pixels_per_scene None, not 5"),
    ):
        with pytest.raises(BadInputError, match=rf"by other rules \(.*{told}"):
            add_moments(source, tmp_path, making, rules=replace(RULES, **words))
    with pytest.raises(BadInputError, match="no mean yet"):
        read_statistics(tmp_path).standardised(np.zeros((2, 4, 4), "float32"))
    with pytest.raises(BadInputError, match="does not exist"):
        read_statistics(tmp_path / "nowhere")
    (tmp_path / "stats.json").write_text(json.dumps({"schema": "else/1"}))
    with pytest.raises(BadInputError, match="schema"):
        read_statistics(tmp_path)


def test_a_pass_that_is_there_is_not_made_again(cube: Path, tmp_path: Path) -> None:
    made = both_passes(cube, tmp_path)
    before = (tmp_path / "stats.json").stat().st_mtime_ns
    assert both_passes(cube, tmp_path) == made
    assert (tmp_path / "stats.json").stat().st_mtime_ns == before
    other = both_passes(cube, tmp_path, replace(RULES, percentiles=(1.0, 99.0)))
    assert other.bands != made.bands


def test_the_same_frames_by_another_path_are_counted_once(cube: Path, tmp_path: Path) -> None:
    made = both_passes(cube, tmp_path)
    before = (tmp_path / "stats.json").stat().st_mtime_ns
    (tmp_path / cube.name).symlink_to(cube)
    assert both_passes(tmp_path / cube.name, tmp_path) == made
    assert (tmp_path / "stats.json").stat().st_mtime_ns == before


@dataclass(frozen=True)
class Flat:
    """Pixels of a frame that were drawn beforehand, ``(bands, rows, columns)``."""

    values: tuple

    def read(self, rows: slice, columns: slice) -> FrameWindow:
        return FrameWindow(np.array(self.values, "float32")[:, rows, columns], None, None)


def flat(*frames: list) -> FrameSet:
    made = []
    for number, values in enumerate(frames):
        shape = np.shape(values)[1:]
        geobox = GeoBox(shape, Affine(10, 0, 600_000, 0, -10, 5_300_000), "EPSG:32632")
        made.append(Frame(f"s{number}", DAYS[number], "here", geobox, "1", Flat(tuple(values))))
    return FrameSet("drawn", tuple(f"b{place}" for place in range(len(frames[0]))), "toa", 255, None, tuple(made))


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (([[[0.25]]],), (1, 0.25, 0.0)),  # one pixel
        (([[[0.25] * 40] * 30],), (1200, 0.25, 0.0)),  # a constant
        (([[[0.0] * 4] * 3],), (12, 0.0, 0.0)),  # at the lower end of the range
        (([[[0.1, 0.3]]], [[[np.nan, np.nan]]]), (2, 0.2, 0.1)),  # and a scene of nothing
    ],
)
def test_the_least_that_statistics_can_be_of(frames: tuple, expected: tuple, tmp_path: Path) -> None:
    source, rules = flat(*frames), StatisticsRules(0.0, 0.5, 0.001, (0.0, 100.0))
    assert count_values(source, rules, tmp_path, Making(Threads(1))) is not None
    made = add_moments(source, tmp_path, Making(Threads(1)))
    (band,) = made.bands
    assert (band.pixels, band.below, band.above) == (expected[0], 0, 0)
    assert (band.mean, band.std) == pytest.approx(expected[1:], abs=rules.width)
    assert np.isfinite(made.standardised(np.float32([[[0.25, np.nan]]]))).all()


def test_a_band_without_any_pixel_is_named(tmp_path: Path) -> None:
    source = flat([[[0.1, 0.2]], [[np.nan, np.nan]]])
    with pytest.raises(BadInputError, match="drawn, b1: "):
        count_values(source, RULES, tmp_path, Making(Threads(1)))
    assert not (tmp_path / "stats.json").exists()


def test_standardised_values(cube: Path, tmp_path: Path) -> None:
    made = both_passes(cube, tmp_path)
    values = np.full((2, 3, 3), np.nan, "float32")
    values[0, 0] = [-1.0, 0.1, 9.0]
    out = made.standardised(values)
    band = made.bands[0]
    expected = (np.clip(np.float32([-1.0, 0.1, 9.0]).astype("float64"), *band.limits) - band.mean) / band.std
    assert out[0, 0] == pytest.approx(expected, abs=1e-6)
    assert (out[1] == 0).all()


def test_a_frame_that_cannot_be_read_is_no_smaller_set(cube: Path, tmp_path: Path) -> None:
    source = frames_of_cube(cube)
    gone = replace(source.frames[2].pixels, step=replace(source.frames[2].pixels.step, cube="nowhere"))
    broken = replace(source, frames=(*source.frames[:2], replace(source.frames[2], pixels=gone), *source.frames[3:]))
    with pytest.raises(IncompleteError, match=r"1 of 6 failed.*s_2: nowhere"):
        count_values(broken, RULES, tmp_path, Making(Threads(2)))
    assert not (tmp_path / "stats.json").exists()
    parts = next(tmp_path.glob(".counting*"))
    times = {path.name: path.stat().st_mtime_ns for path in parts.iterdir()}
    assert len(times) == 5
    assert count_values(source, RULES, tmp_path, Making(Threads(2))) is not None  # makes only the one that lacks


def test_the_command(cube: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(
        cli, ["statistics", str(cube), str(tmp_path), "--range", "0", "0.5", "--bin-width", "0.001", "--quiet"]
    )
    assert run.exit_code == 0, run.output
    assert "B03" in run.output
    assert read_statistics(tmp_path).bands[1].mean is not None
    by_passes = ["statistics", str(cube), str(tmp_path / "by"), "--quiet"]
    run = CliRunner().invoke(cli, [*by_passes, "--only", "histogram", "--range", "0", "0.5", "--bin-width", "0.001"])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(cli, [*by_passes, "--only", "moments", "--range", "0", "1"])
    assert "by other rules (high 0.5, not 1.0)" in str(run.exception)
    run = CliRunner().invoke(cli, [*by_passes, "--only", "moments"])
    assert run.exit_code == 0, run.output
    assert (tmp_path / "by" / "stats.json").read_bytes() == (tmp_path / "stats.json").read_bytes()
    run = CliRunner().invoke(cli, ["statistics", str(cube), str(tmp_path / "x"), "--range", "1", "0", "--quiet"])
    assert run.exception is not None
    assert "low < high" in str(run.exception)
