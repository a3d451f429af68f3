"""What decides the pixels of a clouds cube, and what such a cube is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from stac2cube.clouds.model import NODATA, Engine, model_file
from stac2cube.errors import BadInputError
from stac2cube.model.catalog import public_catalog
from stac2cube.model.cube_spec import CubeSpec, Layer

STAGE = "clouds"
"""Name of the stage in the cubes it makes."""

METHODS = {
    "s2cloudless": "Sentinel-2: s2cloudless on the L1C of the same overpass, shadows by geometry",
    "scl": "Sentinel-2 L2A: the cube's own scene classification",
    "qa_pixel": "Landsat: the cube's own quality bits",
}
"""Names of the ways to find clouds."""

CLOUD, SHADOW, DARK = 1, 2, 4
"""Bits of the layer ``flags``: cloud, shadow of cloud, dark and no water."""

Decode = Literal["exact", "reduced"]

DECODES = ("exact", "reduced")
"""Ways to decode JPEG 2000, see :class:`CloudRules`."""

_SWITCH = ((0, "no"), (1, "yes"), (NODATA, "no_data"))


@dataclass(frozen=True)
class CloudRules:
    """What decides the pixels of a clouds cube.

    Attributes:
        method: Name of :data:`METHODS`.
        thresholds: Probabilities above which a pixel is cloud; the first makes ``cloud_mask``, others
            ``cloud_mask_<percent>``. Of s2cloudless only, as the next, ``resolution`` and ``engine``.
        average_m: Radius over which probability is averaged before, metres.
        dilate_m: Radius by which a cloud mask is dilated after, metres.
        shadows: Whether shadows are looked for.
        resolution: Pixel edge at which clouds are found, metres.
        engine: What runs the model; changes no pixel.
        decode: How JPEG 2000 is decoded where pixels are smaller than ``resolution``: ``"exact"`` means of all pixels,
            or ``"reduced"``, from a lower wavelet level. Of s2cloudless only.
    """

    method: str = "s2cloudless"
    thresholds: tuple[float, ...] = (0.4,)
    average_m: float = 120.0
    dilate_m: float = 120.0
    shadows: bool = True
    resolution: float = 60.0
    engine: Engine = field(default="forest", compare=False)
    decode: Decode = "exact"

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            BadInputError: Naming the word that is wrong.
        """
        if self.method not in METHODS:
            raise BadInputError(f"clouds are found by {', '.join(METHODS)}, not by {self.method!r}")
        if self.engine not in ("forest", "library"):
            raise BadInputError(f"the engine is 'forest' or 'library', not {self.engine!r}")
        if self.decode not in DECODES:
            raise BadInputError(f"JPEG 2000 is decoded {' or '.join(DECODES)}, not {self.decode!r}")
        if self.decode != "exact" and self.by_class:
            raise BadInputError(f"the method {self.method!r} reads no L1C: leave decode {self.decode!r} out")
        if not self.thresholds or not all(0 < threshold < 1 for threshold in self.thresholds):
            raise BadInputError(f"thresholds are probabilities between 0 and 1, not {list(self.thresholds)}")
        if len({round(100 * threshold) for threshold in self.thresholds}) < len(self.thresholds):
            raise BadInputError(f"two of the thresholds {list(self.thresholds)} are the same in whole percent")
        if not 10 <= self.resolution <= 160:
            raise BadInputError(f"clouds are found at 10 to 160 m, not {self.resolution:g} m")
        if min(self.average_m, self.dilate_m) < 0:
            raise BadInputError("average_m and dilate_m are radii in metres, 0 or more")

    @property
    def by_class(self) -> bool:
        """Whether clouds are read from the cube's own classification."""
        return self.method != "s2cloudless"

    def mask_names(self) -> dict[str, float]:
        """Names of the masks and their thresholds."""
        first, *others = self.thresholds
        return {"cloud_mask": first, **{f"cloud_mask_{round(100 * other):02d}": other for other in others}}

    def spec(self, parent: CubeSpec, layers: Path, catalog: str) -> CubeSpec:
        """The clouds cube of a layers cube.

        Args:
            parent: What the layers cube is.
            layers: Its path.
            catalog: Where the L1C is looked for.
        """
        names = {"cloud_mask": 0.0} if self.by_class else self.mask_names()
        made = []
        if not self.by_class:
            made.append(Layer("cloud_probability", "uint8", NODATA, scale=0.01, long_name="probability of cloud"))
        for name, threshold in names.items():
            what = "cloud" if self.by_class else f"cloud, probability above {threshold:g}"
            made.append(Layer(name, "uint8", NODATA, long_name=what, flags=_SWITCH))
        if self.shadows:
            made.append(Layer("shadow_mask", "uint8", NODATA, long_name="shadow of cloud", flags=_SWITCH))
        bits = [(CLOUD, CLOUD, "cloud"), (SHADOW, SHADOW, "cloud_shadow")]
        if not self.by_class:
            bits.append((DARK, DARK, "dark_land"))
        made.append(Layer("flags", "uint8", NODATA, long_name="cloud and shadow", bits=tuple(bits)))
        recipe = {"title": f"Clouds by {self.method}", "method": self.method, "dilate_m": self.dilate_m}
        if not self.by_class:
            recipe |= {
                "model": model_file().name,
                "licence": "probabilities made with s2cloudless (Sinergise), whose code and model are CC BY-SA 4.0",
                "thresholds": list(self.thresholds),
                "average_m": self.average_m,
                "work_resolution": self.resolution,
            }
            if self.decode != "exact":  # cubes of earlier versions do not say it
                recipe["decode"] = self.decode
        recipe["shadows"] = self.shadows
        request = {"layers": str(layers), "catalog": public_catalog(catalog)}
        return CubeSpec(stage=STAGE, grid=parent.grid, layers=tuple(made), recipe=recipe, request=request)

    @classmethod
    def of(cls, spec: CubeSpec) -> CloudRules:
        """The rules by which a clouds cube was made."""
        recipe = spec.recipe
        if recipe["method"] != "s2cloudless":
            return cls(recipe["method"], dilate_m=recipe["dilate_m"], shadows=recipe["shadows"])
        return cls(
            recipe["method"],
            tuple(recipe["thresholds"]),
            recipe["average_m"],
            recipe["dilate_m"],
            recipe["shadows"],
            recipe["work_resolution"],
            decode=recipe.get("decode", "exact"),
        )


def cloud_counts(layers: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Sum and weight of cloud and of shadow among the pixels that have data."""
    known = float(np.count_nonzero(layers["cloud_mask"] != NODATA))
    names = {"cloud_fraction": "cloud_mask", "shadow_fraction": "shadow_mask"}
    return {name: (float(np.count_nonzero(layers[mask] == 1)), known) for name, mask in names.items() if mask in layers}
