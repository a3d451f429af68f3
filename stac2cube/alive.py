"""Whether whoever holds a cube still lives, asked of SLURM where this node cannot know."""

from __future__ import annotations

import logging
import os

from stac2cube.cube.lock import Owner
from stac2cube.errors import SlurmError
from stac2cube.places.queue import ENDED, Queue

log = logging.getLogger(__name__)


def holder_lives(holder: Owner) -> bool | None:
    """Whether the job of a holder still runs, or will run: True, False, or None where nobody can tell.

    Args:
        holder: Owner of a lock that does not live on this node.
    """
    if not holder.job:
        return None
    ours = os.environ.get("SLURM_CLUSTER_NAME", "")
    if holder.job == os.environ.get("SLURM_JOB_ID") and holder.cluster in ("", ours):
        # The same job held it before it was requeued: an earlier life of ours, unless it is a process beside us.
        return None if holder.restarts == os.environ.get("SLURM_RESTART_COUNT", "") else False
    if not holder.cluster:
        return None  # clusters that share a file system number their jobs alike
    try:
        own = Queue()
        queue = own if holder.cluster == own.name() else Queue(holder.cluster)
        job = queue.job(holder.job)
    except SlurmError as error:
        log.warning("cannot ask whether job %s still runs: %s", holder.job, error)
        return None
    if not job or job["JobState"] in ENDED:
        log.warning("job %s, which held the cube, is gone: taking over", holder.job)
        return False
    # Requeued since: what held the lock was ended, and the job will come and ask for it again.
    return job.get("Restarts", "0") == (holder.restarts or "0")
