"""Rules of a clouds cube, and its specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from stac2cube.errors import BadInputError
from stac2cube.model.catalog import public_catalog
from stac2cube.model.fields import Options, Range, documented, option

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from stac2cube.model.cube_spec import CubeSpec

STAGE = "clouds"
"""Name of the stage in the cubes it makes."""

METHODS = {
    "s2cloudless": "Sentinel-2: s2cloudless on the L1C of the same overpass, shadows by geometry",
    "scl": "Sentinel-2 L2A: the cube's own scene classification",
    "qa_pixel": "Landsat: the cube's own quality bits",
}
"""Methods of finding clouds."""

CLOUD, SHADOW, DARK = 1, 2, 4
"""Bits of the layer ``flags``: cloud, shadow of cloud, dark and not water."""

Engine = Literal["forest", "library"]
"""Evaluation of the model: by our own flat copy of it (:mod:`stac2cube.clouds.model`), or by LightGBM itself."""

Decode = Literal["exact", "reduced"]

DECODES: tuple[Decode, ...] = get_args(Decode)
"""Ways to decode JPEG 2000, see :class:`CloudRules`."""


@documented
@dataclass(frozen=True)
class CloudRules(Options):
    """Rules of a clouds cube.

    ``thresholds``, ``average_m``, ``resolution``, ``engine`` and ``decode`` apply to s2cloudless only. The first
    threshold makes ``cloud_mask``, others make ``cloud_mask_<percent>``.
    """

    method: str = option(
        "s2cloudless",
        "How clouds are found: s2cloudless on Sentinel-2 L1C, or the cube's own layer SCL or QA_PIXEL.",
        choices=tuple(METHODS),
    )
    thresholds: tuple[float, ...] = option(
        (0.4,),
        "Cloud probabilities from 0 to 1, separated by commas. Each makes a mask; the first one makes cloud_mask.",
        bounds=Range(above=0, below=1),
    )
    average_m: float = option(
        120.0, "Average the probability over this distance, in metres.", unit="metres", bounds=Range(least=0)
    )
    dilate_m: float = option(
        120.0, "Widen the masks by this distance, in metres.", unit="metres", bounds=Range(least=0)
    )
    shadows: bool = option(True, "Find the shadows of clouds.")
    resolution: float = option(
        60.0, "Pixel size at which clouds are found, in metres.", unit="metres", bounds=Range(least=10, most=160)
    )
    engine: Engine = option(
        "forest",
        "Program that evaluates the model: the built-in one (forest) or LightGBM (library). Both give the same pixels.",
        compare=False,
    )
    decode: Decode = option(
        "exact",
        "How JPEG 2000 is decoded where pixels are averaged: every pixel (exact), or a lower wavelet level (reduced), "
        "which is faster and changes a few pixels.",
    )

    def __post_init__(self) -> None:
        """Refuse invalid options.

        Raises:
            BadInputError: An option is invalid; the message names it.
        """
        super().__post_init__()
        if self.decode != "exact" and self.by_class:
            raise BadInputError(f"the method {self.method!r} reads no L1C: leave decode {self.decode!r} out")
        if not self.thresholds:
            raise BadInputError("thresholds should be at least one probability, more than 0 and less than 1")
        if len({round(100 * threshold) for threshold in self.thresholds}) < len(self.thresholds):
            raise BadInputError(f"two of the thresholds {list(self.thresholds)} are the same in whole percent")

    @property
    def by_class(self) -> bool:
        """Whether clouds are read from the cube's own classification."""
        return self.method != "s2cloudless"

    def mask_names(self) -> dict[str, float]:
        """Names of the masks and their thresholds."""
        first, *others = self.thresholds
        return {"cloud_mask": first, **{f"cloud_mask_{round(100 * other):02d}": other for other in others}}

    def spec(self, parent: CubeSpec, layers: Path, catalog: str) -> CubeSpec:
        """Specification of the clouds cube of a layers cube.

        Args:
            parent: Specification of the layers cube.
            layers: Its path.
            catalog: The catalog searched for the L1C.
        """
        from stac2cube.clouds.model import NODATA, model_file
        from stac2cube.model.cube_spec import CubeSpec, Layer

        switch = ((0, "no"), (1, "yes"), (NODATA, "no_data"))
        names = {"cloud_mask": 0.0} if self.by_class else self.mask_names()
        made = []
        if not self.by_class:
            made.append(Layer("cloud_probability", "uint8", NODATA, scale=0.01, long_name="probability of cloud"))
        for name, threshold in names.items():
            what = "cloud" if self.by_class else f"cloud, probability above {threshold:g}"
            made.append(Layer(name, "uint8", NODATA, long_name=what, flags=switch))
        if self.shadows:
            made.append(Layer("shadow_mask", "uint8", NODATA, long_name="shadow of cloud", flags=switch))
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
            if self.decode != "exact":  # cubes of earlier versions lack it
                recipe["decode"] = self.decode
        recipe["shadows"] = self.shadows
        request = {"layers": str(layers), "catalog": public_catalog(catalog)}
        return CubeSpec(stage=STAGE, grid=parent.grid, layers=tuple(made), recipe=recipe, request=request)

    @classmethod
    def of(cls, spec: CubeSpec) -> CloudRules:
        """The rules recorded in a clouds cube."""
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
    """Sum and weight of cloud and of shadow over the pixels with data."""
    import numpy as np

    from stac2cube.clouds.model import NODATA

    known = float(np.count_nonzero(layers["cloud_mask"] != NODATA))
    names = {"cloud_fraction": "cloud_mask", "shadow_fraction": "shadow_mask"}
    return {name: (float(np.count_nonzero(layers[mask] == 1)), known) for name, mask in names.items() if mask in layers}
