"""Export to NetCDF; a full disk ends in one clear error."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stac2cube.build.status import cube_history
from stac2cube.errors import BadInputError
from stac2cube.export.selection import Selection, period_ends, selection_of
from stac2cube.export.stac import Origin, attribution_of, mission_of_cubes, terms_of
from stac2cube.model.cube_spec import Layer
from stac2cube.progress import Progress
from stac2cube.store.files import real_folder, remove_tree, written_whole
from stac2cube.store.ledger import STEP_FACTS
from stac2cube.store.metadata import now_text
from stac2cube.version import __version__
from stac2cube.views.composite import OBSERVATIONS
from stac2cube.views.options import TimeSelection

if TYPE_CHECKING:
    import h5netcdf
    import h5py
    from _typeshed import ReadableBuffer, WriteableBuffer
    from pyproj import CRS


# Files for libraries that cannot handle a failed write.


class GuardedFile(io.RawIOBase):
    """A file that records its first write error, and then discards all writes as if they had succeeded.

    HDF5 keeps data that it could not write, retries when the process ends, and crashes then (measured with HDF5 1.14 on
    a full disk). So errors are hidden from it; the caller checks :attr:`error` and stops.

    Args:
        path: The file; an existing one is overwritten.

    Attributes:
        error: The first error of the system, None without errors.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.error: OSError | None = None

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As files do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As files do."""
        return self._file.tell()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As files do; discarded data and bytes beyond the end read as zeros."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done:])):
            done += count
        view[done:] = bytes(len(view) - done)
        return len(view)

    def write(self, content: ReadableBuffer, /) -> int:
        """Write all bytes; discard them after an error."""
        view = memoryview(content).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += self._file.write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """As files do."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def close(self) -> None:
        """As files do."""
        self._file.close()
        super().close()


@contextmanager
def guarded(path: Path) -> Iterator[GuardedFile]:
    """Open a new file for a library that cannot handle a failed write.

    Raises:
        OSError: A write failed; raised after the block, in place of any error of the library.
    """
    with GuardedFile(path) as file:
        try:
            yield file
        finally:
            if file.error is not None:
                raise file.error


# A cube as one CF NetCDF-4 file, written step by step: finished steps are kept beside it until the file is complete.
#
# Each step is first written as a small HDF5 file in ``.NAME.parts``. When all are complete, their compressed chunks are
# copied unchanged into the NetCDF, which appears atomically. The next run after a killed one reuses its parts.

CONVENTIONS = "CF-1.11"

FILTERS: dict[str, Any] = {"compression": "gzip", "compression_opts": 4, "shuffle": True}
"""Filters that every netCDF library supports."""

CHUNK = 512
"""Largest number of rows and of columns of a chunk."""

TIME = {
    "standard_name": "time",
    "calendar": "proleptic_gregorian",
    "units_metadata": "leap_seconds: none",
    "axis": "T",
}
"""CF attributes of time, except for its unit; ``units_metadata`` is new in version 1.11."""

BOUNDS = "time_bnds"
"""Name of the variable with the start and the (exclusive) end of each period."""

MADE_FROM = "made_from"


def require_netcdf() -> None:
    """Check that NetCDF can be written.

    Raises:
        BadInputError: h5netcdf is not installed.
    """
    try:
        import h5netcdf  # noqa: F401
    except ImportError as error:
        raise BadInputError("NetCDF needs h5netcdf: pip install 'stac2cube[netcdf]'") from error


def export_netcdf(cube: str | Path, out: str | Path, time: str = "") -> Path:
    """Write steps of a cube; :func:`stac2cube.export.export.export` has more options.

    Args:
        cube: The cube.
        out: The file; replaced atomically.
        time: Period of the steps, see :func:`stac2cube.model.period.parse_period`; all steps if "".

    Returns:
        The file.

    Raises:
        BadInputError: No step in that time, or h5netcdf is not installed.
        CubeError: Not a cube.
    """
    require_netcdf()
    write_netcdf(selection_of([cube], choice=TimeSelection(time or None)), Path(out))
    return Path(out)


def write_netcdf(cut: Selection, out: Path, progress: Progress | None = None) -> int:
    """Write all steps of a selection.

    Args:
        cut: The selection.
        out: The file; replaced atomically.
        progress: Called for every step.

    Returns:
        Number of steps that were read; the others existed from an earlier run.

    Raises:
        BadInputError: h5netcdf is not installed.
    """
    require_netcdf()
    progress = progress or Progress()
    folder = real_folder(out.with_name(f".{out.name}.parts"))
    folder.mkdir(parents=True, exist_ok=True)
    parts, made = {}, 0
    with progress.over(len(cut.steps)):
        for step in cut.steps:
            parts[step] = folder / f"{step}.h5"
            made += _write_part(cut, step, parts[step])
            progress.advance()
    with written_whole(out) as partial, guarded(partial) as file:
        _create(cut, file)
        if file.error is None:
            _join(cut, file, list(parts.values()))
    remove_tree(folder)
    return made


