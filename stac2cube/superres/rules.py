"""Options of super-resolution, and the spec of a super-resolved cube."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stac2cube.errors import BadInputError
from stac2cube.model.fields import Options, Range, documented, option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stac2cube.model.cube_spec import CubeSpec, Layer
    from stac2cube.store.ledger import Entry

STAGE = "superres"
"""Name of the stage in the cubes that it makes."""

MOST_BYTES = 4 * 2**30
"""Bytes of pixels per date above which a cube is made only with the option `large`."""


MARGIN = 32
"""Pixels of 10 m around a tile: more than the networks' input reaches (2 x 8), and so many that the effect of agreement
with the optics from farther pixels is below a millionth."""


Consistency = Literal["mtf", "mean", "none"]
"""Kind of agreement between a picture and the measured pixels: through the sensor's optics, in plain means, or none."""

BACKENDS = {
    "native": "our own small networks, shipped",
    "backproject": "bicubic, brought into agreement with the sensor's optics; no weights",
    "bicubic": "bicubic alone; to compare with",
    "selftrain": "our networks, trained on the cube itself",
    "sen2sr": "SEN2SR-Lite of ESA's OpenSR project, from a local folder",
    "onnx": "an ONNX model of your own, from a local folder, for the bands it makes; back-projection for the others",
}
"""Names of the backends."""

LEARNED = ("native", "selftrain", "sen2sr")
"""Backends that need torch and all ten bands."""


@documented
@dataclass(frozen=True)
class SuperresRules(Options):
    """Options of a super-resolved cube.

    With a target of 10 m only the bands of 20 m are brought to 10 m, which can be trusted. ``weights`` is a file for
    the backends native and selftrain, a folder for sen2sr and onnx. ``device`` changes pixels in the last count only,
    ``tile`` changes none.
    """

    target: float = option(2.5, "Pixel size in metres: 2.5 or 10.", unit="metres", choices=(2.5, 10))
    backend: str = option(
        "native",
        "native (the shipped networks), backproject or bicubic (no network), selftrain (networks "
        "trained on this cube), sen2sr, or onnx (a model from a folder).",
        choices=tuple(BACKENDS),
    )
    consistency: Consistency = option(
        "mtf",
        "How the result must agree with the measured pixels: through the sensor's optics (mtf), in "
        "plain means (mean), or not at all (none).",
    )
    weights: str = option(
        "", "File or folder of weights. Default: the shipped weights, or those in the cache.", form="path"
    )
    device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "Processor for the networks; auto takes a GPU if there is one.", compare=False
    )
    tile: int = option(
        256,
        "Edge of the tiles in which the work is done, in pixels of 10 m.",
        unit="pixels of 10 m",
        bounds=Range(least=32),
        compare=False,
    )
    margin: int = option(
        MARGIN,
        "Margin around each tile, in pixels of 10 m.",
        unit="pixels of 10 m",
        bounds=Range(least=MARGIN),
        compare=False,
    )
    large: bool = option(False, "Allow cubes of more than 4.3 GB per date.", compare=False)

    def __post_init__(self) -> None:
        """Validate the options.

        Raises:
            BadInputError: An option is invalid, and named in the message; or torch is missing.
        """
        from stac2cube.superres.networks import require_torch

        super().__post_init__()
        for name in ("tile", "margin"):
            if getattr(self, name) % 2:
                raise BadInputError(f"{name} should be an even number of pixels, not {getattr(self, name)}")
        if self.backend in LEARNED:
            require_torch()

    @property
    def scale(self) -> int:
        """Pixels of the new cube per pixel of 10 m, along an axis."""
        return 1 if self.target == 10 else 4

    def weights_of(self, out: Path) -> str:
        """File or folder of the weights; "" for backends without weights.

        Args:
            out: The cube; weights trained on it are beside it.

        Raises:
            BadInputError: They are missing, or invalid.
        """
        from stac2cube.superres.weights import find_folder, shipped

        if self.backend == "sen2sr":
            return str(find_folder("sen2sr", self.weights))
        if self.backend == "onnx":
            if not self.weights:
                raise BadInputError("give the folder of the ONNX model as weights")
            return self.weights
        if self.backend not in LEARNED:
            return ""
        usual = own_weights(out) if self.backend == "selftrain" else shipped(self._made_with(out))
        return self.weights or str(usual)

    def _made_with(self, out: Path) -> str:
        """SHA-256 of the weights with which a cube of this backend was made; "" if there is none yet."""
        if self.weights or not out.exists():
            return ""
        from stac2cube.store.metadata import read_root

        about = read_root(out).spec.recipe.get(STAGE, {})
        return str(about.get("weights_sha256", "")) if about.get("backend") == self.backend else ""

    def spec(self, parent: CubeSpec, layers: Path, weights: str) -> CubeSpec:
        """Spec of the cube made from a parent.

        Args:
            parent: Spec of the cube of 10 m.
            layers: Path of that cube.
            weights: See :meth:`weights_of`.

        Raises:
            BadInputError: A band is missing, or the cube's pixels are not 10 m.
        """
        from stac2cube.model.cube_spec import CubeSpec
        from stac2cube.model.grid import Grid
        from stac2cube.superres.networks import sha256_of

        kept = superres_layers(parent, self)
        old = parent.grid
        rows, columns = (size * self.scale for size in old.shape)
        grid = Grid(
            crs=old.crs,
            resolution=old.resolution / self.scale,
            origin=old.origin,
            shape=(rows, columns),
            chunk=old.chunk,
            # Whole pixels of 20 m per block, so that blocks end at edges of the sensor's pixels.
            shard=(_shard_edge(rows), _shard_edge(columns)),
        )
        size = rows * columns * len(kept) * 2
        if size > MOST_BYTES and not self.large:
            raise BadInputError(
                f"{rows} x {columns} pixels of {len(kept)} layers make {size / 1e9:.1f} GB a date: take a smaller "
                "area, or allow it with large"
            )
        hashed = ""
        if weights:
            path = Path(weights)
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            hashed = ",".join(sha256_of(file) for file in files if file.is_file())
        recipe = {
            **parent.recipe,
            "superres": {
                "target": self.target,
                "backend": self.backend,
                "consistency": self.consistency,
                "weights_sha256": hashed,
                "grid": "pixels of this size, not details of this size",
            },
        }
        return CubeSpec(
            STAGE, grid, kept, recipe, {"layers": str(layers), "weights": self.weights, "margin": self.margin}
        )

    @classmethod
    def of(cls, spec: CubeSpec) -> SuperresRules:
        """The options with which a cube was made."""
        about, asked = spec.recipe["superres"], spec.request
        margin = asked.get("margin", MARGIN)
        return cls(
            about["target"],
            about["backend"],
            about["consistency"],
            asked["weights"],
            margin=margin,
            large=True,
        )


