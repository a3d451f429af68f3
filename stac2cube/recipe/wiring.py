"""Which entry is made from which: as it is said, or from the best there is; and the order that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stac2cube.recipe.kind import Input
from stac2cube.recipe.reading import Said, nearest

Wires = Mapping[str, tuple[str, ...]]
"""Names of entries, or paths of cubes, by word."""


def wired(said: Sequence[Said], folder: Path, problems: list[str]) -> list[Wires]:
    """What each entry is made from.

    Args:
        said: All entries, in the order of their kinds.
        folder: From which relative paths are meant.
        problems: Gets a line for each cube that is lacking or not clear.
    """
    makers = {one.name: one for one in said if one.kind.feeds}
    _require_different(said, problems)
    found: dict[str, Wires] = {}
    wires: list[Wires] = []
    for one in said:
        here = {part.word: _wire(one, part, makers, found, folder, problems) for part in one.kind.inputs}
        wires.append(here)
        if one.kind.feeds:
            found[one.name] = here
    return wires


def in_order(said: Sequence[Said], wires: Sequence[Wires], problems: list[str]) -> list[int]:
    """Places of the entries in the order in which they are made: each after what it is made from.

    Args:
        said: All entries.
        wires: What each is made from.
        problems: Gets a line if some are made from each other.
    """
    makers = {one.name: at for at, one in enumerate(said) if one.kind.feeds}
    before = [{makers[name] for names in here.values() for name in names if name in makers} for here in wires]
    order: list[int] = []
    while len(order) < len(said):
        free = (at for at in range(len(said)) if at not in order and before[at] <= set(order))
        if (following := next(free, None)) is None:
            left = [one for at, one in enumerate(said) if at not in order]
            problems.append(f"{left[0].where}: {', '.join(one.name for one in left)} would be made from each other")
            break
        order.append(following)
    return order


def _wire(
    one: Said, part: Input, makers: Mapping[str, Said], found: Mapping[str, Wires], folder: Path, problems: list[str]
) -> tuple[str, ...]:
    given = one.words.get(part.word)
    if given is not None:
        names = given if isinstance(given, tuple) else (str(given),)
        return tuple(_named(one, part, name, makers, folder, problems) for name in names)
    usable = [other for other in makers.values() if other is not one and not _reaches(other.name, one.name, found)]
    of_kind = [[other.name for other in usable if other.kind.name == kind] for kind in part.kinds]
    if part.several:
        several = tuple(name for names in of_kind for name in names)
        if several:
            return several
    best = next((names for names in of_kind if names), [])
    if len(best) > 1:
        problems.append(f"{one.where}: {one.name} can be made from several, say {part.word}: one of {', '.join(best)}")
    elif not best and not part.optional:
        wanted = " or ".join(part.kinds)
        problems.append(f"{one.where}: {one.name} needs an entry of {wanted}, or {part.word}: the path of {part.what}")
    return tuple(best[:1])


def _named(one: Said, part: Input, name: str, makers: Mapping[str, Said], folder: Path, problems: list[str]) -> str:
    right = [maker for maker, other in makers.items() if other.kind.suffix == part.takes]
    if name in right:
        return name
    path = folder / name
    if (part.takes and path.suffix == part.takes) or path.exists():
        return str(path)
    problems.append(
        f"{one.where}: {one.name}: {part.word} is no entry that makes {part.what}: {name!r}{nearest(name, right)}"
    )
    return name


def _reaches(name: str, target: str, found: Mapping[str, Wires]) -> bool:
    """Whether an entry is made, over however many others, from another."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        below = {other for names in found.get(waiting.pop(), {}).values() for other in names} - seen
        seen |= below
        waiting += below
    return target in seen


def _require_different(said: Sequence[Said], problems: list[str]) -> None:
    seen: dict[str, Said] = {}
    names: dict[str, Said] = {}
    for one in (one for one in said if one.kind.feeds):
        if (
            one.name in names
            and names[one.name].kind is not one.kind
            and one.kind.suffix != names[one.name].kind.suffix
        ):
            problems.append(
                f"{one.where}: {one.name} is called like {names[one.name].where}, and others are made of both"
            )
        names.setdefault(one.name, one)
    for one in (one for one in said if one.kind.suffix is not None):
        makes = str(one.words.get("out", f"{one.name}{one.kind.suffix}"))
        if makes in seen:
            problems.append(f"{one.where}: {one.name} would make {makes}, as does {seen[makes].where}")
        seen[makes] = one
