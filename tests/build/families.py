"""Further protocols in which failures are made: a cube with its children and its catalog, sets of files, indexes.

They are held to the same: see :class:`tests.build.faults.Protocol`. What they make is called ``toy.zarr`` as there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import stac2cube
from stac2cube.build.plan import Summary
from stac2cube.datasets import sample_files as files
from stac2cube.executors.base import Threads
from stac2cube.index.index import update_index
from stac2cube.maintain.sync import sync
from stac2cube.model.catalog import is_index
from stac2cube.search.index_commits import read_index
from tests.build.faults import Protocol
from tests.datasets import killing
from tests.datasets.conftest import make_cube
from tests.datasets.products import Pair
from tests.items import catalog
from tests.stages.test_care import DATES, build, product
from tests.trust.hostile import AOI, item, tif


def _living(folder: Path) -> None:
    """A cube with clouds and overviews, and a catalog with newer, new and lost items."""
    items = [product(folder, date) for date in DATES]
    layers = build(folder, [items[3], items[4]], "toy")
    layers = build(folder, [items[place] for place in (0, 2, 3, 4)], "toy")
    stac2cube.store_overviews(layers, levels=1)
    stac2cube.get_cloud_layers(layers, folder / "clouds.zarr", method="scl", dilate_m=0)
    newer = product(folder, DATES[3], "03.02", 1)
    catalog(folder / "items.json", [items[0], items[1], newer, items[4], items[5]])


def _family(cube: Path) -> list[Path]:
    names = ("toy.zarr", "clouds.zarr", "toy.zarr.overviews/2")
    return [cube.parent / name for name in names if (cube.parent / name).exists()]


def _sync(cube: Path) -> Summary:
    return sync(cube, Threads(2), even_many=True)


def _products(folder: Path, days: tuple[int, ...] = (12, 15), baseline: str = "05.09") -> None:
    pairs = [Pair(folder / "products", day, baseline).write() for day in days]
    catalog(folder / "items.json", [one for pair in pairs for one in pair.items()])


def _older_samples(folder: Path) -> None:
    _products(folder, baseline="04.00")
    _samples(folder / "toy.zarr")
    _products(folder)


def _samples(out: Path) -> None:
    killing.samples({"source": str(out.with_name("items.json"))}, out)


def _samples_in_two_steps(out: Path) -> None:
    exchange, files.exchange = files.exchange, lambda one, other: False
    try:
        _samples(out)
    finally:
        files.exchange = exchange


def _digest(folder: Path) -> bytes:
    """Of all files of a folder, by their names."""
    total = sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return total.digest()


def _samples_there(out: Path) -> dict[str, bytes]:
    """Samples under their names, as far as there are any."""
    return {path.parent.name: _digest(path.parent) for path in out.glob("[!.]*/meta.json")}


def _ground(folder: Path) -> None:
    (folder / "words.json").write_text(json.dumps({"cube": str(make_cube(folder / "ground.zarr"))}))


def _of_cube(kind: str, form: str = "") -> Callable[[Path], None]:
    """One of :data:`tests.datasets.killing.WORKS` over the cube that was there first, wherever the copy lies."""

    def change(out: Path) -> None:
        words = json.loads(out.with_name("words.json").read_text())
        killing.WORKS[kind](words | {"form": form}, out)

    return change


def _files(out: Path) -> dict[str, bytes]:
    """All files of a set under names that others read."""
    paths = (path for path in out.rglob("*") if path.is_file())
    paths = (path for path in paths if not any(part.startswith(".") for part in path.relative_to(out).parts))
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def _finished_files(out: Path) -> dict[str, bytes]:
    """The same; statistics without numbers say that frames are missing."""
    return {name: content for name, content in _files(out).items() if b'"mean": null' not in content}


def _same_files(out: Path, whole: Path) -> list[object]:
    one, other = killing.contents(out), killing.contents(whole)
    names = (one.keys() | other.keys()) - {"request.json"}  # which says where the products lie: each set has its own
    return sorted(name for name in names if one.get(name) != other.get(name))


def _searched(folder: Path) -> None:
    image = str(tif(folder / "image.tif", 1500))
    catalog(folder / "items.json", [item(f"item-{day}", image, day) for day in (10, 20, 40, 100)])


def _changed(folder: Path) -> None:
    """An index of a catalog in which an item changed, one went, and two came, one of them in a month of its own."""
    _searched(folder)
    _create(folder / "toy.zarr")
    image = str(tif(folder / "other.tif", 1600))
    items = [
        item(f"item-{day}", image if day == 20 else str(folder / "image.tif"), day) for day in (10, 20, 41, 100, 200)
    ]
    catalog(folder / "items.json", items)


def _create(index: Path) -> None:
    """Or go on, where the creation failed when it was through."""
    words = {"mission": "sentinel-2-l2a", "aoi": tuple(map(float, AOI.split(","))), "time": "2023", "bands": ["B04"]}
    if not is_index(index):
        stac2cube.create_index(index, catalog=str(index.with_name("items.json")), **words)


def _update(index: Path) -> None:
    update_index(index)


def _records(index: Path) -> Mapping[str, bytes]:
    """All that an index holds, as one: a commit of it is seen whole or not at all."""
    if not is_index(index):
        return {}
    records = read_index(index).records
    return {"index": repr([(key, record.item.text) for key, record in sorted(records.items())]).encode()}


def _same_index(index: Path, whole: Path) -> list[object]:
    now = read_index(index)
    there = {str(path.relative_to(index)) for path in index.rglob("*.parquet")}
    differing: list[object] = sorted(there ^ {part.file for part in now.manifest.parts})
    return differing if _records(index) == _records(whole) else [*differing, "other records"]


_IN_SAMPLE = ("sample.made", "sample.away", "sample.named", "file.written", "file.named")
_IN_FILE = ("shard.made", "shard.named", "file.written", "file.named")


def _set(begin: Callable[[Path], object], change: Callable[[Path], object], in_block: tuple[str, ...]) -> Protocol:
    look = _samples_there if in_block is _IN_SAMPLE else _files
    return Protocol(begin, change, look=look, differ=_same_files, in_block=in_block, plain=True)


FAMILIES: dict[str, Protocol] = {
    "sync": Protocol(_living, _sync, _family),
    "samples": _set(_products, _samples, _IN_SAMPLE),
    "samples anew": _set(_older_samples, _samples, _IN_SAMPLE),
    "samples anew in two steps": _set(_older_samples, _samples_in_two_steps, _IN_SAMPLE),
    "statistics": replace(_set(_ground, _of_cube("statistics"), _IN_FILE), look=_finished_files),
    "patches webdataset": _set(_ground, _of_cube("patches", "webdataset"), _IN_FILE),
    "patches zarr": _set(_ground, _of_cube("patches", "zarr"), _IN_FILE),
    "patches geotiff": _set(_ground, _of_cube("patches", "geotiff"), _IN_FILE),
    "create an index": Protocol(_searched, _create, look=_records, differ=_same_index, plain=True),
    "update an index": Protocol(_changed, _update, look=_records, differ=_same_index, plain=True),
}
"""By name."""
