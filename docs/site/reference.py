"""Reference pages of the documentation, written from the code when the site is built.

``docs/site/hooks.py`` puts them into the site; ``tests/test_docs_reference.py`` checks that nothing public is left out.
This module knows nothing of mkdocs.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import click

import stac2cube
from stac2cube.build.plan import Summary
from stac2cube.cli import cli
from stac2cube.cli.recipes import schema_text
from stac2cube.errors import BadInputError
from stac2cube.model.catalog import catalogs
from stac2cube.model.fields import Options, options_in
from stac2cube.views.indices import describe_index, registry
from stac2cube.views.render import combinations

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

ROOMS = {
    "stages": "Cubes from catalogs and from cubes",
    "clouds": "Clouds",
    "coregister": "Co-registration",
    "superres": "Super-resolution",
    "store": "Open a cube",
    "build": "Status of a cube",
    "archives": "Archives of many tiles",
    "maintain": "Keep a cube",
    "views": "Views of an opened cube",
    "search": "Conditions of a search",
    "executors": "Places: where the work runs",
    "index": "Scene indexes",
    "reading": "Read without a cube",
    "datasets": "Training data",
    "explorer": "The explore page",
}
"""Headings of the Python reference, by the room in which a function lives."""

VARIABLES = {
    "STAC2CUBE_CONFIG_DIR": "Folder of your own catalogs, missions, sites, masks, colours and indices. "
    "Default: `~/.config/stac2cube`.",
    "STAC2CUBE_DATA_DIR": "Folder of your named scene indexes. Default: `~/.local/share/stac2cube`.",
    "STAC2CUBE_ENGINE": "`rasterio` reads every file with GDAL. Default: the fast reader.",
    "STAC2CUBE_READ_SECONDS": "Time limit for reading one remote file, retries included, in seconds. Default: 110.",
    "STAC2CUBE_CHUNK_BYTES": "Memory for decoded chunks of Zarr products in one process, in bytes. Default: 1 GiB.",
    "STAC2CUBE_WEIGHTS": "Folder of network weights, one subfolder per backend. Default: the user's cache folder.",
    "CDSE_ACCESS_TOKEN": "Token of the Copernicus Data Space, used when you have no S3 keys.",
    "CDSE_TOKEN_FILE": "File that holds such a token. It is read again for each request, because tokens expire.",
    "CDSE_USERNAME": "User name of the Copernicus Data Space, for `stac2cube download`.",
    "CDSE_PASSWORD": "Password that goes with `CDSE_USERNAME`.",
    "CDSE_S3_ACCESS_KEY": "S3 access key of the Copernicus Data Space.",
    "CDSE_S3_SECRET_KEY": "S3 secret key that goes with `CDSE_S3_ACCESS_KEY`.",
    "DASK_CLUSTER": "Running Dask cluster for the place `gateway`: its name, or the address of its scheduler.",
}
"""What each environment variable of ours does. Variables of AWS, GDAL and SLURM are on the pages that need them."""

EXAMPLES = {
    ("unlock",): "stac2cube unlock alps/layers.zarr --force",
    ("index", "filter"): "stac2cube index filter lech summer --time '2018/2024 06-01/08-31' --max-cloud-cover 20",
    ("index", "export"): "stac2cube index export lech lech.parquet",
    ("index", "info"): "stac2cube index info lech",
    ("index", "list"): "stac2cube index list",
    ("claim",): "stac2cube claim alps.yaml --claim 4713",
    ("share",): "stac2cube share alps.yaml --claim 4713 --number 0 --of 20",
    ("seal",): "stac2cube seal alps.yaml --claim 4713",
    ("missions",): "stac2cube missions sentinel-2-l2a",
    ("catalogs",): "stac2cube catalogs earth-search",
    ("weights", "list"): "stac2cube weights list",
    ("weights", "fetch"): "stac2cube weights fetch sen2sr",
    ("weights", "verify"): "stac2cube weights verify native",
}
"""Examples of commands that no page shows."""

COLUMNS = {
    "id": "Scene key, for example `sentinel-2a_R108_20230714`.",
    "datetime": "Acquisition time, UTC.",
    "geometry": "Footprint in WGS84, as WKB.",
    "bbox": "Bounds of the footprint in degrees.",
    "type": "`Feature`: each row is a STAC Item.",
    "stac_version": "Version of STAC.",
    "stac_extensions": "Empty.",
    "links": "Empty.",
    "assets": "The cube, as a relative link.",
    "stac2cube:status": "`sealed`, `failed`, or `empty` (no valid pixel over the area, or excluded by the options).",
    "stac2cube:slot": "Index of the step along the stored time axis. Null unless sealed.",
    "stac2cube:commit": "Number of the commit that wrote the row.",
    "stac2cube:items": "Sorted ids of the source items.",
    "stac2cube:parts": "JSON: tile and datastrip to processing baseline. It decides whether a step is superseded.",
    "stac2cube:reason": "Why the step failed, or a remark on a sealed step.",
    "stac2cube:properties": "JSON: platform, catalog, baselines, counts added, shifts, software, job.",
    "stac2cube:sources": "The source items as STAC JSON, without signatures.",
    "stac2cube:receipts": "JSON: file, size, checksum and valid pixels of every block.",
}
"""What each column of the ledger holds. Names and types come from ``tests/house/frozen.json``."""


def pages() -> dict[str, str]:
    """All reference pages: path in the site, and Markdown."""
    return {
        "reference/commands.md": commands(),
        "reference/python.md": python(),
        "reference/recipe.md": recipe(),
        "reference/catalogs.md": known_catalogs(),
        "reference/indices.md": spectral_indices(),
        "reference/colours.md": colours(),
        "reference/exit-codes.md": exit_codes(),
        "reference/environment.md": environment(),
        "reference/ledger.md": ledger(),
    }


# Commands


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, hidden ones left out, with the words that call it."""
    if isinstance(command, click.Group):
        if path:
            yield path, command
        for name in command.commands:
            child = command.commands[name]
            if not child.hidden:
                yield from leaves(child, (*path, name))
    else:
        yield path, command


