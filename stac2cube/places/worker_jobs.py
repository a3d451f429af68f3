"""What a worker's SLURM job is: where it queues, what it may use, how it begins."""

from __future__ import annotations

from dataclasses import dataclass

from stac2cube.errors import BadInputError
from stac2cube.places.queue import Queue, duration_seconds, memory_bytes


@dataclass(frozen=True)
class WorkerJobs:
    """Alike jobs on a SLURM cluster, a worker each.

    Attributes:
        partition: Partition; the cluster's default if "".
        account: Account; the user's default if "".
        clusters: Name for ``--clusters`` where a site has several; given to sbatch, squeue and scancel alike.
        jobs: Worker jobs.
        cores: Cores per job; as many blocks are worked on at a time.
        memory: Memory per job as dask writes it, ``"8GiB"``. The worker keeps to nine tenths of it, so that it is
            stopped with a message before SLURM kills it without one.
        walltime: Time limit per job as sbatch(1) writes it. Workers end in time before it and are replaced.
        directives: Further sbatch options, ``("--qos=high", "--gres=gpu:1")``.
        prologue: Shell lines before the Python program, ``("module load slurm_setup",)``.
        python: Python on the nodes; the one that runs now if "".
        interface: Network interface on which nodes reach each other, ``"ib0"``; what the host name means if "".
        logs: Folder for the workers' logs.
        site: Name of the site that it was read from, whose limits hold for what is built here; "" for none.
    """

    partition: str = ""
    account: str = ""
    clusters: str = ""
    jobs: int = 2
    cores: int = 2
    memory: str = "8GiB"
    walltime: str = "01:00:00"
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    python: str = ""
    interface: str = ""
    logs: str = "slurm-logs"
    site: str = ""

    def __post_init__(self) -> None:
        """Refuse what SLURM would misunderstand.

        Raises:
            BadInputError: A field makes no sense.
        """
        if self.jobs < 1 or self.cores < 1:
            raise BadInputError(f"jobs and cores are at least 1, not {self.jobs} and {self.cores}")
        if not duration_seconds(self.walltime):
            raise BadInputError(f"walltime {self.walltime!r}: write minutes, hours:minutes:seconds or days-hours")
        if self.memory_bytes < 512 * 2**20:
            raise BadInputError(f"memory {self.memory!r}: a worker needs 512MiB at least")

    @property
    def memory_bytes(self) -> int:
        """Memory per job in bytes.

        Raises:
            BadInputError: It cannot be understood.
        """
        return memory_bytes(self.memory)

    @property
    def queue(self) -> Queue:
        """The queue it submits to."""
        return Queue(self.clusters)

    def header(self, job_name: str) -> list[str]:
        """The sbatch options that every job of this site shares: name, cluster, partition, account, time limit."""
        options = {
            "job-name": job_name,
            "clusters": self.clusters,
            "partition": self.partition,
            "account": self.account,
            "time": self.walltime,
        }
        return [*(f"--{name}={value}" for name, value in options.items() if value), *self.directives]
