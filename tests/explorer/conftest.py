from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stac2cube.explorer.session import Explorer, explore
from stac2cube.testing.archive import Archive, ArchiveSpec, simulate


@dataclass(frozen=True)
class World:
    """A simulated archive, and an area over it."""

    archive: Archive
    catalog: Path
    area: Path

    @property
    def box(self) -> tuple[float, float, float, float]:
        ring = json.loads(self.area.read_text())["coordinates"][0]
        xs, ys = [x for x, _ in ring], [y for _, y in ring]
        return min(xs), min(ys), max(xs), max(ys)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("explorer")
    archive = simulate(folder / "archive", ArchiveSpec(years=(2022, 2023), dates_per_year=4, tile_px=72))
    area = folder / "meadow.geojson"
    area.write_text(json.dumps(archive.area()))
    return World(archive, archive.catalog("earth-search"), area)


@pytest.fixture
def explorer(world: World, tmp_path: Path) -> Iterator[Explorer]:
    folder = tmp_path / "recipes"
    folder.mkdir()
    with explore(folder, catalog=str(world.catalog)) as page:
        yield page
