"""What samples are made of: nouns, and the files beside the pixels.

Scenes of a manifest or a catalog become sources in :mod:`stac2cube.training.scenes`, steps of a cube in
:mod:`stac2cube.training.steps`. Every file that a sample needs is looked for there, before any sample is made. What
lacks is told of all samples at once and by name; nothing is put in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from stac2cube.area import Area
from stac2cube.cube.spec import Layer
from stac2cube.cube.stored import StoredStep
from stac2cube.errors import RadiometryError, ReadError
from stac2cube.grid import Grid
from stac2cube.kernels.product_xml import ProductScaling, parse_scaling
from stac2cube.names import safe_name
from stac2cube.scene import Granule
from stac2cube.source.sign import is_remote, readable
from stac2cube.training.roles import metadata_href


@dataclass(frozen=True)
class Request:
    """Which scenes become samples.

    Attributes:
        source: A manifest or its folder, another catalog, or a cube.
        area: Of interest; samples on a band's pixels are cut to it. None for all there is.
        time: Words of :func:`stac2cube.period.parse_period`; "" for all there is.
        grid: All samples lie on it, for the target :data:`stac2cube.training.rules.GRID`; None for a band's pixels or a
            cube's own grid.
        max_cloud_cover: Percent; scenes with more are left out.
        max_scenes: At most so many, the oldest; None for all.
    """

    source: str
    area: Area | None = None
    time: str = ""
    grid: Grid | None = None
    max_cloud_cover: float | None = None
    max_scenes: int | None = None

    @property
    def is_cube(self) -> bool:
        """Whether the source is a cube."""
        return (Path(self.source) / "zarr.json").exists()


@dataclass(frozen=True)
class Part:
    """One granule that a sample is made of.

    Attributes:
        granule: The granule.
        factors: Band -> scale and offset, see :class:`stac2cube.source.coverage.Measure`.
        tile_metadata: Path of its ``MTD_TL.xml``, "" if it is not needed.
        classes: The Level-2A granule of the same acquisition, None if it is not needed.
    """

    granule: Granule
    factors: Mapping[str, tuple[float, float]]
    tile_metadata: str = ""
    classes: Granule | None = None


@dataclass(frozen=True)
class CubeStep:
    """A step of a cube, and what its numbers mean.

    Attributes:
        step: The step.
        layers: Those that are wanted of it.
        grid: The cube's.
    """

    step: StoredStep
    layers: tuple[Layer, ...]
    grid: Grid


@dataclass(frozen=True)
class SampleSource:
    """What one sample is made of; small, travels to the workers.

    Attributes:
        id: Unique in the set.
        key: Of its scene, as cubes know it.
        time: Acquisition.
        tile: Tile code, "" if it is of several.
        platform: Normalised.
        orbit: Relative.
        cloud_cover: Percent, or None.
        grid: Where its pixels lie; None if that could not be found out.
        items: Ids of all items that it is made of, in order.
        versions: What it is made of and in which version, see :class:`stac2cube.cube.ledger.Entry`.
        parts: Granules in mosaic order; of a step of a cube, those that its angles come from.
        step: The step of a cube that its bands come from, None for granules.
        clouds: The step of a clouds cube that its labels come from, None for other labels.
        lacking: What is missing, in words.
    """

    id: str
    key: str
    time: datetime
    tile: str
    platform: str
    orbit: int
    cloud_cover: float | None
    grid: Grid | None
    items: tuple[str, ...]
    versions: Mapping[str, str]
    parts: tuple[Part, ...]
    step: CubeStep | None = None
    clouds: CubeStep | None = None
    lacking: tuple[str, ...] = ()

    def labels_path(self, pattern: str) -> Path:
        """The file that its labels come from, see :class:`stac2cube.training.rules.LabelRules`."""
        named = {"tile": self.tile, "id": self.id, "date": f"{self.time:%Y%m%d}"}
        for name, value in named.items():
            pattern = pattern.replace("{" + name + "}", safe_name(value) if value else value)
        return Path(pattern).expanduser()


@contextmanager
def noting(lacking: list[str]) -> Iterator[None]:
    """Note what lacks, and go on."""
    try:
        yield
    except (ReadError, RadiometryError) as error:
        if str(error) not in lacking:
            lacking.append(str(error))


def metadata_file(item: Mapping[str, Any], kind: str) -> str:
    """Path of a metadata file of an item.

    Args:
        item: A STAC item.
        kind: A key of :data:`stac2cube.training.roles.METADATA`.

    Raises:
        ReadError: There is none, or it is not on this machine.
    """
    href = metadata_href(item, kind)
    if not href:
        raise ReadError(f"{kind}: the item has no such asset")
    if is_remote(href):
        raise ReadError(f"{kind}: {href} is not on this machine; fetch it with `stac2cube download` first")
    path = readable(href, "none")
    if not Path(path).is_file():
        raise ReadError(f"{kind}: {path} does not exist")
    return path


@lru_cache(maxsize=64)
def scaling_of(path: str) -> ProductScaling:
    """How the counts of a product become reflectance.

    Raises:
        RadiometryError: The file is not its metadata.
    """
    return parse_scaling(Path(path).read_text(errors="replace"), path)
