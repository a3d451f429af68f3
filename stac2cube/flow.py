"""How blocks are handed out: how many at a time, and when no more."""

from __future__ import annotations

import logging
import time
from collections import deque

from stac2cube.places.place import Place
from stac2cube.progress import Progress
from stac2cube.work import Orders

log = logging.getLogger(__name__)

IN_FLIGHT = 300
"""Blocks handed out at most at a time: enough to keep a cluster busy, few enough to keep its scheduler small."""

FAREWELL = 20.0
"""Seconds kept before a deadline to seal what is finished and close the place."""

RECENT = 50
"""Blocks whose times tell how long the next ones will take."""


class Flow:
    """The flow of blocks of one build.

    Args:
        place: Where they are made.
        orders: When to stop.
        progress: Told of every block.
    """

    def __init__(self, place: Place, orders: Orders, progress: Progress) -> None:
        self.progress = progress
        self.explain = place.explain
        self._parallel = place.parallel
        self._orders = orders
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._late = False

    @property
    def dropping(self) -> bool:
        """Whether the blocks at hand are to be dropped: somebody asked for it, or the deadline is there."""
        late = self._orders.deadline is not None and time.time() > self._orders.deadline - FAREWELL
        return late or self._orders.stop.is_set()

    @property
    def stopped(self) -> bool:
        """Whether no more blocks are handed out."""
        return self._late or self.dropping

    def wants_more(self, pending: int) -> bool:
        """Whether to hand out another block while so many are not yet back."""
        if self.stopped or pending >= min(IN_FLIGHT, 2 * self._parallel + 2):
            return False
        if self._orders.deadline is not None and self._recent:
            # It waits for those before it; none is expected to take much longer than the slowest of late.
            needed = (pending / self._parallel + 1) * max(self._recent) * 1.2 + FAREWELL
            self._late = time.time() + needed > self._orders.deadline
            if self._late:
                left = self._orders.deadline - time.time()
                log.warning("%.0f s are left: no further blocks are begun, what is finished is sealed", left)
        return not self._late

    def made(self, seconds: float) -> None:
        """A block came back that took so long."""
        self._recent.append(seconds)
        self.progress.advance()