def commands() -> str:
    """Every command with its arguments, options and an example from the pages."""
    lines = ["# Commands", ""]
    lines += ["`stac2cube COMMAND --help` prints the same text. [Exit codes](exit-codes.md) are the same for all.", ""]
    for heading, section in cli.sections.items():  # type: ignore[attr-defined]
        lines += [f"## {heading}", ""]
        for top in section:
            for path, command in leaves(top, (str(top.name),)):
                lines += _command(path, command)
    return "\n".join(lines)


def _command(path: tuple[str, ...], command: click.Command) -> list[str]:
    name = " ".join(["stac2cube", *path])
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"### {name}", "", "```text", f"{name} {usage}", "```", ""]
    lines += [_plain(inspect.cleandoc(command.help or "")), ""]
    if isinstance(command, click.Group):
        return lines
    lines += [*example(path), ""]
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if options:
        lines += ["| option | value | default | what it does |", "| --- | --- | --- | --- |"]
        lines += [_option(option, context) for option in options]
        lines += [""]
    return lines


def example(path: tuple[str, ...]) -> list[str]:
    """An example of a command: the first on a page, with the page's name, else of :data:`EXAMPLES`.

    Raises:
        KeyError: There is none.
    """
    if path in _examples():
        page, words = _examples()[path]
        said = f"Example, from [{page.stem}](../{page.relative_to(DOCS)}):"
    else:
        said, words = "Example:", EXAMPLES[path]
    return [said, "", "```console", f"$ {words}", "```"]


def _option(option: click.Option, context: click.Context) -> str:
    flags = ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else option.make_metavar(context).replace("|", " \\| ")
    facts = option.get_help_extra(context)
    default = str(facts.get("default", "")) if not option.is_flag else ""
    bounds = f" ({facts['range']})" if "range" in facts else ""
    needed = "required" if option.required else default
    return f"| {flags} | {value}{bounds} | {needed} | {_cell(option.help or '')} |"


