"""The recipe for an environment in one file: packed, mounted for a process, gone with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stac2cube
from stac2cube.executors.queue import Body

REPOSITORY = Path(__file__).parents[2]
PROGRAM = REPOSITORY / "envs" / "in-squashfs"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small environment that finds the libraries of the one in which this runs, as one file."""
    lacking = [name for name in ("mksquashfs", "squashfuse") if shutil.which(name) is None]
    if lacking:
        pytest.skip(f"no {', '.join(lacking)} here: apt install squashfs-tools squashfuse")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be used here: nothing can be mounted without root")
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    (site / "base.pth").write_text(
        "\n".join([str(REPOSITORY), *(path for path in sys.path if "site-packages" in path)])
    )
    packed = folder / "my env.sqsh"
    subprocess.run(["mksquashfs", folder / "env", packed, "-comp", "zstd", "-no-xattrs", "-quiet"], check=True)
    shutil.rmtree(folder / "env")
    return packed


def mounted() -> int:
    return Path("/proc/self/mounts").read_text().count("fuse.squashfuse")


def test_a_job_runs_in_it_and_it_is_gone_afterwards(image: Path, tmp_path: Path) -> None:
    before = mounted()
    code = "import sys, numpy, stac2cube; print(sys.prefix, stac2cube.__version__); sys.exit(7)"
    lines = Body((), [str(PROGRAM), str(image), "-c", code]).lines(tmp_path)
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=False, env=environment
    )
    prefix, version = done.stdout.split()
    assert (done.returncode, version) == (7, stac2cube.__version__)
    assert Path(prefix).parent == tmp_path
    assert not list(tmp_path.iterdir())
    assert mounted() == before


def test_a_signal_reaches_the_program_and_its_exit_code_comes_back(image: Path, tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(10));"
        "print('up', flush=True); time.sleep(60)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    for sent in (signal.SIGTERM, signal.SIGUSR1):
        process = subprocess.Popen([PROGRAM, image, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(sent)
        process.communicate(timeout=60)
        assert process.returncode == 10, "the program has sealed what is finished"
    time.sleep(0.1)
    assert not list(tmp_path.iterdir())
