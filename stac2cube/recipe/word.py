"""Words of a recipe: what each may be, how it is read from YAML, and what a JSON Schema says of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stac2cube.recipe.tree import Node

Form = Literal["text", "path", "area", "list", "pairs", "texts", "number", "integer", "boolean"]
"""What a value is: text as it is written; text that may be a path; an area; several texts (``a,b`` or a list); names
with values (``a=b,c=d`` or a table); texts that are given one by one; a number."""

Value = str | float | int | bool | tuple[str, ...]

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

_SCALAR = ["string", "number", "boolean"]
"""A text without quotes may look like a number or a switch to YAML."""


@dataclass(frozen=True)
class Word:
    """What may be said of an entry.

    Attributes:
        name: As it is written.
        form: What its value is.
        help: What it means.
        default: What holds if it is not said; None where nothing does.
        choices: The only values, () if any will do.
        least: Smallest number.
        most: Largest number.
        needed: Whether it has to be said.
    """

    name: str
    form: Form
    help: str = ""
    default: Value | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    needed: bool = False

    def read(self, node: Node, folder: Path) -> Value:
        """The value of a node.

        Args:
            node: What stands in the recipe.
            folder: From which relative paths are meant.

        Raises:
            ValueError: It is something else; the message says what was expected.
        """
        match node.value:
            case None:
                raise ValueError("should have a value")
            case str() as text:
                return self._of_text(text, folder)
            case list() as parts if self.form in ("list", "texts", "area", "pairs"):
                texts = tuple(part.value for part in parts if isinstance(part.value, str))
                if len(texts) < len(parts):
                    raise ValueError("should be a list of single values")
                return ",".join(texts) if self.form in ("area", "pairs") else texts
            case dict() if self.form == "area":
                return json.dumps(node.plain())
            case dict() as table if self.form == "pairs":
                if not all(isinstance(part.value, str) for part in table.values()):
                    raise ValueError("should be a table of single values")
                return ",".join(f"{name}={part.value}" for name, part in table.items())
        raise ValueError(f"should be {self.wanted}")

    @property
    def wanted(self) -> str:
        """What the value should be, for people."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        bounds = [f"from {self.least:g}"] if self.least is not None else []
        bounds += [f"up to {self.most:g}"] if self.most is not None else []
        return " ".join([_WANTED[self.form], *bounds])

    def schema(self) -> dict[str, Any]:
        """What JSON Schema says of the value."""
        about: dict[str, Any] = {"description": self.help} if self.help else {}
        if self.default is not None:
            about["default"] = list(self.default) if isinstance(self.default, tuple) else self.default
        if self.choices:
            return about | {"enum": list(self.choices)}
        if self.form in ("number", "integer", "boolean"):
            bounds = {"minimum": self.least, "maximum": self.most}
            exact = {"type": self.form, **{name: bound for name, bound in bounds.items() if bound is not None}}
            # What the environment decides is a text to an editor.
            return about | {"anyOf": [exact, {"type": "string", "pattern": r"^\$\{.*\}$"}]}
        if self.form in ("text", "path"):
            return about | {"type": _SCALAR}
        several: dict[str, Any] = {"type": "array", "items": {"type": _SCALAR}}
        if self.form in ("area", "pairs"):
            return about | {"anyOf": [{"type": _SCALAR}, several, {"type": "object"}]}
        return about | {"anyOf": [{"type": _SCALAR}, several]}

    def _of_text(self, text: str, folder: Path) -> Value:
        if self.choices and text not in self.choices:
            raise ValueError(f"should be {self.wanted}, not {text!r}")
        if self.form == "boolean":
            if text.lower() not in _SWITCH:
                raise ValueError(f"should be {self.wanted}, not {text!r}")
            return _SWITCH[text.lower()]
        if self.form in ("number", "integer"):
            return self._of_number(text)
        if self.form in ("path", "area"):
            return beside(folder, text)
        if self.form in ("list", "texts"):
            parts = text.split(",") if self.form == "list" else [text]
            return tuple(part.strip() for part in parts if part.strip())
        return text

    def _of_number(self, text: str) -> float | int:
        try:
            number = int(text) if self.form == "integer" else float(text)
        except ValueError:
            raise ValueError(f"should be {self.wanted}, not {text!r}") from None
        below = self.least is not None and not number >= self.least
        above = self.most is not None and not number <= self.most
        if below or above or not math.isfinite(number):
            raise ValueError(f"should be {self.wanted}, not {text}")
        return int(number) if number == int(number) and abs(number) < 2**53 else number


_WANTED: Mapping[Form, str] = {
    "text": "a single value",
    "path": "a single value",
    "area": "a path, a box of four numbers, or GeoJSON",
    "list": "a list",
    "pairs": "a single value, or a table",
    "texts": "a list",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}


def beside(folder: Path, text: str) -> str:
    """A path in a recipe, meant from its folder; anything else as it is."""
    try:
        path = folder / text
        return str(path) if path.exists() else text
    except OSError:  # too long for a path: GeoJSON, for example
        return text
