"""Options of views and their outputs: masks, steps, styles; composites, timelapses, files, series."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stac2cube.errors import BadInputError
from stac2cube.model.fields import Options, Range, documented, option

if TYPE_CHECKING:
    import xarray as xr

    from stac2cube.model.cube_spec import CubeSpec

Stretch = str | tuple[float, ...]
"""``"series"``, percentiles of the series as ``"p2-p98"``, the values of black and white, or six values: these two for
each of three bands."""


@documented
@dataclass(frozen=True)
class Hiding(Options):
    """Masks that hide pixels of a cube."""

    mask: str = option(
        "",
        "Hide pixels by the cube's own classes: a mask recipe (clear, clouds, clouds_snow, strict), "
        "or the classes to hide: cloud,shadow or 3,8,9.",
        form="list",
    )
    clouds: str = option(
        "",
        "Hide pixels by the masks of this clouds cube. Scenes that it does not have are left out.",
        form="cube",
    )

    def __bool__(self) -> bool:
        return bool(self.mask or self.clouds)

    def apply(self, dataset: xr.Dataset) -> xr.Dataset:
        """Apply the masks to a cube.

        Args:
            dataset: As returned by :func:`stac2cube.open_cube`.

        Raises:
            BadInputError: As :func:`mask_by` and :func:`stac2cube.mask_clouds`.
            CubeMismatchError: The clouds cube has another grid.
        """
        from stac2cube.store.reader import open_cube
        from stac2cube.views.masks import mask_by, mask_clouds

        if self.clouds:
            chunks = {"time": 1} if any(layer.chunks for layer in dataset.data_vars.values()) else None
            sky = open_cube(Path(self.clouds), chunks=chunks)
            inside = sky.sel(y=dataset["y"], x=dataset["x"]) if _within(dataset, sky) else sky
            dataset = mask_clouds(dataset, inside, missing="drop")
        return mask_by(dataset, self.mask) if self.mask else dataset

    @classmethod
    def of(cls, spec: CubeSpec) -> Hiding:
        """Read the options from the spec of a cube that was made from a view."""
        return cls(spec.recipe.get("mask", ""), spec.request.get("clouds", ""))


def _within(part: xr.Dataset, whole: xr.Dataset) -> bool:
    """Whether the first Dataset is a window of the second."""
    return all(bool(part[axis].isin(whole[axis]).all()) for axis in ("y", "x"))


@documented
@dataclass(frozen=True)
class TimeSelection(Options):
    """Steps to select from a cube.

    Cloud cover comes from the clouds cube, otherwise from the catalog.
    """

    time: str | None = option(
        None,
        "Only these time steps: 2023, 2023-07, 2023-05/2023-08, or '2018/2020 06-01/08-31'.",
        form="list",
    )
    steps: tuple[str, ...] = option((), "Scene key or date of a time step, for example 2023-07-14. Repeatable.")
    max_cloud: float | None = option(
        None, "Leave out time steps with more cloud than this, in percent.", unit="percent"
    )

    def of(self, dataset: xr.Dataset) -> xr.Dataset:
        """Select the steps, in order of time.

        Raises:
            BadInputError: No step is left, a step does not exist or is ambiguous, or cloud cover is unknown.
        """
        from stac2cube.views.composite import cloud_percent, step_place

        if self.steps:
            places = sorted({step_place(dataset, step) for step in self.steps})
            dataset = dataset.isel(time=places)
        if self.time is not None:
            from stac2cube.model.period import parse_period

            period = parse_period(self.time)
            moments: list[Any] = dataset["time"].values.astype("datetime64[us]").tolist()
            dataset = dataset.isel(time=[moment.replace(tzinfo=UTC) in period for moment in moments])
            if dataset.sizes["time"] == 0:
                raise BadInputError(f"there is no step in {self.time}: choose another time")
        if self.max_cloud is not None:
            dataset = dataset.isel(time=cloud_percent(dataset) <= self.max_cloud)
        if self.max_cloud is not None and dataset.sizes["time"] == 0:
            raise BadInputError(f"there is no step with at most {self.max_cloud:g} % cloud: allow more")
        return dataset


@documented
@dataclass(frozen=True)
class Style(Options):
    """Style of pictures.

    The default picture is natural colour if the cube has its bands, masks for a clouds cube, else the first layer. The
    stretch ``"series"`` of a single layer is from its 2nd to its 98th percentile.
    """

    show: str = option(
        "",
        "Colour composite (true, cir, swir ...), three bands separated by commas, a spectral index, "
        "or a layer. Default: natural colour.",
        form="list",
    )
    stretch: Stretch = option(
        "series",
        "Values that are shown as black and white, the same for all dates: series (0 to the 98th "
        "percentile of all dates), percentiles p2-p98, or two values 0,0.3.",
        form="list",
    )
    balance: str = option("", "Colour operations in rio-color's notation: 'sigmoidal RGB 6 0.4, saturation 1.2'.")
    ramp: str = option("", "Matplotlib colour map of an index or layer, for example YlGn or viridis.")


@documented
@dataclass(frozen=True)
class Composition(Options):
    """Options of a cube of composites; the same as those of :func:`stac2cube.composite`.

    Attributes:
        hiding: Masks that are applied first: a mask recipe, or the masks of a clouds cube.
    """

    period: str = option(
        "month", "Period of one composite: week, month, season, year, all, or a pandas frequency such as 10D or 1MS."
    )
    method: str = option("median", "median, mean, max, min, a percentile such as p10, medoid, or best.")
    by: str | None = option(
        None, "For the method best: the layer or index whose highest value is chosen, for example NDVI."
    )
    layers: tuple[str, ...] | None = option(None, "Layers, separated by commas. Default: all layers except classes.")
    window: str = option(
        "",
        "Rolling window: use the scenes of this many days around the middle of each period, for example 30D.",
    )
    hiding: Hiding = field(default_factory=Hiding)

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON for the recipe of a cube; masks are stored separately there."""
        plain = {"period": self.period, "method": self.method, "by": self.by}
        layers = None if self.layers is None else list(self.layers)
        return {**plain, "layers": layers, **({"window": self.window} if self.window else {})}

    @classmethod
    def of(cls, spec: CubeSpec) -> Composition:
        """Read the options from the spec of a cube."""
        about = dict(spec.recipe["composite"])
        layers = about.pop("layers")
        return cls(**about, layers=None if layers is None else tuple(layers), hiding=Hiding.of(spec))


