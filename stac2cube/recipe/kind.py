"""Kinds of entries: what each understands, which cubes it is made from, and what it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stac2cube.recipe.word import Word

CUBE = ".zarr"
"""Suffix of what can be made something else from."""


@dataclass(frozen=True)
class Input:
    """A cube that an entry is made from, or a folder.

    Attributes:
        word: The word that names it: ``"of"``, ``"clouds"``.
        kinds: Of these kinds is it if it is not named: of the first that the recipe has. () where it has to be named.
        optional: Whether it may be lacking.
        several: Whether it may be several, each by itself; if it is not named, all of these kinds.
        takes: Suffix of what it is: a cube, or "" for a folder.
    """

    word: str
    kinds: tuple[str, ...]
    optional: bool = False
    several: bool = False
    takes: str = CUBE

    @property
    def what(self) -> str:
        """Words for what it is."""
        return "a cube" if self.takes == CUBE else " or ".join(self.kinds)

    @property
    def help(self) -> str:
        """What it means, for people."""
        which = f"Which {self.what.removeprefix('a ')}: the name of an entry, or a path."
        if not self.kinds:
            return which
        usual = " and ".join(self.kinds) if self.several else f"the first there is of {', '.join(self.kinds)}"
        return f"{which} {usual[0].upper()}{usual[1:]} if not said."


@dataclass(frozen=True)
class Kind:
    """What an entry of a recipe may be: a command of the command line.

    Attributes:
        name: Of the command, and of the entry if it has none of its own.
        help: What it does.
        words: What may be said of it, by name.
        inputs: Cubes it is made from; the first is what it is made *of*.
        suffix: Of what it makes; :data:`CUBE`, or that of a file, or "" for a folder; None where that lies within a
            cube it is made of.
        blocks: Whether it works block by block, at any place.
        feeds: Whether others can be made from it.
    """

    name: str
    help: str
    words: Mapping[str, Word] = field(hash=False)
    inputs: tuple[Input, ...] = ()
    suffix: str | None = CUBE
    blocks: bool = True
    feeds: bool = True

    def every_word(self) -> dict[str, Word]:
        """All words, those for its cubes and for the file it makes included."""
        found = {one.word: Word(one.word, "list" if one.several else "text", one.help) for one in self.inputs}
        if self.suffix not in (CUBE, None):
            what = f"Its file in the folder of cubes; NAME{self.suffix} if not said."
            found["out"] = Word("out", "text", what)
        return found | dict(self.words)
