"""Every stage makes the same cube from threads, processes, worker jobs and arrays, for 1, 2 and 4 threads per task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("lightgbm", reason="LightGBM is not installed, or the OpenMP that it needs: apt install libgomp1")

import stac2cube  # noqa: E402
from stac2cube.coregister.rules import ShiftRules  # noqa: E402
from stac2cube.executors.base import Place  # noqa: E402
from stac2cube.executors.local import Local  # noqa: E402
from stac2cube.executors.slurm import Slurm  # noqa: E402
from stac2cube.store.reader import differences  # noqa: E402
from stac2cube.superres.networks import sha256_of  # noqa: E402
from stac2cube.superres.rules import SuperresRules  # noqa: E402
from tests.algorithms.test_networks import cascade, convolving_model  # noqa: E402
from tests.items import catalog  # noqa: E402
from tests.slurm.cluster import Cluster  # noqa: E402
from tests.stages import shifted, skies  # noqa: E402
from tests.stages.test_superres import cube  # noqa: E402

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""By which libraries are told how many threads a task may use."""

Making = Callable[[Path, Place], object]


def makings(folder: Path) -> dict[str, Making]:
    """Every stage over small cubes of its own: takes where it is written and the place."""
    for name in ("skies", "takes", "weights"):
        (folder / name).mkdir(parents=True)
    scenes = [skies.overpass(folder / "skies", number, "05.09") for number in (0, 1)]
    l2a, l1c = (
        catalog(folder / "skies" / f"{name}.json", items)
        for name, items in (("l2a", [s.l2a for s in scenes]), ("l1c", [s.l1c for s in scenes]))
    )
    words = {"mission": "sentinel-2-l2a", "aoi": skies.LATTICE, "time": "2022/2024", "bands": ["B04", "B08", "SCL"]}

    def layers(out: Path, place: Place) -> object:
        return stac2cube.get_stac_layers(out, catalog=l2a, place=place, **words)

    below = folder / "skies" / "layers.zarr"
    layers(below, stac2cube.Threads(1))
    takes = [shifted.Take("2022-06-05"), shifted.Take("2022-06-15", 12, -7), shifted.Take("2022-06-25", -8, 5)]
    bands = ("B02", "B03", "B04", "B08")
    items = catalog(folder / "takes" / "l2a.json", [shifted.write(folder / "takes", take, bands) for take in takes])
    moving = folder / "takes" / "layers.zarr"
    stac2cube.get_stac_layers(moving, catalog=items, **{**words, "aoi": shifted.LATTICE, "time": "2022"})
    sharp = cube(folder / "sharp", (150,))
    cascade(folder / "weights" / "sen2sr")
    convolving_model(folder / "weights" / "onnx")
    own = folder / "config" / "weights"
    own.mkdir(parents=True)
    files = ", ".join(
        f'{{name = "{path.name}", sha256 = "{sha256_of(path)}"}}'
        for path in sorted((folder / "weights" / "sen2sr").iterdir())
    )
    (own / "known.toml").write_text(f'[sen2sr]\nurl = "https://example.org"\nlicence = "CC0-1.0"\nfiles = [{files}]\n')
    weights = {name: str(folder / "weights" / name) for name in ("sen2sr", "onnx")}
    rules = {
        backend: SuperresRules(backend=backend, weights=weights.get(backend, ""))
        for backend in ("native", "backproject", "bicubic", "sen2sr", "onnx")
    }
    finer: dict[str, Making] = {
        f"superres-{name}": lambda out, place, one=one: stac2cube.super_resolution(sharp, out, rules=one, place=place)
        for name, one in rules.items()
    }
    return {
        "layers": layers,
        "clouds": lambda out, place: stac2cube.get_cloud_layers(below, out, catalog=l1c, place=place),
        "clouds-library": lambda out, place: stac2cube.get_cloud_layers(
            below, out, catalog=l1c, engine="library", place=place
        ),
        "coregister": lambda out, place: stac2cube.coregister_scenes(
            moving, out, rules=ShiftRules(engine="phase", strategy="graph"), place=place
        ),
        "indices": lambda out, place: stac2cube.store_indices(below, out, ["ndvi"], place=place),
        "composite": lambda out, place: stac2cube.store_composites(below, out, place=place),
        **finer,
    }


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_stage_is_the_same_from_any_place(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    folder = cluster.work / "same"
    monkeypatch.setenv("STAC2CUBE_CONFIG_DIR", str(folder / "config"))  # where the digests of weights are known
    first = {name: (make, folder / f"{name}.zarr") for name, make in makings(folder).items()}
    for make, path in first.values():
        make(path, stac2cube.Threads(1))
    for variable in VARIABLES:
        monkeypatch.setenv(variable, str(threads))
    places: dict[str, Place] = {
        "threads": stac2cube.Threads(threads),
        "processes": Local(workers=2, threads=max(threads // 2, 1)),
        "jobs": Slurm(jobs=1, cores=min(threads, 2), memory="3GiB", walltime="00:10:00"),
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name, (make, path) in first.items():
            for title, place in places.items():
                out = folder / f"{name}-{title}.zarr"
                make(out, place)
                assert differences(path, out) == [], (name, title, threads)
    finally:
        torch.set_num_threads(before)