@documented
@dataclass(frozen=True)
class Film(Options):
    """Options of a timelapse.

    Attributes:
        look: Style of the pictures.
        hiding: Masks that are applied first.
        choice: Steps to show.
    """

    look: Style = field(default_factory=Style)
    hiding: Hiding = field(default_factory=Hiding)
    choice: TimeSelection = field(default_factory=TimeSelection)
    most: int | None = option(
        None,
        "Largest number of time steps, spread over the whole time. Default: all.",
        bounds=Range(least=1),
        form="range",
    )
    width: int = option(
        640,
        "Longer edge of the pictures, in pixels, at least 420. Smaller cubes are enlarged by a whole factor.",
        unit="pixels",
        bounds=Range(least=1),
    )
    seconds: float = option(0.7, "Seconds for which each time step is shown.", unit="seconds", bounds=Range(above=0))
    title: str = option("", "Title, written next to the date.")


FileFormat = Literal["cog", "png", "netcdf"]
"""Formats of exported files."""


@documented
@dataclass(frozen=True)
class Export(Options):
    """Options of an export.

    Attributes:
        look: Style for pictures of the steps instead of their values; None for values.
        clip: Polygons outside which there is no data, in any form that :func:`stac2cube.model.geometry.read_areas`
            accepts.
        hiding: Masks that are applied first.
        choice: Steps to export.
    """

    layers: tuple[str, ...] | None = option(None, "Layers, separated by commas. Default: all.")
    look: Style | None = None
    clip: object = None
    hiding: Hiding = field(default_factory=Hiding)
    choice: TimeSelection = field(default_factory=TimeSelection)
    format: FileFormat = option("cog", "Format of the files in a folder OUT.")


STATISTICS = ("mean", "median", "std", "min", "max")
"""Statistics of a layer over a polygon, of the pixels with data whose centre is within."""


@documented
@dataclass(frozen=True)
class Columns(Options):
    """Columns of a time series."""

    layers: tuple[str, ...] | None = option(None, "Layers, separated by commas. Default: all.")
    indices: tuple[str, ...] = option((), "Spectral indices in addition to the layers, separated by commas: ndvi,nbr.")
    statistics: tuple[str, ...] = option(
        ("mean", "median", "std"),
        "Statistics of polygons, separated by commas: mean, median, std, min, max.",
        choices=STATISTICS,
    )
