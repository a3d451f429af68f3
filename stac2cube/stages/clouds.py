"""Stage 2: cloud probability, masks and shadows for every sealed step of a cube, on the cube's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stac2cube.build import build
from stac2cube.cube.root import read_root
from stac2cube.kernels.cloud import Engine
from stac2cube.places.place import Place
from stac2cube.places.threads import Threads
from stac2cube.progress import Progress
from stac2cube.stages.cloud_again import mask_again
from stac2cube.stages.cloud_classes import find_classes
from stac2cube.stages.cloud_rules import CloudRules
from stac2cube.stages.cloud_spectra import find_sights
from stac2cube.stages.follow import Parent
from stac2cube.work import Orders, Step, Summary, Task

if TYPE_CHECKING:
    import xarray as xr


def get_cloud_layers(
    layers: str | Path,
    out: str | Path,
    *,
    method: str = "s2cloudless",
    thresholds: Sequence[float] = (0.4,),
    average_m: float = 120.0,
    dilate_m: float = 120.0,
    shadows: bool = True,
    resolution: float = 60.0,
    engine: Engine = "forest",
    from_probability: bool = False,
    catalog: str = "auto",
    place: Place | None = None,
) -> xr.Dataset:
    """Find clouds and shadows for every sealed step of a cube.

    Running it again follows the layers: steps that were added since are added, those made anew since are made anew.

    Args:
        layers: The cube; of Sentinel-2 for ``s2cloudless``, with SCL for ``scl``, of Landsat for ``qa_pixel``.
        out: Path of the clouds cube, created or extended.
        method: See :data:`stac2cube.stages.cloud_rules.METHODS`.
        thresholds: See :class:`stac2cube.stages.cloud_rules.CloudRules`, as the next five.
        average_m: Metres.
        dilate_m: Metres.
        shadows: Look for shadows.
        resolution: Metres.
        engine: ``"forest"`` or ``"library"``: the same pixels.
        from_probability: Make the masks of an existing clouds cube anew by other thresholds and radii, from the
            probabilities it holds: its next generation, without reading any L1C.
        catalog: Where the L1C is: name, URL, path, several with commas, or "auto".
        place: Where the work runs; threads of this process if None.

    Returns:
        The clouds cube: ``cloud_probability`` (percent; of s2cloudless), ``cloud_mask`` and ``shadow_mask`` (1 yes, 0
        no), ``flags`` (1 cloud, 2 shadow, 4 dark and no water), all uint8 with dims ``(time, y, x)``, 255 without data;
        along time ``cloud_fraction`` of the pixels with data and ``valid_fraction`` of all.

    Raises:
        BadInputError: A word is wrong, the cube is of another mission, or a package is missing.
        CatalogError: The catalog cannot be read.
        CubeMismatchError: The clouds cube was made otherwise.
        IncompleteError: Some steps failed, for example because there is no L1C of them; the others are sealed.
    """
    from stac2cube.cube.reader import open_cube

    rules = CloudRules(method, tuple(thresholds), average_m, dilate_m, shadows, resolution, engine)
    place = place or Threads()
    if from_probability:
        summary = mask_again(Path(out), rules, place)
    else:
        summary = run_clouds(Path(layers), Path(out), rules, catalog, place)
    summary.require_complete(out)
    return open_cube(out)


def run_clouds(
    layers: Path,
    out: Path,
    rules: CloudRules,
    catalog: str,
    place: Place,
    *,
    orders: Orders | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Build or extend a clouds cube; raises what :func:`get_cloud_layers` and :func:`stac2cube.build.build` do."""
    parent = Parent.read(layers)
    if out.exists():  # before anything is searched
        read_root(out).spec.require_same(rules.spec(parent.spec, parent.path, catalog), str(out))
    steps: list[Step]
    task: Task
    if rules.by_class:
        steps, task = find_classes(parent, rules)
    else:
        steps, task = find_sights(parent, rules, catalog, on_cluster=place.on_cluster)
    spec = rules.spec(parent.spec, parent.path, catalog)
    # What follows a cube follows it also where a step of it was made anew.
    orders = replace(orders or Orders(), superseded="replace")
    return build(out, spec, steps, task, place, orders=orders, progress=progress)


def follow_clouds(
    cube: Path, place: Place, orders: Orders, progress: Progress | None, catalog: str | None = None
) -> Summary:
    """Add to a clouds cube what its layers have by now; raises what :func:`get_cloud_layers` does.

    Args:
        cube: The clouds cube; it remembers its layers, its rules and where the L1C was looked for.
        place: Where the work runs.
        orders: How.
        progress: Told of every block.
        catalog: Another place to look for the L1C.
    """
    spec = read_root(cube).spec
    where = catalog or spec.request["catalog"]
    layers = Path(spec.request["layers"])
    return run_clouds(layers, cube, CloudRules.of(spec), where, place, orders=orders, progress=progress)
