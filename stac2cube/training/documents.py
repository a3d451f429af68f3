"""Folders of sets, and JSON files that carry the name and version of what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stac2cube.cube.folders import real_folder, refuse_links
from stac2cube.errors import BadInputError


def read_document(file: Path, schema: str, what: str, made_by: str) -> dict[str, Any]:
    """Read a JSON object of one schema; another version is refused, not guessed at.

    Args:
        file: Where it lies.
        schema: Name and version, as its key ``schema`` says.
        what: What it should be, for messages: ``"manifest"``.
        made_by: How one is had: ``"fetch products with `stac2cube download`"``.

    Raises:
        BadInputError: It is not there, no JSON, or of another schema.
    """
    try:
        value = json.loads(file.read_text())
    except FileNotFoundError:
        raise BadInputError(f"{file} does not exist: {made_by}") from None
    except (OSError, ValueError) as error:
        raise BadInputError(f"{file} cannot be read as JSON: {error}") from None
    found = value.get("schema") if isinstance(value, dict) else None
    if found != schema:
        raise BadInputError(f"{file} is no {what} that this version reads: schema {found!r}, not {schema!r}")
    read: dict[str, Any] = value
    return read


def made_folder(folder: Path) -> None:
    """Make a folder, with those above it, if it is not there.

    Raises:
        BadInputError: It cannot be made, or one of the names that a set uses is a symbolic link.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*"):
            real_folder(path)
        for split in folder.glob("*.zarr"):
            if not split.is_symlink():  # a cube may be linked beside a set
                refuse_links(split)
    except OSError as error:
        raise BadInputError(f"{folder} cannot be made: {error.strerror}") from error
