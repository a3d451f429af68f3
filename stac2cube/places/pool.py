"""Worker jobs at work: submitted, watched over, replaced, sent home."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from distributed import Client
from distributed.utils import get_ip, get_ip_interface

from stac2cube.errors import SlurmError
from stac2cube.places.dasking import Watch, closed_scheduler, quiet_dask, send_home
from stac2cube.places.keys import Keys
from stac2cube.places.queue import ENDED, last_words
from stac2cube.places.script import JobScript
from stac2cube.places.worker_jobs import WorkerJobs

log = logging.getLogger(__name__)

LIVES = 3
"""Times each job may be replaced at most without any block being made: a job that dies at once will die again."""

GOODBYE = 15.0
"""Seconds a worker gets to end before its job is cancelled."""

AGAIN = 300.0
"""Seconds after which a job that SLURM refused is submitted again while others work: a limit may have been left."""

ALONE = 30.0
"""The same where no other is left."""

REFUSALS = 10
"""Refusals in a row, with no job left, after which the build ends."""


@contextmanager
def open_jobs(wanted: WorkerJobs, name: str) -> Iterator[Executor]:
    """Submit worker jobs and watch over them.

    Scheduler and workers talk to those alone who have a key that is made for this run. The workers find it in a folder
    beside their logs, which nobody else can read and which is removed in the end.

    Args:
        wanted: What they are.
        name: What SLURM shall call them.

    Raises:
        BadInputError: A value of theirs can stand in no job script.
        SlurmError: SLURM refuses all jobs, or they keep dying.
    """
    logs = Path(wanted.logs).resolve()
    keys = Keys.made()
    host = get_ip_interface(wanted.interface) if wanted.interface else get_ip()
    with (
        quiet_dask(dashboard=wanted.dashboard),
        keys.stored(logs) as key_folder,
        closed_scheduler(keys, host=host, dashboard=wanted.dashboard, n_workers=0) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        if wanted.dashboard:
            log.info("dashboard: %s", client.dashboard_link)
        script = wanted.worker_script(name, cluster.scheduler_address, key_folder, logs)
        wanted.queue.test(script)
        jobs = _Jobs(wanted, script, lambda: len(cluster.scheduler_info["workers"]))
        executor = client.get_executor(pure=False)
        try:
            jobs.begin()
            with Watch(jobs.look).over(executor):
                yield executor
        finally:
            executor.shutdown(wait=False)
            send_home(client)
            jobs.end()


class _Jobs:
    """The worker jobs of a run.

    Args:
        wanted: What they are, and how many.
        script: Of each.
        connected: How many workers the scheduler has.
    """

    def __init__(self, wanted: WorkerJobs, script: JobScript, connected: Callable[[], int]) -> None:
        self._wanted = wanted
        self._queue = wanted.queue
        self._script = script
        self._connected = connected
        self._alive: set[str] = set()
        self._preempted: set[str] = set()
        self._said: set[str] = set()
        self._most = self._lost = self._refusals = 0
        self._next = 0.0

    def begin(self) -> None:
        """Submit the first job, whose refusal is the whole build's.

        Raises:
            SlurmError: SLURM refuses, in its own words.
        """
        self._alive.add(self._queue.submit(self._script))
        log.info("submitting %d worker job(s) %s", self._wanted.jobs, self._script.job_name)

    def look(self) -> str:
        """Replace lost jobs; why the work cannot go on, if so.

        Raises:
            SlurmError: SLURM cannot be asked just now.
        """
        self._miss()
        if self._connected():
            self._lost = 0
        elif self._lost > LIVES * max(1, self._most):
            said = last_words(self._script.folder, f"{self._script.job_name}-*")
            return f"{self._lost} worker jobs ended without doing any work. Their last words: {said or 'none'}"
        return self._fill()

    def end(self) -> None:
        """Let workers that were told to go end their jobs by themselves (COMPLETED); cancel the rest."""
        give_up = time.monotonic() + GOODBYE
        try:
            while time.monotonic() < give_up:
                states = self._queue.states(self._alive)
                if not set(states.values()) & {"RUNNING", "COMPLETING"}:
                    break
                time.sleep(0.3)
            self._queue.cancel(job for job, state in self._queue.states(self._alive).items() if state not in ENDED)
        except SlurmError as error:
            # Without their scheduler workers end by themselves, too.
            log.warning("worker job(s) %s may still wait or run: %s", ", ".join(sorted(self._alive)), error)

    def _miss(self) -> None:
        """Forget jobs that have ended."""
        waiting = self._queue.waiting(self._alive)
        states = {job: state for job, (state, _) in waiting.items()}
        # A job that is preempted is requeued by SLURM itself and comes back; where it is not, it stays so.
        preempted = {job for job in self._alive if states.get(job) == "PREEMPTED"}
        gone = {job for job in self._alive if states.get(job, "COMPLETED") in ENDED} - (preempted - self._preempted)
        self._preempted = preempted - gone
        if gone:
            self._alive -= gone
            self._lost += len(gone)
            log.warning("worker job(s) %s ended; they are replaced", ", ".join(sorted(gone)))
        for job, (state, reason) in waiting.items():
            if state == "PENDING" and ("Limit" in reason or reason.startswith(("QOS", "Assoc", "Reserved"))):
                self._once(f"worker job {job} waits ({reason}); the build goes on with those that run", reason)

    def _fill(self) -> str:
        while len(self._alive) < self._wanted.jobs and time.monotonic() >= self._next:
            try:
                self._alive.add(self._queue.submit(self._script))
            except SlurmError as error:
                self._next = time.monotonic() + (AGAIN if self._alive else ALONE)
                self._refusals += not self._alive
                let_in = f"{len(self._alive)} of {self._wanted.jobs} worker jobs were let in"
                self._once(f"{let_in}, and the build goes on with them: {error}", str(error))
                if self._refusals >= REFUSALS:
                    return f"no worker job is left, and SLURM lets no other in: {error}"
            else:
                self._refusals = 0
            self._most = max(self._most, len(self._alive))
        return ""

    def _once(self, words: str, reason: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            log.warning("%s", words)
