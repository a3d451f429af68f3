"""Shared options of commands, the place where a command runs, and the console."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar, cast

import click
from rich.console import Console

from stac2cube.errors import BadInputError
from stac2cube.executors.base import Place, Threads, usable_cores
from stac2cube.executors.local import Local
from stac2cube.executors.site import Limits
from stac2cube.model.fields import Declared, Options, Range, documented, option, options_in
from stac2cube.model.grid import GridOptions
from stac2cube.model.query import AreaOptions, Filters, Query
from stac2cube.recipe.schema import Form
from stac2cube.trust.address import redacted
from stac2cube.trust.text import LineFormatter, printable
from stac2cube.views.options import Hiding, Style, TimeSelection

if TYPE_CHECKING:
    from rich.text import Text

# A group whose help lists its commands by purpose, in the usual order of use.


class Sections(click.Group):
    """Commands under headings.

    Attributes:
        sections: Commands by heading, in the order of the help.
    """

    sections: Mapping[str, Sequence[click.Command]] = {}

    def add_sections(self, sections: Mapping[str, Sequence[click.Command]]) -> None:
        """Add all commands, each under its heading."""
        self.sections = sections
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click asks so
        """Write the first sentence of each command in full, under its heading."""
        # One column width for all headings, so that the sentences are aligned.
        widest = max(len(str(command.name)) for commands in self.sections.values() for command in commands)
        for heading, commands in self.sections.items():
            rows = [(f"{command.name:{widest}}", command.get_short_help_str(limit=500)) for command in commands]
            with formatter.section(heading):
                formatter.write_dl(rows)


# Output to screen and files: printed as plain text, whatever catalogs or cubes from elsewhere contain.


class CleanStream:
    """A stream that escapes control characters and removes known keys.

    Args:
        stream: The underlying stream.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            TypeError: It is not a string, by which libraries distinguish text streams from byte streams.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text is written here, not {type(text).__name__}")
        self.stream.write(printable(redacted(text), lines=True))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Delegate all other attributes to the stream."""
        return getattr(self.stream, name)


class SafeConsole(Console):
    """A console that ignores escapes and markup in texts; only its own colours are shown."""

    def __init__(self, *, file: IO[str], quiet: bool = False, width: int | None = None) -> None:
        super().__init__(file=file, quiet=quiet, width=width, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Clean a text and render it."""
        return super().render_str(printable(redacted(text), lines=True), **options)


def raw(stream: Any) -> IO[str]:
    """The stream below a :class:`CleanStream`, for writers of their own colours."""
    return stream.stream if isinstance(stream, CleanStream) else cast("IO[str]", stream)


@contextmanager
def clean_streams() -> Iterator[None]:
    """Send all output through a :class:`CleanStream` while the context lasts.

    Characters that the encoding of the terminal or locale lacks are written as escapes.
    """
    before = sys.stdout, sys.stderr
    for stream in map(raw, before):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (cast("Any", CleanStream(raw(stream))) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


# Shared options.

Command = TypeVar("Command", bound=Callable[..., Any])

CUBE = click.Path(path_type=Path)

as_json = click.option("--json", "machine", is_flag=True, help="Print JSON for scripts.")


class Spelled(click.types.StringParamType):
    """Text that a recipe may also give in another form: as a list, as a table, or as a path from its own folder.

    Args:
        form: See :data:`stac2cube.recipe.schema.Form`.
    """

    def __init__(self, form: Form) -> None:
        self.name = "text"
        self.form = form


LIST, PAIRS, AREA, PATH = Spelled("list"), Spelled("pairs"), Spelled("area"), Spelled("path")

AREA_FORMS = "a file of polygons, GeoJSON text, or a box 'west,south,east,north' in degrees"
TIME_FORMS = "A year, month, day, interval or season. Separate several by commas."
"""Short forms of the help of --aoi and --time, for commands that take them beside others."""

# Options declared by a dataclass, see :mod:`stac2cube.model.fields`: from a field to an option, and back to a value.

Value = TypeVar("Value")


Unset = Literal["", "told", "off"]
"""Treatment of options that are not given, see :func:`options_of`."""


class DeclaredOption(click.Option):
    """An option made from a field of a dataclass.

    Args:
        flags: Names, see :class:`click.Option`.
        declared: Declaration of the field.
        about: Other arguments, see :class:`click.Option`.
    """

    def __init__(self, flags: Sequence[str], *, declared: Declared, **about: Any) -> None:
        super().__init__(flags, help=declared.help, **about)
        self.declared = declared


def options_of(
    kind: type,
    *names: str,
    unset: Unset = "",
    flags: Mapping[str, Sequence[str]] | None = None,
    helps: Mapping[str, str] | None = None,
) -> Callable[[Command], Command]:
    """A decorator that gives a command the options that a dataclass declares.

    Args:
        kind: The dataclass.
        names: Some of its fields in the order of the help; all if there are none.
        unset: Value of an option that is not given: "" the default; ``"told"`` None, because the value comes from
            elsewhere, with the default in the help; ``"off"`` None, because then nothing is done.
        flags: Names of fields that differ in the command, as click takes them: ``{"width": ("--bin-width",)}``.
        helps: Help texts of fields whose meaning is narrower in the command.
    """
    declared = {name: replace(one, help=(helps or {}).get(name, one.help)) for name, one in options_in(kind).items()}
    made = [_option_of(declared[name], (flags or {}).get(name, ()), unset) for name in names or declared]
    return lambda command: apply(made, command)


def _option_of(one: Declared, flags: Sequence[str], unset: Unset) -> Callable[[Any], Any]:
    flag, *dest = flags or (f"--{one.name.replace('_', '-')}",)
    about: dict[str, Any] = {"type": _type_of(one)}
    if one.kind is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}" if one.default and not unset else flag
        about = {"is_flag": True}
    elif one.several > 1 and one.form != "interval":
        about = {"nargs": one.several, "type": one.kind}
    shown = one.default is not False and one.default not in (None, "", ())
    if unset == "told" and shown:
        parts = one.default if isinstance(one.default, tuple) else (one.default,)
        one = replace(one, help=f"{one.help} Default: {' '.join(map(_plain, parts))}.")
    default = None if unset else _default_text(one)
    return click.option(
        flag,
        *(dest or [one.name]),
        cls=DeclaredOption,
        declared=one,
        default=default,
        show_default=shown and not unset,
        **about,
    )