def _write_part(cut: Selection, step: str, path: Path) -> bool:
    """Write one step; return False if it exists already."""
    import h5py

    fingerprint = cut.fingerprint(step, format="netcdf", chunk=CHUNK, filters=FILTERS)
    if path.exists():
        with h5py.File(path) as file:
            if file.attrs.get(MADE_FROM) == fingerprint:
                return False
    with written_whole(path) as partial, guarded(partial) as sink, h5py.File(sink, "w") as file:
        chunk = _chunk(cut)
        for layer in cut.layers:
            file.create_dataset(
                layer.name, cut.grid.shape, layer.dtype, chunks=chunk, fillvalue=layer.fill_scalar, **FILTERS
            )
        # Windows of whole chunks, so that each is compressed once.
        for window in cut.windows(2 * CHUNK):
            if sink.error is not None:
                break
            for name, values in cut.read(step, window).items():
                file[name][window] = values
        file.attrs[MADE_FROM] = fingerprint
    return True


def _chunk(cut: Selection) -> tuple[int, int]:
    rows, columns = cut.grid.shape
    return min(CHUNK, rows), min(CHUNK, columns)


def _create(cut: Selection, sink: GuardedFile) -> None:
    """Create the file with all its metadata and coordinates; its layers are still empty."""
    import h5netcdf
    from pyproj import CRS

    rows, columns = cut.grid.shape
    crs = CRS.from_user_input(cut.grid.crs)
    with h5netcdf.File(sink, "w") as file:
        # Unlimited, because NCO averages and joins files only along such a dimension.
        file.dimensions = {"time": None, "y": rows, "x": columns}
        file.resize_dimension("time", len(cut.steps))
        _describe(file, _about(cut))
        _write_times(file, cut)
        _axes(file, cut, crs)
        facts = _write_facts(file, cut)
        composed = cut.spec.recipe.get("composite")
        reference = file.create_variable("spatial_ref", (), "int32", data=np.int32(0))
        mapping = _mapping(crs) | {"spatial_ref": crs.to_wkt(), "long_name": "coordinate reference system"}
        if 1 in cut.grid.shape:
            # The coordinates of a single row or column do not determine the pixel size: GDAL would show the file
            # without a geotransform, and rioxarray refuse it. Larger grids do not need it, see docs/readers.md.
            step, (west, north) = cut.grid.resolution, cut.grid.origin
            mapping["GeoTransform"] = " ".join(map(repr, (west, step, 0.0, north, 0.0, -step)))
        _describe(reference, mapping)
        for layer in cut.layers:
            # A fill value that is a class has no _FillValue, so that readers keep integers; all chunks are written.
            marked = "_FillValue" in layer.attributes() or np.dtype(layer.dtype).kind == "f"
            made = file.create_variable(
                layer.name,
                ("time", "y", "x"),
                np.dtype(layer.dtype),
                fillvalue=layer.fill_scalar if marked else None,
                chunks=(1, *_chunk(cut)),
                **FILTERS,
            )
            # Includes the grid mapping, so that readers keep it as a coordinate of each layer.
            about = {**_attributes(layer), "coordinates": " ".join([*facts, "spatial_ref"])}
            if composed and layer.name not in OBSERVATIONS:
                about["cell_methods"] = _cell_methods(composed)
            _describe(made, about)


def _mapping(crs: CRS) -> dict[str, Any]:
    """CF's parameters of a projection (appendix F); adds the pole, which PROJ omits if there is a standard parallel."""
    told = crs.to_cf()
    if told.get("grid_mapping_name") == "polar_stereographic" and "standard_parallel" in told:
        told.setdefault("latitude_of_projection_origin", math.copysign(90.0, told["standard_parallel"]))
    return told


_CELL_METHODS = {"median": "median", "mean": "mean", "max": "maximum", "min": "minimum"}
"""Methods of composites with a name in CF (appendix E); the others choose one observation."""


def _cell_methods(composed: Mapping[str, Any]) -> str:
    """How a composite was made, in CF's words (7.3); a rolling one looks beyond its period."""
    method = f"time: {_CELL_METHODS.get(composed['method'], 'point')}"
    window = composed.get("window")
    return f"{method} (comment: over {window} about the middle of each period)" if window else method


def _describe(place: Any, attributes: Mapping[str, Any]) -> None:
    """Set attributes, with texts of fixed length: these are NC_CHAR, which NCO and Fortran read, not NC_STRING.

    They are marked as UTF-8: otherwise readers assume ASCII, and treat the degree signs of a WKT as damage.
    """
    import h5py

    for name, value in attributes.items():
        text = value.encode() if isinstance(value, str) else b""
        place.attrs[name] = np.array(text, dtype=h5py.string_dtype("utf-8", len(text))) if text else value


