"""Arrays of Zarr stores: the pixels that were written, from a disk and over HTTP, or an error that names the chunk."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from stac2cube.access.sign import opening
from stac2cube.errors import ReadError
from stac2cube.fastcog.ranges import State
from stac2cube.model.image import BandRequest, Image
from stac2cube.model.scene import AssetRef, is_zarr_array, split_store
from stac2cube.pixels import zarr_image
from stac2cube.pixels.open import Engine, ReadOptions, RetryPolicy, inspect, of_asset
from stac2cube.pixels.zarr_image import PACKINGS, ChunkCache, PackedChunks
from stac2cube.pixels.zarr_store import StoreAccess, unpacked_size
from tests.pixels.granules import granule
from tests.pixels.zarr_stores import CORNER, CRS, StoreForm, counts, path_of, write_store
from tests.servers.range_server import RangeServer, serving

FEW = {"b02": 10, "b05": 20, "scl": 20, "b01": 60}

FORMS = {
    "v2": StoreForm(bands=FEW),
    "v2, no fill value": StoreForm(bands=FEW, fill=None),
    "v2, not consolidated, attributes": StoreForm(bands=FEW, consolidated=False, place="attributes"),
    "v3": StoreForm(3, bands=FEW),
    "v3, sharded": StoreForm(3, chunk=12, shard=60, bands=FEW, place="group"),
    "v3, floats, not consolidated": StoreForm(3, floats=True, bands=FEW, consolidated=False),
}

WHOLE = (slice(None), slice(None))


def look(href: str, roi: tuple[slice, slice] = WHOLE) -> np.ndarray:
    """Pixels of an array; all where the slices say nothing."""

    def read(image: Image, _: AssetRef) -> np.ndarray:
        rows, columns = (slice(*part.indices(edge)[:2]) for part, edge in zip(roi, image.geobox.shape, strict=True))
        return image.read(1, (rows, columns))

    asset = AssetRef(href)
    return inspect(Engine(), asset, opening(asset, "none"), read)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_pixels_are_those_that_were_written(form: StoreForm, tmp_path: Path) -> None:
    store = write_store(tmp_path, form)
    for band, gsd in FEW.items():
        href = f"{store}/{path_of(band, gsd)}"
        whole = look(href)
        written = counts(band, form)
        assert whole.dtype == written.dtype
        np.testing.assert_array_equal(whole, written)
        edge = written.shape[0]
        part = (slice(edge // 3, edge // 2), slice(edge // 5, edge - 1))
        np.testing.assert_array_equal(look(href, part), written[part])
        geobox = inspect(Engine(), AssetRef(href), opening(AssetRef(href), "none"), lambda image, _: image.geobox)
        assert (geobox.transform.c, geobox.transform.f, geobox.transform.a) == (*CORNER, gsd)
        assert str(geobox.crs) == CRS


@pytest.mark.parametrize("name", ["v2", "v3", "v3, sharded"])
def test_over_http_each_object_is_asked_for_once(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    store = write_store(tmp_path, form, f"{name.replace(', ', '-')}")
    with serving(tmp_path) as server:
        for band, gsd in FEW.items():
            href = f"{server.url}/{store.name}/{path_of(band, gsd)}"
            for _ in range(2):
                np.testing.assert_array_equal(look(href), counts(band, form))
        asked = [path for path in server.requests if "/c/" in path or path[-3:].count(".") == 1]
        whole = [path for path in asked if "sharded" not in path]
        assert asked
        assert len(whole) == len(set(whole))
        documents = [
            path for path in server.requests if path.endswith((".zmetadata", "zarr.json", ".zarray", ".zattrs"))
        ]
        assert len(documents) <= 2, documents


@pytest.mark.parametrize("name", ["v2", "v3", "v2, not consolidated, attributes"])
def test_documents_that_do_not_wait_for_each_other_are_asked_for_at_the_same_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions along x and y; metadata of an array, and its attributes. Who is alone waits in vain for the other."""
    store = write_store(tmp_path, FORMS[name], name.replace(", ", "-"))
    pairs = {"x/": threading.Barrier(2), ".z": threading.Barrier(2)}
    plain, met = StoreAccess.whole, set[str]()

    def whole(self: StoreAccess, key: str, most: int) -> tuple[memoryview, State]:
        kind = ".z" if re.search(r"/b02/\.z(?:array|attrs)$", key) else ""
        kind = "x/" if re.search(r"/r10m/[xy]/(?:c/)?0$", key) else kind
        if kind:
            pairs[kind].wait(60)
            met.add(kind)
        return plain(self, key, most)

    monkeypatch.setattr(StoreAccess, "whole", whole)
    np.testing.assert_array_equal(look(f"{store}/{path_of('b02', 10)}"), counts("b02", FORMS[name]))
    assert met == ({".z"} if "not consolidated" in name else {"x/"}), met


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def remove_chunks(store: Path, band: str, keys: str = "*") -> None:
    array = store / path_of(band, FEW[band])
    for path in sorted(array.rglob(keys)):
        if path.is_file() and path.name[0] != "." and path.name != "zarr.json":
            path.unlink()


