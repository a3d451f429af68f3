"""Weights of networks: their locations, and download of weights by others on a node with network access."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import platformdirs

from stac2cube.errors import BadInputError
from stac2cube.model.tables import shipped_and_own
from stac2cube.superres.networks import sha256_of

VARIABLE = "STAC2CUBE_WEIGHTS"
"""Environment variable with a folder of weights, for example that of a site."""


@dataclass(frozen=True)
class Known:
    """A known file of weights by others.

    Attributes:
        backend: Backend that uses it.
        name: Name of the file, within the folder of its backend.
        sha256: Its required SHA-256.
        url: Address from which it is downloaded.
        licence: Its licence.
    """

    backend: str
    name: str
    sha256: str
    url: str
    licence: str


@dataclass(frozen=True)
class Shipped:
    """A file of our own weights.

    Attributes:
        name: Name of the file.
        sha256: Its SHA-256.
        about: A flaw of these weights; "" for the weights of new cubes.
    """

    name: str
    sha256: str
    about: str = ""

    @property
    def path(self) -> Path:
        """Path of the file."""
        return Path(str(files("stac2cube.tables").joinpath(f"weights/{self.name}")))


def all_shipped() -> list[Shipped]:
    """Our own weights: those for new cubes first, then those with which older cubes were made."""
    table = tomllib.loads(files("stac2cube.tables").joinpath("weights/own.toml").read_text(encoding="utf-8"))
    return [Shipped(one["name"], one["sha256"], one.get("about", "")) for one in table["files"]]


def shipped(sha256: str = "") -> Path:
    """Path of our own weights.

    Args:
        sha256: SHA-256 of the weights with which a cube was made; the weights of new cubes if "" or unknown.
    """
    every = all_shipped()
    return next((one for one in every if one.sha256 == sha256), every[0]).path


def known() -> list[Known]:
    """Weights by others that can be downloaded."""
    table: dict[str, Any] = {}
    for file in shipped_and_own("weights/known.toml"):
        table |= file.parse()
    return [
        Known(backend, one["name"], one["sha256"], f"{about['url']}/{one['name']}", about["licence"])
        for backend, about in table.items()
        for one in about["files"]
    ]


def folders(backend: str) -> list[Path]:
    """Folders that may hold weights of a backend, in order of precedence: the site's, the user's."""
    roots = [os.environ[VARIABLE]] if os.environ.get(VARIABLE) else []
    return [Path(root) / backend for root in [*roots, platformdirs.user_cache_dir("stac2cube/weights")]]


def find_folder(backend: str, given: str = "") -> Path:
    """Find the folder with the weights of a backend, and check that all files are there and intact.

    Args:
        backend: Name of the backend.
        given: A folder to use instead of searching for one.

    Raises:
        BadInputError: There is no such folder, or a file has another SHA-256.
    """
    wanted = [file for file in known() if file.backend == backend]
    looked = [Path(given)] if given else folders(backend)
    for folder in looked:
        if all((folder / file.name).exists() for file in wanted):
            for file in wanted:
                check(folder / file.name, file.sha256)
            return folder
    lacking = [file.name for file in wanted if not (looked[0] / file.name).exists()]
    raise BadInputError(
        f"the weights of {backend} are not there: {', '.join(lacking)} in {' or '.join(map(str, looked))}; "
        f"on a node with a network: stac2cube weights fetch {backend}"
    )


def check(path: Path, sha256: str) -> None:
    """Check the SHA-256 of a file.

    Raises:
        BadInputError: It differs.
    """
    found = sha256_of(path)
    if found != sha256:
        raise BadInputError(f"{path} is damaged or another: its SHA-256 is {found}, not {sha256}")


def fetch(backend: str, folder: Path | None = None) -> Iterator[Path]:
    """Download the weights of a backend; a file that exists and is intact is kept.

    Yields:
        Each file, once it exists.

    Raises:
        BadInputError: There are no such weights, the network cannot be reached, or a file has another SHA-256: it is
            deleted.
    """
    wanted = [file for file in known() if file.backend == backend]
    if not wanted:
        raise BadInputError(f"nothing to fetch for {backend!r}: there are {', '.join({f.backend for f in known()})}")
    into = folder or folders(backend)[0]
    into.mkdir(parents=True, exist_ok=True)
    for file in wanted:
        path, part = into / file.name, into / f"{file.name}.part"
        if not path.exists():
            try:
                with urlopen(file.url, timeout=60) as answer, part.open("wb") as out:
                    shutil.copyfileobj(answer, out)
            except (URLError, OSError) as error:
                part.unlink(missing_ok=True)
                raise BadInputError(f"{file.url} cannot be fetched: {error}") from error
            try:
                check(part, file.sha256)
            except BadInputError:
                part.unlink()
                raise
            part.rename(path)
        check(path, file.sha256)
        yield path