def _write_times(file: h5netcdf.File, cut: Selection) -> None:
    """Write the time of each step, and for composites the periods.

    Tools of climate science read seconds as float64. Counted from the day of the first step, they are exact to the
    microsecond for 136 years, within which the resolution of a float64 is finer than that.
    """
    moments = np.array([time.astimezone(UTC).replace(tzinfo=None) for time in cut.steps.values()], "datetime64[us]")
    day = moments.min().astype("datetime64[D]")
    units = f"seconds since {day} 00:00:00"

    def seconds(some: np.ndarray) -> np.ndarray:
        since: np.ndarray = (some - day.astype("datetime64[us]")).astype("int64") / 1e6
        return since

    _coordinate(file, "time", seconds(moments), **TIME, units=units)
    rows = {key: source.rows[key] for source in reversed(cut.sources) for key in source.place_of}
    ends = period_ends(cut.spec, rows)
    if not ends or not all(step in ends for step in cut.steps):
        return
    file.dimensions["nv"] = 2
    last = np.array([ends[step].astimezone(UTC).replace(tzinfo=None) for step in cut.steps], "datetime64[us]")
    file.create_variable(BOUNDS, ("time", "nv"), "float64", data=seconds(np.stack([moments, last], axis=1)))
    _describe(file["time"], {"bounds": BOUNDS})


def _axes(file: h5netcdf.File, cut: Selection, crs: CRS) -> None:
    """Write the coordinates of pixel centres."""
    described = {axis["axis"]: axis for axis in crs.cs_to_cf()}
    west, north = cut.grid.origin
    places = {"x": west + cut.grid.resolution * (np.arange(cut.grid.shape[1]) + 0.5)}
    places["y"] = north - cut.grid.resolution * (np.arange(cut.grid.shape[0]) + 0.5)
    for axis, values in places.items():
        words = described[axis.upper()]
        units = {"metre": "m"}.get(words["units"], words["units"])  # the same to UDUNITS; CDO only supports "m"
        _coordinate(file, axis, values, standard_name=words["standard_name"], units=units, axis=axis.upper())


def _coordinate(file: h5netcdf.File, name: str, values: np.ndarray, **attributes: str) -> None:
    variable = file.create_variable(name, (name,), values.dtype, data=values)
    _describe(variable, attributes | {"long_name": attributes["standard_name"].replace("_", " ")})


def _write_facts(file: h5netcdf.File, cut: Selection) -> list[str]:
    """Write the properties of the steps along time, each from the first cube that has it; return their names."""
    import h5py

    known = {
        str(name) for source in cut.sources for name, fact in source.steps.coords.items() if fact.dims == ("time",)
    }
    names = ["scene", *sorted(known - {"time", "scene"})]
    for name in names:
        values = np.array([_fact(cut, step, name) for step in cut.steps], dtype=object)
        words = any(isinstance(value, str) for value in values)
        if words:
            values = np.array(["" if value is None else str(value) for value in values], dtype=object)
        else:
            values = np.array([np.nan if value is None else value for value in values], "float64")
        variable = file.create_variable(name, ("time",), h5py.string_dtype() if words else values.dtype)
        variable[...] = values
        what, units = STEP_FACTS.get(name, ("key of the scene or period", ""))
        _describe(variable, {"long_name": what, **({} if words else {"units": units or "1"})})
    return names


def _fact(cut: Selection, step: str, name: str) -> Any:
    for source in cut.sources:
        if step in source.place_of and name in source.steps.coords:
            return source.steps[name].values[source.place_of[step]]
    return None


def _attributes(layer: Layer) -> dict[str, Any]:
    """A layer's CF attributes; flags and nodata have the layer's own dtype, as CF requires."""
    attributes = {name: value for name, value in layer.attributes().items() if name != "_FillValue"}
    for name in ("flag_values", "flag_masks", "nodata"):
        if name in attributes:
            attributes[name] = np.array(attributes[name], dtype=layer.dtype)
    attributes.setdefault("long_name", layer.name)
    return attributes


def _about(cut: Selection) -> dict[str, str]:
    spec = cut.spec
    title = str(spec.recipe.get("title", spec.stage))
    lines = [f"{now_text()} exported by stac2cube {__version__}"]
    for source in cut.sources:
        commits = reversed(cube_history(source.path))
        lines += [f"{commit.made} stac2cube commit {commit.number}: {commit.steps} steps" for commit in commits]
    about = {
        "Conventions": CONVENTIONS,
        "title": title,
        "source": f"stac2cube {spec.stage} of {mission_of_cubes(spec) or 'no mission'}",
        "history": "\n".join(lines),
    }
    origin = Origin.of_steps(*(source.steps for source in cut.sources))
    if said := attribution_of(spec, list(cut.steps.values()), origin):
        about["acknowledgement"] = said
    if terms := terms_of(spec, origin):
        about["license"] = terms.url
    return about


def _join(cut: Selection, sink: GuardedFile, parts: list[Path]) -> None:
    """Copy the compressed chunks of all steps into the file."""
    import h5py

    with h5py.File(sink, "r+") as file:
        for place, part in enumerate(parts):
            if sink.error is not None:
                return
            with h5py.File(part) as step:
                for layer in cut.layers:
                    _copy(step[layer.name], file[layer.name], place)


def _copy(source: h5py.Dataset, target: h5py.Dataset, place: int) -> None:
    for number in range(source.id.get_num_chunks()):
        corner = source.id.get_chunk_info(number).chunk_offset
        mask, content = source.id.read_direct_chunk(corner)
        target.id.write_direct_chunk((place, *corner), content, mask)