@cache
def _examples() -> dict[tuple[str, ...], tuple[Path, str]]:
    """The first example of each command on the pages; tests check that each is understood."""
    found: dict[tuple[str, ...], tuple[Path, str]] = {}
    for page in [*sorted(DOCS.glob("tutorials/*.md")), *sorted(DOCS.glob("*.md"))]:
        if page.name == "README.md":
            continue
        for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
            for line in re.sub(r" *\\\n *", " ", block).splitlines():
                if line.startswith("$ stac2cube ") and "..." not in line:
                    words = shlex.split(line[2:], comments=True)
                    found.setdefault(_path_of(words[1:]), (page, shlex.join(words)))
    return found


def _path_of(words: list[str]) -> tuple[str, ...]:
    command: click.Command = cli
    path: list[str] = []
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        path.append(words[0])
        command = command.commands[words.pop(0)]
    if path == ["superres"]:
        path.append("make")  # what `superres LAYERS OUT` means
    return tuple(path)


# Python


def python() -> str:
    """Directives for mkdocstrings: every public name, under a heading for its room."""
    lines = ["# Python", "", "Every name here is imported from `stac2cube`, for example `stac2cube.open_cube`.", ""]
    for room, heading in ROOMS.items():
        names = sorted(name for name in public() if _room(name) == room)
        if names:
            lines += [f"## {heading}", ""]
            lines += [line for name in names for line in _documented(name)]
    return "\n".join(lines)


def _documented(name: str) -> list[str]:
    """A public name; the options of a dataclass in a table, because mkdocstrings does not know what is said of them."""
    # Datasets of PyTorch declare no options, and the reference is written without PyTorch too.
    value = None if _homes()[name] == "datasets.torch" else getattr(stac2cube, name)
    if not (isinstance(value, type) and issubclass(value, Options)):
        return [f"::: stac2cube.{name}", ""]
    lines = [f"::: stac2cube.{name}", "    options: {show_signature: false}", ""]
    lines += ["| option | default | what it means | what it should be |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{one.name}` | `{one.default!r}` | {_cell(one.help)} | {_cell(one.wanted)} |"
        for one in options_in(value).values()
    ]
    return [*lines, ""]


def public() -> list[str]:
    """Public functions and classes."""
    return [name for name in stac2cube.__all__ if not name.startswith("__")]


def _room(name: str) -> str:
    return _homes()[name].split(".")[0]


