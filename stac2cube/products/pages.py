"""Templates of pages, and how numbers read in them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from stac2cube.progress import duration
from stac2cube.trust.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment() -> Environment:
    """The templates of this room; everything that comes from a cube is escaped, control characters too."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    made = Environment(
        loader=PackageLoader("stac2cube.products", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=clean,
    )
    made.filters |= {"thousands": thousands, "duration": duration, "said": said, "drawing": Markup}
    return made


def clean(value: Any) -> Any:
    """What a template shows, texts without control characters; markup of our own as it is."""
    return printable(value, lines=True) if type(value) is str else value


def thousands(number: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def said(value: Any) -> str:
    """A number as it is, a dash for none."""
    return "\N{EN DASH}" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
