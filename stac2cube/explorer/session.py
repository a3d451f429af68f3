"""The explore page: draft, search, areas, recipe."""

from __future__ import annotations

import base64
import binascii
import json
import re
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import shapely
import yaml
from shapely.geometry import shape

from stac2cube.build.plan import Step
from stac2cube.build.status import IN_FILES, added, pixels_of_layer, to_read
from stac2cube.errors import BadInputError
from stac2cube.explorer.server import LocalPage
from stac2cube.model.catalog import catalogs, public_catalog
from stac2cube.model.cube_spec import CubeSpec
from stac2cube.model.geometry import WGS84, Area, read_areas, utm_code
from stac2cube.model.grid import GridOptions
from stac2cube.model.mission import Mission, find_mission, mission_names
from stac2cube.model.period import parse_period
from stac2cube.model.query import Query
from stac2cube.model.scene import Granule, Scene
from stac2cube.search.choose_catalog import Found, catalog_choices
from stac2cube.search.cubes import find_scenes, grid_for, spec_for
from stac2cube.stages.layers import steps_for
from stac2cube.store.files import write_whole

# The choices on the page, and their recipe.

_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class DraftProduct:
    """A derived product that the page offers.

    Attributes:
        name: Name on the page.
        title: Title on the page.
        needs: Names of the bands it is made from.
        entries: Entries of the recipe.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    entries: Mapping[str, Mapping[str, Any]]


def products_of(mission: Mission) -> tuple[DraftProduct, ...]:
    """Products that can be offered for a mission."""
    by_common = {band.common_name: band.name for band in mission.bands.values()}
    offered = [
        DraftProduct("clear", f"Hide clouds by {name}", (name,), {"clouds": {"method": name.lower()}, "mask": {}})
        for name in ("SCL", "QA_PIXEL")
        if name in mission.bands
    ]
    if {"red", "nir"} <= by_common.keys():
        names = {"names": ["ndvi"]}
        offered.append(
            DraftProduct("ndvi", "NDVI of every date", (by_common["red"], by_common["nir"]), {"indices": names})
        )
    if not mission.static:
        monthly = {"monthly": {"period": "month", "method": "median"}}
        offered.append(DraftProduct("monthly", "Monthly medians", (), {"composite": monthly}))
    offered.append(DraftProduct("quicklook", "A picture of every date", (), {"quicklook": {}}))
    offered.append(DraftProduct("report", "A report", (), {"report": {}}))
    return tuple(offered)


@dataclass(frozen=True)
class Draft:
    """The choices on the page.

    Attributes:
        area: Number of the area in the session.
        mission: Name of the mission.
        catalog: Name, URL, path, or "auto".
        time: Period, as text.
        bands: Names of bands; () for the mission's default.
        resolution: Pixel edge, None for the finest band's.
        max_cloud_cover: Percent, None for any.
        products: Names of :func:`products_of`.
        name: Name of the recipe.
    """

    area: int
    mission: str
    catalog: str = "auto"
    time: str = ""
    bands: tuple[str, ...] = ()
    resolution: float | None = None
    max_cloud_cover: float | None = None
    products: tuple[str, ...] = ()
    name: str = "recipe"

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Draft:
        """Make a draft from a request of the page.

        Raises:
            BadInputError: A value is missing or invalid.
        """
        if said.get("area") is None:
            raise BadInputError("there is no area yet: draw one, open a file, or write its corners")
        if not str(said.get("time") or "").strip() and not find_mission(str(said["mission"])).static:
            raise BadInputError("there is no time yet: a year will do, for example 2024")
        try:
            return cls(
                area=int(said["area"]),
                mission=str(said["mission"]),
                catalog=str(said.get("catalog") or "auto"),
                time=str(said.get("time") or "").strip(),
                bands=tuple(map(str, said.get("bands") or ())),
                resolution=_number(said.get("resolution")),
                max_cloud_cover=_number(said.get("max_cloud_cover")),
                products=tuple(map(str, said.get("products") or ())),
                name=str(said.get("name") or "recipe"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(f"the page sent something that is not understood: {error}") from error

    def chosen_bands(self) -> tuple[str, ...]:
        """Names of the chosen bands and of those that products need; () for the mission's default.

        Raises:
            BadInputError: An unknown mission or band.
        """
        mission = find_mission(self.mission)
        names = [band.name for band in mission.choose_bands(self.bands or None)]
        needed = [need for one in self._offered() for need in one.needs if need not in names]
        whole = tuple(dict.fromkeys([*names, *needed]))
        return () if set(whole) == set(mission.default_bands) else whole

    def query(self, place: NamedArea) -> Query:
        """The query of the draft, without the cloud limit: the page applies it, and shows the scenes left out.

        Args:
            place: The area.

        Raises:
            BadInputError: A value is invalid.
        """
        time = parse_period(self.time).text if self.time else ""
        return Query(self.mission, place.area, time, self.chosen_bands() or None, self.catalog)

    def recipe(self, aoi: str | Mapping[str, Any]) -> str:
        """The recipe of the draft, as YAML text.

        Args:
            aoi: Value of the recipe's ``aoi``.

        Raises:
            BadInputError: The name is not valid for a file.
        """
        if not _NAME.fullmatch(self.name):
            raise BadInputError(f"a recipe's name is letters, digits, - and _, not {self.name!r}")
        layers = {
            "mission": self.mission,
            "aoi": aoi,
            "time": parse_period(self.time).text if self.time else None,
            "bands": list(self.chosen_bands()) or None,
            "resolution": self.resolution,
            "max_cloud_cover": self.max_cloud_cover,
            "catalog": None if self.catalog == "auto" else public_catalog(self.catalog),
        }
        said = {word: value for word, value in layers.items() if value is not None}
        content: dict[str, Mapping[str, Any]] = {"layers": said}
        for product in self._offered():
            content |= product.entries
        parts = [yaml.safe_dump({"cubes": self.name})]
        parts += [_written(name, words) for name, words in content.items()]
        return f"# What it does: stac2cube config show {self.name}.yaml --commands\n{''.join(parts)}"

    def _offered(self) -> tuple[DraftProduct, ...]:
        offered = products_of(find_mission(self.mission))
        return tuple(product for product in offered if product.name in self.products)


def _number(value: Any) -> float | None:
    if value in (None, ""):
        return None
    number = float(value)
    return int(number) if number.is_integer() else number


def _written(name: str, words: Mapping[str, Any]) -> str:
    """An entry as YAML text: without a value if it has no options, short lists on one line."""
    if not words:
        return f"{name}:\n"
    lines = [f"{name}:"]
    for word, value in words.items():
        flow = isinstance(value, (list, dict))
        text = yaml.safe_dump(value, default_flow_style=flow, width=10**6, sort_keys=False, allow_unicode=True)
        lines.append(f"  {word}: {text.removesuffix('...' + chr(10)).strip()}")
    return "\n".join(lines) + "\n"


# Areas that were drawn, written or opened on the page.

_BESIDE = {".dbf", ".shx", ".prj", ".cpg", ".qix", ".sbn", ".sbx", ".xml"}
"""Suffixes of the additional files of a Shapefile."""


@dataclass(frozen=True)
class NamedArea:
    """An area, and its form in a recipe.

    Attributes:
        area: The area.
        files: Files to write beside the recipe, by name; the first is that of the area. A file without a name is named
            after the recipe.
        text: Text for the recipe instead of a file, "" with files.
    """

    area: Area
    files: Mapping[str, bytes] = field(hash=False, repr=False)
    text: str = ""


def read_place(said: Mapping[str, Any]) -> NamedArea:
    """Read an area from a request of the page: a drawn ``ring``, a written ``text``, or opened ``files``.

    Raises:
        BadInputError: No area, or an invalid one.
    """
    if "files" in said:
        return _opened(said["files"])
    if "ring" in said:
        return _drawn(said["ring"])
    text = str(said.get("text") or "").strip()
    if not text:
        raise BadInputError("there is no area: draw one, open a file, or write its corners")
    if not re.fullmatch(r"[-+\d.,;\s\[\]()eE]+", text) and not text.startswith("{"):
        # Do not accept a path, which would be read from this machine's disk: the page has a button to open files.
        raise BadInputError("write a box as west, south, east, north, a point as lat, lon, or GeoJSON")
    edge = said.get("edge")
    (area,) = read_areas(text, edge=float(edge) if edge else None)
    if edge:
        return NamedArea(area, {"": _geojson(area)})
    return NamedArea(area, {"": text.encode()} if text.startswith("{") else {}, text)


def area_for_page(place: NamedArea) -> dict[str, Any]:
    """An area for the page: name, outline, bounds, size, UTM zone."""
    import shapely
    from pyproj import Geod
    from shapely.geometry.polygon import orient

    area = place.area
    ellipsoid = Geod(ellps="WGS84")
    parts = [orient(part) for part in shapely.get_parts(area.geometry)]
    middle = area.geometry.representative_point()
    # The zone is optional on the page: there is none at the poles.
    zone = utm_code(area.longitude, middle.y) if -80 <= middle.y <= 84 else ""
    return {
        "name": area.name,
        "geometry": json.loads(shapely.to_geojson(area.geometry)),
        "bounds": list(area.bounds),
        "km2": sum(abs(ellipsoid.geometry_area_perimeter(part)[0]) for part in parts) / 1e6,
        "crs": zone,
    }


def _drawn(ring: Any) -> NamedArea:
    """An area from a ring of longitudes and latitudes; longitudes may continue beyond 180 degrees."""
    import shapely

    if not isinstance(ring, Sequence) or len(ring) < 3:
        raise BadInputError("an area has three corners or more")
    try:
        corners = [(float(x), float(y)) for x, y in ring]
    except (TypeError, ValueError) as error:
        raise BadInputError(f"corners are longitudes and latitudes: {error}") from error
    turn = 360 if min(x for x, _ in corners) < -180 else 0
    closed = [(x + turn, y) for x, y in [*corners, corners[0]]]
    if not shapely.Polygon(closed).is_valid:
        raise BadInputError("its edges cross each other: draw it again")
    (area,) = read_areas({"type": "Polygon", "coordinates": [closed]})
    return NamedArea(area, {"": _geojson(area)})


def _opened(files: Any) -> NamedArea:
    """An area from files that were opened on the page, read from a temporary folder."""
    if not isinstance(files, Sequence) or not files:
        raise BadInputError("no file was opened")
    content: dict[str, bytes] = {}
    for file in files:
        try:
            name, data = Path(str(file["name"])).name, base64.b64decode(str(file["data"]), validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            raise BadInputError(f"the page sent something that is no file: {error}") from error
        content[re.sub(r"[^\w.-]+", "-", name)[-100:].lstrip(".-") or "area"] = data
    ordered = sorted(content, key=lambda name: Path(name).suffix.lower() in _BESIDE)
    with TemporaryDirectory(prefix="stac2cube-") as folder:
        for name, data in content.items():
            (Path(folder) / name).write_bytes(data)
        try:
            (area,) = read_areas(Path(folder) / ordered[0])
        except BadInputError as error:
            raise BadInputError(str(error).replace(f"{folder}/", "")) from error
    return NamedArea(area, {name: content[name] for name in ordered})


def _geojson(area: Area) -> bytes:
    import shapely

    shape = area.native if area.native_crs == WGS84 else area.geometry
    return (str(shapely.to_geojson(shape, indent=1)) + "\n").encode()


# Search results for a draft: scenes by day, and the size of their cube.

_FINE = 0.002
"""Tolerance of simplified outlines on the map, degrees."""


def found_for_page(query: Query, resolution: float | None, found: Found) -> dict[str, Any]:
    """Search results as JSON for the page.

    Args:
        query: The query of the draft.
        resolution: Pixel edge, None for the finest band's.
        found: The scenes over its area.

    Raises:
        BadInputError: An invalid grid.
    """
    spec = spec_for(query, grid_for(query, GridOptions(resolution), found.scenes))
    steps = tuple(steps_for(found.scenes, spec.grid, found.choice.why, [layer.name for layer in spec.layers]))
    scenes = [_scene(scene) | _size(query, spec, step) for scene, step in zip(found.scenes, steps, strict=True)]
    rows, columns = spec.grid.shape
    intervals = query.intervals if query.time else ()
    return {
        "catalog": {"name": found.choice.catalog.name, "why": found.choice.why},
        "times": [[f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"] for first, last in intervals],
        "grid": {
            "crs": spec.grid.crs,
            "resolution": spec.grid.resolution,
            "rows": rows,
            "columns": columns,
            "layers": [layer.name for layer in spec.layers],
        },
        "scenes": sorted(scenes, key=lambda scene: str(scene["time"])),
    }


def _size(query: Query, spec: CubeSpec, step: Step) -> dict[str, float]:
    load, pixels = added(spec, [step]), pixels_of_layer(spec, step)
    read = to_read(query.chosen, spec, pixels) * IN_FILES
    return {"blocks": len(step.tiles), "files": load.files, "write": load.size, "read": read}


def _scene(scene: Scene) -> dict[str, Any]:
    return {
        "key": str(scene.key),
        "time": f"{scene.time:%Y-%m-%dT%H:%M:%SZ}",
        "day": f"{scene.key.day:%Y-%m-%d}",
        "platform": scene.key.platform,
        "orbit": scene.key.orbit,
        "cloud": scene.cloud_cover,
        "problem": scene.problem,
        "parts": [{"tile": granule.tile or granule.id, "geometry": _outline(granule)} for granule in scene.granules],
    }


def _outline(granule: Granule) -> dict[str, Any]:
    simple = shapely.set_precision(shape(granule.footprint).simplify(_FINE), 1e-4, mode="pointwise")
    outline: dict[str, Any] = json.loads(shapely.to_geojson(simple))
    return outline


# The running page: areas and search results so far.


class Explorer(LocalPage):
    """A local web page to choose an area and dates; made by :func:`explore`.

    A notebook displays it. It ends with :meth:`stop`, at the end of its ``with`` block, or with Python.

    Args:
        folder: Folder for recipes.
        catalog: Catalog that the page searches first.
        mission: Mission that the page searches first.
        port: Port of this machine; any free port if 0.
        behind: Address at which a proxy shows the page.
        tiles: Address of map tiles.

    Raises:
        BadInputError: The folder, mission, or an address is not valid, or the port is in use.
    """

    def __init__(self, folder: Path, catalog: str, mission: str, port: int, behind: str, tiles: str) -> None:
        if not folder.is_dir():
            raise BadInputError(f"{folder} is no folder: make it first (mkdir), recipes are written into it")
        if tiles and not all(part in tiles for part in ("{z}", "{x}", "{y}")):
            raise BadInputError(f"the address of tiles has {{z}}, {{x}} and {{y}} in it, unlike {tiles!r}")
        find_mission(mission)
        self.folder = folder.resolve()
        self.recipe: Path | None = None
        """The recipe written last."""
        self._first = {"catalog": catalog, "mission": mission, "tiles": tiles}
        self._places: list[NamedArea] = []
        self._found: dict[Query, Found] = {}
        self._writing = threading.Lock()
        answers: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
            "choices": self._choices,
            "area": self._area,
            "preview": self._preview,
            "search": self._search,
            "write": self._write,
        }
        super().__init__(port, answers, behind, tiles)

    def __repr__(self) -> str:
        return f"<stac2cube explore at {self.url}>"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{self.url}" title="stac2cube explore" style="width: 100%; height: 820px; border: 0" '
            'allow="clipboard-write"></iframe>'
        )

    def _choices(self, _said: Mapping[str, Any]) -> dict[str, Any]:
        known = {catalog.name: catalog.title for catalog in catalogs().values()}
        if self._first["catalog"] not in ("auto", *known):
            known[self._first["catalog"]] = Path(urlsplit(self._first["catalog"]).path).name or self._first["catalog"]
        missions = []
        for mission in map(find_mission, mission_names()):
            bands = [[band.name, band.common_name, band.gsd] for band in mission.bands.values()]
            products = [[product.name, product.title] for product in products_of(mission)]
            missions.append(
                {
                    "name": mission.name,
                    "title": mission.title,
                    "static": mission.static,
                    "catalogs": list(mission.catalogs),
                    "bands": bands,
                    "default_bands": list(mission.default_bands),
                    "products": products,
                }
            )
        return {"folder": str(self.folder), "first": self._first, "catalogs": known, "missions": missions}

    def _area(self, said: Mapping[str, Any]) -> dict[str, Any]:
        place = read_place(said)
        self._places.append(place)
        return {"id": len(self._places) - 1, **area_for_page(place)}

    def _preview(self, said: Mapping[str, Any]) -> dict[str, Any]:
        draft = Draft.of(said)
        place = self._place(draft)
        catalog_choices(draft.query(place))
        return {"recipe": draft.recipe(_aoi(draft, place)), "command": self._command(draft)}

    def _search(self, said: Mapping[str, Any]) -> dict[str, Any]:
        draft = Draft.of(said)
        place = self._place(draft)
        query = draft.query(place)
        whole = replace(query, bands=tuple(query.page.bands))  # one search for any choice of bands
        if whole not in self._found:
            self._found[whole] = find_scenes(whole, catalog_choices(whole))
        return found_for_page(query, draft.resolution, self._found[whole])

    def _write(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Write the recipe and its area, and nothing else, into the folder."""
        draft = Draft.of(said)
        place = self._place(draft)
        answer = self._preview(said)
        path = self.folder / f"{draft.name}.yaml"
        files = {
            name: content for name, content in _files(draft, place).items() if not _same(self.folder, name, content)
        }
        with self._writing:
            there = [name for name in (path.name, *files) if (self.folder / name).exists()]
            if there and not said.get("replace"):
                return {"exists": there}
            for name, content in files.items():
                write_whole(self.folder / name, content)
            write_whole(path, str(answer["recipe"]).encode())
        self.recipe = path
        return {**answer, "path": str(path)}

    def _place(self, draft: Draft) -> NamedArea:
        if not 0 <= draft.area < len(self._places):
            raise BadInputError("this area was chosen on a page that has ended: choose it again")
        return self._places[draft.area]

    def _command(self, draft: Draft) -> str:
        return f"stac2cube run {shlex.quote(str(self.folder / draft.name) + '.yaml')}"


