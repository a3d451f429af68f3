"""A cube for other programs: a cloud-optimised GeoTIFF or PNG per step, or one NetCDF; each made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stac2cube.cube.files import DISK_ERRORS, system_error
from stac2cube.errors import BadInputError
from stac2cube.products.cut import Cut, cut_of
from stac2cube.products.geotiff import is_made_from, stored_type, write_numbers, write_picture
from stac2cube.products.netcdf import require_netcdf, write_netcdf
from stac2cube.progress import Progress
from stac2cube.views.mask_recipes import Hiding
from stac2cube.views.picture import Look, settled
from stac2cube.views.steps import Choice

Format = Literal["cog", "png", "netcdf"]

SUFFIXES: dict[str, Format] = {".tif": "cog", ".tiff": "cog", ".png": "png", ".nc": "netcdf"}


@dataclass(frozen=True)
class Export:
    """What is exported, and how.

    Attributes:
        layers: Names; None for all.
        look: A picture of each step instead of its numbers; None for the numbers.
        clip: Polygons outside which there is no data, in any form that :func:`stac2cube.area.read_areas` takes.
        hiding: What is hidden before.
        choice: Which steps.
        format: For a folder: what its files are.
    """

    layers: tuple[str, ...] | None = None
    look: Look | None = None
    clip: object = None
    hiding: Hiding = Hiding()  # noqa: RUF009 - it is frozen
    choice: Choice = Choice()  # noqa: RUF009
    format: Format = "cog"


def export(
    cubes: str | Path | Sequence[str | Path],
    out: str | Path,
    how: Export | None = None,
    *,
    progress: Progress | None = None,
) -> list[Path]:
    """Write steps of a cube, or of a mosaic of cubes on one lattice, for programs that do not read Zarr 3.

    Each file is there whole or not at all. A file that was made of just these pixels is left alone, so that a run that
    was killed goes on.

    Args:
        cubes: One cube, or several of the same layers and resolution on one lattice: where several have data, the first
            wins.
        out: ``.tif`` or ``.png`` for one step, ``.nc`` for all of them in one file, or a folder for a file per step.
        how: What; all numbers of all steps if None.
        progress: Told of every step.

    Returns:
        The files, in order of time.

    Raises:
        BadInputError: Nothing of that name, several steps for one file, layers that do not fit into one GeoTIFF.
        CubeError: Not a cube.
        CubeMismatchError: The cubes do not lie on one lattice.
    """
    how, target = how or Export(), Path(out)
    kind = SUFFIXES.get(target.suffix.lower(), how.format)
    if target.suffix and target.suffix.lower() not in SUFFIXES and not target.is_dir():
        raise BadInputError(f"{target}: an export is a .tif, .png or .nc, or a folder")
    _check(how, kind)
    several = [cubes] if isinstance(cubes, str | Path) else list(cubes)
    # A picture may need any band.
    layers = how.layers if how.look is None else None
    cut = cut_of(several, clip=how.clip, layers=layers, hiding=how.hiding, choice=how.choice)
    try:
        return _written(cut, target, kind, how.look, progress or Progress())
    except (OSError, RuntimeError) as error:
        told = system_error(error)
        if not isinstance(told, OSError):
            raise
        why = os.strerror(told.errno) if told.errno in DISK_ERRORS else str(told)
        raise BadInputError(f"{target} cannot be written: {why}; what is whole stays, run again to go on") from error


def _written(cut: Cut, target: Path, kind: Format, look: Look | None, progress: Progress) -> list[Path]:
    """The files of a cut."""
    if kind == "netcdf":
        file = target if target.suffix else target / f"{cut.sources[0].path.stem}.nc"
        write_netcdf(cut, file, progress)
        return [file]
    if target.suffix and len(cut.steps) > 1:
        raise BadInputError(
            f"{target} is one file and these are {len(cut.steps)} steps: choose one with --step, or give a folder"
        )
    suffix = ".png" if kind == "png" else ".tif"
    names = {step: target if target.suffix else target / f"{step}{suffix}" for step in cut.steps}
    write, look = _writer(cut, look)
    with progress.over(len(names)):
        for step, file in names.items():
            fingerprint = cut.fingerprint(step, format=kind, look=look)
            if not is_made_from(file, fingerprint):
                write(step, file, fingerprint)
            progress.advance()
    return list(names.values())


def _check(how: Export, kind: Format) -> None:
    if kind == "netcdf":
        require_netcdf()
        if how.look is not None:
            raise BadInputError("a NetCDF holds numbers, not pictures: export pictures as .tif or .png")
    if kind == "png" and how.look is None:
        raise BadInputError("a PNG holds a picture: say what is shown, for example --show cir")
    if how.look is not None and how.layers is not None:
        raise BadInputError("a picture is made of the bands that it shows: say no --layers")


def _writer(cut: Cut, look: Look | None) -> tuple[Callable[[str, Path, str], None], Look | None]:
    """What writes a step, and the look with the stretch of the whole series."""
    if look is None:
        stored_type(cut.layers)

        def numbers(step: str, file: Path, fingerprint: str) -> None:
            write_numbers(cut, step, file, fingerprint)

        return numbers, None
    fixed = settled(cut.series(), look)

    def shown(step: str, file: Path, fingerprint: str) -> None:
        write_picture(cut, step, fixed, file, fingerprint)

    return shown, fixed
