"""Against formulas written out here, from the papers and not from the registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stac2cube.errors import BadInputError, TableError
from stac2cube.store.reader import open_cube
from stac2cube.views.indices import formula_for, indices, possible_indices, registry_name
from stac2cube.views.masks import mask_classes
from stac2cube.views.units import from_db, to_db
from tests.views.cubes import classes, image, nothing_computed, truths


def ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one - other) / (one + other)


def expected() -> dict[str, np.ndarray]:
    blue, green, red, edge = (truths(band) for band in ("B02", "B03", "B04", "B05"))
    nir, swir16, swir22 = (truths(band) for band in ("B08", "B11", "B12"))
    return {
        "NDVI": ratio(nir, red),
        "NDWI": ratio(green, nir),
        "NDMI": ratio(nir, swir16),
        "MNDWI": ratio(green, swir16),
        "NBR": ratio(nir, swir22),
        "NBR2": ratio(swir16, swir22),
        "NDBI": ratio(swir16, nir),
        "NDSI": ratio(green, swir16),
        "NDREI": ratio(nir, edge),
        "EVI": 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1),
        "SAVI": 1.5 * (nir - red) / (nir + red + 0.5),
    }


def assert_same(found: xr.DataArray, wanted: np.ndarray) -> None:
    """Equal to float32's precision, where the denominator does not blow up its rounding."""
    assert found.dtype == np.float32
    finite = np.isfinite(wanted)
    assert np.array_equal(np.isfinite(found.values), finite)
    tame = finite & (np.abs(np.nan_to_num(wanted)) < 20)
    assert tame.sum() > 0.98 * finite.sum()
    np.testing.assert_allclose(found.values[tame], wanted[tame], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    "opening",
    [{}, {"decode": False}, pytest.param({"chunks": None}, marks=pytest.mark.soak), {"chunks": {"y": 33}}],
    ids=str,
)
def test_each_index_equals_its_paper(cube: Path, opening: dict) -> None:
    with nothing_computed(), np.errstate(all="raise"):
        found = indices(open_cube(cube, **opening), list(expected()))
    assert list(found.data_vars) == list(expected())
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, wanted in expected().items():
            assert_same(found[name], np.where(np.isfinite(wanted), wanted, np.nan))


def test_names_in_use_lead_to_the_registrys(cube: Path) -> None:
    dataset = open_cube(cube)
    found = indices(dataset, ["ndvi", "NDRE", "ndmir", "ndwi2", "Evi"])
    assert list(found.data_vars) == ["NDVI", "NDREI", "NBR2", "NDMI", "EVI"]
    assert indices(dataset, "NDVI")["NDVI"].equals(found["NDVI"])
    evi = found["EVI"].attrs
    assert evi["bands"] == "N=B08, R=B04, B=B02"
    assert evi["constants"] == "g=2.5, C1=6, C2=7.5, L=1"
    assert evi["reference"].startswith("https://doi.org/")
    assert found.attrs["mission"] == "sentinel-2-l2a"
    assert "scene" in found.coords


def test_constants_can_be_given(cube: Path) -> None:
    nir, red = truths("B08"), truths("B04")
    found = indices(open_cube(cube), "SAVI", constants={"L": 1})["SAVI"]
    assert_same(found, 2 * (nir - red) / (nir + red + 1))
    assert formula_for(open_cube(cube), "SAVI").constants == {"L": 0.5}
    # Wavelengths come from the mission's page, nanometres.
    assert formula_for(open_cube(cube), "FAI").constants == {"lambdaN": 842, "lambdaR": 665, "lambdaS1": 1610}


def test_bands_can_be_given(cube: Path) -> None:
    dataset = open_cube(cube)
    for bands in ({"N": "B8A"}, {"nir": "B8A"}):
        assert_same(indices(dataset, "NDVI", bands=bands)["NDVI"], ratio(truths("B8A"), truths("B04")))
    unknown = dataset[["B08", "B04"]].drop_attrs(deep=False)
    with pytest.raises(BadInputError, match="which the layers B08, B04 lack"):
        indices(unknown, "NDVI")
    assert indices(unknown, "NDVI", bands={"N": "B08", "R": "B04"})["NDVI"].equals(indices(dataset, "NDVI")["NDVI"])


def test_the_narrow_band_does_not_stand_in_for_the_broad_one(cube: Path) -> None:
    with pytest.raises(BadInputError, match=r"NDVI needs N \(nir\)"):
        indices(open_cube(cube).drop_vars("B08"), "NDVI")


def test_landsats_only_near_infrared_does() -> None:
    red, nir = np.full((2, 2), 0.1, "float32"), np.full((2, 2), 0.3, "float32")
    dataset = xr.Dataset({"red": image(red), "nir08": image(nir)})
    np.testing.assert_allclose(indices(dataset, "NDVI")["NDVI"].values, 0.5, rtol=1e-6)


