"""Named places in the commit protocol.

A build can die anywhere. So that tests can make it die *exactly here*, the protocol says when it passes a named place;
in production nobody listens and the call costs a loop over an empty list.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS = (
    "create.filled",
    "create.renamed",
    "block.encoded",
    "block.written",
    "commit.begin",
    "commit.layer-moved",
    "commit.step-moved",
    "commit.coordinates-written",
    "commit.ledger-written",
    "commit.history-written",
    "commit.root-written",
    "commit.root-replaced",
    "commit.arrays-replaced",
    "commit.done",
    "generation.linked",
    "generation.filled",
    "generation.marked",
    "generation.named",
    "generation.noted",
    "generation.swapped",
    "generation.done",
    "file.written",
    "file.named",
    "sample.made",
    "sample.away",
    "sample.named",
    "shard.made",
    "shard.named",
    "year.begun",
    "year.part-made",
    "year.finished",
    "year.renamed",
    "year.sealed",
)
"""Every place there is, in the order in which a build passes them; those of files and
of sets for training in between."""

listeners: list[Callable[[str], None]] = []
"""Called with the name of each place passed; tests append to it."""


def passing(point: str) -> None:
    """Say that the protocol passes ``point``."""
    for listener in listeners:
        listener(point)
