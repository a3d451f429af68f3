"""Super-resolution beside pixels that are saturated or very bright."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio

pytest.importorskip("torch")

import stac2cube
from stac2cube.superres.networks import FINE
from stac2cube.superres.rules import SuperresRules
from stac2cube.testing.archive import write_simulated_cog
from tests.items import catalog
from tests.stages.test_superres import BANDS, LATTICE, decibel, scene

if TYPE_CHECKING:
    import xarray as xr

ROOF = np.s_[90:94, 100:103]
"""Rows and columns of 10 m."""

MARK = 65535


def layers(folder: Path, bands: tuple[str, ...] = (), value: int = MARK, resampling: str = "bilinear") -> Path:
    """A cube of one date; ``bands`` have some counts, in the form without offset, on a roof."""
    folder.mkdir()
    made = scene(folder, 150)
    for band in bands:
        path = Path(made["assets"][band]["href"].removeprefix("file://"))
        with rasterio.open(path) as file:
            counts, transform = file.read(1), file.transform
        rows, columns = ROOF
        every = 1 if band in FINE else 2
        part = (
            slice(rows.start // every, -(-rows.stop // every)),
            slice(columns.start // every, -(-columns.stop // every)),
        )
        counts[part] = value
        write_simulated_cog(path, counts, 32632, transform)
    stac2cube.get_stac_layers(
        folder / "layers.zarr",
        catalog=catalog(folder / "items.json", [made]),
        mission="sentinel-2-l2a",
        aoi=LATTICE,
        time="2022",
        bands=[*BANDS, "SCL"],
        resampling=resampling,
    )
    return folder / "layers.zarr"


def sharp(cube: Path, backend: str, target: float) -> xr.Dataset:
    out = cube.with_name(f"{backend}-{target:g}.zarr")
    return stac2cube.super_resolution(cube, out, rules=SuperresRules(target, backend))


@pytest.mark.parametrize(
    ("bands", "target", "resampling"),
    [(FINE[:3], 10, "bilinear"), (("B05", "B11"), 10, "cubic"), (BANDS, 10, "nearest")],
)
def test_what_is_saturated_spoils_nothing_else(
    bands: tuple[str, ...], target: float, resampling: str, tmp_path: Path
) -> None:
    clean, marked = layers(tmp_path / "a", resampling=resampling), layers(tmp_path / "b", bands, resampling=resampling)
    right, got, plain = sharp(clean, "native", target), sharp(marked, "native", target), sharp(clean, "bicubic", target)
    times = 10 / target
    assert float(got.bright_fraction[0]) > 0
    assert float(right.bright_fraction[0]) == 0
    for band in BANDS:
        if target == 10 and band in FINE:
            np.testing.assert_array_equal(got[band], stac2cube.open_cube(marked)[band])
            continue
        picture, truth = got[band].values[0], right[band].values[0]
        lost = np.isnan(picture)
        rows, columns = (slice(int(part.start * times), int(part.stop * times)) for part in ROOF)
        assert lost[rows, columns].all() == (band in bands), band
        assert lost.mean() < 0.01
        assert lost.any() == (band in bands), band
        # Of no pixel is more lost than the networks had gained there over bicubic.
        apart = np.abs(picture - truth)
        limit = max(np.abs(plain[band].values[0] - truth).max(), 0.02)
        assert np.nanmax(apart) <= limit, band
        far = np.ones(apart.shape, dtype=bool)
        far[int(60 * times) : int(124 * times), int(70 * times) : int(133 * times)] = False
        assert np.nanmax(apart[far]) <= 2e-4, "elsewhere nothing has changed"


def test_very_bright_and_saturated_pixels_are_back_projected_alone(tmp_path: Path) -> None:
    cube = layers(tmp_path / "a", FINE[1:], value=13_000)
    marked = layers(tmp_path / "b", FINE[:1])
    for number, path in enumerate((cube, marked)):
        native, plain = sharp(path, "native", 2.5), sharp(path, "backproject", 2.5)
        assert float(native.bright_fraction[0]) == pytest.approx((12, 56)[number] / LATTICE.shape[0] ** 2, abs=1e-5)
        around = np.s_[4 * 87 : 4 * 97, 4 * 97 : 4 * 106]  # a pixel more than what has no data
        for band in BANDS:
            assert np.isnan(native[band].values).any() == (number == 1 and band == FINE[0])
            got, wanted = native[band].values[0][around], plain[band].values[0][around]
            assert np.nanmax(np.abs(got - wanted)) < 0.01 * max(1, float(np.nanmax(wanted) - np.nanmin(wanted)))
        assert decibel(native.B04.values[0], plain.B04.values[0]) > 20
