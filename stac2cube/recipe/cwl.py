"""Application packages in the Common Workflow Language (CWL v1.2), for workflow runners.

Two documents: ``run`` executes a recipe, ``item`` makes products of one STAC item. Each is a workflow with one step, as
required by OGC's best practice for application packages (20-089r1), and returns a folder with a STAC catalog.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stac2cube.errors import BadInputError
from stac2cube.version import __version__

CALRISSIAN = "https://calrissian-cwl.github.io/schema#"
"""Namespace of the extension by which Calrissian starts a Dask Gateway cluster around a step."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Package:
    """Settings that depend on the platform.

    Attributes:
        image: Container image for runners that use one; "" for none.
        workers: Maximum number of workers of the cluster that a platform with a Dask Gateway starts.
        cores: Cores of a worker, and minimum for the program itself.
        memory_gib: Memory of a worker, and minimum for the program itself.
    """

    image: str = ""
    workers: int = 4
    cores: int = 2
    memory_gib: int = 8

    def __post_init__(self) -> None:
        """Refuse invalid numbers.

        Raises:
            BadInputError: A number is below one.
        """
        if min(self.workers, self.cores, self.memory_gib) < 1:
            raise BadInputError("a package has at least one worker of one core with 1 GiB")

    def documents(self) -> dict[str, Json]:
        """The documents by name."""
        return {"run": self._document("run", RUN), "item": self._document("item", ITEM)}

    def _document(self, name: str, what: _Step) -> Json:
        tool = f"{name}-tool"
        return {
            "cwlVersion": "v1.2",
            "$namespaces": {"s": "https://schema.org/", "calrissian": CALRISSIAN},
            "s:softwareVersion": __version__,
            "$graph": [
                {
                    "class": "Workflow",
                    "id": f"stac2cube-{name}",
                    "label": what.label,
                    "doc": what.doc,
                    "inputs": {word: _for_workflow(given) for word, given in what.inputs.items()},
                    "outputs": {"catalog": {"type": "Directory", "outputSource": "make/catalog", **CATALOG}},
                    "steps": {
                        "make": {"run": f"#{tool}", "in": {word: word for word in what.inputs}, "out": ["catalog"]}
                    },
                },
                {
                    "class": "CommandLineTool",
                    "id": tool,
                    "requirements": {"NetworkAccess": {"networkAccess": True}, **what.requirements},
                    "hints": self._hints(),
                    "baseCommand": ["stac2cube", name],
                    "arguments": list(what.arguments),
                    "inputs": dict(what.inputs),
                    "outputs": {"catalog": {"type": "Directory", "outputBinding": {"glob": FOLDER}}},
                    "successCodes": [0],
                    # 1: refused. 2: some steps failed, permanently or until the catalog is repaired: check before
                    # a new run. 10: stopped in time.
                    "temporaryFailCodes": [10],
                    "permanentFailCodes": [1, 2],
                },
            ],
        }

    def _hints(self) -> Json:
        """Optional hints: runners ignore extensions here that they do not support."""
        return {
            **({"DockerRequirement": {"dockerPull": self.image}} if self.image else {}),
            "ResourceRequirement": {"coresMin": self.cores, "ramMin": 1024 * self.memory_gib},
            "calrissian:DaskGatewayRequirement": {
                "workerCores": self.cores,
                "workerCoresLimit": self.cores,
                "workerMemory": f"{self.memory_gib}G",
                "clusterMaxCores": self.workers * self.cores,
                "clusterMaxMemory": f"{self.workers * self.memory_gib}G",
            },
        }


FOLDER = "products"
"""Name of the output folder of a step."""

CATALOG = {"label": "STAC catalog", "doc": "A folder with catalog.json, the items it links, and their files."}


@dataclass(frozen=True)
class _Step:
    """One command as a step.

    Attributes:
        label: Short title.
        doc: Description.
        inputs: Inputs of the tool, with their positions on the command line.
        arguments: Fixed arguments.
        requirements: Requirements of the tool.
    """

    label: str
    doc: str
    inputs: Mapping[str, Json]
    arguments: tuple[Json, ...] = ()
    requirements: Mapping[str, Any] = field(default_factory=dict)


def _option(kind: str | Json, name: str, label: str, **more: Any) -> Json:
    return {"type": kind, "label": label, "inputBinding": {"prefix": f"--{name}"}, **more}


def _several(name: str, label: str, **more: Any) -> Json:
    """An option that may be repeated."""
    kind = {"type": "array", "items": "string", "inputBinding": {"prefix": f"--{name}"}}
    return {"type": kind, "label": label, **more}


def _for_workflow(given: Json) -> Json:
    """An input of a tool as an input of its workflow: without its position on the command line."""
    plain = {key: value for key, value in given.items() if key != "inputBinding"}
    if isinstance(plain["type"], dict):
        plain["type"] = {key: value for key, value in plain["type"].items() if key != "inputBinding"}
    return plain


PLACE = _option(
    {"type": "enum", "symbols": ["threads", "local", "gateway"]},
    "place",
    "Where blocks are made: threads, processes, or the workers of the Dask cluster that DASK_CLUSTER names",
    default="threads",
)

WORKERS = _option("int?", "workers", "Number of threads, processes or workers. Default: all")

_BESIDE = {"entry": "$(inputs.recipe)", "writable": True}
"""The recipe as a copy: relative paths in it are resolved in its real folder, not in that of a link."""

RUN = _Step(
    label="Analysis-ready cubes by a recipe",
    doc="Makes the cubes that a recipe says, and a STAC catalog with a Collection per cube and an Item per time step.",
    inputs={
        "recipe": {"type": "File", "label": "The recipe, YAML", "inputBinding": {"position": 1}},
        "files": {"type": "File[]", "label": "Files that the recipe names, put beside it: an area", "default": []},
        "folders": {"type": "Directory[]", "label": "The same for folders: a static catalog", "default": []},
        "place": PLACE,
        "workers": WORKERS,
    },
    arguments=({"prefix": "--package", "valueFrom": FOLDER}, {"valueFrom": "--quiet"}),
    requirements={"InitialWorkDirRequirement": {"listing": [_BESIDE, "$(inputs.files)", "$(inputs.folders)"]}},
)

ITEM = _Step(
    label="Indices and colour composites of one STAC item",
    doc="Makes GeoTIFFs (COG) of one Sentinel-2 item, or of another known mission's, and a STAC catalog of them.",
    inputs={
        "item": {"type": "string?", "label": "The item: its address", "inputBinding": {"position": 1}},
        "staged": {
            "type": "Directory?",
            "label": "Instead of an address: a staged folder with a catalog.json that holds the item and no other",
            "inputBinding": {"position": 1},
        },
        "index": _several("index", "Spectral indices, such as ndvi", default=["ndvi"]),
        "colour": _several("colour", "Colour composites, such as true", default=["true"]),
        "aoi": _option("string?", "aoi", "Only this area: west,south,east,north or GeoJSON"),
        "resolution": _option("float?", "resolution", "Pixel edge in units of the item's CRS"),
        "clear": _option("boolean", "clear", "No indices where clouds are", default=False),
        "mission": _option("string?", "mission", "Name of a mission. Default: found from the item's collection"),
        "place": PLACE,
        "workers": WORKERS,
    },
    arguments=({"position": 2, "valueFrom": FOLDER}, {"valueFrom": "--quiet"}),
    requirements={},
)
