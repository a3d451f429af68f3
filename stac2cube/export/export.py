"""Export steps of a cube: GeoTIFF (COG), PNG, NetCDF."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage
from typing import Any
from zlib import crc32

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.env import get_gdal_config
from rasterio.errors import RasterioIOError
from rasterio.shutil import copy as copy_raster
from rasterio.windows import Window

from stac2cube.adapters.rasterio import GdalError
from stac2cube.errors import BadInputError
from stac2cube.export.netcdf import require_netcdf, write_netcdf
from stac2cube.export.selection import Selection, selection_of
from stac2cube.model.cube_spec import Layer
from stac2cube.progress import Progress
from stac2cube.store.files import DISK_ERRORS, system_error, written_whole
from stac2cube.views.options import Export, FileFormat, Style
from stac2cube.views.render import picture, settled

# A step as a cloud-optimised GeoTIFF, with its values or a picture; and pictures as PNG.

MADE_FROM = "STAC2CUBE_MADE_FROM"
"""Tag with the digest of everything that determined a file's pixels, so that an up-to-date file is not made again."""


CACHE = 64 * 2**20
"""Block cache of GDAL while a file is written, bytes. The default is a twentieth of the machine's memory: on a large
node more than a job may use."""


FULL = 2**20
"""Free bytes on a disk below which a failed write is attributed to a full disk."""


@contextmanager
def small_cache() -> Iterator[None]:
    """Limit GDAL's cache to :data:`CACHE`, and restore it afterwards: it is global to the process."""
    before = int(get_gdal_config("GDAL_CACHEMAX"))
    try:
        with rasterio.Env(GDAL_CACHEMAX=min(before, CACHE)):
            yield
    finally:
        with rasterio.Env(GDAL_CACHEMAX=before):
            pass  # entering an environment sets the cache; leaving one does not


def is_made_from(path: Path, fingerprint: str) -> bool:
    """Whether a file was made from exactly these pixels."""
    if not path.exists():
        return False
    try:
        with rasterio.open(path) as file:
            return bool(file.tags().get(MADE_FROM) == fingerprint)
    except RasterioIOError:
        return False


def stored_type(layers: Sequence[Layer]) -> tuple[np.dtype[Any], float]:
    """The dtype and nodata value of a file of several layers.

    If one layer is a float, all become floats with NaN as nodata; integers keep their fill value.

    Raises:
        BadInputError: Integers with different fills.
    """
    dtype = np.result_type(*(np.dtype(layer.dtype) for layer in layers))
    if dtype.kind == "f":
        return dtype, float("nan")
    fills = {layer.fill for layer in layers}
    if len(fills) > 1:
        by_fill = ", ".join(f"{layer.name} {layer.fill:g}" for layer in layers)
        raise BadInputError(
            f"layers with different fill values do not fit into one GeoTIFF ({by_fill}): export some with --layers"
        )
    return dtype, fills.pop()


def write_cog(
    target: Path,
    layers: Sequence[Layer],
    geobox: GeoBox,
    pixels: Iterable[tuple[str, Window, np.ndarray]],
    tags: Mapping[str, str],
) -> Path:
    """Write stored values as a COG: a band per layer with name, scale, offset, unit and nodata, and overviews.

    Args:
        target: The file; replaced atomically if it exists.
        layers: The layers, in the order of the bands.
        geobox: Lattice.
        pixels: Layer name, window and values of every part.
        tags: Additional tags of the file.

    Raises:
        BadInputError: Layers with different nodata values.
    """
    dtype, nodata = stored_type(layers)
    bands = {layer.name: (band, layer) for band, layer in enumerate(layers, start=1)}
    profile = {**_profile(geobox), "count": len(layers), "dtype": dtype.name, "nodata": nodata}
    classes = any(layer.flags or layer.bits for layer in layers)
    proof = _Proof()
    with written_whole(target) as partial, small_cache(), _beside(partial) as raw:
        with rasterio.open(raw, "w", **profile) as file:
            for band, layer in bands.values():
                file.set_band_description(band, layer.name)
                file.set_band_unit(band, layer.units)
            for name, window, part in pixels:
                band, layer = bands[name]
                values = part.astype(dtype)
                if dtype.kind == "f":
                    values[part == layer.fill] = np.nan
                file.write(values, band, window=window)
                proof.note(band, window, values)
            file.scales = [layer.scale for layer in layers]
            file.offsets = [layer.offset for layer in layers]
            file.update_tags(**tags)
        copy_raster(
            raw,
            partial,
            driver="COG",
            compress="deflate",
            predictor=3 if dtype.kind == "f" else 2,
            overview_resampling="nearest" if classes else "average",
            bigtiff="if_safer",
        )
        proof.require_in(partial)
    return target