def _type_of(one: Declared) -> Any:
    if one.form in _FORMS or one.several == 0:
        return _FORMS.get(one.form, LIST)
    if one.choices and one.kind is str:
        return click.Choice([choice for choice in one.choices if choice])
    if one.form == "range" and one.bounds is not None:
        least, most = (one.bounds.said.get(word) for word in ("least", "most"))
        return click.IntRange(None if least is None else int(least), None if most is None else int(most))
    return one.kind


_FORMS: Mapping[str, Any] = {
    "list": LIST,
    "pairs": PAIRS,
    "area": AREA,
    "path": PATH,
    "cube": CUBE,
    "interval": click.STRING,
}


def _default_text(one: Declared) -> Any:
    if one.form == "cube":
        return one.default or None
    if isinstance(one.default, tuple) and one.several == 0:
        return ",".join(map(_plain, one.default)) or None
    return one.default


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def value_of(kind: type[Value], options: Mapping[str, Any], **more: Any) -> Value:
    """Make a dataclass from the options that :func:`options_of` made of it.

    Args:
        kind: The dataclass.
        options: Options of the command; missing ones, and those that are None, have the default.
        more: Values of fields that are not options.

    Raises:
        BadInputError: An option is invalid, and named in the message.
    """
    given = {name: options[name] for name in options_in(kind) if options.get(name) is not None}
    for name, one in options_in(kind).items():
        if isinstance(given.get(name), Path):
            given[name] = str(given[name])
        if one.several == 0 and isinstance(given.get(name), str):
            given[name] = tuple(_part(one, part) for part in listed(given[name]) or ())
    return kind(**given, **more)


def _part(one: Declared, text: str) -> Any:
    try:
        return one.kind(text)
    except ValueError:
        raise BadInputError(f"{one.name} should be {one.wanted}, not {text!r}") from None


# Options that several commands have.

items_option = click.option(
    "--items", type=CUBE, help="Search result that `stac2cube stage` stored. It is searched instead of the catalog."
)


def search_options(command: Command) -> Command:
    """Add the options of a search."""
    options = [
        options_of(Query, "mission", unset="off"),
        options_of(AreaOptions, unset="off"),
        options_of(Query, "time", "bands", unset="off"),
        options_of(Filters, unset="off"),
        options_of(Query, "catalog", unset="off"),
    ]
    return apply(options, command)


grid_options = options_of(GridOptions, unset="off")
"""Options of the grid, and of resampling to it."""


def query_options(command: Command) -> Command:
    """Add the options that define a layers cube."""
    return search_options(grid_options(options_of(Query, "fill", "strict", unset="off")(command)))


mask_options = options_of(Hiding)
"""Options that hide pixels before anything is made."""

selection_options = options_of(TimeSelection, "time", "max_cloud")
"""Options that select steps."""

style_options = options_of(Style)
"""Options of pictures."""


def look_of(options: Mapping[str, Any]) -> Style:
    """The style that options request.

    Raises:
        BadInputError: The stretch is invalid.
    """
    from stac2cube.views.render import parse_stretch

    return value_of(Style, {**options, "stretch": parse_stretch(options["stretch"])})


