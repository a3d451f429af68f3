"""Angles of sun and view out of recorded granules' metadata, against the same files read and evaluated otherwise."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pyproj import Proj, Transformer
from scipy.interpolate import RegularGridInterpolator

from stac2cube.algorithms.radiometry import BANDS, interpolated, parse_angles, parse_scaling, parse_sun
from stac2cube.errors import RadiometryError
from tests.real.recorded import DATA, RASTERS, real

pytestmark = real

FILES = {
    "eodag": RASTERS / "s2_l1c/eodag_31TDH_20180101/MTD_TL.xml",
    "l1c": DATA / "safe_xml/S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE/MTD_TL.xml",
    "l2a": DATA / "safe_xml/S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126.SAFE/MTD_TL.xml",
    "wagl": next((RASTERS / "s2_l1c/wagl_safe").glob("*.zip"), Path("absent")),
    "mapchete": RASTERS / "s2_l2a/mapchete_120m/S2B_33TWL_20230820_0_L2A/granule_metadata.xml",
}


def text_of(name: str) -> str:
    path = FILES[name]
    if path.suffix != ".zip":
        return path.read_text()
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(entry for entry in archive.namelist() if entry.endswith("MTD_TL.xml"))).decode()


def block(text: str, tag: str) -> np.ndarray:
    """The numbers of a ``Zenith`` or ``Azimuth`` element, read without an XML parser."""
    inner = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S)[1]
    return np.array([row.split() for row in re.findall(r"<VALUES>(.*?)</VALUES>", inner)], dtype=float)


def grids(text: str, band: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Zenith and azimuth of every detector of a band."""
    found = re.findall(
        rf'<Viewing_Incidence_Angles_Grids bandId="{band}".*?</Viewing_Incidence_Angles_Grids>', text, re.S
    )
    return [(block(part, "Zenith"), block(part, "Azimuth")) for part in found]


@pytest.mark.parametrize("name", FILES)
def test_at_the_nodes_the_angles_are_those_of_the_file(name: str) -> None:
    text = text_of(name)
    crs = re.search(r"EPSG:\d+", text)[0]
    west, north = (float(re.search(rf"<{tag}>(\d+)</{tag}>", text)[1]) for tag in ("ULX", "ULY"))
    angles = parse_angles(text, name)
    x, y = np.meshgrid(west + 5000 * np.arange(23), north - 5000 * np.arange(23))
    sun = re.search(r"<Sun_Angles_Grid>.*?</Sun_Angles_Grid>", text, re.S)[0]
    zenith, azimuth = interpolated(angles.sun, x, y, crs).degrees
    np.testing.assert_array_equal(zenith, block(sun, "Zenith"))
    np.testing.assert_array_equal(azimuth, block(sun, "Azimuth"))
    np.testing.assert_array_equal(parse_sun(text, name).elevation, 90 - block(sun, "Zenith"))
    overlaps = 0
    for number, band in enumerate(BANDS):
        zenith, azimuth = interpolated(angles.view[band], x, y, crs).degrees
        detectors = grids(text, number)
        seen = np.stack([np.isfinite(z) for z, _ in detectors])
        assert (np.isnan(zenith) == ~seen.any(axis=0)).all()
        for row, column in zip(*np.nonzero(seen.any(axis=0)), strict=True):
            values = [(z[row, column], a[row, column]) for z, a in detectors if np.isfinite(z[row, column])]
            if len(values) == 1:
                assert (zenith[row, column], azimuth[row, column]) == values[0]
            else:
                overlaps += 1
                assert zenith[row, column] == pytest.approx(np.mean([z for z, _ in values]), abs=1e-12)
                towards = np.exp(1j * np.radians([a for _, a in values])).mean()
                assert np.exp(1j * np.radians(azimuth[row, column])) == pytest.approx(towards / abs(towards), abs=1e-12)
    assert overlaps or name in ("l2a", "wagl"), "these two tiles lie under one detector only"


