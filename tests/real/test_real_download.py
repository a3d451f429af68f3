"""A recorded answer of the Copernicus Data Space, given again by a server like it: its own addresses and hashes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stac2cube.access.sign import repaired
from stac2cube.datasets.download import Fetcher, hasher, run_download
from stac2cube.datasets.rules import DownloadRequest
from stac2cube.model.geometry import read_areas
from tests.real.recorded import STAC, real
from tests.servers.cdse import DataSpace, data_space_as_catalog, number_of

pytestmark = real

ROLES = ("l2a.scl_20m", "l2a.aot_20m", "l2a.wvp_20m", "l2a.tile_metadata", "l2a.product_metadata", "l2a.band.B02")
(AREA,) = read_areas((9.0, 47.0, 9.1, 47.1))


MISLABELLED = "d50120"
"""Hashes of most metadata files say that they are MD5, with 32 bytes, which MD5 never has: nothing can be verified by
them, and their files are known by their size."""


def recorded() -> list[dict]:
    return json.loads((STAC / "cdse/search_s2l2a_202007.json").read_text())["features"]


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DataSpace]:
    """The recorded items; their files hold their own names, so sizes and hashes are of these."""
    with data_space_as_catalog(monkeypatch, tmp_path) as server:
        for item in recorded():
            for asset in item["assets"].values():
                https = asset.get("alternate", {}).get("https", {})
                if not https:
                    continue
                content = asset["file:local_path"].encode()
                server.files[asset["file:local_path"]] = content
                asset["file:size"] = len(content)
                if not asset["file:checksum"].startswith(MISLABELLED):
                    made, digest = hasher(asset["file:checksum"])
                    function = made()
                    function.update(content)
                    asset["file:checksum"] = asset["file:checksum"][: -2 * len(digest)] + function.hexdigest()
                product = number_of(f"{item['id']}.SAFE")
                path = re.sub(r"Products\([^)]*\)", f"Products({product})", https["href"].partition("/odata/v1")[2])
                https["href"] = server.service.download + path
            server.items.append(item)
        yield server


def test_every_hash_and_every_address_of_recorded_items_is_understood() -> None:
    functions, odd = set(), set()
    for item in recorded():
        for key, asset in item["assets"].items():
            made = hasher(asset["file:checksum"])
            if made is None:
                assert asset["file:checksum"].startswith(MISLABELLED)
                odd.add(key)
            else:
                functions.add(made[0]().name)
            https = asset.get("alternate", {}).get("https", asset)["href"]
            nodes = re.findall(r"Nodes\((.*?)\)", repaired(https))
            assert "" not in nodes
            if nodes:
                assert "/".join(nodes) == asset["file:local_path"]
    assert functions == {"sha3_256", "md5"}
    assert odd == {"granule_metadata", "inspire_metadata", "product_metadata", "datastrip_metadata"}


def test_recorded_items_are_fetched_by_role(space: DataSpace, tmp_path: Path) -> None:
    request = DownloadRequest(AREA, "2020-07-01/2020-07-05", ROLES, cloud=(0, 50))
    done = run_download(request, tmp_path / "a", fetcher=Fetcher(first_wait=0.01))
    assert not done.absent
    assert done.manifest.scenes == ("S2B_20200705T101559_32TMT", "S2B_20200705T101559_32TNT")
    assert len(done.new) == 2 * len(ROLES)
    for entry in done.new:
        assert entry.verified == ("size" if entry.role.endswith("metadata") else "checksum")
        content = (tmp_path / "a" / entry.path).read_bytes()
        assert content.decode().endswith(entry.path.rpartition("/")[2])
    names = {entry.role: entry.path.rpartition("/")[2] for entry in done.new if "TNT" in entry.scene}
    assert names["l2a.scl_20m"] == "T32TNT_20200705T101559_SCL_20m.jp2"
    assert names["l2a.band.B02"] == "T32TNT_20200705T101559_B02_10m.jp2"
    assert names["l2a.tile_metadata"] == "MTD_TL.xml"
    clouded = DownloadRequest(AREA, "2020-07-01/2020-07-05", ROLES, cloud=(90, 100), tiles=("32TMT",))
    more = run_download(clouded, tmp_path / "a", fetcher=Fetcher(first_wait=0.01))
    assert [entry.scene for entry in more.new] == ["S2A_20200703T103031_32TMT"] * len(ROLES)
    assert len(more.manifest.scenes) == 3
