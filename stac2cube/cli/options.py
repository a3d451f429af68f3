"""Shared options of commands, the place where a command runs, and the console."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import click
from rich.console import Console

from stac2cube.errors import BadInputError
from stac2cube.executors.base import Place, Threads, usable_cores
from stac2cube.executors.local import Local
from stac2cube.executors.site import Limits
from stac2cube.recipe.schema import Form
from stac2cube.trust.text import LineFormatter, printable, redacted

if TYPE_CHECKING:
    from rich.text import Text

    from stac2cube.views.composite import TimeSelection
    from stac2cube.views.masks import Hiding
    from stac2cube.views.render import Style


# A group whose help lists its commands by what one wants to do, in the order in which one comes to want it.


class Sections(click.Group):
    """Commands under headings.

    Attributes:
        sections: Commands per heading, in the order of the help.
    """

    sections: Mapping[str, Sequence[click.Command]] = {}

    def add_sections(self, sections: Mapping[str, Sequence[click.Command]]) -> None:
        """Add all commands, each under its heading."""
        self.sections = sections
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click asks so
        """Write the first sentence of each command, never cut short, under its heading."""
        # One column for all headings, so that the sentences begin below each other.
        widest = max(len(str(command.name)) for commands in self.sections.values() for command in commands)
        for heading, commands in self.sections.items():
            rows = [(f"{command.name:{widest}}", command.get_short_help_str(limit=500)) for command in commands]
            with formatter.section(heading):
                formatter.write_dl(rows)


# The screen, and files in its place: what is printed is text, whatever a catalog or a cube from elsewhere holds.


class CleanStream:
    """A stream that writes control characters as escapes, and known keys not at all.

    Args:
        stream: The one that it writes to.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            TypeError: It is none, by which others tell streams of texts from those of bytes.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text is written here, not {type(text).__name__}")
        self.stream.write(printable(redacted(text), lines=True))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self.stream, name)