def test_a_missing_chunk_is_fill_where_the_array_says_so_and_has_others(tmp_path: Path) -> None:
    form = FORMS["v2"]
    store = write_store(tmp_path, form)
    href = f"{store}/{path_of('b02', 10)}"
    (store / path_of("b02", 10) / "0.0").unlink()
    expected = counts("b02", form)
    expected[:60, :60] = 0
    np.testing.assert_array_equal(look(href), expected)


@pytest.mark.parametrize("name", ["v2", "v3", "v3, sharded"])
def test_an_array_without_any_chunk_is_an_error(name: str, tmp_path: Path) -> None:
    store = write_store(tmp_path, FORMS[name], name.replace(", ", "-"))
    remove_chunks(store, "b02")
    with pytest.raises((ReadError, OSError), match=r"chunk .* of array .*/b02 in .*all chunks"):
        look(f"{store}/{path_of('b02', 10)}", (slice(70, 80), slice(70, 80)))


def test_a_missing_chunk_without_a_fill_value_is_an_error(tmp_path: Path) -> None:
    store = write_store(tmp_path, FORMS["v2, no fill value"])
    (store / path_of("b02", 10) / "1.0").unlink()
    href = f"{store}/{path_of('b02', 10)}"
    assert look(href, (slice(0, 60), slice(0, 120))).shape == (60, 120)
    with pytest.raises(OSError, match=r"chunk 1\.0 of array measurements/reflectance/r10m/b02 in .*no fill value"):
        look(href)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def other(path: Path) -> None:
    path.write_bytes(b"no chunk at all" * 9)


