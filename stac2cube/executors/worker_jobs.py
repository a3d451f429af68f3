"""Settings of worker jobs: their queue, their resources, their script."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from stac2cube.errors import BadInputError
from stac2cube.executors.queue import (
    Body,
    JobScript,
    Queue,
    duration_seconds,
    job_script,
    memory_bytes,
    python_words,
    require_plain,
    safe_job_name,
)
from stac2cube.trust.address import expanded

MEMORY_FORMS = ("mem", "mem-per-cpu", "mem-per-gpu", "all", "none")
"""How SLURM is asked for memory: by the options of those names; by ``--mem=0``, all that a node has; not at all."""

SCHEDULERS = ("slurm", "pbs", "lsf")
"""Schedulers that can start worker jobs."""


@dataclass(frozen=True)
class WorkerJobs:
    """Equal jobs on a SLURM cluster, with one worker each.

    Attributes:
        partition: Partition. Default: that of the cluster.
        account: Account. Default: that of the user.
        clusters: Name for ``--clusters`` if one SLURM serves several clusters; passed to sbatch, squeue and scancel.
        jobs: Number of worker jobs.
        cores: Cores per job. A worker makes one block per core at a time.
        memory: Memory per job, for example ``"8GiB"``. A worker uses at most nine tenths of it, or of what SLURM gives
            its job if that is less. So it stops with a message before SLURM kills it without one.
        memory_as: How memory is requested: by the options of sbatch(1) ``"mem"``, ``"mem-per-cpu"`` or
            ``"mem-per-gpu"`` (one GPU per job); ``"all"`` for ``--mem=0``; ``"none"`` for sites that assign it
            themselves. If one of `directives` requests memory, nothing is added. With "all" and "none" a worker uses
            the memory of its job.
        walltime: Time limit per job, in a form of sbatch(1). Workers end before it, and are replaced.
        directives: Further sbatch options, ``("--qos=high", "--gres=gpu:1")``.
        prologue: Shell lines before the Python program, ``("module load slurm_setup",)``.
        python: Python on the nodes: a path, or a command such as ``"apptainer exec /project/stac2cube.sif python"``.
            Default: the Python that runs now.
        interface: Network interface on which nodes reach each other, ``"ib0"``. Default: that of the host name.
        logs: Folder for logs of the workers, and for the key of a run while it lasts. All nodes must see it.
        dashboard: Whether dask serves its dashboard, on the loopback interface of the controller's node.
        scheduler: ``"slurm"``; or ``"pbs"`` or ``"lsf"`` (for worker jobs only, not tried on real clusters). For these
            two, `partition` is a queue, `directives` are options of their scheduler, and `clusters` and `memory_as`
            are ignored.
        site: Name of the site from which this was read. Its limits hold for the cubes that are built. "" for no site.
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
    memory_as: str = "mem"
    dashboard: bool = False
    scheduler: str = "slurm"

    def __post_init__(self) -> None:
        """Validate the fields.

        Raises:
            BadInputError: A field makes no sense.
        """
        if self.jobs < 1 or self.cores < 1:
            raise BadInputError(f"jobs and cores are at least 1, not {self.jobs} and {self.cores}")
        if not duration_seconds(self.walltime):
            raise BadInputError(f"walltime {self.walltime!r}: write minutes, hours:minutes:seconds or days-hours")
        if self.memory_bytes < 512 * 2**20:
            raise BadInputError(f"memory {self.memory!r}: a worker needs 512MiB at least")
        if self.scheduler not in SCHEDULERS:
            raise BadInputError(f"scheduler {self.scheduler!r}: one of {', '.join(SCHEDULERS)}")
        if self.memory_as not in MEMORY_FORMS:
            raise BadInputError(f"memory_as {self.memory_as!r}: one of {', '.join(MEMORY_FORMS)}")
        for one in fields(self):
            if one.name != "prologue":  # the prologue is code
                value = getattr(self, one.name)
                for word in value if isinstance(value, tuple) else (value,):
                    require_plain(str(word))
        # Job scripts quote both, so that no shell would fill in a home.
        object.__setattr__(self, "python", os.path.expanduser(self.python))  # noqa: PTH111 - a command is no path
        object.__setattr__(self, "logs", str(expanded(self.logs)))
        if self.scheduler == "slurm":
            plain = tuple(option for line in self.directives for option in _options_of(line))
            object.__setattr__(self, "directives", plain)

    @property
    def memory_bytes(self) -> int:
        """Memory per job in bytes.

        Raises:
            BadInputError: `memory` is malformed.
        """
        return memory_bytes(self.memory)

    @property
    def queue(self) -> Queue:
        """The queue to which the jobs are submitted."""
        return Queue(self.clusters)

    @property
    def takes_what_it_gets(self) -> bool:
        """Whether a worker may use all memory that SLURM gives its job, whatever `memory` is."""
        return self.memory_as in ("all", "none") or any(map(_asks_for_memory, self.directives))

    def header(self, job_name: str, needs: Sequence[str] = ()) -> list[str]:
        """The sbatch options of a job of this site.

        Args:
            job_name: SLURM's name of the job.
            needs: Options besides cluster, partition, account and time limit. The site's directives come last, so that
                they win.
        """
        options = {
            "job-name": safe_job_name(job_name),
            "clusters": self.clusters,
            "partition": self.partition,
            "account": self.account,
            "time": self.walltime,
        }
        said = [f"--{name}={value}" for name, value in options.items() if value]
        return [*said, *needs, *self.directives]

    def memory_options(self, mib: int, cores: int, memory_as: str = "") -> list[str]:
        """The sbatch options by which a job requests memory; none if a directive does.

        Args:
            mib: Memory of a task, MiB.
            cores: Cores of a task.
            memory_as: Form of the request. Default: that of the site.
        """
        if any(map(_asks_for_memory, self.directives)):
            return []
        form = memory_as or self.memory_as
        said = {
            "mem": [f"--mem={mib}M"],
            "mem-per-cpu": [f"--mem-per-cpu={mib // cores}M"],
            # SLURM refuses --mem-per-gpu for jobs that request no GPU.
            "mem-per-gpu": [f"--mem-per-gpu={mib}M", *([] if self._has_gpu() else ["--gres=gpu:1"])],
            "all": ["--mem=0"],
            "none": [],
        }
        return said[form]

    def _has_gpu(self) -> bool:
        """Whether a directive requests GPUs."""
        return any(re.match(r"--gres=.*gpu|--gpus|-G|--tres-per-\w+=.*gpu", one) for one in self.directives)

    def again_options(self) -> list[str]:
        """The sbatch options by which a job is requeued after its node's failure, and appends to its log."""
        forbidden = any(one.startswith("--no-requeue") for one in self.directives)
        return ["--open-mode=append", *([] if forbidden else ["--requeue"])]

    def worker_script(self, name: str, scheduler: str, keys: Path, logs: Path) -> JobScript:
        """The script of a worker job.

        Args:
            name: Name of the job in SLURM, and of its worker in Dask.
            scheduler: Address of Dask's scheduler.
            keys: Folder of the run's certificate and key.
            logs: Folder for logs, absolute.

        Raises:
            BadInputError: A value cannot be written into a job script.
        """
        # SLURM rounds time limits up to whole minutes (sbatch(1), --time).
        seconds = -(-(duration_seconds(self.walltime) or 0.0) // 60) * 60
        # Workers end before they are killed, at different moments.
        margin = max(30.0, min(300.0, seconds / 10))
        words = python_words(self.python, "-m", "stac2cube.executors.worker", scheduler)
        words += ["--name", name, "--keys", str(keys), "--threads", str(self.cores)]
        words += ["--memory", "0" if self.takes_what_it_gets else str(self.memory_bytes)]
        words += ["--lifetime", f"{seconds - margin:.0f}s", "--lifetime-stagger", f"{margin / 3:.0f}s"]
        words += ["--interface", self.interface] if self.interface else []
        needs = ["--nodes=1", "--ntasks=1", f"--cpus-per-task={self.cores}"]
        needs += [*self.memory_options(self.memory_bytes // 2**20, self.cores), *self.again_options()]
        body = Body(self.prologue, words)
        # Not *.out: the log of a dying worker must not be taken for that of the job which the user submitted.
        return job_script("workers", name, self.header(name, needs), body, logs, "%x-%j.log")

    def beside_this_job(self, environment: Mapping[str, str] | None = None) -> str:
        """The one cluster for worker jobs: of several, that of the job in which their controller runs.

        Raises:
            BadInputError: There are several, and the controller runs in no job on any of them.
        """
        values = os.environ if environment is None else environment
        if "," not in self.clusters:
            return self.clusters
        own = values.get("SLURM_CLUSTER_NAME", "") if values.get("SLURM_JOB_ID") else ""
        if own not in self.clusters.split(","):
            raise BadInputError(
                f"worker jobs need one cluster, not {self.clusters}: each counts its jobs for itself. "
                "Submit the recipe, whose job then knows its cluster; or name one in the site file"
            )
        return own


def _options_of(line: str) -> list[str]:
    """Split a line copied from a job script into options of sbatch: ``"#SBATCH --qos=high --mem-per-cpu=1G"``.

    A line with quotes is one option.
    """
    plain = line.strip().removeprefix("#SBATCH").strip()
    return re.split(r"\s+(?=--[a-z])", plain) if plain and not re.search("[\"']", plain) else [plain or line]


def _asks_for_memory(directive: str) -> bool:
    return re.match(r"--mem(-per-cpu|-per-gpu)?([=\s]|$)", directive) is not None
