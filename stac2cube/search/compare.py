"""What catalogs have, side by side; and what a cube lacks of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stac2cube.errors import CatalogError, NothingFoundError
from stac2cube.model.catalog import public_catalog
from stac2cube.model.scene import Scene
from stac2cube.search.choose_catalog import find
from stac2cube.search.request import Request, request_of, resolve
from stac2cube.store.ledger import FAILED, Ledger
from stac2cube.store.metadata import read_root


@dataclass(frozen=True)
class Answer:
    """What one catalog has.

    Attributes:
        catalog: Its name.
        scenes: Its scenes by key.
        seconds: How long it took to say so.
        problem: Why it has none, "" if it has.
        answered: Whether it could be asked at all.
    """

    catalog: str
    scenes: dict[str, Scene]
    seconds: float
    problem: str = ""
    answered: bool = True


@dataclass(frozen=True)
class Gap:
    """A scene that some catalog has and a cube lacks.

    Attributes:
        key: Its key.
        month: ``"2023-07"``.
        catalogs: Who has it.
        reason: Why the cube lacks it.
    """

    key: str
    month: str
    catalogs: tuple[str, ...]
    reason: str


def compare_catalogs(request: Request, names: Sequence[str]) -> Iterator[Answer]:
    """Search the same words in several catalogs.

    Args:
        request: What is asked for.
        names: Names, URLs or paths.

    Raises:
        BadInputError: A word is wrong, or a catalog does not carry the mission.
    """
    for name in names:
        wanted = resolve(replace(request, catalog=name))
        begun = time.perf_counter()
        try:
            found = {str(scene.key): scene for scene in find(wanted.query, wanted.choices).scenes}
            problem = ""
            answered = True
        except (CatalogError, NothingFoundError) as error:
            found, problem, answered = {}, str(error), isinstance(error, NothingFoundError)
        yield Answer(public_catalog(name), found, time.perf_counter() - begun, problem, answered)


def gaps_of(cube: Path, names: Sequence[str]) -> tuple[list[Gap], list[Answer]]:
    """Scenes that catalogs have within what a cube was asked for, and that it lacks.

    Args:
        cube: The cube.
        names: Catalogs to ask.

    Returns:
        The gaps by key, and what each catalog said.

    Raises:
        CubeError: Not a cube.
    """
    _, request = request_of(cube)
    answers = list(compare_catalogs(request, names))
    rows = Ledger(cube, read_root(cube).ledger).entries()
    lacking: dict[str, list[str]] = {}
    for answer in answers:
        for key in answer.scenes:
            row = rows.get(key)
            if row is None or row.status == FAILED:
                lacking.setdefault(key, []).append(answer.catalog)
    gaps = []
    for key, having in sorted(lacking.items()):
        row, scene = rows.get(key), next(answer.scenes[key] for answer in answers if key in answer.scenes)
        reason = f"failed: {row.reason}" if row else scene.problem or "not built: late, or not in the catalog used"
        gaps.append(Gap(key, f"{scene.time:%Y-%m}", tuple(having), reason))
    return gaps, answers