def query_words(**options: Any) -> dict[str, Any]:
    """Arguments for :func:`stac2cube.stages.layers.query_of_words` from options.

    Raises:
        BadInputError: An option is invalid.
    """
    from stac2cube.model.period import parse_period
    from stac2cube.stages.layers import area_words

    plain = (*options_in(Query), *options_in(GridOptions), "items")
    words = {name: options[name] for name in plain if name in options}
    words["bands"] = listed(options["bands"])
    words["resampling"] = resampling_words(options.get("resampling"))
    words["time"] = None if options["time"] is None else parse_period(options["time"]).text
    area = value_of(AreaOptions, options)
    return words | area_words(area.aoi, crs=area.aoi_crs, edge=area.edge)


@contextmanager
def console_for(quiet: bool) -> Iterator[Console]:
    """Log to standard error: with colours on a terminal, plain lines in a file."""
    from rich.logging import RichHandler

    console = SafeConsole(file=raw(sys.stderr), quiet=quiet)
    handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False)
    handler.setFormatter(LineFormatter("%(message)s"))
    if not console.is_terminal:
        handler = logging.StreamHandler()
        handler.setFormatter(LineFormatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("stac2cube")
    if logger.handlers:  # a command within a command: log each line once
        yield console
        return
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield console
    finally:
        logger.removeHandler(handler)


def listed(text: str | None) -> tuple[str, ...] | None:
    """Split a text at commas; None if it is not given."""
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def resampling_words(text: str | None) -> str | dict[str, str] | None:
    """A resampling method for all bands, or one per band from ``BAND=METHOD`` with commas.

    Raises:
        BadInputError: It is neither.
    """
    if text is None or "=" not in text:
        return text
    pairs = [word.partition("=") for word in text.split(",")]
    if not all(band and method for band, _, method in pairs):
        raise BadInputError(f"--resampling {text!r}: write METHOD, or BAND=METHOD with commas")
    return {band.strip(): method.strip() for band, _, method in pairs}


def apply(options: Sequence[Callable[[Any], Any]], command: Command) -> Command:
    """Add options to a command, in their order."""
    for one in reversed(options):
        command = one(command)
    return command


# The place where a command runs: common options, and the place that they select. It changes no pixel.


@documented
@dataclass(frozen=True)
class WhereOptions(Options):
    """Where the work runs, and how much output is shown. It changes no pixel."""

    place: Literal["threads", "local", "slurm", "allocation", "gateway"] = option(
        "threads",
        "Where the work runs: threads of this process, worker processes on this machine (local), "
        "worker jobs on a SLURM cluster (slurm), the tasks of the SLURM job in which this command "
        "runs (allocation), or workers of a Dask Gateway (gateway).",
    )
    workers: int | None = option(
        None,
        "Number of threads, processes, jobs or workers. Default: all that are available.",
        bounds=Range(least=1),
        form="range",
    )
    site: str | None = option(
        None, "Site, see `stac2cube sites`. It describes worker jobs and gateways, and limits the size of a cube."
    )
    cluster: str | None = option(
        None,
        "Running Dask cluster for the place gateway: its name, or the address of its scheduler. "
        "Default: $DASK_CLUSTER, or else a new cluster.",
    )
    test: bool = option(False, "For worker jobs: use the site's test partition and its short time limit.")
    quiet: bool = option(False, "Print warnings only, no progress.")

    def executor(self) -> Place:
        """The place where the work runs.

        Raises:
            BadInputError: The place needs a site, or to run in a job.
        """
        if self.place == "gateway":
            from stac2cube.executors.gateway import Gateway
            from stac2cube.executors.site import find_site

            gateway = find_site(self.site).gateway if self.site else Gateway()
            gateway = gateway if self.workers is None else replace(gateway, workers=self.workers)
            return gateway if self.cluster is None else replace(gateway, cluster=self.cluster)
        if self.cluster is not None:
            raise BadInputError("--cluster NAME goes with --place gateway")
        if self.place == "slurm":
            from stac2cube.executors.site import find_site, site_names

            if self.site is None:
                raise BadInputError(f"--place slurm needs --site NAME, one of {', '.join(site_names())}")
            place = find_site(self.site).place(test=self.test)
            return place if self.workers is None else replace(place, jobs=self.workers)
        if self.place == "allocation":
            from stac2cube.executors.site import find_site
            from stac2cube.executors.slurm import Allocation, Slurm

            known = find_site(self.site).slurm if self.site else Slurm()
            return Allocation.of_this_job(known.interface, dashboard=known.dashboard)
        count = self.workers or usable_cores()
        return Local(workers=count) if self.place == "local" else Threads(count)

    def limits(self) -> Limits | None:
        """Limits on the size of a cube at the site; None without a site, when the place determines its limits.

        Raises:
            BadInputError: The site is unknown.
        """
        if self.site is None:
            return None
        from stac2cube.executors.site import find_site

        return find_site(self.site).limits


_progress_file = click.option("--progress-file", type=CUBE, hidden=True)


def where_options(command: Command) -> Command:
    """Add the options of the place where the work runs; it changes no pixel."""
    return options_of(WhereOptions, flags={"quiet": ("--quiet", "-q")})(_progress_file(command))