@pytest.mark.parametrize("name", ["eodag", "mapchete"])
def test_between_the_nodes_they_are_bilinear(name: str) -> None:
    text = text_of(name)
    angles = parse_angles(text, name, ("B04",))
    for nodes in (angles.sun, angles.view["B04"]):
        places = np.arange(23.0)
        random = np.random.default_rng(1)
        down, right = random.uniform(0, 22, (2, 4000))
        x, y = nodes.corner[0] + 5000 * right, nodes.corner[1] - 5000 * down
        zenith, azimuth = interpolated(nodes, x, y, nodes.crs).degrees
        where = np.stack([down, right], axis=-1)
        # SciPy's bilinear interpolation gives NaN wherever one of the four nodes is unknown: the others are compared.
        expected = RegularGridInterpolator((places, places), nodes.zenith)(where)
        whole = np.isfinite(expected)
        assert whole.sum() > 1000
        np.testing.assert_allclose(zenith[whole], expected[whole], rtol=0, atol=1e-10)
        towards = np.exp(1j * np.radians(nodes.azimuth))
        expected = RegularGridInterpolator((places, places), towards)(where)
        difference = np.angle(np.exp(1j * np.radians(azimuth[whole])) / expected[whole])
        np.testing.assert_allclose(difference, 0, atol=1e-10)
        known = np.isfinite(nodes.zenith)
        some = known[down.astype(int), right.astype(int)]
        assert np.isfinite(zenith[some]).all(), "one known node is enough"


def test_in_the_neighbouring_zone_azimuths_turn_by_the_convergence() -> None:
    text = text_of("eodag")
    nodes = parse_angles(text, "eodag", ()).sun
    x, y = np.array([420000.0, 480000.0]), np.array([4790000.0, 4700000.0])
    _, here = interpolated(nodes, x, y, "EPSG:32631").degrees
    there = Transformer.from_crs("EPSG:32631", "EPSG:32630", always_xy=True).transform(x, y)
    zenith, turned = interpolated(nodes, *there, "EPSG:32630").degrees
    longitude, latitude = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(x, y)
    turns = [Proj(f"EPSG:{code}").get_factors(longitude, latitude).meridian_convergence for code in (32631, 32630)]
    # Azimuth from true north = azimuth from grid north + convergence, the same in both zones.
    np.testing.assert_allclose(turned, here + turns[0] - turns[1], atol=1e-3)
    np.testing.assert_allclose(zenith, interpolated(nodes, x, y, "EPSG:32631").zenith, atol=1e-6)


def test_beyond_the_tile_nothing_is_known() -> None:
    nodes = parse_angles(text_of("eodag"), "eodag", ()).sun
    zenith, azimuth = interpolated(nodes, np.array([399000.0]), np.array([4790000.0]), nodes.crs).degrees
    assert np.isnan(zenith).all()
    assert np.isnan(azimuth).all()


def test_what_a_file_lacks_is_told() -> None:
    text = text_of("eodag")
    with pytest.raises(RadiometryError, match="no angles of view of B04"):
        parse_angles(re.sub(r'bandId="3"', 'bandId="2"', text), "here", ("B04",))
    with pytest.raises(RadiometryError, match="not the metadata of a Sentinel-2 granule"):
        parse_angles(text[:5000], "here")


def test_scaling_by_band() -> None:
    folder = DATA / "safe_xml"
    new = folder / "S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126.SAFE/MTD_MSIL2A.xml"
    old = folder / "S2A_MSIL1C_20210908T042701_N0301_R133_T46RER_20210908T070248.SAFE/MTD_MSIL1C.xml"
    text = new.read_text()
    assert parse_scaling(text, "new").factors("B8A") == (1e-4, -0.1)
    assert parse_scaling(old.read_text(), "old").factors("B8A") == (1e-4, 0.0)
    other = re.sub(r'(<BOA_ADD_OFFSET band_id="8">)-1000', r"\g<1>-500", text)
    assert other != text
    assert parse_scaling(other, "other").factors("B8A") == (1e-4, -0.05)
    assert parse_scaling(other, "other").factors("B08") == (1e-4, -0.1)
    with pytest.raises(RadiometryError, match="no offset for band B8A"):
        parse_scaling(re.sub(r'<BOA_ADD_OFFSET band_id="8">-1000</BOA_ADD_OFFSET>', "", text), "none").factors("B8A")
