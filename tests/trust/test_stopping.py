"""SIGTERM ends every command while a server stalls, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.trust.hostile import AOI, GOOD, Server, item, serving, stall, trickle
from tests.trust.test_commands import WHAT


def test_sigterm_ends_what_waits_for_a_server(server: Server, private: Path, tmp_path: Path) -> None:
    server.files["/api2"] = stall
    server.files["/f/never.tif"], server.files["/f/slow.tif"] = stall, trickle
    server.items = [item(GOOD, f"{server.url}/f/never.tif"), item("slow", f"{server.url}/f/slow.tif", 20)]
    found = ("--catalog", server.api)
    loads = ("--aoi", AOI, "--time", "2023", "--roles", "l2a.band.B04")
    commands = [
        ("layers", tmp_path / "a.zarr", *WHAT, *found),
        ("layers", tmp_path / "b.zarr", *WHAT, "--catalog", f"{server.url}/api2"),
        ("read", server.api, AOI, tmp_path / "r", "--bands", "B04", "--mission", "sentinel-2-l2a", "--time", "2023"),
        ("download", tmp_path / "p", *loads, *found),
    ]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "stac2cube", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in commands
    ]
    try:
        wanted = {"/api2": 1, "/f/never.tif": 3, "/f/slow.tif": 1}
        give_up = time.monotonic() + 120
        while time.monotonic() < give_up and any(
            len([path for _, path, _ in server.log if path.startswith(name)]) < count for name, count in wanted.items()
        ):
            time.sleep(0.1)
        begun = time.monotonic()
        for process in running:
            process.send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=60)[1] for process in running]
        assert time.monotonic() - begun < 30, said
        # Of the first, all that was left to do failed: that is said by 2, and done again as after 10.
        assert [process.returncode for process in running] in ([10, 10, 10, 10], [2, 10, 10, 10]), said
        assert not [words for words in said if "Traceback" in words]
    finally:
        for process in running:
            process.kill()


COMMANDS = {
    "files": ("layers", {}, "longer than 110 s"),
    "files by GDAL": ("layers", {"STAC2CUBE_ENGINE": "rasterio"}, "longer than 110 s"),
    "a catalog": ("layers", {}, "longer than 115 s"),
    "a download": ("download", {}, "s"),
}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_server_that_stalls_is_waited_for_no_longer_than_two_minutes(tmp_path: Path) -> None:
    """The limits as they are, not shortened: of files by both engines, of a catalog, of a download."""
    asked: dict[str, float] = {}

    def silence(name: str) -> Callable[[object], None]:
        """No answer for longer than anybody waits; from the first question on time is taken."""

        def wait(_: object) -> None:
            asked.setdefault(name, time.monotonic())
            time.sleep(400)

        return wait

    running = {}
    with ExitStack() as stack:
        for name, (command, more, _) in COMMANDS.items():
            server = stack.enter_context(serving())
            server.files["/api2" if name == "a catalog" else "/f/never.tif"] = silence(name)
            server.items = [item(GOOD, f"{server.url}/f/never.tif")]
            words = (*WHAT,) if command == "layers" else ("--aoi", AOI, "--time", "2023", "--roles", "l2a.band.B04")
            url = f"{server.url}/api2" if name == "a catalog" else server.api
            running[name] = subprocess.Popen(
                [sys.executable, "-m", "stac2cube", command, tmp_path / name, *words, "--catalog", url],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **more},
            )
            stack.callback(running[name].kill)
        told = {}
        while len(told) < len(running):
            time.sleep(0.2)
            told |= {
                n: time.monotonic() - asked[n] for n, p in running.items() if n not in told and p.poll() is not None
            }
        for name, process in running.items():
            said = process.communicate()[1]
            print(f"{name}: ended {told[name]:.0f} s after the first question, with {process.returncode}")  # noqa: T201
            assert process.returncode in (1, 2), said
            assert COMMANDS[name][2] in said
            assert 100 < told[name] < 135, "120 and what a busy machine takes to end a process"


def test_a_command_that_nobody_asked_to_stop_ends_by_itself() -> None:
    """Whatever was asked of one before it in the same process, and whatever threads still wait."""
    program = """
import os, signal, sys, threading
from stac2cube.cli import main
from stac2cube.cli.run import stoppable

with stoppable():
    os.kill(os.getpid(), signal.SIGINT)
done = threading.Event()
threading.Thread(target=done.wait).start()
sys.argv = ["stac2cube", "missions"]
try:
    main()
except SystemExit as end:
    print(f"ended with {end.code}, and this process goes on")
done.set()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert ended.stdout.splitlines()[-1:] == ["ended with 0, and this process goes on"], ended.stderr
