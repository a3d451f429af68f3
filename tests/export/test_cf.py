"""CF metadata, judged by the compliance checker of IOOS; and what a NetCDF copy holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from compliance_checker.runner import CheckSuite, ComplianceChecker
from pyproj import CRS
from zarr_cm import proj, spatial

from stac2cube.build.loop import build
from stac2cube.build.plan import Block, Step
from stac2cube.cli import cli
from stac2cube.errors import BadInputError
from stac2cube.executors.base import Threads
from stac2cube.export.netcdf import export_netcdf
from stac2cube.model.cube_spec import CubeSpec, Layer
from stac2cube.model.grid import Grid
from stac2cube.model.mission import find_mission, mission_names
from stac2cube.store.ledger import Entry
from stac2cube.store.metadata import read_root
from tests.views.cubes import DATES, counts

KNOWN = "Variable is not of type byte, short, or int as required for different type add_offset/scale_factor."
"""CF allows packed data to be unsigned since 1.9 (section 8.1: "byte, unsigned byte, short, unsigned short, int, or
unsigned int"); the checker, up to 6.1.0, knows the signed ones only. All else it says is an error here."""


def complaints(file: Path, folder: Path) -> list[str]:
    """What the checker has to say of a file, line by line, without what :data:`KNOWN` explains."""
    CheckSuite.load_all_available_checkers()
    said = folder / f"{file.stem}.txt"
    ComplianceChecker.run_checker(str(file), ["cf:1.11"], 1, "normal", output_filename=str(said), output_format="text")
    lines = [line.removeprefix("* ") for line in said.read_text().splitlines() if line.startswith("* ")]
    return [line for line in lines if line != KNOWN]


@dataclass(frozen=True)
class Ones:
    layers: tuple[Layer, ...]

    def __call__(self, _payload: None, block: Block) -> Mapping[str, np.ndarray]:
        return {layer.name: np.ones(block.grid.shape, dtype=layer.dtype) for layer in self.layers}


def layers_of(name: str) -> tuple[Layer, ...]:
    """All bands of a mission."""
    made = []
    for band in find_mission(name).bands.values():
        form = band.quantity
        numbers = (form.dtype, form.fill, form.scale, form.offset, form.units, band.long_name, form.standard_name)
        made.append(Layer(band.name, *numbers, form.flags, form.bits))
    return tuple(made)


@pytest.mark.parametrize("mission", mission_names())
def test_every_band_of_every_mission_is_valid_cf(mission: str, tmp_path: Path) -> None:
    grid = Grid("EPSG:32632", 10.0, (500000.0, 5000000.0), (8, 8), chunk=(8, 8), shard=(8, 8))
    spec = CubeSpec("layers", grid, layers_of(mission), {"mission": mission})
    facts = {"platform": "a", "orbit": 3, "cloud_cover": 12.5, "shift_x": 1.5, "shift_accepted": True, "catalog": "c"}
    entry = Entry("a_R003_20230714", datetime(2023, 7, 14, 10, tzinfo=UTC), "sealed", ("item",), properties=facts)
    build(tmp_path / "a.zarr", spec, [Step(entry, None, ((0, 0),))], Ones(spec.layers), Threads(1))
    assert complaints(export_netcdf(tmp_path / "a.zarr", tmp_path / "a.nc"), tmp_path) == []


def test_the_store_follows_the_zarr_conventions_that_it_declares(cube: Path) -> None:
    document = dict(read_root(cube).document)
    declared = [entry["name"] for entry in document["attributes"]["zarr_conventions"]]
    assert declared == ["proj", "spatial"]
    assert proj.validate_group_metadata(document)
    assert spatial.validate_group_metadata(document)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_texts_beyond_ascii_come_out_as_they_went_in(engine: str, cube: Path, tmp_path: Path) -> None:
    export_netcdf(cube, tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc", engine=engine) as opened:
        wkt = opened["spatial_ref"].attrs["crs_wkt"]
    assert "Between 6°E and 12°E" in wkt
    assert CRS.from_wkt(wkt).to_epsg() == 32632


def test_a_netcdf_copy_holds_the_stored_numbers(cube: Path, tmp_path: Path) -> None:
    words = ["export", str(cube), str(tmp_path / "2023.nc"), "--time", "2023-01"]
    assert cli.main(words, standalone_mode=False) is None
    with xr.open_dataset(tmp_path / "2023.nc", mask_and_scale=False) as copy:
        numbers = [place for place, date in enumerate(DATES) if date.startswith("2023-01")]
        np.testing.assert_array_equal(copy["B04"].values, [counts("B04", number) for number in numbers])
        assert copy["B04"].attrs["_FillValue"] == 0
        assert copy["SCL"].attrs["flag_values"].dtype == np.uint8
        assert copy.attrs["acknowledgement"] == "Contains modified Copernicus Sentinel data 2023"
        assert "stac2cube commit 1" in copy.attrs["history"]
    with xr.open_dataset(tmp_path / "2023.nc") as copy:
        assert copy["B04"].dtype.kind == "f"
        assert np.isnan(copy["B04"].values[0][:5, :5]).all()
    with pytest.raises(BadInputError, match="no step in 2019"):
        export_netcdf(cube, tmp_path / "2019.nc", "2019")
    assert not list(tmp_path.glob("*2019*"))
    assert not list(tmp_path.glob(".*"))