def write_numbers(cut: Selection, step: str, out: Path, fingerprint: str = "") -> None:
    """Write the stored values of a step, unchanged.

    Args:
        cut: The selection.
        step: Key of the step.
        out: The file; replaced atomically.
        fingerprint: See :data:`MADE_FROM`.

    Raises:
        BadInputError: Layers with different nodata values.
    """
    pixels = (
        (name, Window.from_slices(*window), values)
        for window in cut.windows()
        for name, values in cut.read(step, window).items()
    )
    write_cog(out, cut.layers, cut.grid.geobox, pixels, _tags(cut, step, fingerprint))


def write_picture(cut: Selection, step: str, look: Style, out: Path, fingerprint: str = "") -> None:
    """Write a picture of a step: red, green, blue and alpha, 0 where there is no data.

    Args:
        cut: The selection, with all layers that the style needs.
        step: Key of the step.
        look: Style of the picture, see :func:`stac2cube.views.render.settled`.
        out: ``.tif`` for a COG, ``.png`` with a world file ``.pgw`` beside it; replaced atomically.
        fingerprint: See :data:`MADE_FROM`.

    Raises:
        BadInputError: The style names something unknown.
    """
    proof = _Proof()
    with written_whole(out) as partial, small_cache(), _beside(partial) as raw:
        with rasterio.open(raw, "w", **_profile(cut.grid.geobox), count=4, dtype="uint8", photometric="RGB") as file:
            file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
            for window in cut.windows():
                shown, _ = picture(cut.opened(step, window), look, nodata="alpha")
                pixels = shown.transpose("rgb", "y", "x").values
                file.write(pixels, window=Window.from_slices(*window))
                proof.note([1, 2, 3, 4], Window.from_slices(*window), pixels)
            file.update_tags(**_tags(cut, step, fingerprint))
        if out.suffix == ".png":
            with rasterio.Env(GDAL_PAM_ENABLED=False):
                copy_raster(raw, partial, driver="PNG", zlevel=6, write_metadata_as_text="YES")
        else:
            copy_raster(raw, partial, driver="COG", compress="deflate", predictor=2, bigtiff="if_safer")
        proof.require_in(partial)
    if out.suffix == ".png":
        with written_whole(out.with_suffix(".pgw")) as partial:
            a, b, c, d, e, f = cut.grid.transform
            # World files refer to the centre of the upper left pixel.
            partial.write_text(
                "".join(f"{value!r}\n" for value in (a, d, b, e, c + a / 2, f + e / 2)), encoding="utf-8"
            )


class _Proof:
    """Checksums of written pixels, to compare with the file: GDAL does not report every failed write."""

    def __init__(self) -> None:
        self._written: list[tuple[int | list[int], Window, int]] = []

    def note(self, bands: int | list[int], window: Window, pixels: np.ndarray) -> None:
        """Record pixels written to a band, or ``(bands, rows, columns)`` to several."""
        self._written.append((bands, window, _sum(pixels)))

    def require_in(self, path: Path) -> None:
        """Read all pixels back and compare them.

        Raises:
            OSError: They differ.
        """
        with rasterio.open(path) as file:
            # From top to bottom, which is the read order of formats without blocks.
            for bands, window, code in sorted(self._written, key=lambda row: (row[1].row_off, row[1].col_off)):
                if _sum(file.read(bands, window=window)) != code:
                    raise OSError("its content differs from what was written")


def _sum(pixels: np.ndarray) -> int:
    return crc32(np.ascontiguousarray(pixels).data.cast("B"))


@contextmanager
def _beside(partial: Path) -> Iterator[Path]:
    """A path for the temporary file that a COG or PNG is made from. Converts GDAL's errors to OSError."""
    raw = partial.with_suffix(".raw.tif")
    try:
        yield raw
    except (GdalError, RasterioIOError) as error:
        # For a full disk GDAL only reports a failed write; check it while the files still exist.
        if disk_usage(raw.parent).free < FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(raw.parent)) from error
        raise OSError(str(error.__cause__ or error)) from error
    finally:
        raw.unlink(missing_ok=True)


def _profile(geobox: GeoBox) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": geobox.shape[0],
        "width": geobox.shape[1],
        "crs": str(geobox.crs),
        "transform": geobox.transform,
        "tiled": True,
        "bigtiff": "if_safer",
    }


