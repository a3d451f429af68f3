from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.build.families import FAMILIES
from tests.build.faults import PROTOCOLS, Known


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Known]:
    """A protocol, run undisturbed once."""
    have: dict[str, Known] = {}

    def find(name: str) -> Known:
        if name not in have:
            have[name] = Known.of(
                {**PROTOCOLS, **FAMILIES}[name], tmp_path_factory.mktemp("known") / name.replace(" ", "-")
            )
        return have[name]

    return find
