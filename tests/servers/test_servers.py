"""The test servers do what the tests that use them rely on."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.stac_api import StacApi

pytestmark = pytest.mark.postgres

COLLECTION: dict[str, Any] = {
    "type": "Collection",
    "stac_version": "1.0.0",
    "id": "dots",
    "description": "dots",
    "license": "CC0-1.0",
    "links": [],
    "extent": {
        "spatial": {"bbox": [[-180, -90, 180, 90]]},
        "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
    },
}


def dot(number: int) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"dot-{number}",
        "collection": "dots",
        "geometry": {"type": "Point", "coordinates": [11 + number / 10, 48]},
        "bbox": [11 + number / 10, 48, 11 + number / 10, 48],
        "properties": {"datetime": f"2020-01-{number + 1:02d}T10:00:00.123456Z", "eo:cloud_cover": 10.0 * number},
        "links": [],
        "assets": {},
    }


def found(url: str, **words: Any) -> list[str]:
    import pystac_client

    client = pystac_client.Client.open(url)
    return sorted(item["id"] for item in client.search(collections=["dots"], **words).items_as_dicts())


def test_the_stac_api_searches_filters_and_pages(stac_api: StacApi, fault_proxy: FaultProxy) -> None:
    stac_api.load([COLLECTION], [dot(number) for number in range(7)])
    everything = [f"dot-{number}" for number in range(7)]
    assert found(fault_proxy.url, limit=2) == everything
    assert [seen.method for seen in fault_proxy.seen].count("POST") >= 4, "the links lead through the proxy"
    assert found(stac_api.url, query={"eo:cloud_cover": {"lte": 20}}) == everything[:3]
    assert found(stac_api.url, bbox=[11.25, 47, 11.45, 49]) == ["dot-3", "dot-4"]
    assert found(stac_api.url, datetime="2020-01-02T00:00:00Z/2020-01-03T23:59:59Z") == ["dot-1", "dot-2"]
    stac_api.load([COLLECTION], [dot(3)])
    assert found(stac_api.url) == everything, "loading again replaces"


def test_every_test_starts_with_an_empty_catalog(stac_api: StacApi) -> None:
    assert found(stac_api.url) == []


def test_faults_befall_one_request_each(fault_proxy: FaultProxy) -> None:
    fault_proxy.inject(Fault(status=429, retry_after=3), Fault(drop=True), Fault(cut=True), Fault(delay=0.3))
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(fault_proxy.url, timeout=60)
    assert (caught.value.code, caught.value.headers["Retry-After"]) == (429, "3")
    with pytest.raises((http.client.RemoteDisconnected, urllib.error.URLError)):
        urllib.request.urlopen(fault_proxy.url, timeout=60)
    with pytest.raises(http.client.IncompleteRead), urllib.request.urlopen(fault_proxy.url, timeout=60) as answer:
        answer.read()
    begin = time.monotonic()
    for _ in range(2):
        assert urllib.request.urlopen(fault_proxy.url, timeout=60).status == 200
    assert time.monotonic() - begin >= 0.3
    assert [seen.status for seen in fault_proxy.seen] == [429, 0, 200, 200, 200]