def test_masks_go_through(cube: Path) -> None:
    found = indices(mask_classes(open_cube(cube), keep=["land"]), "NDVI")["NDVI"].values
    land = np.isin(np.stack([classes(number) for number in range(7)]), [4, 5])
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = ratio(truths("B08"), truths("B04"))
    assert np.array_equal(np.isfinite(found), land & np.isfinite(wanted))


def test_no_value_is_infinite() -> None:
    dataset = xr.Dataset({"nir": image(np.array([[0.1, 0.0, 0.2]])), "red": image(np.array([[-0.1, 0.0, 0.1]]))})
    found = indices(dataset, "NDVI")["NDVI"].values[0]
    assert np.isnan(found[:2]).all()
    assert found[2] == pytest.approx(1 / 3)


def test_radar_in_linear_power() -> None:
    vv, vh = (np.random.default_rng(seed).gamma(4, 0.02, (4, 5)).astype("float32") for seed in (1, 2))
    dataset = xr.Dataset({"vv": image(vv), "vh": image(vh)})
    np.testing.assert_allclose(indices(dataset, "DpRVIVV")["DpRVIVV"].values, 4 * vh / (vv + vh), rtol=1e-5)
    with pytest.raises(BadInputError, match=r"linear power, v[vh] is in dB: use from_db"):
        indices(to_db(dataset), "DpRVIVV")
    assert "DpRVIVV" in indices(from_db(to_db(dataset)), "DpRVIVV")


def test_a_name_that_means_several_is_refused_with_the_choices() -> None:
    with pytest.raises(BadInputError, match=r"'rvi' means several indices: say DpRVIVV \(.*\) or SR .* or RVIRE2"):
        registry_name("rvi")
    edge, red, vv, vh = (image(np.random.default_rng(seed).uniform(0.1, 0.4, (3, 4))) for seed in range(4))
    dataset = xr.Dataset({"rededge2": edge, "red": red, "vv": vv, "vh": vh})
    found = indices(dataset, ["rvire2", "dprvi", "vv/vh", "VH/VV"])
    assert list(found) == ["RVIRE2", "DpRVIVV", "VVVHR", "VHVVR"]
    assert_same(found["RVIRE2"], edge.values / red.values)
    assert_same(found["VVVHR"], vv.values / vh.values)
    assert_same(found["VHVVR"], vh.values / vv.values)
    assert "RVIRE2" in possible_indices(dataset)
    assert indices(dataset, found.data_vars).equals(found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[aliases]\nMINE = "NDXI"', "lead to an index of the registry"),
        ('[aliases]\nmine = "NDVI"', "in upper case"),
        ('[ambiguous]\nMINE = "NDVI"', "a list of the names"),
        ('[constants.NDVI]\nL = "one"', "should be numbers"),
        ("[alias]\n", "no key 'alias'"),
    ],
)
def test_a_table_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str) -> None:
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "indices.toml").write_text('[aliases]\nGREENNESS = "NDVI"')
    assert (registry_name("greenness"), registry_name("ndre")) == ("NDVI", "NDREI")
    (tmp_path / "indices.toml").write_text(text)
    with pytest.raises(TableError, match=problem):
        registry_name("ndvi")


def test_errors_say_what_is_possible(cube: Path) -> None:
    dataset = open_cube(cube)
    with pytest.raises(BadInputError, match="unknown index 'NDXI': known are for example NDVI"):
        indices(dataset, "NDXI")
    with pytest.raises(BadInputError, match=r"known are for example .*NDVI"):
        indices(dataset, "DVI7")
    with pytest.raises(BadInputError, match=r"NDVI needs R \(red\).*possible with these: .*NDWI"):
        indices(dataset.drop_vars("B04"), "NDVI")
    with pytest.raises(BadInputError, match="'bai' may be BAI or BaI: write it as it is meant"):
        indices(dataset, "bai")
    with pytest.raises(BadInputError, match=r"needs a value for PAR: give constants=\{'PAR'"):
        indices(dataset, "NIRvP")
    with pytest.raises(BadInputError, match="is no band"):
        indices(dataset, "NDVI", bands={"near": "B08"})
    with pytest.raises(BadInputError, match="no layer 'B99'"):
        indices(dataset, "NDVI", bands={"N": "B99"})
    with pytest.raises(BadInputError, match="at least one"):
        indices(dataset, [])
    with pytest.raises(BadInputError, match="SCL holds classes"):
        indices(dataset, "NDVI", bands={"N": "SCL"})


def test_all_possible_indices_can_be_computed(cube: Path) -> None:
    dataset = open_cube(cube, chunks=None).isel(time=[0], y=slice(0, 8), x=slice(0, 8))
    names = possible_indices(dataset)
    assert len(names) > 150
    found = indices(dataset, names)
    assert set(found.data_vars) == set(names)
    assert all(layer.dtype == np.float32 and layer.dims == ("time", "y", "x") for layer in found.data_vars.values())
