"""How large a cube may grow at a site: files and bytes, because both have quotas there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stac2cube.errors import BadInputError
from stac2cube.places.queue import memory_bytes


@dataclass(frozen=True)
class Limits:
    """What one cube may hold, the stores of its sealed years included.

    Attributes:
        max_files: Files of pixels; any number if 0.
        max_bytes: Their bytes, ``"20TiB"``; any number if "".
    """

    max_files: int = 0
    max_bytes: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            BadInputError: A negative number, or a text that is no number of bytes.
        """
        if self.max_files < 0:
            raise BadInputError(f"max_files is a number of files, not {self.max_files}")
        if self.max_bytes:
            memory_bytes(self.max_bytes)

    def require(self, cube: Path, now: tuple[int, int], more: tuple[int, int]) -> None:
        """Be sure that a cube stays within them.

        Args:
            cube: The cube, for the message.
            now: Files and bytes it has.
            more: Files and bytes that would be added, at most.

        Raises:
            BadInputError: It would not; nothing was written.
        """
        files, size = (have + add for have, add in zip(now, more, strict=True))
        room = memory_bytes(self.max_bytes) if self.max_bytes else 0
        broken = []
        if self.max_files and files > self.max_files:
            broken.append(f"{now[0]} files and up to {more[0]} more, where the site allows {self.max_files}")
        if room and size > room:
            broken.append(f"{now[1]} bytes and about {more[1]} more, where the site allows {self.max_bytes}")
        if broken:
            raise BadInputError(
                f"{cube} would have {'; and '.join(broken)}. Nothing was written: ask for less (area, bands, time), or "
                "have the site's limits raised"
            )
