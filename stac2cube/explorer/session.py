"""The page as it runs: what was drawn and found so far, and how to stop it."""

from __future__ import annotations

import secrets
import shlex
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from stac2cube.catalog import catalogs
from stac2cube.cube.files import write_whole
from stac2cube.errors import BadInputError
from stac2cube.explorer.draft import Draft, products_of
from stac2cube.explorer.look import Asked, asked, request_of, search, shown
from stac2cube.explorer.places import Place, described, read_place
from stac2cube.explorer.server import Server
from stac2cube.mission import find_mission, mission_names
from stac2cube.stages.choice import Found
from stac2cube.stages.request import understand


class Explorer:
    """A page on which an area and dates are chosen by looking; made by :func:`explore`.

    In a notebook it shows itself. It ends with :meth:`stop`, with its ``with`` block, or with Python.

    Args:
        folder: Where recipes are written.
        catalog: What is searched unless the page says otherwise.
        mission: What is looked for unless the page says otherwise.
        port: Of this machine; any that is free if 0.
        behind: Address at which a proxy shows the page.
        tiles: Address of map tiles.

    Raises:
        BadInputError: The folder, mission, or an address will not do, or the port is taken.
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
        self._places: list[Place] = []
        self._found: dict[Asked, Found] = {}
        self._writing = threading.Lock()
        secret = secrets.token_urlsafe(24)
        answers: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
            "choices": self._choices,
            "area": self._area,
            "preview": self._preview,
            "search": self._search,
            "write": self._write,
        }
        self._server = Server(port, secret, answers, behind, tiles)
        self._thread = threading.Thread(target=self._server.serve_forever, name="stac2cube explore", daemon=True)
        self._thread.start()
        base = behind.rstrip("/") if behind else f"http://127.0.0.1:{self.port}"
        self.url = f"{base}/{secret}/"
        """Where the page is; who knows it may use it."""

    @property
    def port(self) -> int:
        """Of this machine."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """End the page."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

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
        return {"id": len(self._places) - 1, **described(place)}

    def _preview(self, said: Mapping[str, Any]) -> dict[str, Any]:
        draft = Draft.of(said)
        place = self._place(draft)
        understand(request_of(draft, place))
        return {"recipe": draft.recipe(_aoi(draft, place)), "command": self._command(draft)}

    def _search(self, said: Mapping[str, Any]) -> dict[str, Any]:
        draft = Draft.of(said)
        place = self._place(draft)
        question = asked(draft)
        if question not in self._found:
            self._found[question] = search(draft, place)
        return shown(draft, place, self._found[question])

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

    def _place(self, draft: Draft) -> Place:
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

    It is served on this machine's loopback under an address that holds a secret, and loads nothing from elsewhere.

    Args:
        folder: Where recipes are written; nothing is written anywhere else.
        catalog: Name, URL or path of what is searched unless the page says otherwise; chosen by itself if "auto".
        mission: What is looked for unless the page says otherwise.
        port: Of this machine; any that is free if 0. Say one for a tunnel: ``ssh -L 8765:127.0.0.1:8765 HOST``.
        behind: Address at which a proxy shows the page, as jupyter-server-proxy does:
            ``"https://hub.example.org/user/me/proxy/8765"``.
        tiles: Address of map tiles for those who have a network and want a background:
            ``"https://tile.example.org/{z}/{x}/{y}.png"``.

    Returns:
        The page: it shows itself in a notebook, and has ``url``, ``recipe`` (the file written last) and ``stop()``.

    Raises:
        BadInputError: The folder, mission, or an address will not do, or the port is taken.
    """
    return Explorer(Path(folder).expanduser(), _absolute(catalog), mission, port, behind, tiles)


def _absolute(catalog: str) -> str:
    """A path wherever a recipe may lie; names and URLs as they are."""
    path = Path(catalog).expanduser()
    return str(path.resolve()) if "://" not in catalog and catalog not in catalogs() and path.exists() else catalog


def _files(draft: Draft, place: Place) -> dict[str, bytes]:
    """Files of an area by the name they will have: what was drawn is called like its recipe."""
    return {name or f"{draft.name}.geojson": data for name, data in place.files.items()}


def _aoi(draft: Draft, place: Place) -> str:
    return next(iter(_files(draft, place)), place.text)


def _same(folder: Path, name: str, content: bytes) -> bool:
    path = folder / name
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
