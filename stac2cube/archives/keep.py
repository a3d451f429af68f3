"""Which cubes of an archive a long command has done, so that the same command goes on after a stop."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stac2cube.archives.archive import OWN_FOLDER, TileArchive
from stac2cube.store.files import read_plain, write_whole

LONGEST_PAUSE = 3 * 86400.0
"""Seconds after which a command that was stopped begins anew: what it found may have changed since."""


@dataclass(frozen=True)
class Journal:
    """Exit codes of a command by cube, written after each.

    Attributes:
        path: The file; it is removed when the last cube is done.
        codes: By tile and product.
    """

    path: Path
    codes: dict[str, int]

    @classmethod
    def of(cls, archive: TileArchive, command: str, options: Mapping[str, str]) -> Journal:
        """The journal of a command with some options: what it has done already if it was stopped.

        Args:
            archive: The archive.
            command: Name of the command.
            options: With other options it is another command.
        """
        digits = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
        path = archive.folder / OWN_FOLDER / f"{command}-{digits}.json"
        try:
            if time.time() - path.stat().st_mtime > LONGEST_PAUSE:
                path.unlink()
            codes = {str(name): int(code) for name, code in json.loads(read_plain(path)).items()}
        except (OSError, ValueError, AttributeError, TypeError):
            codes = {}
        return cls(path, codes)

    def has(self, name: str) -> bool:
        """Whether a cube is done."""
        return name in self.codes

    def add(self, name: str, code: int) -> None:
        """Write that a cube is done."""
        self.codes[name] = code
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps(self.codes).encode())

    def close(self) -> int:
        """The worst exit code of all cubes; the next run begins with the first."""
        self.path.unlink(missing_ok=True)
        return max(self.codes.values(), default=0)
