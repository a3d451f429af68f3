"""The index of samples: what is written is read again, and what contradicts itself is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from stac2cube.datasets.index import (
    Angles,
    Labels,
    Sample,
    SampleGrid,
    SampleIndex,
    Validity,
    read_sample_index,
    write_index,
)
from stac2cube.errors import BadInputError

GRID = SampleGrid("EPSG:32632", (20.0, 0.0, 600000.0, 0.0, -20.0, 5300040.0), (64, 32))
DONE = Sample(
    id="a",
    status="done",
    reason="",
    x_path="a/x.tif",
    y_path="a/y.tif",
    angles_path="a/angles.tif",
    meta_path="a/meta.json",
    time="2023-05-12T10:26:01Z",
    tile="32TNT",
    platform="sentinel-2a",
    orbit=108,
    grid=GRID,
    bounds=(9.0, 47.0, 10.0, 48.0),
    valid_fraction=0.5,
    cloud_cover=12.5,
    counts={0: 5, 1: 7, 255: 3},
)
LOST = Sample("b", "failed", "B02 is missing", None, None, None, None, "2023-05-13T10:26:01Z")
INDEX = SampleIndex(
    mission="sentinel-2-l1c",
    bands=("B02", "B11"),
    radiometry="toa",
    nodata=math.nan,
    target_grid="B11",
    resolution=20.0,
    validity=Validity(("valid",), 0.5),
    angles=Angles(("sun_zenith",), "degrees"),
    labels=Labels("scl", {"4": 0, "8": 1}, 255, {0: "land", 1: "cloud"}),
    samples=(DONE, LOST),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = write_index(tmp_path, INDEX)
    for place in (path, tmp_path):
        again = read_sample_index(place)
        assert math.isnan(again.nodata)
        assert replace(again, nodata=-1.0) == replace(INDEX, nodata=-1.0)
    assert again.done == (DONE,)
    assert again.failed == (LOST,)
    assert again.samples[0].grid.resolution == 20.0
    assert again.samples[0].moment.isoformat() == "2023-05-12T10:26:01+00:00"
    assert json.loads(path.read_text())["schema"] == "stac2cube-samples/1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": (replace(DONE, y_path=None),)}, "y_path is None"),
        ({"labels": None}, "y_path is 'a/y.tif'"),
        ({"samples": (DONE, DONE)}, "a is there twice"),
        ({"bands": ("B02", "B02")}, "B02 is there twice"),
        ({"bands": ()}, "no bands"),
        ({"samples": (replace(LOST, reason=""),)}, "without a reason"),
        ({"samples": (replace(DONE, x_path=None),)}, "lacks x_path"),
        ({"samples": (replace(DONE, time="yesterday"),)}, "no time"),
    ],
)
def test_what_contradicts_itself_is_not_written(change: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=words):
        write_index(tmp_path, replace(INDEX, **change))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda value: value.update(schema="stac2cube-samples/2"), "schema 'stac2cube-samples/2'"),
        (lambda value: value.pop("bands"), "lacks bands"),
        (lambda value: value.update(extra=1), "unknown keys: extra"),
        (lambda value: value.update(radiometry="dn"), "radiometry should be one of"),
        (lambda value: value.update(nodata=None), "nodata should be a number"),
        (lambda value: value["samples"][0].pop("grid"), "sample 0 lacks grid"),
        (lambda value: value["samples"][0].update(status="maybe"), "status should be one of"),
        (lambda value: value.update(validity=[]), "validity should be an object"),
    ],
)
def test_what_is_no_index_is_refused(spoil, words: str, tmp_path: Path) -> None:
    path = write_index(tmp_path, INDEX)
    value = json.loads(path.read_text())
    spoil(value)
    path.write_text(json.dumps(value))
    with pytest.raises(BadInputError, match=words):
        read_sample_index(path)


def test_no_file_and_no_json_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="does not exist"):
        read_sample_index(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(BadInputError, match="JSON"):
        read_sample_index(tmp_path)