def explore(
    folder: str | Path = ".",
    *,
    catalog: str = "auto",
    mission: str = "sentinel-2-l2a",
    port: int = 0,
    behind: str = "",
    tiles: str = "",
) -> Explorer:
    """Open a local page with a map and a calendar, on which an area and dates are chosen and become a recipe.

    It is served on this machine's loopback at an address with a secret, and loads nothing from other servers.

    Args:
        folder: Folder for recipes; nothing is written anywhere else.
        catalog: Name, URL or path of the catalog that the page searches first; chosen automatically if "auto".
        mission: Mission that the page searches first.
        port: Port of this machine; any free port if 0. Choose one for a tunnel: ``ssh -L 8765:127.0.0.1:8765 HOST``.
        behind: Address at which a proxy shows the page, such as jupyter-server-proxy:
            ``"https://hub.example.org/user/me/proxy/8765"``.
        tiles: Address of map tiles for a background map, which needs a network:
            ``"https://tile.example.org/{z}/{x}/{y}.png"``.

    Returns:
        The page: notebooks display it, and it has ``url``, ``recipe`` (the file written last) and ``stop()``.

    Raises:
        BadInputError: The folder, mission, or an address is not valid, or the port is in use.
    """
    return Explorer(Path(folder).expanduser(), _absolute(catalog), mission, port, behind, tiles)


def _absolute(catalog: str) -> str:
    """Make a path absolute, as recipes may be moved; names and URLs are unchanged."""
    path = Path(catalog).expanduser()
    return str(path.resolve()) if "://" not in catalog and catalog not in catalogs() and path.exists() else catalog


def _files(draft: Draft, place: NamedArea) -> dict[str, bytes]:
    """Files of an area by their final name: drawn areas are named after the recipe."""
    return {name or f"{draft.name}.geojson": data for name, data in place.files.items()}


def _aoi(draft: Draft, place: NamedArea) -> str:
    return next(iter(_files(draft, place)), place.text)


def _same(folder: Path, name: str, content: bytes) -> bool:
    path = folder / name
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