@cache
def _homes() -> dict[str, str]:
    """The module of each public name, as the package's stub says."""
    stub = ast.parse(Path(stac2cube.__file__).with_suffix(".pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


# Tables


def recipe() -> str:
    """Entries of a recipe and their words."""
    content = json.loads(schema_text())
    lines = [
        "# Recipe",
        "",
        "Each entry is a command, and each word one of its options. See [recipes](../recipes.md).",
        "",
    ]
    for entry, rule in content["properties"].items():
        lines += [f"## {entry}", "", _plain(rule.get("description", "")), ""]
        words = next((form["properties"] for form in rule.get("anyOf", []) if "properties" in form), {})
        if words:
            lines += ["| word | default | what it says |", "| --- | --- | --- |"]
            lines += [
                f"| `{word}` | {_value(facts.get('default'))} | {_cell(facts.get('description', ''))} |"
                for word, facts in words.items()
            ]
            lines += [""]
    return "\n".join(lines)


def known_catalogs() -> str:
    """Catalogs that are shipped."""
    lines = ["# Catalogs", "", "[Missions](../missions.md) says which catalog carries which mission.", ""]
    lines += ["| name | title | address | note |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{name}` | {_cell(one.title)} | `{one.url}` | {_cell(one.note)} |" for name, one in catalogs().items()
    ]
    return "\n".join([*lines, ""])


def spectral_indices() -> str:
    """All spectral indices of the registry."""
    lines = ["# Spectral indices", "", "Names and formulas of Awesome Spectral Indices (package spyndex).", ""]
    lines += ["| name | what it is | formula |", "| --- | --- | --- |"]
    for name in sorted(registry(), key=str.lower):
        try:
            facts = describe_index(name)
        except BadInputError:  # a name with several meanings, which the program refuses
            continue
        lines += [f"| `{name}` | {_cell(facts['what'])} | `{_cell(facts['formula'])}` |"]
    return "\n".join([*lines, ""])


def colours() -> str:
    """Colour composites."""
    lines = ["# Colour composites", "", "| name | also | red, green, blue | shows |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{name}` | {_listed(one.aliases, '`')} | {_listed(one.bands)} | {_cell(one.about)} |"
        for name, one in combinations().items()
    ]
    return "\n".join([*lines, ""])


def exit_codes() -> str:
    """What a command's exit code means; the numbers are those of the program."""
    done, failed = Summary().exit_code, Summary(failed={"key": "reason"}).exit_code
    stopped = Summary(stopped=True).exit_code
    return "\n".join(
        [
            "# Exit codes",
            "",
            "| code | meaning | what to do |",
            "| --- | --- | --- |",
            f"| {done} | Done. `verify`: no damage. | Nothing. |",
            "| 1 | The command was refused, for example for a wrong option. Nothing was written. | Read the error. |",
            f"| {failed} | Some steps failed, the others are stored. `verify`: damage found. | Run it again. |",
            f"| {stopped} | Stopped in time: by Ctrl-C, by SIGTERM, or before the job's time limit. Finished steps are "
            "stored. | Run it again. |",
            "",
        ]
    )


def environment() -> str:
    """Environment variables."""
    lines = ["# Environment variables", "", "| variable | effect |", "| --- | --- |"]
    lines += [f"| `{name}` | {_cell(words)} |" for name, words in VARIABLES.items()]
    lines += ["", "AWS variables: [S3](../missions.md#s3). GDAL variables: [security](../security.md#keys).", ""]
    return "\n".join(lines)


def ledger() -> str:
    """Files of a cube, columns of the ledger, arrays of every product."""
    content = json.loads((ROOT / "tests" / "house" / "frozen.json").read_text())["products"]
    lines = ["# Files, ledger and arrays of a cube", "", *(_layout()), "## Columns of the ledger", ""]
    lines += ["The ledger is STAC GeoParquet in `.stac2cube/ledger/`, one row per time step.", ""]
    lines += ["| column | type | holds |", "| --- | --- | --- |"]
    columns = content["layers"]["ledger"]
    lines += [f"| `{name}` | `{_cell(columns[name])}` | {_cell(words)} |" for name, words in COLUMNS.items()]
    lines += ["", "## Arrays of every product", ""]
    for product, facts in content.items():
        lines += [f"### {product}", "", "| array | type | dimensions | fill value |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{name}` | {_value(one['dtype'])} | {_listed(one['dimensions'].split())} | {_value(one['fill'])} |"
            for name, one in facts["arrays"].items()
        ]
        lines += [""]
    return "\n".join(lines)


def _layout() -> list[str]:
    rows = {
        "zarr.json": "Root: consolidated metadata. It names the committed steps and the parts of the ledger.",
        "LAYER/zarr.json": "Metadata of one layer `(time, y, x)`, with CF scale, offset and fill value.",
        "LAYER/c/SLOT/ROW/COLUMN": "One shard: one layer, one step, up to 2048 x 2048 pixels in chunks of 256 x 256.",
        "time/, x/, y/, scene/, spatial_ref/": "Coordinates and grid mapping.",
        ".stac2cube/ledger/NUMBER.parquet": "The ledger, in parts.",
        ".stac2cube/history/": "The root after each commit.",
        ".stac2cube/lock/": "Present while a process writes the cube.",
        "../.NAME.generations/": "Earlier generations, kept for seven days.",
        "../NAME.years/": "Sealed years, see [keeping a cube](../keeping-a-cube.md#seal-year).",
        "../NAME.overviews/": "Overviews, see [publishing](../publishing.md#overviews).",
    }
    table = [f"| `{path}` | {words} |" for path, words in rows.items()]
    return ["## Files", "", "| path, from the cube's folder | holds |", "| --- | --- |", *table, ""]


def _value(value: object) -> str:
    return "" if value is None else f"`{_cell(value if isinstance(value, str) else json.dumps(value))}`"


def _listed(words: Iterable[str], quote: str = "") -> str:
    return ", ".join(f"{quote}{word}{quote}" for word in words)


def _cell(text: object) -> str:
    return _plain(" ".join(str(text).split())).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text of a docstring as Markdown: what looks like HTML stays text."""
    return re.sub(r"(?<!`)<(\w+)>(?!`)", r"&lt;\1&gt;", text.replace("``", "`"))
