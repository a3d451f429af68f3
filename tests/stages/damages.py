"""Kinds of damage, by name: what harms a cube, and what becomes of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zarr

from stac2cube.store.metadata import OWN

HISTORY, LEDGER = f"{OWN}/history", f"{OWN}/ledger"
FIRST = "000001"
"""The first commit of the cube that is harmed."""

Harm = Callable[[Path], object]


def pixels(cube: Path, layer: str = "B04") -> list[Path]:
    return sorted(path for path in (cube / layer / "c").rglob("*") if path.is_file())


def year(cube: Path) -> Path:
    (store,) = cube.with_name(f"{cube.name}.years").glob("*.zarr")
    return store


def last_history(cube: Path) -> Path:
    return max((cube / HISTORY).glob("*.json"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"\x00{ nothing")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_instead(path: Path) -> None:
    """The content is the same, and lies elsewhere: in the folder that MINE names."""
    outside = Path(os.environ["MINE"]) / path.name
    path.rename(outside)
    path.symlink_to(outside)


def swap(one: Path, other: Path) -> None:
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])


def edit(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def own(path: Path, **changes: object) -> None:
    edit(path, lambda document: document["attributes"]["stac2cube"].update(changes))


def values(cube: Path, name: str, change: Callable[[Any], Any]) -> None:
    array = zarr.open_array(cube / name, mode="r+")
    array[...] = change(array[...])


def add(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def older_root(cube: Path) -> None:
    (cube / "zarr.json").write_bytes((cube / HISTORY / f"{FIRST}.json").read_bytes())


def shorter(document: Any) -> None:
    for node in document["consolidated_metadata"]["metadata"].values():
        if node.get("dimension_names", [""])[:1] == ["time"]:
            node["shape"][0] -= 1


REPAIRED: dict[str, Harm] = {
    "pixels lost": lambda c: pixels(c)[0].unlink(),
    "pixels with a bit flipped": lambda c: flip(pixels(c)[1]),
    "pixels cut short": lambda c: cut(pixels(c)[1]),
    "pixels empty": lambda c: empty(pixels(c)[2]),
    "pixels too long": lambda c: pixels(c)[2].write_bytes(pixels(c)[2].read_bytes() + b"x"),
    "pixels of two steps swapped": lambda c: swap(*pixels(c)[:2]),
    "pixels of another layer": lambda c: swap(pixels(c)[0], pixels(c, "SCL")[0]),
    "a folder in the place of pixels": lambda c: folder_instead(pixels(c)[0]),
    "a pipe in the place of pixels": lambda c: pipe_instead(pixels(c)[0]),
    "a step lost in all layers": lambda c: [shutil.rmtree(c / layer / "c/0") for layer in ("B04", "SCL")],
    "all pixels of a layer lost": lambda c: shutil.rmtree(c / "SCL/c"),
    "a layer lost": lambda c: shutil.rmtree(c / "B04"),
    "pixels beyond the end": lambda c: add(c / "B04/c/77/0/0"),
    "pixels of no tile": lambda c: add(c / "B04/c/0/0/9"),
    "pixels in a slot without number": lambda c: add(c / "B04/c/copy of 0/0/0"),
    "a stray file": lambda c: add(c / "notes.txt"),
    "a stray hidden file": lambda c: add(c / ".DS_Store"),
    "a stray folder": lambda c: add(c / "B04 (copy)/c/0"),
    "an empty stray folder": lambda c: (c / "B05").mkdir(),
    "a stray file in an array": lambda c: add(c / "B04/.zarray"),
    "a stray file in the history": lambda c: add(c / HISTORY / "notes"),
    "a stray part of the ledger": lambda c: add(c / LEDGER / "000099.parquet"),
    "a stray pipe": lambda c: os.mkfifo(c / "pipe"),
    "a stray chunk of time": lambda c: add(c / "time/c/7"),
    "x lost": lambda c: (c / "x/c/0").unlink(),
    "x lost with its folder": lambda c: shutil.rmtree(c / "x/c"),
    "x lost with its metadata": lambda c: shutil.rmtree(c / "x"),
    "x with a bit flipped": lambda c: flip(c / "x/c/0"),
    "x moved": lambda c: values(c, "x", lambda x: x + 1000),
    "x reversed": lambda c: values(c, "x", lambda x: x[::-1]),
    "x cut short": lambda c: cut(c / "x/c/0"),
    "x empty": lambda c: empty(c / "x/c/0"),
    "a folder in the place of x": lambda c: folder_instead(c / "x/c/0"),
    "a pipe in the place of x": lambda c: pipe_instead(c / "x/c/0"),
    "y lost": lambda c: (c / "y/c/0").unlink(),
    "y moved by half a pixel": lambda c: values(c, "y", lambda y: y + 5),
    "grid mapping lost": lambda c: (c / "spatial_ref/c").unlink(),
    "grid mapping of another zone": lambda c: values(c, "spatial_ref", lambda _: 32601),
    "metadata of x lost": lambda c: (c / "x/zarr.json").unlink(),
    "metadata of y changed": lambda c: edit(c / "y/zarr.json", lambda d: d["attributes"].update(units="feet")),
    "metadata of the grid mapping garbled": lambda c: garble(c / "spatial_ref/zarr.json"),
    "metadata of our own group lost": lambda c: (c / OWN / "zarr.json").unlink(),
    "metadata of a layer old": lambda c: edit(c / "B04/zarr.json", lambda d: d["shape"].__setitem__(0, 2)),
    "metadata of a layer lost": lambda c: (c / "SCL/zarr.json").unlink(),
    "metadata of a layer of another type": lambda c: edit(c / "B04/zarr.json", lambda d: d.update(data_type="int16")),
    "a pipe in the place of metadata": lambda c: pipe_instead(c / "B04/zarr.json"),
    "a folder in the place of metadata": lambda c: folder_instead(c / "B04/zarr.json"),
    "metadata of time broken": lambda c: (c / "time/zarr.json").write_text("{"),
    "time lost": lambda c: (c / "time/c/0").unlink(),
    "time garbled": lambda c: garble(c / "time/c/0"),
    "time an hour late": lambda c: values(c, "time", lambda t: t + 3_600_000_000),
    "a folder in the place of time": lambda c: folder_instead(c / "time/c/0"),
    "a pipe in the place of time": lambda c: pipe_instead(c / "time/c/0"),
    "scene keys lost": lambda c: (c / "scene/c/0").unlink(),
    "scene keys swapped": lambda c: values(c, "scene", lambda s: s[::-1]),
    "root lost": lambda c: (c / "zarr.json").unlink(),
    "root empty": lambda c: empty(c / "zarr.json"),
    "root cut short": lambda c: cut(c / "zarr.json"),
    "root garbled": lambda c: garble(c / "zarr.json"),
    "root with another title": lambda c: edit(c / "zarr.json", lambda d: d["attributes"].update(title="other")),
    "root with another place": lambda c: edit(
        c / "zarr.json", lambda d: d["attributes"]["spatial:transform"].__setitem__(2, 0.0)
    ),
    "root without an attribute": lambda c: edit(c / "zarr.json", lambda d: d["attributes"].pop("Conventions")),
    "root with another commit": lambda c: own(c / "zarr.json", commit=7),
    "root with a step less": lambda c: edit(c / "zarr.json", shorter),
    "root without our attributes": lambda c: edit(c / "zarr.json", lambda d: d["attributes"].pop("stac2cube")),
    "root without its arrays": lambda c: edit(c / "zarr.json", lambda d: d.pop("consolidated_metadata")),
    "root of an earlier commit": older_root,
    "a folder in the place of the root": lambda c: folder_instead(c / "zarr.json"),
    "a pipe in the place of the root": lambda c: pipe_instead(c / "zarr.json"),
    "last history lost": lambda c: (last_history(c)).unlink(),
    "last history changed": lambda c: own(last_history(c), by="somebody else"),
    "last history garbled": lambda c: garble(last_history(c)),
    "a folder in the place of history": lambda c: folder_instead(last_history(c)),
    "pixels not readable": lambda c: pixels(c)[0].chmod(0),
    "a folder of pixels not readable": lambda c: (c / "B04/c").chmod(0o200),
    "root not readable": lambda c: (c / "zarr.json").chmod(0),
    "a file of the year lost": lambda c: pixels(year(c))[0].unlink(),
    "a file of the year flipped": lambda c: flip(pixels(year(c))[0]),
    "x of the year lost": lambda c: (year(c) / "x/c/0").unlink(),
    "time of the year changed": lambda c: values(year(c), "time", lambda t: t + 1),
    "metadata of the year changed": lambda c: edit(year(c) / "B04/zarr.json", lambda d: d.update(fill_value=7)),
    "metadata of the year's y lost": lambda c: (year(c) / "y/zarr.json").unlink(),
    "record of the year lost": lambda c: (year(c) / OWN / "shards.json").unlink(),
    "root of the year lost": lambda c: (year(c) / "zarr.json").unlink(),
    "root of the year of another place": lambda c: edit(
        year(c) / "zarr.json", lambda d: d["attributes"]["spatial:transform"].__setitem__(2, 0.0)
    ),
    "a stray file in the year": lambda c: add(year(c) / "notes.txt"),
    "the year lost": lambda c: shutil.rmtree(year(c)),
}
"""Damage that is found, and repaired to the pixel."""

NAMED: dict[str, tuple[Harm, str]] = {
    "first history lost": (lambda c: (c / HISTORY / f"{FIRST}.json").unlink(), f"{HISTORY}/{FIRST}.json"),
    "first history changed": (lambda c: own(c / HISTORY / f"{FIRST}.json", by="me"), f"{HISTORY}/{FIRST}.json"),
    "first history garbled": (lambda c: garble(c / HISTORY / f"{FIRST}.json"), f"{HISTORY}/{FIRST}.json"),
    "first history of another commit": (
        lambda c: shutil.copy(c / HISTORY / "000002.json", c / HISTORY / f"{FIRST}.json"),
        f"{HISTORY}/{FIRST}.json",
    ),
    "history lost": (lambda c: shutil.rmtree(c / HISTORY), f"{HISTORY}/{FIRST}.json"),
    "part of the ledger lost": (lambda c: newest_part(c).unlink(), LEDGER),
    "part of the ledger broken": (lambda c: newest_part(c).write_bytes(b"PAR1"), LEDGER),
    "part of the ledger with a bit flipped": (lambda c: flip(newest_part(c)), LEDGER),
    "part of the ledger of another commit": (lambda c: shutil.copy(oldest_part(c), newest_part(c)), LEDGER),
    "a folder in the place of a part of the ledger": (lambda c: folder_instead(newest_part(c)), LEDGER),
    "earlier part of the ledger lost": (lambda c: oldest_part(c).unlink(), LEDGER),
    "earlier part of the ledger flipped": (lambda c: flip(oldest_part(c)), LEDGER),
    "a link in the place of pixels": (lambda c: link_instead(pixels(c)[0]), "B04/c/0/0/0"),
    "a link in the place of a slot": (lambda c: link_instead(c / "B04/c/0"), "B04/c/0"),
    "a link in the place of chunks": (lambda c: link_instead(c / "B04/c"), "B04/c"),
    "a link in the place of the ledger": (lambda c: link_instead(c / LEDGER), LEDGER),
    "root and history lost": (lambda c: [(c / "zarr.json").unlink(), shutil.rmtree(c / HISTORY)], "zarr.json"),
}
"""Damage that is found and cannot be undone, and what of it is named: nothing else is touched."""


def newest_part(cube: Path) -> Path:
    return max((cube / LEDGER).glob("*.parquet"))


def oldest_part(cube: Path) -> Path:
    return min((cube / LEDGER).glob("*.parquet"))
