"""The flat forest against the library it was made from, to the last bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stac2cube.clouds.model import cloud_probability, model_file, read_forest
from stac2cube.errors import BadInputError

pytest.importorskip("lightgbm", reason="LightGBM is not installed, or the OpenMP that it needs: apt install libgomp1")


def spectra(count: int, seed: int = 0) -> np.ndarray:
    """Dark to bright, more or less grey, with little cirrus."""
    rng = np.random.default_rng(seed)
    bright = rng.uniform(0.01, 1.1, (count, 1)) ** 2
    made = np.clip(bright * rng.uniform(0.5, 1.4, (count, 10)) + rng.normal(0, 0.02, (count, 10)), 0, 1.6)
    made[:, 7] *= 0.05
    return made


def test_it_gives_the_bits_of_the_detector() -> None:
    detector = pytest.importorskip("s2cloudless").S2PixelCloudDetector(all_bands=False)
    for dtype in ("float32", "float64"):
        image = spectra(60 * 70).reshape(60, 70, 10).astype(dtype)
        reference = detector.get_cloud_probability_maps(image[np.newaxis])[0]
        assert reference.std() > 0.3
        for engine in ("forest", "library"):
            # The detector keeps what it was given: it rounds LightGBM's float64 to float32 for float32 images.
            np.testing.assert_array_equal(cloud_probability(image, engine).astype(reference.dtype), reference)
        np.testing.assert_array_equal(cloud_probability(image), cloud_probability(image, "library"))


def test_numbers_on_and_beside_every_cut_fall_as_in_the_library() -> None:
    forest = read_forest(model_file())
    rows = []
    middle = np.median(spectra(1000), axis=0)
    for feature, cuts in enumerate(forest.cuts):
        for value in (cuts, np.nextafter(cuts, -np.inf), np.nextafter(cuts, np.inf)):
            some = np.tile(middle, (len(cuts), 1))
            some[:, feature] = value
            rows.append(some)
    every = np.concatenate(rows)
    assert len(every) > 7000
    np.testing.assert_array_equal(cloud_probability(every), cloud_probability(every, "library"))


def test_numbers_far_from_every_cut_fall_as_in_the_library() -> None:
    odd = np.array([-np.inf, -1e300, -1.0, -0.0, 0.0, 5e-324, 1e-40, 0.3, 1.0, 1e300, np.inf])
    every = spectra(5000, seed=4)
    rng = np.random.default_rng(5)
    every = np.where(rng.random(every.shape) < 0.4, rng.choice(odd, every.shape), every)
    np.testing.assert_array_equal(cloud_probability(every), cloud_probability(every, "library"))
    with np.errstate(over="ignore"):
        single = every.astype("float32")
    np.testing.assert_array_equal(cloud_probability(single), cloud_probability(single, "library"))


def test_blocks_and_threads_change_nothing() -> None:
    image = spectra(5003)
    whole = cloud_probability(image)
    for size in (1, 7, 8, 1000):
        parts = [image[at : at + size] for at in range(0, len(image), size)]
        with ThreadPoolExecutor(4) as pool:
            np.testing.assert_array_equal(np.concatenate(list(pool.map(cloud_probability, parts))), whole)


def test_pixels_without_data_stay_without() -> None:
    image = spectra(20)
    image[3, 9] = np.nan
    found = cloud_probability(image)
    assert np.isnan(found).sum() == 1
    assert np.isnan(found[3])


def test_another_kind_of_forest_is_refused(tmp_path: Path) -> None:
    text = model_file().read_text()
    for old, new in (("objective=binary sigmoid:1", "objective=regression"), ("decision_type=2", "decision_type=10")):
        path = tmp_path / f"{len(new)}.txt"
        path.write_text(text.replace(old, new))
        with pytest.raises(BadInputError, match="use the engine 'library'"):
            read_forest(path)