def _tags(cut: Selection, step: str, fingerprint: str) -> dict[str, str]:
    return {"scene": step, "time": f"{cut.steps[step]:%Y-%m-%dT%H:%M:%S.%fZ}", MADE_FROM: fingerprint}


# A cube for other programs: a cloud-optimised GeoTIFF or PNG per step, or one NetCDF; existing files are kept.

SUFFIXES: dict[str, FileFormat] = {".tif": "cog", ".tiff": "cog", ".png": "png", ".nc": "netcdf"}


def export(
    cubes: str | Path | Sequence[str | Path],
    out: str | Path,
    how: Export | None = None,
    *,
    progress: Progress | None = None,
) -> list[Path]:
    """Write steps of a cube, or of a mosaic of cubes on one lattice, for programs that do not read Zarr 3.

    Each file is written atomically. A file that was made from exactly these pixels is kept, so that a killed run can be
    continued.

    Args:
        cubes: One cube, or several of the same layers and resolution on one lattice: where several have data, the first
            is used.
        out: ``.tif`` or ``.png`` for one step, ``.nc`` for all of them in one file, or a folder for a file per step.
        how: Options; all values of all steps if None.
        progress: Called for every step.

    Returns:
        The files, in order of time.

    Raises:
        BadInputError: An unknown name, several steps for one file, layers that do not fit into one GeoTIFF.
        CubeError: Not a cube.
        CubeMismatchError: The cubes are not on one lattice.
    """
    how, target = how or Export(), Path(out)
    kind = SUFFIXES.get(target.suffix.lower(), how.format)
    if target.suffix and target.suffix.lower() not in SUFFIXES and not target.is_dir():
        raise BadInputError(f"{target}: an export is a .tif, .png or .nc, or a folder")
    _check(how, kind)
    several = [cubes] if isinstance(cubes, str | Path) else list(cubes)
    # A picture may need any band.
    layers = how.layers if how.look is None else None
    cut = selection_of(several, clip=how.clip, layers=layers, hiding=how.hiding, choice=how.choice)
    try:
        return _written(cut, target, kind, how.look, progress or Progress())
    except (OSError, RuntimeError) as error:
        told = system_error(error)
        if not isinstance(told, OSError):
            raise
        why = os.strerror(told.errno) if told.errno in DISK_ERRORS else str(told)
        raise BadInputError(f"{target} cannot be written: {why}; complete files stay, run the command again") from error


def _written(cut: Selection, target: Path, kind: FileFormat, look: Style | None, progress: Progress) -> list[Path]:
    """Write the files of a selection."""
    one_file = bool(target.suffix) and not target.is_dir()  # names of folders may have dots
    if kind == "netcdf":
        file = target if one_file else target / f"{cut.sources[0].path.stem}.nc"
        write_netcdf(cut, file, progress)
        return [file]
    if one_file and len(cut.steps) > 1:
        raise BadInputError(
            f"{target} is one file and these are {len(cut.steps)} steps: choose one with --step, or give a folder"
        )
    suffix = ".png" if kind == "png" else ".tif"
    names = {step: target if one_file else target / f"{step}{suffix}" for step in cut.steps}
    write, look = _writer(cut, look)
    with progress.over(len(names)):
        for step, file in names.items():
            fingerprint = cut.fingerprint(step, format=kind, look=look)
            if not is_made_from(file, fingerprint):
                write(step, file, fingerprint)
            progress.advance()
    return list(names.values())


def _check(how: Export, kind: FileFormat) -> None:
    if kind == "netcdf":
        require_netcdf()
        if how.look is not None:
            raise BadInputError("a NetCDF holds numbers, not pictures: export pictures as .tif or .png")
    if kind == "png" and how.look is None:
        raise BadInputError("a PNG holds a picture: say what is shown, for example --show cir")
    if how.look is not None and how.layers is not None:
        raise BadInputError("a picture is made of the bands that it shows: say no --layers")


def _writer(cut: Selection, look: Style | None) -> tuple[Callable[[str, Path, str], None], Style | None]:
    """The function that writes a step, and the style with the stretch of the whole series."""
    if look is None:
        stored_type(cut.layers)

        def numbers(step: str, file: Path, fingerprint: str) -> None:
            write_numbers(cut, step, file, fingerprint)

        return numbers, None
    fixed = settled(cut.series(), look)

    def shown(step: str, file: Path, fingerprint: str) -> None:
        write_picture(cut, step, fixed, file, fingerprint)

    return shown, fixed