@pytest.mark.parametrize("damage", [truncated, other])
@pytest.mark.parametrize(("name", "key"), [("v2", "0.1"), ("v3", "c/0/1"), ("v3, sharded", "c/1/0")])
def test_a_damaged_chunk_is_named(name: str, key: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    form = FORMS[name]
    store = write_store(tmp_path, form, name.replace(", ", "-"))
    array = store / path_of("b02", 10)
    damage(array / key)
    with pytest.raises(ReadError, match=rf"chunk {key} of array measurements/reflectance/r10m/b02 in {store.name}"):
        look(str(array))


@pytest.mark.parametrize("name", ["v2", "v3"])
def test_a_chunk_of_another_size_is_refused_unless_the_array_says_so_by_now(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    store = write_store(tmp_path, form, name)
    array = store / path_of("b02", 10)
    smaller = write_store(tmp_path, replace(form, chunk=30), f"{name}-smaller") / path_of("b02", 10)
    first = "0.0" if name == "v2" else "c/0/0"
    shutil.copy(smaller / first, array / first)
    with pytest.raises(ReadError, match=rf"chunk {first} of array measurements/reflectance/r10m/b02 in"):
        look(str(array))
    # The array was written anew, and the store's consolidated metadata were not.
    shutil.rmtree(array)
    shutil.copytree(smaller, array)
    np.testing.assert_array_equal(look(str(array)), counts("b02", form))


def test_an_array_written_anew_under_its_name_is_read_anew(tmp_path: Path) -> None:
    form = FORMS["v2"]
    store = write_store(tmp_path, form)
    href = f"{store}/{path_of('b02', 10)}"
    first = slice(0, 60), slice(0, 60)
    np.testing.assert_array_equal(look(href, first), counts("b02", form)[first])
    shutil.rmtree(store)
    again = replace(form, offset=77, chunk=40)
    write_store(tmp_path, again)
    later = time.time_ns() + 5_000_000_000
    for path in store.rglob("*"):
        os.utime(path, ns=(later, later))
    np.testing.assert_array_equal(look(href), counts("b02", again))
    np.testing.assert_array_equal(look(href, first), counts("b02", again)[first])


def test_a_chunk_is_held_for_some_minutes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, made = ChunkCache(most=100), []

    def make() -> np.ndarray:
        made.append(1)
        return np.zeros(10, "uint8")

    for _ in range(2):
        cache.get("a", 10, make)
    assert len(made) == 1
    monkeypatch.setattr(zarr_image, "HELD_FOR", 0.0)
    cache.get("a", 10, make)
    assert len(made) == 2


REFUSED = {
    "codec": (lambda v: v.update(codecs=[{"name": "bytes"}, {"name": "https://example.org/mine"}]), "codec"),
    "type": (lambda v: v.update(data_type="string"), "no numbers"),
    "extension": (lambda v: v.update(mine={"must_understand": True}), "extension 'mine'"),
    "transformer": (lambda v: v.update(storage_transformers=[{"name": "mine"}]), "storage transformers"),
    "grid": (lambda v: v["chunk_grid"].update(name="rectilinear"), "layout of its chunks"),
    "huge chunks": (lambda v: v["chunk_grid"]["configuration"].update(chunk_shape=[1 << 20, 1 << 20]), "are the most"),
    "dimensions": (lambda v: v.update(dimension_names=["x", "y"]), "dimensions are"),
    "shape": (lambda v: v.update(shape=[-1, 3]), "cannot be understood"),
    "no array": (lambda v: v.update(node_type="group"), "no array"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_read_here_is_refused_in_words(change: Any, words: str, tmp_path: Path) -> None:
    store = write_store(tmp_path, FORMS["v3, floats, not consolidated"])
    array = store / path_of("b02", 10)
    edit(array / "zarr.json", change)
    with pytest.raises(ReadError, match=words):
        look(str(array))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.update(filters=[{"id": "pickle"}]), "filters"),
        (lambda v: v.update(compressor={"id": "pickle"}), "compressed by 'pickle'"),
        (lambda v: v.update(dtype="|O"), "no numbers"),
    ],
)
def test_filters_and_objects_of_zarr_2_are_refused(change: Any, words: str, tmp_path: Path) -> None:
    store = write_store(tmp_path, FORMS["v2, not consolidated, attributes"])
    array = store / path_of("b02", 10)
    edit(array / ".zarray", change)
    with pytest.raises(ReadError, match=words):
        look(str(array))


def test_a_link_out_of_the_store_is_not_followed(tmp_path: Path) -> None:
    store = write_store(tmp_path, FORMS["v2"])
    array = store / path_of("b02", 10)
    secret = tmp_path / "secret"
    shutil.move(array / "0.0", secret)
    (array / "0.0").symlink_to(secret)
    with pytest.raises(ReadError, match="leads out of the store"):
        look(str(array))
    (array / "0.0").unlink()
    os.mkfifo(array / "0.0")
    with pytest.raises(OSError, match="no plain file"):
        look(str(array))
    with pytest.raises(ReadError, match="names no array"):
        look(f"{store}/measurements/../../other.zarr/b02")


AXES = {
    "corners instead of middles": lambda x: x - 5,
    "another step": lambda x: x[0] + (x - x[0]) * 2,
    "uneven": lambda x: np.where(x == x[3], x + 4, x),
}


@pytest.mark.parametrize("change", AXES.values(), ids=AXES)
def test_positions_that_are_no_middles_of_pixels_are_refused(change: Callable[[Any], Any], tmp_path: Path) -> None:
    store = write_store(tmp_path, FORMS["v3"])
    axis = zarr.open_array(store / "measurements/reflectance/r10m/x", mode="r+")
    axis[...] = change(axis[...])
    with pytest.raises(ReadError, match=r"no multiple|is called r10m|even steps"):
        look(f"{store}/{path_of('b02', 10)}")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[RangeServer]:
    write_store(tmp_path, FORMS["v2"], "served")
    with serving(tmp_path) as server:
        yield server


def of_server(server: RangeServer, attempts: int = 3) -> np.ndarray | None:
    """Band b02 of what a server serves, by the same way as blocks are read."""
    asset = AssetRef(f"{server.url}/served.zarr/{path_of('b02', 10)}")
    from tests.pixels.granules import box32

    one = replace(granule(box32()), assets={"B02": asset})
    band = BandRequest("B02", "uint16", 0, "continuous")

    def read(image: Image, _: AssetRef) -> np.ndarray:
        return image.read(1, (slice(0, 120), slice(0, 120)))

    return of_asset(one, band, read, ReadOptions(RetryPolicy(attempts, 0.01, 0.02)))


@pytest.mark.parametrize("fault", [503, "drop", 500])
def test_what_passes_is_tried_again(fault: int | str, served: RangeServer) -> None:
    served.faults["b02/0.1"] = [fault] * 4
    np.testing.assert_array_equal(of_server(served), counts("b02", FORMS["v2"]))


def test_a_chunk_that_a_server_refuses_is_named_and_never_filled(served: RangeServer) -> None:
    served.faults["b02/1.1"] = [403] * 9
    with pytest.raises(ReadError, match=r"chunk 1\.1 of array .*/b02 in served\.zarr: .*403"):
        of_server(served)


def test_a_store_that_is_not_there_is_no_empty_one(served: RangeServer) -> None:
    served.faults["served.zarr"] = [404] * 99
    with pytest.raises(ReadError, match=r"there is no array .* in served\.zarr.*404"):
        of_server(served)


def test_chunks_are_decoded_once_and_held_within_a_bound() -> None:
    made: list[int] = []
    cache = ChunkCache(most=3000)

    def make(number: int) -> np.ndarray:
        time.sleep(0.02)
        made.append(number)
        return np.full(1000, number, "uint8")

    def use(number: int) -> None:
        for _ in range(3):
            assert cache.get(number % 2, 1000, lambda: make(number % 2))[0] == number % 2

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [0, 1]
    for number in range(2, 9):
        assert cache.get(number, 1000, lambda number=number: make(number))[0] == number
    assert cache.peak <= 3000
    with pytest.raises(ValueError, match="read-only"):
        cache.get(8, 1000, lambda: make(8))[0] = 1


def test_a_chunk_that_fails_is_tried_by_those_who_wait() -> None:
    cache, calls = ChunkCache(most=100), []

    def fail() -> np.ndarray:
        calls.append(1)
        raise OSError("no")

    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            cache.get("a", 10, fail)
    assert len(calls) == 2
    assert cache.get("a", 10, lambda: np.zeros(10, "uint8")).nbytes == 10


def test_blocks_of_a_row_fetch_a_large_chunk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks larger than blocks, as those of real stores: 5,490 and 10,980 pixels."""
    monkeypatch.setattr(zarr_image, "CHUNKS", ChunkCache(most=150_000))
    form = StoreForm(chunk=240, extent=2400, bands={"b02": 10, "b03": 10})
    store = write_store(tmp_path, form, "large")
    with serving(tmp_path) as server:
        for row in range(2):
            for column in range(4):
                for band in form.bands:
                    part = slice(row * 120, row * 120 + 120), slice(column * 60, column * 60 + 60)
                    pixels = look(f"{server.url}/{store.name}/{path_of(band, 10)}", part)
                    np.testing.assert_array_equal(pixels, counts(band, form)[part])
        chunks = [path for path in server.requests if path.endswith("/0.0")]
        # One holds 115,200 bytes: two do not fit, and take turns.
        assert len(chunks) == 16
        assert zarr_image.CHUNKS.peak <= 150_000
        monkeypatch.setattr(zarr_image, "CHUNKS", ChunkCache(most=300_000))
        server.requests.clear()
        for column in range(4):
            for band in form.bands:
                part = slice(0, 120), slice(column * 60, column * 60 + 60)
                look(f"{server.url}/{store.name}/{path_of(band, 10)}", part)
        assert len([path for path in server.requests if path.endswith("/0.0")]) == 2


@pytest.mark.parametrize(("group", "most"), [(group, np.iinfo(one.dtype).max) for group, one in PACKINGS.items()])
def test_every_count_comes_back_from_numbers_with_a_point(group: str, most: int) -> None:
    packing = PACKINGS[group]
    every = np.arange(most + 1, dtype=packing.dtype)[np.newaxis]
    for kind in ("float32", "float64"):
        found = packing.counts((every * packing.scale + packing.offset).astype(kind))
        assert found.dtype == packing.dtype
        np.testing.assert_array_equal(found, every)
    single = np.float32(packing.scale) * every.astype("float32") + np.float32(packing.offset)
    np.testing.assert_array_equal(packing.counts(single), every)
    assert packing.counts(np.array([[np.nan, packing.offset]], "float32")).tolist() == [[0, 0]]
    for wrong in (2.4 * packing.scale + packing.offset, packing.offset - packing.scale, 1e5, np.inf):
        with pytest.raises(ReadError, match="no count of Sentinel-2"):
            packing.counts(np.array([[packing.offset, wrong]], "float32"))


def test_a_store_that_is_decoded_throughout_gives_counts_and_classes(tmp_path: Path) -> None:
    """As GeoZarr by default: reflectance, aerosol and classes as float32, no data as NaN or as what 0 became."""
    form = StoreForm(3, bands={"b02": 10, "scl": 20, "aot": 10}, place="group")
    store = write_store(tmp_path, form)
    for band, gsd in form.bands.items():
        path = path_of(band, gsd)
        packing = next(one for group, one in PACKINGS.items() if path.startswith(group))
        attributes = {
            key: part for key, part in dict(zarr.open_array(store / path).attrs).items() if "scale" not in key
        }
        shutil.rmtree(store / path)
        numbers = (counts(band, form) * packing.scale + packing.offset).astype("float32")
        made = zarr.create_array(
            store / path,
            shape=numbers.shape,
            chunks=(30, 30),
            dtype="float32",
            fill_value=np.nan,
            attributes=attributes,
        )
        made[...] = numbers
    zarr.consolidate_metadata(store)
    for band, gsd in form.bands.items():
        found = look(f"{store}/{path_of(band, gsd)}")
        assert found.dtype == counts(band, form).dtype
        np.testing.assert_array_equal(found, counts(band, form))


def test_reflectance_of_another_scale_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path, FORMS["v2, not consolidated, attributes"])
    edit(store / path_of("b02", 10) / ".zattrs", lambda value: value.update(scale_factor=2e-4))
    with pytest.raises(ReadError, match=r"declares a scale of 0\.0002"):
        look(f"{store}/{path_of('b02', 10)}")


def test_the_size_that_a_frame_unpacks_to_is_known_before(tmp_path: Path) -> None:
    content = np.zeros(70_000, "uint8").tobytes()
    assert unpacked_size("blosc", memoryview(numcodecs.Blosc().encode(content))) == 70_000
    for size in (70, 700, 70_000):
        assert unpacked_size("zstd", memoryview(numcodecs.Zstd().encode(content[:size]) + b"\0" * 9)) == size
    assert unpacked_size("gzip", memoryview(content)) is None


def test_addresses_of_arrays() -> None:
    at = "https://objects.example:443/e05a:202603-s02msil2a-eu/19/S2B.zarr"
    assert split_store(f"{at}/measurements/reflectance/r10m/b02?sig=a.b") == (at, "measurements/reflectance/r10m/b02")
    assert split_store(f"{at}/") == (at, "")
    assert split_store("s3://bucket/a.zarr/b/c") == ("s3://bucket/a.zarr", "b/c")
    assert is_zarr_array("/dss/a.zarr/b02")
    for none in (at, f"{at}/.zmetadata", f"{at}/quicklook.tif", "/dss/a.tif", "https://example.org/a.zarrs/b"):
        assert not is_zarr_array(none), none


@pytest.mark.parametrize(
    ("edge", "chunk"),
    [
        (5_490, 5_490),
        pytest.param(10_980, 10_980, marks=pytest.mark.soak),
        pytest.param(10_980, 5_490, marks=pytest.mark.soak),
    ],
)
def test_the_largest_chunks_of_real_stores_stay_within_the_bound(
    edge: int, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of quality masks (one chunk of 120 MB) and of 10 m bands of 2025 (60 MB); here of one byte, and smooth."""
    path = tmp_path / "large.zarr" / "quality" / "mask" / "r10m" / "b02"
    array = zarr.create_array(
        path,
        shape=(edge, edge),
        chunks=(chunk, chunk),
        dtype="uint8",
        zarr_format=2,
        compressors=numcodecs.Blosc("zstd", 1, numcodecs.Blosc.BITSHUFFLE),
        fill_value=0,
        attributes={
            "proj:transform": [10, 0, CORNER[0], 0, -10, CORNER[1]],
            "proj:shape": [edge, edge],
            "proj:epsg": 32632,
            "_ARRAY_DIMENSIONS": ["y", "x"],
        },
    )
    rows = (np.arange(edge) // 8 % 251).astype("uint8")
    array[...] = rows[:, np.newaxis] + (np.arange(edge) // 1000).astype("uint8")[np.newaxis]
    bound = 150_000_000
    monkeypatch.setattr(zarr_image, "CHUNKS", ChunkCache(most=bound))
    with serving(tmp_path) as server:
        href = f"{server.url}/large.zarr/quality/mask/r10m/b02"
        for column in range(-(-edge // 2048)):
            part = slice(2048, 4096), slice(column * 2048, min(column * 2048 + 2048, edge))
            expected = rows[part[0], np.newaxis] + (np.arange(edge)[part[1]] // 1000).astype("uint8")[np.newaxis]
            np.testing.assert_array_equal(look(href, part), expected)
        chunks = [path for path in server.requests if path[-3:].count(".") == 1 and "/." not in path]
    assert len(chunks) == len(set(chunks)) == (edge // chunk)
    assert zarr_image.CHUNKS.peak <= bound


def test_a_small_part_of_a_chunk_is_not_kept_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once; who wants another part has it unpacked to stay, and nobody has it fetched again."""
    monkeypatch.setattr(zarr_image, "CHUNKS", ChunkCache())
    monkeypatch.setattr(zarr_image, "PACKED", PackedChunks())
    form = StoreForm(chunk=1100, extent=11_000, bands={"b02": 10})
    store = write_store(tmp_path, form, "thin")
    written = counts("b02", form)
    with serving(tmp_path) as server:
        href = f"{server.url}/{store.name}/{path_of('b02', 10)}"
        for number, (first, held) in enumerate(((0, 0), (500, 1), (900, 1))):
            part = slice(first, first + 200), slice(100 * number, 100 * number + 300)
            np.testing.assert_array_equal(look(href, part), written[part])
            assert zarr_image.CHUNKS.peak == held * 1100 * 1100 * 2
        assert len([path for path in server.requests if path.endswith("/0.0")]) == 1


def test_packed_chunks_are_held_within_a_bound() -> None:
    packed = PackedChunks(most=100)
    for number in range(5):
        assert packed.first(number, lambda: memoryview(bytes(40))) is not None
    assert [packed.take(number) is None for number in range(5)] == [True, True, True, False, False]
    assert packed.first(4, lambda: None) is None
    assert packed.take(4) is None


ODD = (None, 0, -1, 1e300, "x", [], {}, [None], {"name": None}, True, "NaN")


def mutated(value: Any, rng: np.random.Generator) -> Any:
    """A JSON value of which one part is something else, or gone."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = str(rng.choice(sorted(value)))
        if rng.random() < 0.1:
            return {name: part for name, part in value.items() if name != key}
        return {**value, key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = int(rng.integers(len(value)))
        return [mutated(part, rng) if number == place else part for number, part in enumerate(value)]
    return ODD[int(rng.integers(len(ODD)))]


@pytest.mark.parametrize("name", ["v2", "v3, sharded", "v2, not consolidated, attributes"])
def test_metadata_of_any_kind_give_pixels_or_an_error_in_words(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    store = write_store(tmp_path, replace(form, bands={"b02": 10}), "odd0")
    (document,) = [store / part for part in (".zmetadata", "zarr.json") if (store / part).exists()] or [
        store / path_of("b02", 10) / ".zarray"
    ]
    sound, rng, refused = json.loads(document.read_text()), np.random.default_rng(3), 0
    for number in range(150):
        document.write_text(json.dumps(mutated(sound, rng)))
        # Under a new name, so that nothing is remembered of it.
        moved = store.rename(store.with_name(f"odd{number + 1}.zarr"))
        document, store = moved / document.relative_to(store), moved
        try:
            found = look(f"{store}/{path_of('b02', 10)}", (slice(0, 5), slice(0, 5)))
            assert found.shape[0] <= 5
        except (ReadError, OSError):
            refused += 1
    assert 10 < refused < 150