class SafeConsole(Console):
    """A console whose colours are its own: of texts, neither escapes nor words in brackets are heeded."""

    def __init__(self, *, file: IO[str], quiet: bool = False, width: int | None = None) -> None:
        super().__init__(file=file, quiet=quiet, width=width, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text, ready to be shown."""
        return super().render_str(printable(redacted(text), lines=True), **options)


def raw(stream: Any) -> IO[str]:
    """The stream below a :class:`CleanStream`: for those who write colours of their own."""
    return stream.stream if isinstance(stream, CleanStream) else cast("IO[str]", stream)


@contextmanager
def clean_streams() -> Iterator[None]:
    """Whatever is printed meanwhile goes through a :class:`CleanStream`."""
    before = sys.stdout, sys.stderr
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
    """Text that a recipe may spell otherwise too: as a list, as a table, or as a path from its own folder.

    Args:
        form: See :data:`stac2cube.recipe.schema.Form`.
    """

    def __init__(self, form: Form) -> None:
        self.name = "text"
        self.form = form


LIST, PAIRS, AREA, PATH = Spelled("list"), Spelled("pairs"), Spelled("area"), Spelled("path")

PLAIN_WORDS = ("mission", "resolution", "crs", "max_cloud_cover", "orbit", "fill", "strict", "catalog")
"""Words of a request that need no understanding."""


items_option = click.option(
    "--items", type=CUBE, help="Search result that `stac2cube stage` stored. It is searched instead of the catalog."
)


def search_options(command: Command) -> Command:
    """What is looked for, and where."""
    options = [
        click.option("--mission", help="Name of a mission, see `stac2cube missions`."),
        click.option(
            "--aoi",
            type=AREA,
            help=(
                "Area of interest: a GeoJSON, GeoPackage, Shapefile or KML file, GeoJSON text, a box "
                "'west,south,east,north' in degrees, or a point 'lat,lon' with --edge."
            ),
        ),
        click.option("--aoi-crs", help="CRS of the numbers in --aoi. Default: WGS84."),
        click.option("--edge", type=float, help="Edge of the square around a point, in metres."),
        click.option(
            "--time",
            type=LIST,
            help=(
                "A year 2018, a month 2018-07, a day 2018-07-14, an interval 2018/2020-06, or a season of "
                "several years '2018/2020 06-01/08-31'. Separate several by commas."
            ),
        ),
        click.option(
            "--bands",
            type=LIST,
            help=(
                "Bands by name or common name, separated by commas: B04,B08 or red,nir,scl. Default: those of"
                " the mission."
            ),
        ),
        click.option("--max-cloud-cover", type=float, help="Leave out scenes with more cloud than this, in percent."),
        click.option("--orbit", help="ascending, descending, or the number of a relative orbit. Default: all orbits."),
        click.option(
            "--catalog",
            type=PATH,
            help=(
                "Name of a catalog (see `stac2cube catalogs`) or of an index (see `stac2cube index list`), "
                "URL of a STAC API, or path. Default: chosen automatically."
            ),
        ),
    ]
    return apply(options, command)


def grid_options(command: Command) -> Command:
    """On which lattice, and how bands come there."""
    options = [
        click.option(
            "--resolution", type=float, help="Pixel size in units of the CRS. Default: that of the finest band."
        ),
        click.option("--crs", help="CRS of the cube. Default: the native CRS that covers most of the area."),
        click.option(
            "--resampling",
            type=PAIRS,
            help=(
                "Resampling method for continuous bands whose pixels differ from the grid, or one per band: "
                "B05=cubic,SCL=mode. Default: bilinear; nearest for classes."
            ),
        ),
    ]
    return apply(options, command)


def what_options(command: Command) -> Command:
    """What a layers cube is made of."""
    options = [
        click.option(
            "--fill",
            is_flag=True,
            default=None,
            help="Fill missing tiles of the Copernicus DEM GLO-30 from GLO-90, and record them.",
        ),
        click.option(
            "--strict",
            is_flag=True,
            default=None,
            help=(
                "Fail scenes whose pixels contradict their metadata, and never use an older item in place of "
                "an unusable one."
            ),
        ),
    ]
    return search_options(grid_options(apply(options, command)))


def hiding_options(command: Command) -> Command:
    """What is hidden before anything is made."""
    options = [
        click.option(
            "--mask",
            type=LIST,
            default="",
            help=(
                "Hide pixels by the cube's own classes: a mask recipe (clear, clouds, clouds_snow, strict), "
                "or the classes to hide: cloud,shadow or 3,8,9."
            ),
        ),
        click.option(
            "--clouds",
            type=CUBE,
            help="Hide pixels by the masks of this clouds cube. Scenes that it does not have are left out.",
        ),
    ]
    return apply(options, command)


def choice_options(command: Command) -> Command:
    """Which steps are taken."""
    options = [
        click.option(
            "--time",
            type=LIST,
            help="Only these time steps: 2023, 2023-07, 2023-05/2023-08, or '2018/2020 06-01/08-31'.",
        ),
        click.option("--max-cloud", type=float, help="Leave out time steps with more cloud than this, in percent."),
    ]
    return apply(options, command)


def look_options(command: Command) -> Command:
    """What is shown, and how."""
    options = [
        click.option(
            "--show",
            type=LIST,
            default="",
            help=(
                "Colour composite (true, cir, swir ...), three bands separated by commas, a spectral index, "
                "or a layer. Default: natural colour."
            ),
        ),
        click.option(
            "--stretch",
            type=LIST,
            default="series",
            show_default=True,
            help=(
                "Values that are shown as black and white, the same for all dates: series (0 to the 98th "
                "percentile of all dates), percentiles p2-p98, or two values 0,0.3."
            ),
        ),
        click.option(
            "--balance",
            default="",
            help="Colour operations in rio-color's notation: 'sigmoidal RGB 6 0.4, saturation 1.2'.",
        ),
        click.option(
            "--ramp", default="", help="Matplotlib colour map of an index or layer, for example YlGn or viridis."
        ),
    ]
    return apply(options, command)


def choice_of(options: dict[str, Any]) -> TimeSelection:
    """Which steps are taken, taken out of the options."""
    from stac2cube.views.composite import TimeSelection

    return TimeSelection(options.pop("time"), tuple(options.pop("steps", ())), options.pop("max_cloud"))


def look_of(options: dict[str, Any]) -> Style:
    """What is shown, taken out of the options.

    Raises:
        BadInputError: The stretch is not understood.
    """
    from stac2cube.views.render import Style, parse_stretch

    stretch = parse_stretch(options.pop("stretch"))
    return Style(options.pop("show"), stretch, options.pop("balance"), options.pop("ramp"))


def hiding_of(options: dict[str, Any]) -> Hiding:
    """What is hidden, taken out of the options."""
    from stac2cube.views.masks import Hiding

    clouds = options.pop("clouds")
    return Hiding(options.pop("mask"), "" if clouds is None else str(clouds))


def what_words(**options: Any) -> dict[str, Any]:
    """The words of :class:`stac2cube.search.request.Request` from options.

    Raises:
        BadInputError: A word is not understood.
    """
    from stac2cube.model.period import parse_period
    from stac2cube.stages.layers import area_words

    words = {name: options[name] for name in PLAIN_WORDS if name in options}
    words["bands"] = listed(options["bands"])
    words["resampling"] = resampling_words(options.get("resampling"))
    words["time"] = None if options["time"] is None else parse_period(options["time"]).text
    words["items"] = options.get("items")
    return words | area_words(options["aoi"], crs=options["aoi_crs"], edge=options["edge"])


@contextmanager
def talking(quiet: bool) -> Iterator[Console]:
    """Log to standard error: with colours on a terminal, plain lines in a file."""
    from rich.logging import RichHandler

    console = SafeConsole(file=raw(sys.stderr), quiet=quiet)
    handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False)
    handler.setFormatter(LineFormatter("%(message)s"))
    if not console.is_terminal:
        handler = logging.StreamHandler()
        handler.setFormatter(LineFormatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("stac2cube")
    if logger.handlers:  # a command within a command: each line once
        yield console
        return
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield console
    finally:
        logger.removeHandler(handler)


def listed(text: str | None) -> tuple[str, ...] | None:
    """Words with commas between them; None if nothing was said."""
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def resampling_words(text: str | None) -> str | dict[str, str] | None:
    """A method for all bands, or one per band from ``BAND=METHOD`` with commas.

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
    """Give a command some options, in their order."""
    for option in reversed(options):
        command = option(command)
    return command


# Where a command runs: the options that many share, and the place they mean. It changes no pixel.


def where_options(command: Command) -> Command:
    """Where the work runs; changes no pixel."""
    options = [
        click.option(
            "--place",
            type=click.Choice(["threads", "local", "slurm", "allocation", "gateway"]),
            default="threads",
            show_default=True,
            help=(
                "Where the work runs: threads of this process, worker processes on this machine (local), "
                "worker jobs on a SLURM cluster (slurm), the tasks of the SLURM job in which this command "
                "runs (allocation), or workers of a Dask Gateway (gateway)."
            ),
        ),
        click.option(
            "--workers",
            type=click.IntRange(1),
            help="Number of threads, processes, jobs or workers. Default: all that are available.",
        ),
        click.option(
            "--site",
            help=("Site, see `stac2cube sites`. It describes worker jobs and gateways, and limits the size of a cube."),
        ),
        click.option(
            "--cluster",
            help=(
                "Running Dask cluster for the place gateway: its name, or the address of its scheduler. "
                "Default: $DASK_CLUSTER, or else a new cluster."
            ),
        ),
        click.option(
            "--test", is_flag=True, help="For worker jobs: use the site's test partition and its short time limit."
        ),
        click.option("--quiet", "-q", is_flag=True, help="Print warnings only, no progress."),
        click.option("--progress-file", type=CUBE, hidden=True),
    ]
    return apply(options, command)


def place_of(
    name: str, workers: int | None, site: str | None = None, *, test: bool = False, cluster: str | None = None
) -> Place:
    """The place asked for.

    Raises:
        BadInputError: It needs a site, or to run in a job.
    """
    if name == "gateway":
        from stac2cube.executors.gateway import Gateway
        from stac2cube.executors.site import find_site

        gateway = find_site(site).gateway if site else Gateway()
        gateway = gateway if workers is None else replace(gateway, workers=workers)
        return gateway if cluster is None else replace(gateway, cluster=cluster)
    if cluster is not None:
        raise BadInputError("--cluster NAME goes with --place gateway")
    if name == "slurm":
        from stac2cube.executors.site import find_site, site_names

        if site is None:
            raise BadInputError(f"--place slurm: say --site NAME, one of {', '.join(site_names())}")
        place = find_site(site).place(test=test)
        return place if workers is None else replace(place, jobs=workers)
    if name == "allocation":
        from stac2cube.executors.site import find_site
        from stac2cube.executors.slurm import Allocation, Slurm

        known = find_site(site).slurm if site else Slurm()
        return Allocation.of_this_job(known.interface, dashboard=known.dashboard)
    count = workers or usable_cores()
    return Local(workers=count) if name == "local" else Threads(count)


def limits_of(site: str | None) -> Limits | None:
    """What a cube may grow to at a site; None where none is named, and the place itself knows or finds its own.

    Raises:
        BadInputError: The site is unknown.
    """
    if site is None:
        return None
    from stac2cube.executors.site import find_site

    return find_site(site).limits
