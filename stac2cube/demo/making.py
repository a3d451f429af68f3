"""The archive's files are made: every granule in every form, once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stac2cube.demo.archive import Archive, ArchiveSpec, key_of, versions_of
from stac2cube.demo.product import OTHER, Form, Product
from stac2cube.demo.raster import write_cog, write_jp2
from stac2cube.demo.scenes import GSD, OFFSET, Image, Overpass, Tile, counts, footprint_of
from stac2cube.demo.shapes import VIEWS
from stac2cube.errors import BadInputError


def simulate(
    root: Path, spec: ArchiveSpec | None = None, progress: Callable[[int, int], None] | None = None
) -> Archive:
    """Make an archive, or take the one that is there if it was made to the same specification.

    Args:
        root: Its folder.
        spec: What it shall be.
        progress: Called with granules done and granules in all.

    Raises:
        BadInputError: A tile edge that its pixel sizes do not divide, an unknown catalog, too few overpasses.
    """
    spec = spec or ArchiveSpec()
    if spec.tile_px < 24 or spec.tile_px % 12:
        raise BadInputError(f"tile_px must be a multiple of 12 from 24 on, not {spec.tile_px}")
    if unknown := [name for name in spec.catalogs if name not in VIEWS]:
        raise BadInputError(f"the simulator knows {', '.join(VIEWS)}, not {', '.join(unknown)}")
    archive = Archive(root, spec)
    if spec.faults and len(archive.overpasses) < 4:
        raise BadInputError(f"an archive with faults takes 4 overpasses or more, not {len(archive.overpasses)}")
    stamp, mark = root / "spec.json", json.dumps(asdict(spec) | {"version": _version()})
    if stamp.exists() and stamp.read_text() == mark:
        return archive
    stamp.unlink(missing_ok=True)
    # Files of another specification, or of a run that was killed, would pass for ours.
    shutil.rmtree(root / "files", ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    jobs = [(overpass, tile) for overpass in archive.overpasses for tile in archive.tiles]
    facts: dict[str, Any] = {}
    with ThreadPoolExecutor(2) as pool:
        for done, (key, fact) in enumerate(pool.map(lambda job: _make(archive, *job), jobs), start=1):
            facts[key] = fact
            if progress is not None:
                progress(done, len(jobs))
    (root / "facts.json").write_text(json.dumps(facts))
    if spec.faults:
        _break(archive)
    stamp.write_text(mark)
    return archive


def _make(archive: Archive, overpass: Overpass, tile: Tile) -> tuple[str, Any]:
    """Write the files of one granule, in all its forms; returns its footprint and cloud cover."""
    picture = archive.image(overpass, tile)
    key = key_of(overpass, tile)
    if not picture.valid.any():
        return key, (None, 0.0)
    footprint = footprint_of(tile, picture.valid)
    cloud = round(100 * float((picture.truth.cloud[picture.valid] > 0.2).mean()), 4)
    for product in versions_of(archive, overpass, tile, footprint, cloud):
        for form in _forms(archive, product):
            for band in GSD:
                path = archive.path(form, product, band)
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write = write_jp2 if path.suffix == ".jp2" else write_cog
                    pixels = _pixels(picture, band, product, form)
                    write(path, pixels, tile.epsg, tile.transform(form.gsd(band)))
    return key, (footprint, cloud)


def _forms(archive: Archive, product: Product) -> list[Form]:
    views = [view for catalog in archive.spec.catalogs for view in VIEWS[catalog]]
    return [view.form for view in views if view.holds(product)]


def _pixels(picture: Image, band: str, product: Product, form: Form) -> np.ndarray:
    """What a file holds."""
    if band in OTHER:
        pixels = {"SCL": picture.scl, "AOT": picture.aot, "WVP": picture.wvp}[band]
        step = form.gsd(band) // GSD[band]
        return pixels[::step, ::step]
    numbers = counts(picture.reflectance[band], product.overpass.baseline)
    if form.shifted and product.since_0400:
        # The provider that subtracts the offset clips at 0, which then reads as no data.
        numbers = np.maximum(numbers, OFFSET) - np.uint16(OFFSET)
    return numbers


def _break(archive: Archive) -> None:
    """Cut off the corrupt file in every form."""
    overpass, tile, band = archive.corrupt
    products = [product for product in archive.products() if (product.overpass, product.tile) == (overpass, tile)]
    for path in {archive.path(form, product, band) for product in products for form in _forms(archive, product)}:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def _version() -> str:
    """Changes when the simulator does, so that an archive of an older one is not taken for today's."""
    folder = Path(__file__).parent
    names = ("surface", "scenes", "product", "item", "shapes", "raster", "archive", "making")
    return hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in names)).hexdigest()[:12]
