#!/bin/bash
# The executor of a Dask client fails a call whose result has come, when the worker that made it is lost meanwhile.
#
# Seen with distributed 2026.8.0 on Python 3.11.
# Expected: Client.get_executor() gives concurrent.futures; a call that a lost worker held is made again, or its result, which
#           the client has, is given.
# Seen: while a large result is unpacked, the scheduler says that the worker is gone and the task's status becomes "lost".
#       The executor looks at the status after it has the result, takes the result for a triple (type, error, traceback),
#       and the future fails with "cannot unpack" or "not enough values to unpack". Client.submit(...).result() gives the result.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv || exit 2
python=venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check distributed==2026.8.0 dask==2026.8.0 || exit 2
cat >work.py <<'PYTHON'
import os
import signal
import time


def unpacked(worker, content, mark):
    """In the client: its worker ends, as a SLURM job does at its limit, while the result is unpacked."""
    if os.getpid() != worker and not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(worker, signal.SIGTERM)
        time.sleep(2)
    return len(content)


class Large:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return unpacked, (os.getpid(), b"x" * 20_000_000, self.mark)


def make(mark):
    if os.path.exists(mark):
        time.sleep(5)  # made again it takes longer
    return Large(mark)
PYTHON
cat >main.py <<'PYTHON'
import logging
from distributed import Client, LocalCluster
import work

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL) as cluster:
        with Client(cluster) as client:
            print("Client.submit:      ", client.submit(work.make, "first", pure=False).result(60))
            try:
                executor = client.get_executor(pure=False).submit(work.make, "second").result(60)
            except Exception as error:
                executor = f"{type(error).__name__}: {error}"
            print("Client.get_executor:", executor)
    raise SystemExit(0 if "unpack" in str(executor) else 1)
PYTHON
PYTHONPATH=. "$python" -W ignore main.py 2>/dev/null