def _shard_edge(size: int) -> int:
    from stac2cube.model.grid import CHUNK, SHARD

    return min(SHARD, -(-size // CHUNK) * CHUNK)


def own_weights(out: Path) -> Path:
    """Path of the weights of a cube trained on itself: ``x.weights.safetensors`` beside ``x.zarr``."""
    return out.with_name(f"{out.stem}.weights.safetensors")


def superres_layers(parent: CubeSpec, rules: SuperresRules) -> tuple[Layer, ...]:
    """Layers of the new cube: bands of 10 m, bands of 20 m, and classes unchanged.

    Raises:
        BadInputError: A band is missing, or the cube's pixels are not 10 m or not in metres.
    """
    from stac2cube.superres.networks import COARSE, FINE

    parent.grid.require_metres("super-resolution")
    if abs(parent.grid.resolution - 10) > 1e-6:
        raise BadInputError(
            "super-resolution starts from pixels of 10 m, with the bands of 20 m in them; "
            f"these are {parent.grid.resolution:g} m"
        )
    if not str(parent.recipe.get("mission", "")).startswith("sentinel-2"):
        raise BadInputError("super-resolution is for cubes of Sentinel-2")
    layers = {layer.name: layer for layer in parent.layers}
    needed = [*FINE, *COARSE] if rules.backend in LEARNED or rules.target == 10 else [*FINE]
    lacking = [band for band in needed if band not in layers]
    if lacking:
        raise BadInputError(f"the cube lacks {', '.join(lacking)}, which {rules.backend} needs")
    kept = [layers[band] for band in (*FINE, *COARSE) if band in layers]
    if any(layer.dtype.startswith("float") for layer in kept):
        raise BadInputError(
            "super-resolution starts from scenes in stored counts, and these are floats, as composites are: make the "
            "scenes finer first, then compose them"
        )
    return (*kept, *(replace(layer) for layer in parent.layers if layer.flags or layer.bits))


def ways_back(parent: CubeSpec, layers: Sequence[Layer], row: Entry) -> tuple[str, ...]:
    """Methods to recover the sensor's own pixels of a step, one per band of 20 m among some layers."""
    from stac2cube.superres.networks import COARSE

    resampled = parent.recipe.get("resampling", {})
    moved = any(row.properties.get(name) for name in ("shift_x", "shift_y", "shift_field"))
    ways = ("nearest", "bilinear")
    names = [layer.name for layer in layers if layer.name in COARSE]
    return tuple("mean" if moved or resampled.get(name) not in ways else str(resampled[name]) for name in names)
