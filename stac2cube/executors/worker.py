"""Entry point of a worker's job or task: reads the resources that SLURM gives it, then becomes a Dask worker.

python -m stac2cube.executors.worker SCHEDULER --threads 4 --memory 8589934592 [--keys FOLDER] [options of dask worker]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from stac2cube.executors.base import cores_of_task, memory_of_task
from stac2cube.executors.queue import LATE, memory_bytes

MALLOC = {"MALLOC_MMAP_THRESHOLD_": 2**25, "MALLOC_TRIM_THRESHOLD_": 2**27}
"""Environment of worker processes, bytes, see mallopt(3). The memory of arrays up to 32 MiB is reused, which glibc
learns to do by itself. Dask's setting returns all beyond 64 KiB whenever an array is freed, and the system then clears
every page again for the next array: blocks of super-resolution took twice as long."""

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""One thread processes each block: libraries with threads of their own would start them for every block."""

POOLS = ("NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
"""Thread pools of a process, shared by all blocks. By default they are as large as the node where SLURM does not bind
tasks to cores."""

MARGIN = 0.9
"""Part of its memory that a worker may use, so that it stops with a message before SLURM kills it without one."""


def main() -> None:
    """Read the options and become a Dask worker."""
    words = argparse.ArgumentParser()
    words.add_argument("scheduler")
    words.add_argument("--threads", "--nthreads", type=int, required=True, help="at most")
    words.add_argument(
        "--memory", "--memory-limit", type=memory_bytes, default=0, help="at most, 0 for what SLURM says"
    )
    words.add_argument("--keys", type=Path, help="folder of the run's certificate and key")
    given, options = words.parse_known_args()
    threads, memory = min(given.threads, cores_of_task()), memory_of_task()
    memory = int(MARGIN * (min(memory, given.memory) if given.memory else memory))
    if threads < given.threads:
        sys.stderr.write(f"this task has {threads} of the {given.threads} cores asked for\n")
    environment = {name: str(size) for name, size in MALLOC.items()} | os.environ
    environment |= dict.fromkeys(ONE_THREAD, "1") | dict.fromkeys(POOLS, str(threads))
    environment |= {"DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]"}
    if given.keys:
        wait_for_file(given.keys / "certificate.pem")
        environment |= tls_settings(str(given.keys / "certificate.pem"), str(given.keys / "key.pem"))
    alone = ["-s"] if sys.flags.no_user_site else []
    command = [sys.executable, *alone, "-m", "distributed.cli.dask_worker", given.scheduler]
    command += ["--nworkers", "1", "--nthreads", str(threads), "--memory-limit", str(memory)]
    # gettempdir ignores a TMPDIR that does not exist.
    command += ["--local-directory", tempfile.gettempdir(), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    os.execve(sys.executable, [*command, "--death-timeout", "120", *options], environment)


def wait_for_file(path: Path, seconds: float = LATE) -> None:
    """Wait for a file that another node has just written, and report it; its reader fails if it does not appear.

    Args:
        path: The file.
        seconds: Longest wait.
    """
    give_up = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > give_up:
            sys.stderr.write(f"{path} did not appear within {seconds:.0f} s: is it on a file system of all nodes?\n")
            return
        sys.stderr.write(f"waiting for {path}, which this node does not see yet\n")
        time.sleep(1)
        with suppress(OSError):
            any(path.parent.iterdir())  # makes the node ask the file server again


def tls_settings(certificate: str, key: str) -> dict[str, str]:
    """Environment with which Dask refuses connections without the run's key.

    Args:
        certificate: Its path, or its text in PEM.
        key: The same.
    """
    return {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": certificate,
        "DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT": certificate,
        "DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY": key,
    }


if __name__ == "__main__":
    main()
