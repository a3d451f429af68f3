"""Samples of products with known numbers: reflectance, validity, labels, angles, index; and bad input."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from stac2cube.build.plan import BuildOptions
from stac2cube.datasets import sample_files as files
from stac2cube.datasets.index import read_sample_index
from stac2cube.datasets.rules import AngleRules, LabelRules, SampleRequest, SampleRules
from stac2cube.datasets.samples import make_samples, run_samples
from stac2cube.errors import BadInputError, IncompleteError, NothingFoundError
from stac2cube.executors.base import Threads
from stac2cube.executors.local import Local
from stac2cube.model.query import Query
from stac2cube.pixels.gdal import GdalImage
from tests.datasets.products import GSD, Pair
from tests.items import catalog
from tests.pixels.test_coverage import blocks, most_frequent

RULES = SampleRules(bands=tuple(GSD), target="B11", threshold=1.0)
NAME = "sentinel-2a_R108_20230512T102601_32TNT"


def read(path: Path) -> tuple[np.ndarray, dict]:
    with rasterio.open(path) as file:
        return file.read(), {**file.profile, "names": file.descriptions}


def test_reflectance_and_validity_are_what_numpy_says(source: str, pairs: list[Pair], tmp_path: Path) -> None:
    index = make_samples(source, tmp_path / "set", RULES)
    assert [sample.id for sample in index.samples] == [NAME, NAME.replace("0512", "0517")]
    x, about = read(tmp_path / "set" / index.samples[0].x_path)
    assert about["names"] == ("B02", "B03", "B11", "B09", "valid")
    assert about["dtype"] == "float32"
    assert math.isnan(about["nodata"])
    assert about["transform"] == rasterio.Affine(20, 0, 600000, 0, -20, 5300040)
    pair = pairs[0]
    # 2 x 2 pixels of 10 m are one of 20 m: their mean.
    for place, band in enumerate(("B02", "B03")):
        expected = pair.reflectance(band).reshape(96, 2, 96, 2).mean(axis=(1, 3))
        np.testing.assert_allclose(x[place], expected, rtol=0, atol=2e-7)
    np.testing.assert_allclose(x[2], pair.reflectance("B11"), rtol=0, atol=6e-8)
    coarse = pair.counts("B09").repeat(3, axis=0).repeat(3, axis=1)
    assert (np.isnan(x[3]) == (coarse == 0)).all(), "a pixel of 60 m without data takes nine of 20 m with it"
    valid = np.isfinite(x[:4]).all(axis=0)
    np.testing.assert_array_equal(x[4], valid)
    assert index.samples[0].valid_fraction == valid.mean()
    assert index == read_sample_index(tmp_path / "set")
    meta = json.loads((tmp_path / "set" / index.samples[0].meta_path).read_text())
    assert meta["valid_fraction"]["B02"] == pytest.approx(np.isfinite(x[0]).mean())
    assert meta["factors"][pair.name("L1C")]["B11"] == [1 / 8000, -500 / 8000]


@pytest.mark.parametrize(
    ("method", "oracle"),
    [
        ("average", lambda block: np.nanmean(block, axis=-1)),
        ("max", lambda block: np.nanmax(block, axis=-1)),
        ("min", lambda block: np.nanmin(block, axis=-1)),
        ("sum", lambda block: np.nansum(block, axis=-1)),
        # Of four, GDAL's quartiles are the first, second and third.
        ("q1", lambda block: np.sort(block, axis=-1)[..., 0]),
        ("med", lambda block: np.sort(block, axis=-1)[..., 1]),
        ("q3", lambda block: np.sort(block, axis=-1)[..., 2]),
    ],
)
def test_downsampling_takes_valid_pixels_only_and_coverage_says_how_many(method: str, oracle, tmp_path: Path) -> None:
    pair = Pair(tmp_path / "products").write()
    counts = pair.counts("B02")
    holes = np.random.default_rng(5).random(counts.shape) < 0.3
    counts[holes] = 0
    with rasterio.open(pair.path("L1C", "B02"), "r+") as file:
        file.write(counts, 1)
    source = catalog(tmp_path / "index.json", pair.items("L1C"))
    blocks = (
        np.where(counts == 0, np.nan, (counts - 1000.0) / 8000).reshape(96, 2, 96, 2).swapaxes(1, 2).reshape(96, 96, 4)
    )
    covered = np.isfinite(blocks).mean(axis=-1)
    for threshold in (0.5, 0.75, 1.0):
        rules = replace(RULES, bands=("B02",), downsampling=method, threshold=threshold, validity="per_band")
        make_samples(source, tmp_path / f"{threshold}", rules)
        x, about = read(tmp_path / f"{threshold}" / NAME / "x.tif")
        assert about["names"] == ("B02", "valid_B02")
        np.testing.assert_array_equal(x[1], covered >= threshold)
        assert (np.isfinite(x[0]) == (x[1] == 1)).all()
        whole = (covered == 1) if method in ("q1", "med", "q3") else x[1] == 1
        np.testing.assert_allclose(x[0][whole], oracle(blocks[whole]), rtol=0, atol=3e-7)


def test_raw_counts_explicit_nodata_and_another_fill(source: str, pairs: list[Pair], tmp_path: Path) -> None:
    counts = pairs[0].counts("B02")
    value = int(counts[50, 50])
    rules = replace(RULES, bands=("B02",), target="B02", radiometry="raw", source_nodata=value, nodata=-9999.0)
    index = make_samples(SampleRequest(Query(catalog=source), max_scenes=1), tmp_path / "set", rules)
    assert index.radiometry == "raw"
    x, about = read(tmp_path / "set" / NAME / "x.tif")
    assert about["nodata"] == -9999
    np.testing.assert_array_equal(x[0], np.where(counts == value, -9999, counts.astype("int32")))
    np.testing.assert_array_equal(x[1], counts != value)
    assert len(index.samples) == 1


def test_bilinear_upsampling_keeps_a_plane(tmp_path: Path) -> None:
    pair = Pair(tmp_path / "products").write()
    at = np.arange(96) * 20 + 10.0
    plane = np.round(2000 + at[np.newaxis] + 2 * at[:, np.newaxis]).astype("uint16")
    with rasterio.open(pair.path("L1C", "B11"), "r+") as file:
        file.write(plane, 1)
    rules = replace(RULES, bands=("B11",), target="B02", radiometry="raw")
    make_samples(catalog(tmp_path / "index.json", pair.items("L1C")), tmp_path / "set", rules)
    x, _ = read(tmp_path / "set" / NAME / "x.tif")
    fine = np.arange(192) * 10 + 5.0
    expected = 2000 + fine[np.newaxis] + 2 * fine[:, np.newaxis]
    np.testing.assert_allclose(x[0][1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-2)
    assert (x[1] == 1).all()


def test_labels_of_classes_with_a_mapping(source: str, pairs: list[Pair], tmp_path: Path) -> None:
    labels = LabelRules(mapping={"4": 1, "5": 1, "8": 2, "9": 2}, names={1: "land", 2: "cloud"}, mask_invalid=False)
    index = make_samples(source, tmp_path / "set", replace(RULES, labels=labels))
    y, about = read(tmp_path / "set" / NAME / "y.tif")
    assert about["dtype"] == "uint8"
    assert about["nodata"] == 255
    classes = pairs[0].classes()
    expected = np.select([np.isin(classes, (4, 5)), np.isin(classes, (8, 9))], [1, 2], 255)
    np.testing.assert_array_equal(y[0], expected)
    assert index.labels.classes == {1: "land", 2: "cloud"}
    assert index.samples[0].counts == {n: int((expected == n).sum()) for n in (1, 2, 255)}
    masked = make_samples(source, tmp_path / "masked", replace(RULES, labels=replace(labels, mask_invalid=True)))
    x, _ = read(tmp_path / "masked" / NAME / "x.tif")
    y, _ = read(tmp_path / "masked" / NAME / "y.tif")
    np.testing.assert_array_equal(y[0], np.where(x[4] == 1, expected, 255))
    assert sum(masked.samples[0].counts.values()) == 96 * 96
    plain = make_samples(source, tmp_path / "plain", RULES)
    assert plain.labels is None
    assert plain.samples[0].y_path is None
    assert not (tmp_path / "plain" / NAME / "y.tif").exists()
    assert '"y_path": null' in (tmp_path / "plain" / "index.json").read_text()


@pytest.mark.parametrize("method", ["nearest", "mode"])
def test_classes_are_resampled_as_classes(method: str, source: str, pairs: list[Pair], tmp_path: Path) -> None:
    labels = LabelRules(resampling=method, mask_invalid=False)
    make_samples(source, tmp_path / "set", replace(RULES, bands=("B09",), target="B09", labels=labels))
    y, _ = read(tmp_path / "set" / NAME / "y.tif")
    classes = np.where(pairs[0].classes() == 0, np.nan, pairs[0].classes())
    expected = classes[1::3, 1::3] if method == "nearest" else most_frequent(blocks(classes, 3))
    np.testing.assert_array_equal(y[0], np.nan_to_num(expected, nan=255))


def test_angles_in_degrees_and_as_sines(source: str, tmp_path: Path) -> None:
    rules = replace(RULES, bands=("B02", "B11"), target="B09", angles=AngleRules(view="per_band"))
    index = make_samples(SampleRequest(Query(catalog=source), max_scenes=1), tmp_path / "deg", rules)
    angles, about = read(tmp_path / "deg" / NAME / "angles.tif")
    names = list(about["names"])
    assert names == list(index.angles.channels)
    assert names[2:4] == ["view_zenith_B02", "view_azimuth_B02"]
    right, down = np.meshgrid((np.arange(32) + 0.5) * 60 / 5000, (np.arange(32) + 0.5) * 60 / 5000)
    by_name = dict(zip(names, angles, strict=True))
    np.testing.assert_allclose(by_name["sun_zenith"], 30 + right + 2 * down, atol=1e-5)
    np.testing.assert_allclose(by_name["view_zenith_B11"], 11 + right, atol=1e-5)
    across = np.angle((1 - right) * np.exp(1j * np.radians(350)) + right * np.exp(1j * np.radians(10)), deg=True)
    np.testing.assert_allclose(by_name["view_azimuth_B02"], across % 360, atol=1e-4)
    single = replace(rules, angles=AngleRules(form="sin_cos", view="single"))
    make_samples(SampleRequest(Query(catalog=source), max_scenes=1), tmp_path / "sin", single)
    angles, about = read(tmp_path / "sin" / NAME / "angles.tif")
    parts = dict(zip(about["names"], angles, strict=True))
    assert list(parts)[-2:] == ["view_azimuth_sin", "view_azimuth_cos"]
    np.testing.assert_allclose(parts["view_zenith_sin"], np.sin(np.radians(6 + right)), atol=1e-6)
    np.testing.assert_allclose(parts["view_azimuth_cos"], np.cos(np.radians(across)), atol=1e-6)


def test_jpeg2000_is_decoded_once_for_all_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(tmp_path / "products").write()
    source = catalog(tmp_path / "index.json", pair.items())
    rules = replace(RULES, bands=("B02", "B11"), target="B02", labels=LabelRules())
    make_samples(source, tmp_path / "tiff", rules)
    for path in (pair.path("L1C", "B11"), pair.path("L2A", "SCL_20m")):
        rasterio.shutil.copy(path, path.with_suffix(".jp2"), driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
        path.with_suffix(".jp2").replace(path)
    decoded: list[object] = []
    decode = GdalImage.read
    monkeypatch.setattr(GdalImage, "read", lambda *of: (decoded.append(of[0].is_jpeg2000), decode(*of))[1])
    for block in (1024, 64):
        monkeypatch.setattr(files, "BLOCK", block)
        decoded.clear()
        make_samples(source, tmp_path / f"{block}", rules, place=Threads(1))
        assert sum(decoded) == 2, "one of the band, one of the classes"
        for name in ("x.tif", "y.tif"):
            np.testing.assert_array_equal(
                read(tmp_path / f"{block}" / NAME / name)[0], read(tmp_path / "tiff" / NAME / name)[0]
            )


def test_what_is_missing_is_told_before_anything_is_made(pairs: list[Pair], tmp_path: Path) -> None:
    lost = Pair(tmp_path / "products", 20).write("B02", "B03")
    items = [*pairs[0].items(), *lost.items("L1C")]
    source = catalog(tmp_path / "index.json", items)
    rules = replace(RULES, labels=LabelRules(), angles=AngleRules())
    with pytest.raises(BadInputError, match="1 of 2 samples lack an input; nothing was made") as caught:
        make_samples(source, tmp_path / "set", rules)
    text = str(caught.value)
    for words in ("B11.tif does not exist", "B09.tif does not exist", "there is no Level-2A of"):
        assert words in text
    assert not (tmp_path / "set").exists()
    with pytest.raises(IncompleteError, match=r"1 sample\(s\)"):
        make_samples(source, tmp_path / "set", rules, incomplete="list")
    index = read_sample_index(tmp_path / "set")
    assert [sample.status for sample in index.samples] == ["done", "failed"]
    assert "B11.tif does not exist" in index.failed[0].reason
    # What came late is made by the same command, and only that.
    before = (tmp_path / "set" / NAME / "meta.json").stat().st_mtime_ns
    lost.write()
    late = catalog(tmp_path / "index.json", [*pairs[0].items(), *lost.items()])
    assert [sample.status for sample in make_samples(late, tmp_path / "set", rules).samples] == ["done", "done"]
    assert (tmp_path / "set" / NAME / "meta.json").stat().st_mtime_ns == before


def test_a_damaged_file_fails_its_sample_and_no_other(pairs: list[Pair], tmp_path: Path) -> None:
    broken = Pair(tmp_path / "products", 20).write()
    path = broken.path("L1C", "B03")
    path.write_bytes(path.read_bytes()[:5000])
    source = catalog(tmp_path / "index.json", [*pairs[0].items(), *broken.items()])
    with pytest.raises(IncompleteError, match="band B03"):
        make_samples(source, tmp_path / "set", RULES)
    index = read_sample_index(tmp_path / "set")
    assert [sample.status for sample in index.samples] == ["done", "failed"]
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == ["index.json", "request.json", NAME]


def test_other_rules_need_overwrite(source: str, tmp_path: Path) -> None:
    make_samples(source, tmp_path / "set", RULES)
    for other in (replace(RULES, bands=("B02",)), replace(RULES, downsampling="med")):
        with pytest.raises(BadInputError, match="made by other rules"):
            make_samples(source, tmp_path / "set", other)
    index = make_samples(SampleRequest(Query(catalog=source), max_scenes=1), tmp_path / "set", other, overwrite=True)
    assert [sample.id for sample in index.samples] == [NAME]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["index.json", "request.json", NAME]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(BadInputError, match="holds something else"):
        make_samples(source, tmp_path / "mine", RULES, overwrite=True)


def test_a_newer_baseline_is_taken_and_its_sample_made_anew(tmp_path: Path) -> None:
    old = Pair(tmp_path / "products", baseline="04.00").write()
    make_samples(catalog(tmp_path / "index.json", old.items()), tmp_path / "set", RULES)
    new = old.again("05.09").write()
    both = catalog(tmp_path / "index.json", [*old.items(), *new.items()])
    index = make_samples(both, tmp_path / "set", RULES)
    assert len(index.samples) == 1
    meta = json.loads((tmp_path / "set" / NAME / "meta.json").read_text())
    assert meta["made_of"]["items"] == [new.name("L1C")]


def test_the_same_bytes_wherever_and_in_whatever_order(source: str, tmp_path: Path) -> None:
    rules = replace(RULES, labels=LabelRules(), angles=AngleRules())
    for name, place in (("one", Threads(1)), ("four", Threads(4)), ("local", Local(workers=2))):
        make_samples(source, tmp_path / name, rules, place=place)
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert len(files) == 10
    for name in ("four", "local"):
        for file in files:
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "one" / file).read_bytes(), file


def test_who_stops_goes_on_later(source: str, tmp_path: Path) -> None:
    options = BuildOptions()
    options.stop.set()
    report = run_samples(SampleRequest(Query(catalog=source)), tmp_path / "set", RULES, Threads(1), options=options)
    assert report.exit_code == 10
    assert read_sample_index(tmp_path / "set").samples == ()
    assert len(make_samples(source, tmp_path / "set", RULES).done) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"bands": ("B02", "B42")}, "B42"),
        ({"target": "B99"}, "B99"),
        ({"downsampling": "lanczos"}, "downsampling should be one of nearest, .*, not 'lanczos'"),
        ({"radiometry": "boa"}, "radiometry should be 'raw' or 'toa'"),
        ({"threshold": 0.0}, "threshold should be a number, more than 0 and at most 1, not 0.0"),
        ({"nodata": 0.0}, "nodata cannot be 0"),
        ({"mission": "sentinel-2-l2a", "bands": ("SCL",), "target": "B02"}, "holds classes"),
    ],
)
def test_words_that_do_not_fit(words: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        replace(SampleRules(), **words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"backend": "magic"}, "backend should be one of scl, raster, vector, clouds, not 'magic'"),
        ({"backend": "raster"}, "need a path"),
        ({"backend": "scl", "path": "a.tif"}, "need no path"),
        ({"backend": "vector", "path": "a.gpkg"}, "need a mapping"),
        ({"mapping": {"4": 300}}, "0 to 255"),
        ({"mapping": {"cloud": 1}}, "whole numbers"),
        ({"outside": 3}, "vector"),
    ],
)
def test_words_of_labels_that_do_not_fit(words: dict, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        LabelRules(**words)


def test_where_nothing_fits_it_is_told(source: str, tmp_path: Path) -> None:
    with pytest.raises(NothingFoundError, match="no scene"):
        make_samples(SampleRequest(Query(catalog=source, time="2019")), tmp_path / "set", RULES)
    with pytest.raises(BadInputError, match="needs a grid"):
        make_samples(source, tmp_path / "set", replace(RULES, target="grid"))
    with pytest.raises(BadInputError, match="remote catalog"):
        make_samples("earth-search", tmp_path / "set", RULES)
