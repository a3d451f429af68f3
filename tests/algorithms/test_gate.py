"""Gates: open for the optics of the table, closed for sharper ones; and how bands go with each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from stac2cube.superres.optics import (
    FUSE_SEEN,
    SHARP_SEEN,
    agreeing,
    bicubic,
    boxed,
    degraded,
    details_mix,
    fuse_gate,
    gated,
    means,
    mixed,
    phases_of,
    sharp_gate,
)

GAIN = 0.28


def ground(bands: int, edge: int = 512) -> np.ndarray:
    """Bands that are mixes of three kinds of ground, rough at every size."""
    rng = np.random.default_rng(0)
    kinds = np.stack(
        [
            sum(size * ndimage.gaussian_filter(rng.standard_normal((edge, edge)), size) for size in (2, 4, 8))
            for _ in range(3)
        ]
    )
    return (0.2 + 0.03 * np.einsum("bk,kyx->byx", rng.uniform(0.2, 1, (bands, 3)), kinds)).astype("float32")


def test_gates_open_for_the_optics_of_the_table_and_close_for_sharper_ones() -> None:
    truth = ground(8)
    opened = {}
    for name, seen in (("table", lambda p, s: degraded(p, s, [GAIN] * len(p))), ("means", means)):
        fine, coarse = seen(truth[:4], 4), seen(truth[4:], 8)
        opened[name] = float(sharp_gate(fine).mean()), float(fuse_gate(fine, coarse).mean())
    assert min(opened["table"]) > 0.8, opened
    assert opened["means"][0] < 0.4, opened
    assert opened["means"][1] < 0.4, opened


def test_gates_hang_on_contrast_alone_and_see_only_so_far() -> None:
    fine, coarse = (np.random.default_rng(1).uniform(0.1, 0.3, (4, size, size)).astype("float32") for size in (96, 48))
    for gate, seen, made in ((sharp_gate, SHARP_SEEN, (fine,)), (fuse_gate, FUSE_SEEN // 2, (fine, coarse))):
        opened = gate(*made)
        np.testing.assert_allclose(gate(*(2 * part + np.float32(0.1) for part in made)), opened, atol=2e-3)
        changed = [part.copy() for part in made]
        half = opened.shape[1] // 2
        for part in changed:
            part[..., (half + seen + 1) * part.shape[-1] // opened.shape[1] :] = 0.9
        np.testing.assert_array_equal(gate(*changed)[:, : half + 1], opened[:, : half + 1])
        assert (gate(*changed) != opened).any()


def test_what_bands_have_in_common_is_found() -> None:
    fine = np.random.default_rng(2).uniform(0.1, 0.3, (4, 40, 50)).astype("float32")
    parts = np.array([0.5, 0.0, 1.0, -0.25], dtype="float32")
    found = details_mix(fine, np.einsum("g,gyx->yx", parts, fine)[None])
    assert found.shape == (1, 4, 40, 50)
    np.testing.assert_allclose(np.median(found[0], axis=(1, 2)), parts, atol=0.1)
    guides = fine - fine.mean(axis=(1, 2), keepdims=True)
    exact = mixed(guides, guides[:1], 49)[0, :, 20, 25]
    np.testing.assert_allclose(exact, (1, 0, 0, 0), atol=0.12)


@pytest.mark.parametrize("window", [1, 3, 7])
def test_means_over_squares(window: int) -> None:
    picture = np.random.default_rng(0).random((9, 12)).astype("float32")
    wanted = ndimage.uniform_filter(picture.astype("float64"), window, mode="reflect")
    np.testing.assert_allclose(boxed(picture, window), wanted, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4])
def test_an_open_gate_is_back_projection_and_a_closed_one_interpolation(scale: int) -> None:
    rng = np.random.default_rng(3)
    coarse = rng.uniform(0.1, 0.3, (2, 20, 24)).astype("float32")
    more = rng.normal(0, 0.01, (2, 20 * scale, 24 * scale)).astype("float32")
    gains, every = [0.26, 0.38], np.ones((20, 24), "float32")
    plain = bicubic(coarse, scale)
    projected = agreeing(plain, coarse, scale, gains)
    said = phases_of(more, scale)
    np.testing.assert_allclose(gated(said, coarse, gains, 0 * every), plain, atol=1e-6)
    np.testing.assert_allclose(gated(said, coarse, gains, every, held=False), projected + more, atol=1e-6)
    made = gated(said, coarse, gains, every)
    np.testing.assert_allclose(made, agreeing(projected + more, coarse, scale, gains), atol=2e-6)
